//! `halligan routes`: checks, explains and generates route maps, without a daemon.

mod explain;
mod guess;
mod openapi;
mod pattern;
mod review;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use self::review::{Draft, Finding, Weight};
use super::failure::Failure;
use super::output::{Output, line, note};
use crate::dataplane::decide::routes::{AIRFLOW_V2, RouteMap};
use crate::platform::exit;

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  halligan routes explain POST /api/v2/dags/etl/dagRuns
  halligan routes from-openapi mlflow.yaml > mlflow.toml
  halligan routes check mlflow.toml --openapi mlflow.yaml")]
pub(super) enum Verb {
    /// Report the faults of a route map, and what its author may not have meant: templates that take paths from others,
    /// denied methods, parameters that no Dag role binds to. Exits with 65 if a daemon would reject the map.
    Check {
        /// The map; by default the built-in one.
        file: Option<PathBuf>,
        /// An OpenAPI document (JSON or YAML) to compare it with: operations without a route, routes without an operation.
        #[arg(long, value_name = "FILE")]
        openapi: Option<PathBuf>,
        /// The path below which the document's operations are found, instead of its server's.
        #[arg(long, value_name = "PATH", requires = "openapi")]
        prefix: Option<String>,
        /// Exit with 65 on a warning as well.
        #[arg(long)]
        strict: bool,
        /// Do not print notes.
        #[arg(long, short)]
        quiet: bool,
    },
    /// Generate a first map from an OpenAPI document (JSON or YAML), on standard output. Review every line of it.
    FromOpenapi {
        /// The document.
        file: PathBuf,
        /// The path below which its operations are found, instead of its server's.
        #[arg(long, value_name = "PATH")]
        prefix: Option<String>,
    },
    /// Explain how a map reads a request: its route, the permissions that the route needs, and the roles that have them. Exits
    /// with 1 if no route matches.
    Explain {
        /// The method of the request.
        method: String,
        /// The path and query of the request, as a client would send them.
        path: String,
        /// The map; by default the built-in one.
        #[arg(long, value_name = "FILE")]
        map: Option<PathBuf>,
    },
    /// Print the built-in map (airflow-v2), as an example or a start.
    Show,
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|source| Failure::File { path: path.into(), source })
}

fn read_map(path: Option<&Path>) -> Result<String, Failure> {
    path.map_or_else(|| Ok(AIRFLOW_V2.to_owned()), read)
}

fn not_a_map(path: Option<&Path>, why: impl std::fmt::Display) -> Failure {
    let what = path.map_or_else(|| "the built-in map".into(), |path| path.display().to_string());
    Failure::Data(format!("{what} is not understood: {why}"))
}

pub(super) fn run(verb: Verb, output: Output) -> Result<u8, Failure> {
    match verb {
        Verb::Check { file, openapi, prefix, strict, quiet } => {
            let text = read_map(file.as_deref())?;
            let draft = Draft::read(&text).map_err(|error| not_a_map(file.as_deref(), error))?;
            let mut findings = draft.review(&text);
            if let Some(path) = openapi {
                let operations = openapi::operations(&read(&path)?, prefix.as_deref())?;
                // A text that is not a valid map cannot be compared.
                if let Ok(map) = RouteMap::from_toml(&text) {
                    // The built-in map covers the web interface besides, which has a document of its own and pages in none.
                    let beyond = if file.is_none() { Weight::Note } else { Weight::Warning };
                    findings.extend(openapi::compare(&draft, &map, &operations, beyond));
                    findings.sort();
                }
            }
            Ok(report(&draft, findings, strict, quiet, output))
        }
        Verb::FromOpenapi { file, prefix } => {
            let operations = openapi::operations(&read(&file)?, prefix.as_deref())?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let made = guess::map(&operations, &name);
            line(made.text.trim_end());
            let all = made.found + made.open;
            note(&format!(
                "{all} operations: {} guessed, {} left to decide. Review every line.",
                made.found, made.open
            ));
            Ok(0)
        }
        Verb::Explain { method, path, map } => {
            let text = read_map(map.as_deref())?;
            let routes = RouteMap::from_toml(&text).map_err(|error| not_a_map(map.as_deref(), error))?;
            let draft = Draft::read(&text).map_err(|error| not_a_map(map.as_deref(), error))?;
            Ok(u8::from(!explain::explain(&draft, &routes, &method, &path, output)))
        }
        Verb::Show => {
            line(AIRFLOW_V2.trim_end());
            Ok(0)
        }
    }
}

fn report(draft: &Draft, mut findings: Vec<Finding>, strict: bool, quiet: bool, output: Output) -> u8 {
    let count = |weight| findings.iter().filter(|found| found.weight == weight).count();
    let (errors, warnings, notes) = (count(Weight::Error), count(Weight::Warning), count(Weight::Note));
    if quiet {
        findings.retain(|found| found.weight != Weight::Note);
    }
    if output.json {
        output.one(
            &json!({
                "templates": draft.routes.len(), "operations": draft.operations(), "errors": errors,
                "warnings": warnings, "notes": notes, "findings": findings,
            }),
            &[],
        );
    } else {
        for found in &findings {
            let weight = match found.weight {
                Weight::Error => "error",
                Weight::Warning => "warning",
                Weight::Note => "note",
            };
            line(&format!("{weight:<9}{}: {}", found.at, found.what));
        }
        line(&format!(
            "{} templates, {} operations: {errors} errors, {warnings} warnings, {notes} notes",
            draft.routes.len(),
            draft.operations()
        ));
    }
    if errors > 0 || (strict && warnings > 0) { exit::DATAERR } else { 0 }
}
