//! Finalizing a deploy: its archive is read to the end, and then put in force. A repeat of the call changes nothing more.

use super::allowed;
use crate::api::deploy::{Deploy, DeployStatus, FinalizeDeploy};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::code::deploys::{self, Archive};
use crate::controlplane::code::garbage;
use crate::controlplane::error::Error;
use crate::protocol::deploy::digest_text;

/// Result of the first half of the call.
#[derive(Debug)]
pub enum Inspected {
    /// The deploy was finalized before.
    Done(Box<Deploy>),
    /// The archive is to be read: its name, digest and size.
    Awaited(String, [u8; 32], u64),
}

fn no_archive() -> Error {
    Error::invalid("dagsUploadUrl", "no archive was uploaded to it yet; upload one, then finalize the deploy")
}

impl ControlPlane {
    /// Finds the archive of a deploy that is to be finalized.
    pub fn begin_finalize(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        id: &str,
        request: &FinalizeDeploy,
    ) -> Result<Inspected, Error> {
        self.store.read(|connection| {
            allowed(connection, actor, organization, deployment, Operation::CreateDeploys)?;
            let found = deploys::find(connection, deployment, id)?;
            let ours = found.host_deploy.is_none() && found.rollback_from.is_none();
            if !ours || found.status == DeployStatus::Failed {
                let detail = "this deploy can't be finalized; create another one".into();
                return Err(Error::Conflict { code: "deploy_failed", detail });
            }
            let archive = found.archive.clone().ok_or_else(no_archive)?;
            let version = digest_text(&archive.digest);
            if request.dag_tarball_version.as_ref().is_some_and(|wanted| *wanted != version) {
                let detail =
                    format!("the archive that was uploaded is {version}; upload the right one again");
                return Err(Error::invalid("dagTarballVersion", detail));
            }
            if found.status == DeployStatus::Deployed {
                return Ok(Inspected::Done(Box::new(found.shown(connection)?)));
            }
            let Archive { name, digest, size } = archive;
            Ok(Inspected::Awaited(name.ok_or_else(no_archive)?, digest, size))
        })
    }

    /// Puts a deploy in force whose archive was read to its end.
    pub fn finish_finalize(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        id: &str,
        archive: &str,
    ) -> Result<Deploy, Error> {
        let now = self.now();
        self.store.note(|transaction| {
            // Again: roles and the deploy may have changed while the archive was read.
            let place = allowed(transaction, actor, organization, deployment, Operation::CreateDeploys)?;
            let found = deploys::find(transaction, deployment, id)?;
            let same = found.archive.as_ref().is_some_and(|kept| kept.name.as_deref() == Some(archive));
            if !same || found.status == DeployStatus::Failed {
                let detail = "another archive was uploaded meanwhile; finalize the deploy again".into();
                return Err(Error::Conflict { code: "archive_replaced", detail });
            }
            if found.status == DeployStatus::Initialized {
                deploys::touch(transaction, id, DeployStatus::Deployed, (&actor.id, now))?;
                garbage::discard_blocks(transaction, id)?;
                transaction.execute("UPDATE deploy SET upload_hash = NULL WHERE id = ?1", [id])?;
                deploys::put_in_force(transaction, (deployment, &place.data_plane_id), id, now.unix())?;
            }
            deploys::find(transaction, deployment, id)?.shown(transaction)
        })
    }
}
