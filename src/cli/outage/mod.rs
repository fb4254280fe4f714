//! `halligan outage`: shows the events of an outage of the control plane.

mod page;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;

use super::failure::Failure;
use super::global::Global;
use super::output::{Column, Output, line};
use crate::api::id::OutageId;
use crate::api::outage::{Outage, OutagePage};
use crate::api::outage_report::OutageReport;
use crate::protocol::outage::{OutageState, Report};

/// Last part of both verbs' help.
const WHOM: &str = "This host's daemon knows what happened on it; the control plane knows it of every node, with the names of tokens and \
                    with what had been revoked meanwhile.";

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// List outages, newest first.
    #[command(after_help = WHOM)]
    List {
        /// Ask the control plane, about all nodes, instead of this host's daemon.
        #[arg(long)]
        control_plane: bool,
    },
    /// Show an outage: its beginning and end, uses, late uses, revocations, alarms, and a timeline.
    #[command(after_help = "Examples:
  halligan outage show out_…                         what this host knows
  halligan outage show out_… --control-plane --html outage.html")]
    Show {
        /// The outage's id; the latest outage if none is given.
        id: Option<OutageId>,
        /// Ask the control plane, instead of this host's daemon.
        #[arg(long)]
        control_plane: bool,
        /// Write the report to this file as an HTML page, which needs no other file.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

const LIST: [Column; 8] = [
    ("ID", "id"),
    ("NODE", "nodeId"),
    ("STATE", "state"),
    ("BEGAN", "beganAt"),
    ("ENDED", "endedAt"),
    ("USES", "uses"),
    ("LATE", "lateUses"),
    ("REVOKED", "revocations"),
];

/// Maximum number of outages that are asked of the control plane, which makes the report of each.
const MAX_LISTED: usize = 200;

/// Lists the outages, newest first. The daemon returns each in full.
async fn list(global: &Global, control_plane: bool) -> Result<Vec<Outage>, Failure> {
    if control_plane {
        let query = [("limit", Some(MAX_LISTED.to_string()))];
        return Ok(global.control()?.list::<OutagePage>("/outages", &query).await?.outages);
    }
    let reports: Vec<Report> = global.host()?.call(Method::GET, "/v1/outages").await?;
    Ok(reports.into_iter().map(Outage::from).collect())
}

/// Returns the report of an outage, from the daemon, or with `control_plane` from the control plane. The daemon's has seconds
/// in place of instants.
async fn report(global: &Global, control_plane: bool, id: &str) -> Result<OutageReport, Failure> {
    if control_plane {
        return global.control()?.get(&format!("/outages/{id}")).await;
    }
    let report: Report = global.host()?.call(Method::GET, &format!("/v1/outages/{id}")).await?;
    Ok(report.into())
}

pub(super) async fn run(verb: Verb, global: &Global, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::List { control_plane } => output.list(&list(global, control_plane).await?, &LIST),
        Verb::Show { id, control_plane, html } => {
            let id = match id {
                Some(id) => id.to_string(),
                None => latest(list(global, control_plane).await?)?,
            };
            let report = report(global, control_plane, &id).await?;
            if let Some(path) = html {
                std::fs::write(&path, page::page(&report))
                    .map_err(|source| Failure::File { path: path.clone(), source })?;
                output.say(&format!("wrote {}", path.display()));
            } else if output.json {
                output.one(&report, &[]);
            } else {
                line(text(&report).trim_end());
            }
        }
    }
    Ok(())
}

fn latest(list: Vec<Outage>) -> Result<String, Failure> {
    let latest = list.into_iter().next().map(|outage| outage.id);
    latest.ok_or_else(|| Failure::Usage("there has been no outage".into()))
}

/// Formats the duration of an outage.
fn duration(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Returns the facts of a report, in the order of display.
fn facts(report: &OutageReport) -> Vec<(&'static str, String)> {
    let ended = report.ended_at.map_or_else(
        || "it lasts".to_owned(),
        |ended| format!("{ended} ({})", duration(ended.time().since(report.began_at.time()))),
    );
    let node = report
        .node_name
        .as_ref()
        .map_or_else(|| report.node_id.clone(), |name| format!("{} ({name})", report.node_id));
    let state = match report.state {
        OutageState::Open => "open: the control plane can't be reached",
        OutageState::Reconciling => "reconciling: not all of the node's events have arrived above",
        OutageState::Closed => "closed: all the node's events have arrived above",
    };
    vec![
        ("outage", report.id.clone()),
        ("node", node),
        ("data plane", report.data_plane_id.clone()),
        ("state", state.to_owned()),
        ("last contact", report.last_contact_at.map_or_else(|| "-".into(), |time| time.to_string())),
        ("began", report.began_at.to_string()),
        ("ended", ended),
        ("cause", report.cause.clone()),
        ("uses", report.uses.to_string()),
        ("late uses", report.late_use_count.to_string()),
        ("revocations", report.revocations.len().to_string()),
        ("deploys", report.deploys.len().to_string()),
        ("alarms", report.alarms.len().to_string()),
        ("log", log(report)),
    ]
}

fn log(report: &OutageReport) -> String {
    match report.log_faults.as_slice() {
        [] => format!("no gap or fork, through event {}", report.log_through),
        faults => format!("{} faults, through event {}", faults.len(), report.log_through),
    }
}

/// Formats a report for a terminal.
fn text(report: &OutageReport) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (name, value) in facts(report) {
        let _ = writeln!(text, "{name:<14}{value}");
    }
    if !report.tokens.is_empty() {
        let _ = writeln!(text, "\nTokens");
    }
    for token in &report.tokens {
        let name = token.name.as_deref().unwrap_or("-");
        let _ = writeln!(
            text,
            "  {}  {name}  {} uses, {} to {}",
            token.token_id, token.count, token.first_at, token.last_at
        );
    }
    let _ = writeln!(text, "\nTimeline");
    for moment in &report.timeline {
        let _ = writeln!(text, "  {}  {:<11} {}", moment.time, moment.kind, moment.what);
    }
    text
}
