//! `halligan deployment dag-tags`: publishes and shows the tags of a deployment's Dags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::control::Control;
use super::failure::Failure;
use super::output::Output;
use crate::api::deployment::{DagTags, NewDagTags};
use crate::api::id::DeploymentId;

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Publish the tags of all Dags, in place of the earlier ones.
    #[command(after_help = "Examples:
  halligan deployment dag-tags set dep_… --file tags.json        {\"etl\": [\"finance\"], \"report\": [\"finance\", \"daily\"]}
  halligan deployment dag-tags set dep_… --dag etl=finance --dag report=finance,daily")]
    Set {
        /// The deployment's id.
        id: DeploymentId,
        /// A JSON file that maps Dag ids to lists of tags, or - for standard input.
        #[arg(long, value_name = "FILE", required_unless_present = "dag", conflicts_with = "dag")]
        file: Option<PathBuf>,
        /// The tags of a Dag, as DAG=TAG,TAG; can be repeated.
        #[arg(long, value_name = "DAG=TAGS", value_parser = dag)]
        dag: Vec<(String, Vec<String>)>,
    },
    /// Show the published tags.
    Show {
        /// The deployment's id.
        id: DeploymentId,
    },
}

fn dag(text: &str) -> Result<(String, Vec<String>), String> {
    let (dag, tags) = text.split_once('=').ok_or("use DAG=TAG,TAG")?;
    Ok((dag.into(), tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect()))
}

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    let path = |id: &str| format!("/deployments/{id}/dag-tags");
    match verb {
        Verb::Set { id, file, dag } => {
            let tags: BTreeMap<String, Vec<String>> = match file {
                Some(file) => serde_json::from_str(&read(&file)?).map_err(|error| {
                    Failure::Usage(format!(
                        "{} is no mapping of Dag ids to lists of tags: {error}",
                        file.display()
                    ))
                })?,
                None => dag.into_iter().collect(),
            };
            show(&control.put(&path(&id), &NewDagTags { tags }).await?, output);
        }
        Verb::Show { id } => show(&control.get(&path(&id)).await?, output),
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|source| Failure::File { path: path.into(), source })
}

fn show(found: &DagTags, output: Output) {
    if output.json {
        return output.one(found, &[]);
    }
    let rows = found.tags.iter().map(|(dag, tags)| json!({ "dag": dag, "tags": tags }));
    output.list(&rows.collect::<Vec<_>>(), &[("DAG", "dag"), ("TAGS", "tags")]);
}
