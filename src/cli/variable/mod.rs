//! `halligan deployment variable`: the environment variables of a deployment. The API takes all of them at once, so each
//! change reads those that there are, and sends them with the change.

mod file;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use reqwest::header::IF_MATCH;
use serde_json::json;
use zeroize::Zeroizing;

use super::control::Control;
use super::deployment_choice::DeploymentChoice;
use super::failure::Failure;
use super::output::{Column, Output, note};
use crate::api::deployment::{Deployment, DeploymentUpdate};
use crate::api::environment::{EnvironmentVariable, NewEnvironmentVariable, VariableValue};
use crate::protocol::environment::{check_variable_name, check_variable_value};

const VARIABLE: [Column; 4] =
    [("KEY", "key"), ("VALUE", "value"), ("SECRET", "isSecret"), ("UPDATED", "updatedAt")];
/// Shown in place of a secret value.
const MASK: &str = "****";
/// Shown in place of a value that the control plane can't read.
const UNREADABLE: &str = "(unreadable)";

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// List the environment variables. Secret values are never shown.
    List {
        #[command(flatten)]
        on: DeploymentChoice,
        /// List this variable only.
        #[arg(long, short, value_name = "KEY")]
        key: Option<String>,
        /// Write them to the file of --env as well, which must not exist yet.
        #[arg(long, short)]
        save: bool,
        /// The file to write.
        #[arg(long, short, value_name = "FILE", default_value = ".env")]
        env: PathBuf,
    },
    /// Add environment variables. One that exists is an error, and then nothing is changed.
    #[command(after_help = "Examples:
  halligan deployment variable create --deployment-id dep_… AIRFLOW__CORE__PARALLELISM=64
  halligan deployment variable create --deployment-id dep_… --key DB_PASSWORD --secret --value-file -
  halligan deployment variable create --deployment-id dep_… --load --env prod.env --secret")]
    Create(Given),
    /// Change environment variables, and add those that do not exist yet.
    Update(Given),
    /// Delete environment variables.
    Delete {
        #[command(flatten)]
        on: DeploymentChoice,
        /// The variables' names.
        #[arg(value_name = "KEY", required_unless_present = "key")]
        names: Vec<String>,
        /// A variable's name.
        #[arg(long, short, value_name = "KEY")]
        key: Option<String>,
    },
}

/// Variables on the command line, in a file, or both.
#[derive(Args, Debug)]
pub(super) struct Given {
    #[command(flatten)]
    on: DeploymentChoice,
    /// Variables. Every user of this machine can read a command line: give secrets in a file.
    #[arg(value_name = "KEY=VALUE", value_parser = assignment)]
    variables: Vec<Assignment>,
    /// A variable's name.
    #[arg(long, short, value_name = "KEY")]
    key: Option<String>,
    /// The value of --key. Every user of this machine can read a command line: give a secret with --value-file.
    #[arg(long, short, requires = "key", conflicts_with = "value_file")]
    value: Option<String>,
    /// A file that holds the value of --key, or - for standard input. One line break at its end is left out.
    #[arg(long, value_name = "FILE", requires = "key")]
    value_file: Option<PathBuf>,
    /// Never show the values from now on.
    #[arg(long, short)]
    secret: bool,
    /// Take the variables of the file of --env as well.
    #[arg(long, short)]
    load: bool,
    /// The file to read, or - for standard input: a line KEY=VALUE for each variable.
    #[arg(long, short, value_name = "FILE", default_value = ".env")]
    env: PathBuf,
}

/// Variable with its value, which is wiped from memory and which `Debug` does not show.
#[derive(Clone)]
struct Assignment {
    key: String,
    value: Zeroizing<String>,
}

impl std::fmt::Debug for Assignment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.key)
    }
}

fn assignment(text: &str) -> Result<Assignment, &'static str> {
    let (key, value) = text.split_once('=').ok_or("use KEY=VALUE")?;
    Ok(Assignment { key: key.to_owned(), value: Zeroizing::new(value.to_owned()) })
}

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::List { on, key, save, env } => {
            let mut variables = present(&on.find(control).await?)?;
            if let Some(key) = key {
                variables.retain(|variable| variable.key == key);
            }
            if save {
                file::save(&env, &variables)?;
                note(&format!("wrote {}; secret variables are in it by name only", env.display()));
            }
            show(&variables, output);
        }
        Verb::Create(given) => set(given, false, control, output).await?,
        Verb::Update(given) => set(given, true, control, output).await?,
        Verb::Delete { on, names, key } => {
            let names: Vec<_> = names.into_iter().chain(key).collect();
            edit(&on, control, output, |wanted| {
                for name in &names {
                    let count = wanted.len();
                    wanted.retain(|variable| variable.key != *name);
                    if wanted.len() == count {
                        let detail = format!("there is no variable {name:?}; nothing was changed");
                        return Err(Failure::Usage(detail));
                    }
                }
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

/// Returns the variables of a deployment. A caller who may not see them can't change them with this command, because the
/// control plane takes all of them at once.
fn present(found: &Deployment) -> Result<Vec<EnvironmentVariable>, Failure> {
    found.environment_variables.clone().ok_or_else(|| {
        let detail = "your role does not show you this deployment's variables; it needs deployment.environmentVariables.get";
        Failure::Usage(detail.into())
    })
}

/// Returns a variable as it is sent to stay as it is.
fn kept(variable: EnvironmentVariable) -> NewEnvironmentVariable {
    let EnvironmentVariable { key, value, is_secret, .. } = variable;
    NewEnvironmentVariable { key, value: value.map(Into::into), is_secret }
}

impl Given {
    /// Reads the variables. Those of the command line come after those of the file.
    fn read(&self) -> Result<Vec<Assignment>, Failure> {
        let mut given = if self.load { file::load(&self.env)? } else { Vec::new() };
        given.extend(self.variables.iter().cloned());
        if let Some(key) = &self.key {
            let value = match (&self.value, &self.value_file) {
                (Some(value), _) => Zeroizing::new(value.clone()),
                (None, Some(path)) => {
                    let text = file::read(path)?;
                    Zeroizing::new(text.strip_suffix('\n').unwrap_or(&text).to_owned())
                }
                (None, None) => {
                    return Err(Failure::Usage("give --key a value: --value or --value-file".into()));
                }
            };
            given.push(Assignment { key: key.clone(), value });
        }
        if given.is_empty() {
            return Err(Failure::Usage(
                "name a variable: KEY=VALUE, --key and --value-file, or --load".into(),
            ));
        }
        for (number, one) in given.iter().enumerate() {
            let fault = check_variable_name(&one.key).and_then(|()| check_variable_value(&one.value));
            // A name that no variable can have may be a value in the wrong place.
            fault.map_err(|fault| Failure::Usage(format!("variable {}: {fault}", number + 1)))?;
            if given[..number].iter().any(|other| other.key == one.key) {
                return Err(Failure::Usage(format!("{} is given twice", one.key)));
            }
        }
        if self.secret && (self.value.is_some() || !self.variables.is_empty()) {
            note(
                "note: every user of this machine could read the value; use --value-file or --load for secrets",
            );
        }
        Ok(given)
    }
}

async fn set(given: Given, replaces: bool, control: &Control, output: Output) -> Result<(), Failure> {
    let new = given.read()?;
    edit(&given.on, control, output, |wanted| {
        for Assignment { key, value } in &new {
            let value = Some(VariableValue(value.clone()));
            match wanted.iter_mut().find(|variable| variable.key == *key) {
                Some(_) if !replaces => {
                    let detail = format!("{key} exists already; use `variable update`. Nothing was changed");
                    return Err(Failure::Usage(detail));
                }
                // A secret stays one; only a deletion ends that.
                Some(variable) => {
                    (variable.value, variable.is_secret) = (value, variable.is_secret || given.secret);
                }
                None => {
                    let (key, is_secret) = (key.clone(), given.secret);
                    wanted.push(NewEnvironmentVariable { key, value, is_secret });
                }
            }
        }
        Ok(())
    })
    .await
}

/// Changes the variables that there are and sends them. If another change came first, both are done again, so that neither
/// change is lost.
async fn edit(
    on: &DeploymentChoice,
    control: &Control,
    output: Output,
    change: impl Fn(&mut Vec<NewEnvironmentVariable>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let path = format!("/deployments/{}", on.resolve(control).await?);
    let mut tries = 20;
    loop {
        let request = control.in_organization(Method::GET, &path).await?;
        let (found, tag) = control.receive::<Deployment>(request).await?;
        let mut wanted: Vec<_> = present(&found)?.into_iter().map(kept).collect();
        change(&mut wanted)?;
        let update = DeploymentUpdate { environment_variables: Some(wanted), ..DeploymentUpdate::default() };
        let mut request = control.in_organization(Method::POST, &path).await?.json(&update);
        if let Some(tag) = tag {
            request = request.header(IF_MATCH, tag);
        }
        tries -= 1;
        match control.send::<Deployment>(request).await {
            Err(Failure::Refused { status: 412, .. }) if tries > 0 => {}
            answer => {
                show(&present(&answer?)?, output);
                return Ok(());
            }
        }
    }
}

fn show(variables: &[EnvironmentVariable], output: Output) {
    if output.json {
        return output.list(variables, &VARIABLE);
    }
    let rows = variables.iter().map(|variable| {
        let value = match variable {
            EnvironmentVariable { is_secret: true, .. } => Some(MASK),
            EnvironmentVariable { is_unreadable: true, .. } => Some(UNREADABLE),
            _ => variable.value.as_deref(),
        };
        json!({ "key": variable.key, "value": value, "isSecret": variable.is_secret, "updatedAt": variable.updated_at })
    });
    output.list(&rows.collect::<Vec<_>>(), &VARIABLE);
}
