//! OpenAPI documents: parses the operations of an upstream, which routes are compared with.

use std::collections::BTreeMap;

use serde_json::Value;

use super::pattern::{Pattern, spelt};
use super::review::{Draft, Finding, Weight};
use crate::cli::failure::Failure;
use crate::dataplane::decide::routes::{CanonicalPath, METHODS, RouteMap};

/// Operation of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    /// Method, in capitals.
    pub(super) method: String,
    /// Path from the root of the upstream, with its parameters in braces.
    pub(super) path: String,
    /// Summary from the document.
    pub(super) summary: String,
}

/// Parses the operations of a document (JSON or YAML), ordered by path. `prefix` replaces the path of the document's
/// server.
pub(super) fn operations(text: &str, prefix: Option<&str>) -> Result<Vec<Operation>, Failure> {
    let not = |why: String| Failure::Data(format!("the OpenAPI document is not understood: {why}"));
    let document: Value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| not(error.to_string()))?
    } else {
        serde_saphyr::from_str(text).map_err(|error| not(error.to_string()))?
    };
    let paths = document["paths"].as_object().ok_or_else(|| not("it has no `paths`".into()))?;
    let prefix = prefix.map_or_else(|| server_path(&document), str::to_owned);
    let prefix = prefix.trim_matches('/');
    let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
    let mut found = Vec::new();
    for (path, item) in paths {
        let Some(item) = item.as_object() else { continue };
        let mut methods: BTreeMap<String, String> = BTreeMap::new();
        for (method, operation) in item {
            let method = method.to_ascii_uppercase();
            // Other members beside the methods are `parameters`, `summary` and the like.
            if METHODS.contains(&method.as_str()) || ["HEAD", "TRACE"].contains(&method.as_str()) {
                let text = |member: &str| operation[member].as_str().map(str::to_owned);
                methods.insert(method, text("summary").or_else(|| text("operationId")).unwrap_or_default());
            }
        }
        found.extend(methods.into_iter().map(|(method, summary)| Operation {
            method,
            path: format!("{prefix}{path}"),
            summary: summary.split_whitespace().collect::<Vec<_>>().join(" "),
        }));
    }
    found.sort_by(|one, other| (&one.path, &one.method).cmp(&(&other.path, &other.method)));
    Ok(found)
}

/// Returns the path of a document's first server: `servers` since OpenAPI 3, `basePath` before.
fn server_path(document: &Value) -> String {
    if let Some(path) = document["basePath"].as_str() {
        return path.to_owned();
    }
    let Some(url) = document["servers"][0]["url"].as_str() else { return String::new() };
    match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or_else(String::new, |(_, path)| path.to_owned()),
        None => url.to_owned(),
    }
}

/// Compares a map with the upstream's operations. Returns the operations without a route, and the routes without an
/// operation.
pub(super) fn compare(
    draft: &Draft,
    map: &RouteMap,
    operations: &[Operation],
    beyond: Weight,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |at: String, what: String| findings.push(Finding { weight: Weight::Warning, at, what });
    for operation in operations.iter().filter(|operation| !["HEAD", "TRACE"].contains(&&*operation.method)) {
        let at = format!("{} {}", operation.method, operation.path);
        let (shape, example) =
            (Pattern::read(&operation.path).shape(), Pattern::read(&operation.path).example());
        let spelt = spelt(&example);
        let Ok(path) = CanonicalPath::parse(&spelt) else {
            say(at, "is an operation whose path is never canonical: it can't be let in".into());
            continue;
        };
        match map.find(&operation.method, &path) {
            None => say(at, format!("is an operation without a route: denied ({})", operation.summary)),
            Some(found) if Pattern::read(&found.route.template).shape() != shape => {
                say(at, format!("is an operation that {} takes", found.route.template));
            }
            Some(_) => {}
        }
    }
    for (template, methods) in &draft.routes {
        // A document does not say which parameters match several segments.
        let shape = Pattern::read(&template.replace(":path}", "}")).shape();
        for method in methods.keys() {
            let known = operations.iter().any(|operation| {
                operation.method == *method && Pattern::read(&operation.path).shape() == shape
            });
            if !known {
                let what = "is a route without an operation: the document has none".into();
                findings.push(Finding { weight: beyond, at: format!("{method} {template}"), what });
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = "openapi: 3.1.0\nservers:\n- url: https://mlflow.example/api/2.0/\npaths:\n  /runs/{run_id}:\n    parameters: []\n    get:\n      summary: |\n        Get\n        a run\n    delete:\n      operationId: deleteRun\n";
        let json = r#"{"servers":[{"url":"/api/2.0"}],"paths":{"/runs/{run_id}":
            {"parameters":[],"get":{"summary":"Get a run"},"delete":{"operationId":"deleteRun"}}}}"#;
        let found = operations(yaml, None).unwrap();
        assert_eq!(found, operations(json, None).unwrap());
        let listed: Vec<_> =
            found.iter().map(|found| format!("{} {} {}", found.method, found.path, found.summary)).collect();
        assert_eq!(
            listed,
            ["DELETE /api/2.0/runs/{run_id} deleteRun", "GET /api/2.0/runs/{run_id} Get a run"]
        );
        assert_eq!(operations(json, Some("")).unwrap()[0].path, "/runs/{run_id}");
        assert_eq!(
            operations(r#"{"basePath":"/v1","paths":{"/a":{"get":{}}}}"#, None).unwrap()[0].path,
            "/v1/a"
        );
        for bad in ["", "{", "{}", "paths: [", "a: b"] {
            assert!(operations(bad, None).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn gaps_are_found_on_both_sides() {
        let text = "[routes.\"/runs/{id}\"]\nGET = [\"deployment.get\"]\n[routes.\"/old\"]\nGET = [\"deployment.get\"]\n";
        let (draft, map) = (Draft::read(text).unwrap(), RouteMap::from_toml(text).unwrap());
        let document = r#"{"paths":{"/runs/{run_id}":{"get":{},"delete":{"summary":"Delete"}},"/runs/search":{"get":{}}}}"#;
        let found = compare(&draft, &map, &operations(document, None).unwrap(), Weight::Warning);
        let told: Vec<_> = found.iter().map(|found| format!("{} {}", found.at, found.what)).collect();
        assert_eq!(
            told,
            [
                "GET /runs/search is an operation that /runs/{id} takes",
                "DELETE /runs/{run_id} is an operation without a route: denied (Delete)",
                "GET /old is a route without an operation: the document has none",
            ]
        );
    }
}
