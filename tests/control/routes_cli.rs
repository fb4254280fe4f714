//! `halligan routes`: generates a map from an OpenAPI document, checks it, and explains it, as an engineer would use
//! it.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const MLFLOW: &str = "
openapi: 3.0.3
info: { title: MLflow, version: '2' }
servers: [{ url: /api/2.0 }]
paths:
  /experiments/{experiment_id}:
    get: { summary: Get an experiment }
  /variables/{key}:
    get: { summary: Get a variable }
    delete: { summary: Delete a variable }
";

fn routes(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halligan"));
    let Output { status, stdout, stderr } =
        command.current_dir(directory).arg("routes").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn from_a_document_to_a_map_that_holds() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::write(at.join("mlflow.yaml"), MLFLOW).unwrap();
    let (code, map, said) = routes(at, &["from-openapi", "mlflow.yaml"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("3 operations: 2 guessed, 1 left to decide"), "{said}");
    std::fs::write(at.join("mlflow.toml"), &map).unwrap();

    let (code, text, _) = routes(at, &["check", "mlflow.toml", "--openapi", "mlflow.yaml"]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("warning  GET /api/2.0/experiments/{experiment_id}: is an operation without a route"),
        "{text}"
    );
    assert_eq!(routes(at, &["check", "mlflow.toml", "--openapi", "mlflow.yaml", "--strict"]).0, 65);

    // Replaces the placeholders, as the map's comment asks an engineer to.
    let decided = map
        .replace("# [routes.\"/api/2.0/experiments", "[routes.\"/api/2.0/experiments")
        .replace("# GET = [\"\"]", "GET = [\"deployment.get\"]");
    std::fs::write(at.join("mlflow.toml"), decided).unwrap();
    let (code, text, _) = routes(at, &["check", "mlflow.toml", "--openapi", "mlflow.yaml", "--strict"]);
    assert_eq!(code, 0, "{text}");

    let explain = ["explain", "--map", "mlflow.toml", "--json"];
    let (code, text, _) = routes(at, &[&explain[..], &["DELETE", "/api/2.0/variables/a%20b"]].concat());
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 0);
    assert_eq!(answer["permissions"][0], "deployment.airflow.variable.delete");
    assert_eq!(answer["parameters"]["key"], "a b");
    assert_eq!(answer["builtInRoles"][0], "DEPLOYMENT_ADMIN");
    let (code, text, _) = routes(at, &[&explain[..3], &["POST", "/api/2.0/variables/x"]].concat());
    assert_eq!(code, 1);
    assert!(text.contains("route_unknown: /api/2.0/variables/{key} has DELETE, GET only"), "{text}");
    assert_eq!(routes(at, &["explain", "GET", "/api/v2/dags/../variables"]).0, 1);
}

#[test]
fn a_faulty_map_is_refused_with_every_fault() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let map = "[routes.\"/a/{x}\"]\nget = [\"deployment.get\"]\nPOST = []\n[routes.\"/b\"]\nGET = [\"deployment.logs.gett\"]\n";
    std::fs::write(at.join("map.toml"), map).unwrap();
    let (code, text, _) = routes(at, &["check", "map.toml", "--quiet"]);
    assert_eq!(code, 65, "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("error")).count(), 3, "{text}");
    assert!(text.contains("did you mean deployment.logs.get?"), "{text}");

    std::fs::write(at.join("map.toml"), "routes = 1").unwrap();
    let (code, _, error) = routes(at, &["check", "map.toml"]);
    assert_eq!(code, 65, "{error}");
    assert!(error.starts_with("halligan: map.toml is not understood"), "{error}");
    assert_eq!(routes(at, &["check", "nowhere.toml"]).0, 66);
}

#[test]
fn the_built_in_map_is_shown_and_faultless() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (_, shown, _) = routes(at, &["show"]);
    std::fs::write(at.join("airflow.toml"), shown).unwrap();
    let (code, text, _) = routes(at, &["check", "airflow.toml", "--strict", "--quiet"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("143 operations: 0 errors, 0 warnings"), "{text}");
    let (code, text, _) = routes(at, &["explain", "POST", "/api/v2/dags/etl/dagRuns?x=1"]);
    assert_eq!(code, 0);
    for part in
        ["dag_id = etl", "deployment.airflow.dagRun.create", "a role on it", "DEPLOYMENT_ADMIN, DAG_AUTHOR"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}
