//! Generates a route map from an OpenAPI document. Each permission in it is a guess from the names in a path, and is
//! marked as one. If no permission of the catalogue fits, the line is a comment and the operation stays denied until
//! somebody decides.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::openapi::Operation;
use super::pattern::{Pattern, spelt};
use crate::dataplane::decide::routes::{CanonicalPath, METHODS, RouteMap};
use crate::protocol::permission::{CATALOGUE, Permission};

/// Generated map, with the number of operations by result.
pub(super) struct Guessed {
    /// Text of the map.
    pub(super) text: String,
    /// Number of operations with a guess.
    pub(super) found: usize,
    /// Number of operations without one, for somebody to decide.
    pub(super) open: usize,
}

/// Generates a map. `source` names the document that the operations come from.
pub(super) fn map(operations: &[Operation], source: &str) -> Guessed {
    let mut made = Guessed { text: String::new(), found: 0, open: 0 };
    let mut by_path: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        by_path.entry(&operation.path).or_default().push(operation);
    }
    let mut routes = String::new();
    // Routes so far: two spellings of one route are not allowed in a map.
    let mut taken = String::new();
    for (path, operations) in by_path {
        let mut lines = String::new();
        let mut live = false;
        let fault = fault(path, &taken);
        for operation in operations {
            let comment =
                if operation.summary.is_empty() { String::new() } else { format!(": {}", operation.summary) };
            let method = operation.method.as_str();
            let guess = if fault.is_none() && METHODS.contains(&method) { guess(method, path) } else { None };
            // Writing to a String cannot fail.
            let _ = if let Some((permission, word)) = guess {
                made.found += 1;
                live = true;
                writeln!(lines, "{method} = [\"{permission}\"] # guessed from \"{word}\"{comment}")
            } else {
                made.open += 1;
                writeln!(lines, "# {method} = [\"\"] # no guess{comment}")
            };
        }
        let table = format!("[routes.{}]\n", toml::Value::from(path));
        if live {
            let _ = writeln!(taken, "{table}GET = [\"deployment.get\"]");
        }
        let why = fault.map_or_else(String::new, |fault| format!("# {fault}\n"));
        let comment = if live { "" } else { "# " };
        let _ = write!(routes, "\n{why}{comment}{table}{lines}");
    }
    let _ = write!(
        made.text,
        "# A starting map, made from {source}. Every permission in it is a guess by the names in a path: review each line,\n\
         # and run `halligan routes check` on what you make of it. A line that is a comment had no guess: its operation is\n\
         # denied until you decide. {} of {} operations have a guess.\n{routes}",
        made.found,
        made.found + made.open,
    );
    made
}

/// Returns the fault of a path that cannot be a template beside those in `taken`.
fn fault(path: &str, taken: &str) -> Option<String> {
    let example = Pattern::read(path).example();
    match CanonicalPath::parse(&spelt(&example)) {
        Ok(canonical) if canonical.as_str() == example => {}
        Ok(_) => return Some("a path is decoded before it is compared: this would match nothing".into()),
        Err(error) => return Some(error.to_string()),
    }
    let text = format!("{taken}[routes.{}]\nGET = [\"deployment.get\"]\n", toml::Value::from(path));
    RouteMap::from_toml(&text).err().map(|error| error.to_string().replace('\n', " "))
}

/// Guesses the permission: the object that a path names last, with the verb of the method. Also returns the word that
/// matched.
fn guess<'p>(method: &str, path: &'p str) -> Option<(Permission, &'p str)> {
    let verb = match method {
        "GET" => "get",
        "POST" => "create",
        "DELETE" => "delete",
        _ => "update",
    };
    path.rsplit('/')
        .filter(|segment| !segment.contains('{'))
        .find_map(|word| Some((permission(&plain(word), verb)?, word)))
}

/// Finds an object in the catalogue, Airflow's objects first.
fn permission(object: &str, verb: &str) -> Option<Permission> {
    let named = |name: &&&str| {
        let mut parts = name.rsplit('.');
        parts.next() == Some(verb) && parts.next().is_some_and(|known| plain(known) == object)
    };
    let found = CATALOGUE.iter().filter(|name| name.starts_with("deployment.airflow.")).find(named);
    found.or_else(|| CATALOGUE.iter().find(named))?.parse().ok()
}

/// Normalizes a name for comparison: `dag-runs`, `dag_runs` and `dagRun` become equal.
fn plain(name: &str) -> String {
    let word: String = name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_ascii_lowercase();
    match word.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => word.strip_suffix('s').unwrap_or(&word).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::openapi;
    use super::*;

    fn guessed(method: &str, path: &str) -> Option<String> {
        guess(method, path).map(|(permission, _)| permission.to_string())
    }

    #[test]
    fn the_last_known_name_of_a_path_is_the_guess() {
        for (method, path, expected) in [
            ("GET", "/api/v2/dags/{dag_id}/dagRuns", "deployment.airflow.dagRun.get"),
            ("POST", "/dags/{id}/dag-runs", "deployment.airflow.dagRun.create"),
            ("PUT", "/connections/{id}", "deployment.airflow.connection.update"),
            ("DELETE", "/variables/{key}/", "deployment.airflow.variable.delete"),
            ("GET", "/metrics", "deployment.metrics.get"),
        ] {
            assert_eq!(guessed(method, path).as_deref(), Some(expected), "{method} {path}");
        }
        assert_eq!(guessed("GET", "/experiments"), None);
    }

    #[test]
    fn a_starting_map_is_a_map_and_what_is_not_known_stays_denied() {
        let document = r#"{"paths":{"/dags/{dag_id}":{"get":{"summary":"a \"quoted\"\nline"},"head":{}},
            "/dags/{id}":{"get":{}},"/experiments":{"get":{},"post":{}},"/dags//x":{"get":{}},"/a\"b/pools":{"get":{}}}}"#;
        let operations = openapi::operations(document, None).unwrap();
        let made = map(&operations, "a test");
        assert_eq!((made.found, made.open), (2, 5), "{}", made.text);
        let map = RouteMap::from_toml(&made.text).unwrap();
        let found = |path: &str| map.find("GET", &CanonicalPath::parse(path).unwrap()).is_some();
        assert!(found("/dags/etl") && found("/a%22b/pools") && !found("/experiments"), "{}", made.text);
    }
}
