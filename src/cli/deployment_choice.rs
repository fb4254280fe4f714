//! The deployment that a command is about, by its id or its name.

use clap::Args;

use super::control::Control;
use super::failure::Failure;
use crate::api::deployment::{Deployment, DeploymentPage};
use crate::api::id::DeploymentId;

/// The deployment.
#[derive(Args, Debug)]
pub(super) struct DeploymentChoice {
    /// The deployment's id.
    #[arg(
        long,
        short,
        value_name = "ID",
        required_unless_present = "deployment_name",
        conflicts_with = "deployment_name"
    )]
    deployment_id: Option<DeploymentId>,
    /// The deployment's name, in place of its id.
    #[arg(long, value_name = "NAME")]
    deployment_name: Option<String>,
}

impl DeploymentChoice {
    /// Returns the deployment.
    pub(super) async fn find(&self, control: &Control) -> Result<Deployment, Failure> {
        match &self.deployment_id {
            Some(id) => control.get(&format!("/deployments/{id}")).await,
            None => by_name(control, self.deployment_name.as_deref().unwrap_or_default()).await,
        }
    }

    /// Returns the id of the deployment. One that was given is not looked up: the caller may deploy without seeing it.
    pub(super) async fn resolve(&self, control: &Control) -> Result<DeploymentId, Failure> {
        match self.id() {
            Some(id) => Ok(id.clone()),
            None => Ok(self.find(control).await?.id),
        }
    }

    /// Returns the id if it was given.
    pub(super) fn id(&self) -> Option<&DeploymentId> {
        self.deployment_id.as_ref()
    }
}

/// Finds the only deployment of this name.
pub(super) async fn by_name(control: &Control, name: &str) -> Result<Deployment, Failure> {
    let query = [("names", Some(name.to_owned())), ("limit", Some("1000".to_owned()))];
    let mut found = control.list::<DeploymentPage>("/deployments", &query).await?.deployments;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Failure::Usage(format!(
            "there is no deployment named {name:?}; `halligan deployment list` shows those there are"
        ))),
        _ => {
            let ids: Vec<&str> = found.iter().map(|deployment| &*deployment.id).collect();
            Err(Failure::Usage(format!("{name:?} names {}; use an id", ids.join(" and "))))
        }
    }
}
