//! `halligan check`: shows whether a token would be allowed to make a request, and why.

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use zeroize::Zeroizing;

use super::control::read_secret;
use super::failure::Failure;
use super::host::Host;
use super::output::{Output, line};
use crate::api::host::check::{Answer, Question};
use crate::protocol::glass::GlassState;

/// Asks this host's daemon for its decision on a request.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  HALLIGAN_TOKEN=… halligan check --deployment dep_… GET /api/v2/dags
  halligan check --token-file - --host airflow.example.com PATCH '/api/v2/dags/etl?update_mask=is_paused'")]
pub(super) struct Arguments {
    /// The method of the request.
    method: String,
    /// The path and query of the request, as a client would send them.
    uri: String,
    /// The deployment of the request.
    #[arg(long, value_name = "ID", conflicts_with = "host", required_unless_present = "host")]
    deployment: Option<String>,
    /// The host name of the request.
    #[arg(long)]
    host: Option<String>,
    /// The address of the client.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<std::net::IpAddr>,
    /// A file that holds the token, or - for standard input; without it, HALLIGAN_TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Checks of a request, in their order.
const STEPS: [&str; 7] = ["token", "signature", "replica", "liveness", "glass", "route", "permission"];

pub(super) async fn run(arguments: Arguments, host: &Host, output: Output) -> Result<u8, Failure> {
    let token = match &arguments.token_file {
        Some(path) => Some(read_secret(path)?),
        None => std::env::var("HALLIGAN_TOKEN").ok().map(Zeroizing::new),
    };
    let question = Question {
        token,
        deployment: arguments.deployment,
        host: arguments.host,
        method: arguments.method,
        uri: arguments.uri,
        client: arguments.client,
    };
    let answer: Answer = host.send(Method::POST, "/v1/check", &question).await?;
    if output.json {
        output.one(&answer, &[]);
    } else {
        explain(&answer);
    }
    Ok(u8::from(!answer.allowed))
}

fn explain(answer: &Answer) {
    let known = |step: &str| match step {
        "signature" => answer.token_id.as_deref(),
        "replica" => answer.role.as_deref(),
        "liveness" => answer.deployment.as_deref(),
        "glass" => answer.glass.map(GlassState::as_str),
        "route" => answer.route.as_deref(),
        "permission" => answer.permission.as_deref(),
        _ => Some(""),
    };
    for step in STEPS {
        if step == answer.step {
            let detail = answer.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
            line(&format!("  no  {step:<11}{}{detail}", answer.title));
            break;
        }
        line(format!("  ok  {step:<11}{}", known(step).unwrap_or("-")).trim_end());
    }
    let word = if answer.allowed { "allowed" } else { "denied" };
    line(&format!("{word}: {}", answer.reason));
}
