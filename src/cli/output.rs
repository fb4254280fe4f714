//! Output: tables for people, JSON for programs.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{Table, presets};
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::Value;

use super::failure::Failure;
use crate::platform::text::shown;
use crate::protocol::time::Time;

/// Format of the output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) json: bool,
}

/// Column of a table: its title, and the member of the object that it shows.
pub(super) type Column = (&'static str, &'static str);

impl Output {
    /// Prints a list of objects.
    pub(super) fn list<T: Serialize + ?Sized>(self, list: &T, columns: &[Column]) {
        let list = &untyped(list);
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

    /// Prints a page of a list whose items are in `member`. If there are more, people are told how to get the next
    /// page.
    pub(super) fn page<T: Serialize>(self, page: &T, member: &str, columns: &[Column]) {
        let page = &untyped(page);
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

    /// Prints one object, with one member per line.
    pub(super) fn one<T: Serialize>(self, item: &T, columns: &[Column]) {
        let item = &untyped(item);
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

    /// Prints a message, but only for people.
    pub(super) fn say(self, what: &str) {
        if !self.json {
            line(what);
        }
    }

    /// Shows a progress indicator on the terminal.
    pub(super) fn progress(self, what: &'static str) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let progress = ProgressBar::new_spinner().with_message(what);
        progress.enable_steady_tick(std::time::Duration::from_millis(100));
        progress
    }
}

/// Returns a value as JSON, for the columns of a table to be picked by name. Answers are strings, numbers, lists and maps
/// with text keys, which always serialize.
fn untyped<T: Serialize + ?Sized>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Asks for confirmation of an act that cannot be undone. Without a terminal nobody can answer, so `force` is required.
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

/// Asks for confirmation of a deletion: the user must type the name, or the word "Delete". `about` is printed before
/// the question.
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

/// Prints one or more lines. A closed reader, as in `| head`, is not an error.
///
/// All output of the command line goes through this function, [`note`] or [`ask`], which replace control characters:
/// names, paths and descriptions were written by others and must not control the terminal.
pub(super) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", shown(text, &BREAKS));
}

/// Prints one or more lines for people on standard error.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", shown(text, &BREAKS));
}

/// Prints a question without a line break.
fn ask(question: &str) {
    let _ = write!(std::io::stderr(), "{}", shown(question, &BREAKS));
}

/// Control characters that the command line uses for its layout. Values never contain them, because [`text`] removes
/// them.
const BREAKS: [char; 2] = ['\n', '\t'];

/// Formats a value for people: times as dates, lists with commas, null as a dash.
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
        // A line break within a value would start a line that looks like the program's own.
        Value::String(text) => shown(text, &[]).into_owned(),
        Value::Array(items) if items.is_empty() => "-".into(),
        // Roles and long lists are printed one item per line.
        Value::Array(items) if items.len() > 4 || items[0].is_object() => {
            items.iter().map(text_of_item).collect::<Vec<_>>().join("\n")
        }
        Value::Array(items) => items.iter().map(text_of_item).collect::<Vec<_>>().join(", "),
        Value::Object(subject) if subject.contains_key("subjectType") => {
            let name =
                ["username", "apiTokenName", "id"].iter().find_map(|name| subject.get(*name)?.as_str());
            shown(name.unwrap_or("-"), &[]).into_owned()
        }
        Value::Object(members) if members.contains_key("version") => {
            let count = |member: &str| members.get(member).and_then(Value::as_array).map_or(0, Vec::len);
            format!("{} (+{} -{})", members["version"], count("added"), count("removed"))
        }
        other => other.to_string(),
    }
}

/// Formats a role as `ROLE on ENTITY`, with its version if that is not the newest.
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
