//! `halligan deployment`: creates, shows, changes and deletes deployments.

use clap::Subcommand;

use super::control::Control;
use super::dag_tags;
use super::deletion::delete;
use super::deploy;
use super::deployment_choice::by_name;
use super::failure::Failure;
use super::output::{Column, Output};
use super::token::deployment as tokens;
use super::variable;
use crate::api::deployment::{Deployment, DeploymentPage, DeploymentUpdate, NewDeployment};
use crate::api::id::{DataPlaneId, DeploymentId, WorkspaceId};
use crate::protocol::glass::GlassMode;

const DEPLOYMENT: [Column; 7] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("WORKSPACE", "workspaceId"),
    ("DATA PLANE", "dataPlaneId"),
    ("HOSTS", "hosts"),
    ("ROUTES", "routes"),
    ("GLASS", "glass"),
];

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Create a deployment.
    Create {
        /// The name of the deployment.
        name: String,
        /// The description of the deployment.
        #[arg(long, short, default_value = "")]
        description: String,
        /// The workspace of the deployment.
        #[arg(long, value_name = "ID")]
        workspace_id: WorkspaceId,
        /// The data plane whose hosts guard the deployment.
        #[arg(long, value_name = "ID")]
        data_plane_id: DataPlaneId,
        /// A host name of the deployment; can be repeated.
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
        /// The name of the route map, which turns requests into permissions. The hosts have the map.
        #[arg(long, value_name = "NAME", default_value = "airflow-v2")]
        routes: String,
        /// Condition under which direct-access tokens open it: always, only in an outage, or only after its glass was
        /// broken on the host.
        #[arg(long, value_name = "MODE", default_value = "always", value_parser = glass)]
        glass: GlassMode,
    },
    /// List deployments.
    List,
    /// Show a deployment.
    Show {
        /// The deployment's id.
        id: DeploymentId,
    },
    /// Print everything about a deployment, as JSON.
    Inspect {
        /// The deployment's id.
        #[arg(required_unless_present = "name", conflicts_with = "name")]
        id: Option<DeploymentId>,
        /// The deployment's name, in place of its id.
        #[arg(long, short, visible_alias = "deployment-name")]
        name: Option<String>,
    },
    /// Change a deployment's name, description, hosts, route map or glass.
    Update {
        /// The deployment's id.
        id: DeploymentId,
        /// The new name.
        #[arg(long)]
        name: Option<String>,
        /// The new description.
        #[arg(long, short)]
        description: Option<String>,
        /// All host names from now on; can be repeated.
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
        /// The name of another route map.
        #[arg(long, value_name = "NAME")]
        routes: Option<String>,
        /// New condition under which direct-access tokens open it: always, only in an outage, or only after its glass was
        /// broken on the host.
        #[arg(long, value_name = "MODE", value_parser = glass)]
        glass: Option<GlassMode>,
    },
    /// Delete a deployment and all its tokens.
    Delete {
        /// The deployment's id.
        id: DeploymentId,
        /// Don't ask.
        #[arg(long, short)]
        force: bool,
    },
    /// Manage the tokens of a deployment, and those assigned to it.
    #[command(subcommand)]
    Token(tokens::Verb),
    /// List, add, change and delete the environment variables of a deployment.
    #[command(subcommand)]
    Variable(variable::Verb),
    /// List and show the deploys of a deployment, and roll back to one.
    #[command(subcommand)]
    Deploy(deploy::Verb),
    /// Publish and show the tags of a deployment's Dags, with which Dag roles by tag are compared.
    #[command(subcommand)]
    DagTags(dag_tags::Verb),
}

fn glass(name: &str) -> Result<GlassMode, String> {
    GlassMode::parse(name).ok_or_else(|| "use always, outage or sealed".into())
}

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    let path = |id: &str| format!("/deployments/{id}");
    match verb {
        Verb::Create { name, description, workspace_id, data_plane_id, host, routes, glass } => {
            let new = NewDeployment {
                name,
                description,
                workspace_id: workspace_id.into(),
                data_plane_id: data_plane_id.into(),
                hosts: host,
                routes: Some(routes),
                glass,
            };
            output.one(&control.post::<Deployment>("/deployments", &new).await?, &DEPLOYMENT);
        }
        Verb::List => {
            let all = control
                .all("/deployments", |page: DeploymentPage| (page.deployments, page.extent.next_cursor))
                .await?;
            output.list(&all, &DEPLOYMENT);
        }
        Verb::Show { id } => {
            output.one(&control.get::<Deployment>(&path(&id)).await?, &DEPLOYMENT);
        }
        Verb::Inspect { id, name } => {
            let found = match id {
                Some(id) => control.get(&path(&id)).await?,
                None => by_name(control, &name.unwrap_or_default()).await?,
            };
            Output { json: true }.one::<Deployment>(&found, &[]);
        }
        Verb::Update { id, name, description, host, routes, glass } => {
            let hosts = (!host.is_empty()).then_some(host);
            let update =
                DeploymentUpdate { name, description, hosts, routes, glass, ..DeploymentUpdate::default() };
            output.one(&control.post::<Deployment>(&path(&id), &update).await?, &DEPLOYMENT);
        }
        Verb::Delete { id, force } => delete(control, output, &path(&id), &id, force).await?,
        Verb::Token(verb) => tokens::run(verb, control, output).await?,
        Verb::Variable(verb) => variable::run(verb, control, output).await?,
        Verb::Deploy(verb) => deploy::verb(verb, control, output).await?,
        Verb::DagTags(verb) => dag_tags::run(verb, control, output).await?,
    }
    Ok(())
}
