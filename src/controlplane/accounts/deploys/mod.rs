//! Deploys of deployments: created, uploaded, finalized, listed, rolled back. Finalizing one and rolling one back put it in
//! force; nothing else does.

mod finalize;
mod uploads;

pub use self::finalize::Inspected;
pub use self::uploads::Upload;

use rusqlite::{Connection, params};

use super::stored_deployments::{self, Stored as Deployment};
use crate::api::deploy::{Deploy, DeployGit, DeployPage, DeployStatus, DeployUpdate, NewDeploy};
use crate::api::page::Page;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::page::check;
use crate::controlplane::code::deploys::{self, New, read_row};
use crate::controlplane::code::garbage;
use crate::controlplane::error::Error;
use crate::controlplane::names::check_description;

/// Maximum length of a member of `git`, in characters.
const MAX_GIT: usize = 500;

fn check_git(git: &DeployGit) -> Result<(), Error> {
    let texts = [
        &git.account,
        &git.repo,
        &git.path,
        &git.branch,
        &git.before_commit_sha,
        &git.commit_url,
        &git.remote_url,
        &git.author_name,
        &git.author_username,
        &git.author_url,
    ];
    let long = |text: &String| text.chars().count() > MAX_GIT;
    if git.commit_sha.is_empty() || long(&git.commit_sha) || texts.into_iter().flatten().any(long) {
        return Err(Error::invalid(
            "git",
            format!("name a commit, and use at most {MAX_GIT} characters each"),
        ));
    }
    Ok(())
}

/// Finds a deployment for an operation of a caller on it.
fn allowed(
    connection: &Connection,
    actor: &Actor,
    organization: &str,
    deployment: &str,
    operation: Operation,
) -> Result<Deployment, Error> {
    actor.may(Operation::SeeOrganization, organization)?;
    let found = stored_deployments::find(connection, organization, deployment)?;
    actor.may(operation, found.scope(organization))?;
    Ok(found)
}

impl ControlPlane {
    /// Creates a deploy. Its answer has the URL to upload the archive to.
    pub fn create_deploy(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        new: &NewDeploy,
    ) -> Result<Deploy, Error> {
        let (id, now) = (self.new_id(), self.now());
        let description = new.description.as_deref().unwrap_or_default();
        self.store.note(|transaction| {
            let found = allowed(transaction, actor, organization, deployment, Operation::CreateDeploys)?;
            if !found.takes_dags() {
                return Err(Error::Conflict {
                    code: "dag_deploy_disabled",
                    detail: "the deployment takes no Dags alone; set its isDagDeployEnabled".to_owned(),
                });
            }
            check_description(description)?;
            let status = DeployStatus::Initialized;
            let row = New { id: &id, deployment, status, description, by: &actor.id, at: now };
            deploys::insert(transaction, &row)?;
            if let Some(git) = &new.git {
                check_git(git)?;
                let git = serde_json::to_string(git).map_err(std::io::Error::from)?;
                transaction.execute("UPDATE deploy SET git = ?2 WHERE id = ?1", [&id, &git])?;
            }
            let url = self.open_upload(transaction, &id, now)?;
            garbage::fail_surplus(transaction, deployment, now)?;
            let shown = deploys::find(transaction, deployment, &id)?.shown(transaction)?;
            Ok(Deploy { dags_upload_url: Some(url), ..shown })
        })
    }

    /// Lists the deploys of a deployment, the newest first.
    pub fn list_deploys(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        page: Page,
    ) -> Result<DeployPage, Error> {
        let range = check(page, &format!("deploys {deployment}"))?;
        self.store.read(|connection| {
            allowed(connection, actor, organization, deployment, Operation::ReadDeploys)?;
            let sorted = range.sorted("deploy.created_at", "deploy.id", true);
            let query = format!(
                "{} WHERE deploy.deployment = :deployment {sorted} LIMIT :rows OFFSET :offset",
                deploys::SELECT
            );
            let (after, rows, offset) = (range.after(), range.rows(), range.offset);
            let mut found: Vec<_> = connection
                .prepare_cached(&query)?
                .query_map(
                    rusqlite::named_params! {
                        ":deployment": deployment, ":after": after, ":rows": rows, ":offset": offset,
                    },
                    read_row,
                )?
                .collect::<Result<_, _>>()?;
            let count = "SELECT count(*) FROM deploy WHERE deployment = ?1";
            let total: u64 = connection.prepare_cached(count)?.query_row([deployment], |row| row.get(0))?;
            let extent =
                range.extent(total, &mut found, |deploy| (deploy.created_at.into(), deploy.id.clone()));
            let deploys =
                found.into_iter().map(|deploy| deploy.shown(connection)).collect::<Result<_, _>>()?;
            Ok(DeployPage { deploys, extent })
        })
    }

    /// Shows a deploy.
    pub fn show_deploy(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        id: &str,
    ) -> Result<Deploy, Error> {
        self.store.read(|connection| {
            allowed(connection, actor, organization, deployment, Operation::ReadDeploys)?;
            deploys::find(connection, deployment, id)?.shown(connection)
        })
    }

    /// Changes the description of a deploy.
    pub fn update_deploy(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        id: &str,
        update: &DeployUpdate,
    ) -> Result<Deploy, Error> {
        self.store.note(|transaction| {
            allowed(transaction, actor, organization, deployment, Operation::UpdateDeploys)?;
            let found = deploys::find(transaction, deployment, id)?;
            let Some(description) = &update.description else { return found.shown(transaction) };
            check_description(description)?;
            let row = params![id, description];
            transaction.execute("UPDATE deploy SET description = ?2 WHERE id = ?1", row)?;
            deploys::touch(transaction, id, found.status, (&actor.id, self.now()))?;
            deploys::find(transaction, deployment, id)?.shown(transaction)
        })
    }

    /// Puts the archive of an earlier deploy in force again, as a deploy of its own.
    pub fn roll_back(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        to: &str,
        update: &DeployUpdate,
    ) -> Result<Deploy, Error> {
        let (id, now) = (self.new_id(), self.now());
        self.store.note(|transaction| {
            let place = allowed(transaction, actor, organization, deployment, Operation::CreateDeploys)?;
            let target = deploys::find(transaction, deployment, to)?;
            if target.status != DeployStatus::Deployed {
                let detail = "this deploy was never in force; name one whose status is DEPLOYED".into();
                return Err(Error::Conflict { code: "not_deployed", detail });
            }
            let Some(archive) = target.archive.filter(|archive| archive.name.is_some()) else {
                let detail = "the archive of this deploy is kept no more; deploy the code again".into();
                return Err(Error::Conflict { code: "archive_gone", detail });
            };
            let description = update.description.as_deref().unwrap_or(&target.description);
            check_description(description)?;
            let status = DeployStatus::Deployed;
            let row = New { id: &id, deployment, status, description, by: &actor.id, at: now };
            deploys::insert(transaction, &row)?;
            deploys::set_archive(transaction, &id, &archive)?;
            let git = "UPDATE deploy SET rollback_from = ?2, git = (SELECT git FROM deploy WHERE id = ?2) WHERE id = ?1";
            transaction.execute(git, [&*id, to])?;
            deploys::put_in_force(transaction, (deployment, &place.data_plane_id), &id, now.unix())?;
            deploys::find(transaction, deployment, &id)?.shown(transaction)
        })
    }
}
