//! `halligan organization audit-log`: shows the calls that changed something at the control plane.

use clap::Args;

use super::control::Control;
use super::failure::Failure;
use super::output::{Column, Output};
use crate::api::audit_log::EntryPage;
use crate::protocol::time::Time;

/// Filters of the audit log.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  halligan organization audit-log --call 'POST /tokens'
  halligan organization audit-log --target tok_… --since 2026-11-01T00:00:00Z")]
pub(super) struct Arguments {
    /// Only calls of this user or token.
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// Only calls about this token, deployment, user or other object.
    #[arg(long, value_name = "ID")]
    target: Option<String>,
    /// Only calls of this method and route.
    #[arg(long, value_name = "CALL")]
    call: Option<String>,
    /// Only calls with this outcome.
    #[arg(long, value_parser = ["done", "refused", "failed", "unknown"])]
    outcome: Option<String>,
    /// Only calls from this time on (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<Time>,
    /// Only calls before this time (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<Time>,
    /// Number of lines to skip.
    #[arg(long, default_value_t = 0)]
    offset: u64,
    /// The cursor of the page before. The next page begins after it, also while others call.
    #[arg(long, value_name = "CURSOR", conflicts_with = "offset")]
    cursor: Option<String>,
    /// Number of lines to show, up to 1000.
    #[arg(long, default_value_t = 50)]
    limit: u64,
}

fn instant(text: &str) -> Result<Time, String> {
    Time::parse_rfc3339(text).ok_or_else(|| "write it like 2026-11-24T13:30:55Z".into())
}

const ENTRY: [Column; 8] = [
    ("TIME", "at"),
    ("WHO", "actorName"),
    ("FROM", "address"),
    ("CALL", "call"),
    ("ON", "target"),
    ("OUTCOME", "outcome"),
    ("CODE", "code"),
    ("AGAIN", "repeated"),
];

pub(super) async fn run(arguments: Arguments, control: &Control, output: Output) -> Result<(), Failure> {
    let instant = |time: Option<Time>| time.map(Time::rfc3339);
    let query = [
        ("actor", arguments.actor),
        ("target", arguments.target),
        ("call", arguments.call),
        ("outcome", arguments.outcome.map(|outcome| outcome.to_uppercase())),
        ("since", instant(arguments.since)),
        ("until", instant(arguments.until)),
        ("offset", Some(arguments.offset.to_string())),
        ("cursor", arguments.cursor),
        ("limit", Some(arguments.limit.to_string())),
    ];
    let page: EntryPage = control.list("/audit-logs", &query).await?;
    output.page(&page, "entries", &ENTRY);
    Ok(())
}
