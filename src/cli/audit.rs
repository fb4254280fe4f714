//! `halligan audit`: shows and verifies this host's audit log.

use std::time::Duration;

use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;

use super::failure::Failure;
use super::host::Host;
use super::output::{Output, line};
use crate::api::host::audit::Verified;
use crate::platform::exit;
use crate::platform::text::shown;
use crate::protocol::time::Time;

/// Number of events per request.
const PAGE: usize = 1000;

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Show the latest events.
    Tail {
        /// Number of events to print.
        #[arg(long, short = 'n', default_value_t = 20)]
        lines: u32,
        /// Continue with new events as they are recorded.
        #[arg(long, short)]
        follow: bool,
    },
    /// Verify the whole log: order, chain, and the node's signed checkpoints. Reports other damaged files of this host too.
    Verify,
}

pub(super) async fn run(verb: Verb, host: &Host, output: Output) -> Result<u8, Failure> {
    match verb {
        Verb::Tail { lines, follow } => {
            let mut after = -i64::from(lines);
            loop {
                let path = format!("/v1/audit?after={after}&limit={PAGE}");
                let page = host.bytes(Method::GET, &path, Vec::new()).await?;
                let page = String::from_utf8_lossy(&page);
                for text in page.lines() {
                    let event: Value = serde_json::from_str(text).unwrap_or_default();
                    after = event["sequence"].as_i64().unwrap_or(after);
                    line(&if output.json { text.to_owned() } else { sentence(&event) });
                }
                if page.lines().count() == PAGE {
                    continue;
                }
                if !follow {
                    return Ok(0);
                }
                // The log may still be empty; then it is followed from its beginning.
                after = after.max(0);
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
        Verb::Verify => {
            let progress = output.progress("verifying every event");
            let report = host.call::<Verified>(Method::POST, "/v1/audit/verify").await;
            progress.finish_and_clear();
            let report = report?;
            output.one(
                &report,
                &[
                    ("events", "events"),
                    ("checkpoints", "checkpoints"),
                    ("signed up to", "covered"),
                    ("last hash", "last"),
                ],
            );
            for damage in &report.damage {
                output.say(&format!("DAMAGED {damage}"));
            }
            if let Some(fault) = &report.fault {
                output.say(&format!("FAULT at event {}: {}", fault.sequence, fault.what));
            } else if report.damage.is_empty() {
                return Ok(0);
            }
            Ok(exit::DATAERR)
        }
    }
}

fn sentence(event: &Value) -> String {
    let text = |member: &str| shown(event[member].as_str().unwrap_or("-"), &[]).into_owned();
    let instant =
        |member: &str| event[member].as_i64().map(|time| Time::from_unix(time).rfc3339()).unwrap_or_default();
    if event["kind"] != "decision" {
        let on = event["deployment"].as_str().or(event["token"].as_str()).unwrap_or("-");
        return format!(
            "{} {} {on} by {}: {}",
            instant("time"),
            text("kind"),
            text("operator"),
            text("because")
        );
    }
    format!(
        "{} {:<5} {:<18} {} {} {} {} {}",
        instant("time"),
        text("decision"),
        text("reason"),
        text("token"),
        text("method"),
        text("path"),
        text("client"),
        text("connectivity"),
    )
}
