//! Tables for people, JSON for programs.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{Table, presets};
use indicatif::ProgressBar;
use serde_json::Value;

use super::failure::Failure;
use crate::platform::text::shown;
use crate::protocol::time::Time;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) json: bool,
}

/// A column: what it is called, and the member of the object it shows.
pub(super) type Column = (&'static str, &'static str);

impl Output {
    /// Prints a list of objects.
    pub(super) fn list(self, list: &Value, columns: &[Column]) {
        if self.json {
            return line(&format!("{list:#}"));
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(columns.iter().map(|(title, _)| *title));
        for item in list.as_array().into_iter().flatten() {
            table.add_row(columns.iter().map(|(_, member)| text(member, &item[*member])));
        }
        line(&table.trim_fmt());
    }

    /// Prints a page of a list whose items are in `member`; where there are more, people are told.
    pub(super) fn page(self, page: &Value, member: &str, columns: &[Column]) {
        if self.json {
            return line(&format!("{page:#}"));
        }
        self.list(&page[member], columns);
        if let Some(cursor) = page["nextCursor"].as_str() {
            let count = page[member].as_array().map_or(0, Vec::len);
            let total = page["totalCount"].as_u64().unwrap_or(0);
            note(&format!("{count} of {total} are shown; --cursor {cursor} shows more"));
        }
    }

    /// Prints one object, a member a line.
    pub(super) fn one(self, item: &Value, columns: &[Column]) {
        if self.json {
            return line(&format!("{item:#}"));
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        for (title, member) in columns {
            let value = item.pointer(&format!("/{}", member.replace('.', "/"))).unwrap_or(&Value::Null);
            table.add_row([(*title).to_owned(), text(member, value)]);
        }
        line(&table.trim_fmt());
    }

    /// Says something to people only.
    pub(super) fn say(self, what: &str) {
        if !self.json {
            line(what);
        }
    }

    /// Shows on the terminal that something takes its time.
    pub(super) fn progress(self, what: &'static str) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let progress = ProgressBar::new_spinner().with_message(what);
        progress.enable_steady_tick(std::time::Duration::from_millis(100));
        progress
    }
}

/// Asks before something that can't be taken back. Without a terminal nobody can answer: `force` is needed.
pub(super) fn confirm(what: &str, force: bool) -> Result<(), Failure> {
    if force {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "{what} can't be taken back; use --force to do it without a question"
        )));
    }
    ask(&format!("{what} can't be taken back. Type \"yes\" to go on: "));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        Ok(())
    } else {
        Err(Failure::Usage("nothing was done".into()))
    }
}

/// Asks before something is deleted: the name has to be typed, or the word "Delete". `about` is what to know before.
pub(super) fn confirm_name(what: &str, about: &str, name: &str, force: bool) -> Result<(), Failure> {
    if force {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "{what} can't be taken back; use --force to do it without a question"
        )));
    }
    ask(&format!("{what} can't be taken back. {about}\nType \"{name}\" or \"Delete\" to go on: "));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && [name, "Delete"].contains(&answer.trim()) {
        Ok(())
    } else {
        Err(Failure::Usage("nothing was done".into()))
    }
}

/// Prints a line, or several. A reader that is gone, as in `| head`, is no failure.
///
/// Everything the command line prints goes through here, [`note`] or [`ask`]: names, paths and descriptions were written by
/// others, and none of them is a command to the terminal.
pub(super) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", shown(text, &BREAKS));
}

/// Prints a line for people beside the output, or several.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", shown(text, &BREAKS));
}

/// Prints a question, and stays on its line.
fn ask(question: &str) {
    let _ = write!(std::io::stderr(), "{}", shown(question, &BREAKS));
}

/// Control characters that the command line uses for its layout. Values never contain one: see [`text`].
const BREAKS: [char; 2] = ['\n', '\t'];

/// A value as people read it: instants as dates, lists with commas, nothing as a dash.
fn text(member: &str, value: &Value) -> String {
    const INSTANTS: [&str; 6] =
        ["at", "time", "until", "controlPlane.since", "controlPlane.lastRenewal", "controlPlane.nextAttempt"];
    let instant = member.ends_with("At") || INSTANTS.contains(&member);
    match value {
        Value::Null => "-".into(),
        Value::Number(number) if instant => {
            number.as_i64().map_or_else(|| number.to_string(), |seconds| Time::from_unix(seconds).rfc3339())
        }
        Value::String(text) if text.is_empty() => "-".into(),
        // A break within a value would begin a line that is not the command line's.
        Value::String(text) => shown(text, &[]).into_owned(),
        Value::Array(items) if items.is_empty() => "-".into(),
        // Roles, and what is more than a handful, are read a line each.
        Value::Array(items) if items.len() > 4 || items[0].is_object() => {
            items.iter().map(text_of_item).collect::<Vec<_>>().join("\n")
        }
        Value::Array(items) => items.iter().map(text_of_item).collect::<Vec<_>>().join(", "),
        Value::Object(members) if members.contains_key("version") => {
            let count = |member: &str| members.get(member).and_then(Value::as_array).map_or(0, Vec::len);
            format!("{} (+{} -{})", members["version"], count("added"), count("removed"))
        }
        other => other.to_string(),
    }
}

/// A role a user or token has reads as `ROLE on ENTITY`; the version is told where it is not the newest.
fn text_of_item(item: &Value) -> String {
    let (Some(role), Some(on)) =
        (item["role"].as_str(), item["entityId"].as_str().or(item["workspaceId"].as_str()))
    else {
        return text("", item);
    };
    let version = match (item["roleVersion"].as_u64(), item["newest"]["version"].as_u64()) {
        (Some(version), Some(newest)) => format!("@{version} (newest is @{newest})"),
        _ => String::new(),
    };
    let (which, of) = match item["entityType"].as_str() {
        Some("DAG") => ("Dag ", item["deploymentId"].as_str()),
        Some("DAG_TAG") => ("tag ", item["deploymentId"].as_str()),
        _ => ("", None),
    };
    let of = of.map(|deployment| format!(" of {deployment}")).unwrap_or_default();
    format!("{role}{version} on {which}{on}{of}")
}
