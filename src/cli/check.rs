//! `halligan check`: shows whether a token would be allowed to make a request, and why.

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::control::read_secret;
use super::failure::Failure;
use super::host::Host;
use super::output::{Output, line};

/// Asks this host's daemon what it would decide.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  HALLIGAN_TOKEN=… halligan check --deployment dep_… GET /api/v2/dags
  halligan check --token-file - --host airflow.example.com PATCH '/api/v2/dags/etl?update_mask=is_paused'")]
pub(super) struct Arguments {
    /// The request's method.
    method: String,
    /// Its path and query, as a client would send them.
    uri: String,
    /// The deployment it is for.
    #[arg(long, value_name = "ID", conflicts_with = "host", required_unless_present = "host")]
    deployment: Option<String>,
    /// The host name it is for.
    #[arg(long)]
    host: Option<String>,
    /// The address it comes from.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<std::net::IpAddr>,
    /// A file that holds the token, or - for standard input; without it, HALLIGAN_TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Checks of a request, in their order.
const STEPS: [&str; 7] = ["token", "signature", "replica", "liveness", "glass", "route", "permission"];

pub(super) async fn run(question: Arguments, host: &Host, output: Output) -> Result<u8, Failure> {
    let token = match &question.token_file {
        Some(path) => Some(read_secret(path)?),
        None => std::env::var("HALLIGAN_TOKEN").ok().map(Zeroizing::new),
    };
    let body = json!({
        "token": token.as_deref(),
        "deployment": question.deployment,
        "host": question.host,
        "method": question.method,
        "uri": question.uri,
        "client": question.client,
    });
    let answer = host.call(Method::POST, "/v1/check", Some(body)).await?;
    if output.json {
        output.one(&answer, &[]);
    } else {
        explain(&answer);
    }
    Ok(u8::from(answer["allowed"] != true))
}

fn explain(answer: &Value) {
    let text = |member: &str| answer[member].as_str().unwrap_or("-").to_owned();
    let failed = text("step");
    let known = |step: &str| match step {
        "signature" => text("tokenId"),
        "replica" => text("role"),
        "liveness" => text("deployment"),
        "glass" => text("glass"),
        "route" => text("route"),
        "permission" => text("permission"),
        _ => String::new(),
    };
    for step in STEPS {
        if step == failed {
            let detail = answer["detail"].as_str().map_or_else(String::new, |detail| format!(": {detail}"));
            line(&format!("  no  {step:<11}{}{detail}", text("title")));
            break;
        }
        line(format!("  ok  {step:<11}{}", known(step)).trim_end());
    }
    let word = if answer["allowed"] == true { "allowed" } else { "denied" };
    line(&format!("{word}: {}", text("reason")));
}
