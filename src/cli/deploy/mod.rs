//! `halligan deploy`: deploys a folder of Dags by the control plane, or to a host in an outage; and `halligan deployment
//! deploy`, the deploys of a deployment.

mod pack;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::pack::{Packed, pack};
use super::control::Control;
use super::deployment_choice::DeploymentChoice;
use super::failure::Failure;
use super::global::Global;
use super::output::{Column, Output, note};
use super::upload::Upload;
use crate::api::deploy::{
    Deploy, DeployPage, DeployType, DeployUpdate, FinalizeDeploy, HostDeployed, NewDeploy,
};
use crate::api::id::DeployId;
use crate::protocol::deploy::digest_text;

const DEPLOY: [Column; 7] = [
    ("ID", "id"),
    ("STATUS", "status"),
    ("IN FORCE", "isInForce"),
    ("VERSION", "version"),
    ("NODE", "nodeId"),
    ("CREATED", "createdAt"),
    ("DESCRIPTION", "description"),
];

const HOST_DEPLOY: [Column; 4] = [("ID", "deploy"), ("BASE", "base"), ("NUMBER", "seq"), ("SIZE", "size")];

/// Folder to be deployed, and where to.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  halligan deploy --deployment-id dep_… dags/
  halligan deploy --deployment-name prod --description \"fix of the nightly run\"
  halligan deploy --deployment-id dep_… --host https://airflow-1.example.com:8443 dags/    in an outage")]
pub(super) struct Arguments {
    #[command(flatten)]
    on: DeploymentChoice,
    /// The folder of Dags. `.git` and `__pycache__` are left out; links are an error.
    #[arg(value_name = "PATH", default_value = "dags")]
    path: PathBuf,
    /// A description of the deploy.
    #[arg(long)]
    description: Option<String>,
    /// Push to the daemon of this host, without the control plane; needs a direct-access token with
    /// deployment.deploys.create. The other hosts get it from that one, and the control plane once it is back.
    #[arg(long, value_name = "URL", conflicts_with_all = ["deployment_name", "description"])]
    host: Option<String>,
}

pub(super) async fn run(arguments: Arguments, global: &Global, output: Output) -> Result<(), Failure> {
    let Arguments { on, path, description, host } = arguments;
    let packing = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || pack(&path))
    };
    if let Some(host) = host {
        let id = on.id().ok_or_else(|| Failure::Usage("name the deployment with --deployment-id".into()))?;
        let (token, authorities) = (global.api_token_file.as_deref(), global.ca_file.as_deref());
        let upload = Upload::to_host(&host, &format!("/v1/deploys/{id}"), token, authorities)?;
        let packed = packed(packing).await?;
        let deployed: HostDeployed = upload.send_for(packed.file, packed.size).await?;
        if deployed.digest != digest_text(&packed.digest) {
            return Err(Failure::Data(format!("the host took another archive, {}", deployed.digest)));
        }
        output.one(&deployed, &HOST_DEPLOY);
        return Ok(());
    }
    let control = global.control()?;
    let packed = packed(packing).await?;
    let place = format!("/deployments/{}/deploys", on.resolve(&control).await?);
    let new = NewDeploy { deploy_type: DeployType::DagOnly, description, git: None };
    let made: Deploy = control.post(&place, &new).await?;
    let url = made.dags_upload_url.ok_or_else(|| {
        let (what, member) = ("the control plane".into(), "dagsUploadUrl".into());
        Failure::Lacks { what, member }
    })?;
    Upload::to_url(url, global.ca_file.as_deref())?.send(packed.file, packed.size).await?;
    let finalize = FinalizeDeploy { dag_tarball_version: Some(digest_text(&packed.digest)) };
    let deployed: Deploy =
        control.post_at_leisure(&format!("{place}/{}/finalize", made.id), &finalize).await?;
    output.one(&deployed, &DEPLOY);
    Ok(())
}

async fn packed(packing: tokio::task::JoinHandle<Result<Packed, Failure>>) -> Result<Packed, Failure> {
    let packed =
        packing.await.map_err(|ended| Failure::Data(format!("the folder can't be packed: {ended}")))??;
    if packed.extent.entries == 0 {
        return Err(Failure::Data("there is nothing in the folder; it would delete all Dags".into()));
    }
    note(&format!(
        "{} files and directories, {} bytes; packed {}",
        packed.extent.entries, packed.extent.bytes, packed.size
    ));
    Ok(packed)
}

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// List the deploys of a deployment, the newest first.
    List {
        #[command(flatten)]
        on: DeploymentChoice,
    },
    /// Show a deploy.
    Show {
        #[command(flatten)]
        on: DeploymentChoice,
        /// The deploy's id.
        id: DeployId,
    },
    /// Put the code of an earlier deploy in force again.
    Rollback {
        #[command(flatten)]
        on: DeploymentChoice,
        /// The id of the deploy to go back to.
        id: DeployId,
        /// A description of the rollback.
        #[arg(long)]
        description: Option<String>,
    },
}

pub(super) async fn verb(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::List { on } => {
            let place = format!("/deployments/{}/deploys", on.resolve(control).await?);
            let all = control.all(&place, |page: DeployPage| (page.deploys, page.extent.next_cursor)).await?;
            output.list(&all, &DEPLOY);
        }
        Verb::Show { on, id } => {
            let place = format!("/deployments/{}/deploys/{id}", on.resolve(control).await?);
            output.one(&control.get::<Deploy>(&place).await?, &DEPLOY);
        }
        Verb::Rollback { on, id, description } => {
            let place = format!("/deployments/{}/deploys/{id}/rollback", on.resolve(control).await?);
            let made: Deploy = control.post(&place, &DeployUpdate { description }).await?;
            output.one(&made, &DEPLOY);
        }
    }
    Ok(())
}
