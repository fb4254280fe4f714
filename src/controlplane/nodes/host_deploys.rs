//! Deploys that hosts took while they did not reach this control plane. Each becomes the deployment's deploy, or is listed
//! as superseded by another one.

use std::cmp::Ordering;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::enrolment::Caller;
use crate::api::deploy::DeployStatus;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::audit_log;
use crate::controlplane::archives::Received;
use crate::controlplane::code::deploys::{self, Archive, New, Stored};
use crate::controlplane::code::garbage;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::deploy::exchange::{HostDeployAnswer, HostDeployState, StandingDeploy};
use crate::protocol::deploy::host::{HostDeploy, SignedHostDeploy};
use crate::protocol::deploy::order::compare;
use crate::protocol::record::NodeRecord;
use crate::protocol::signer::Signers;

/// Call that reports a host's deploy, for the audit log.
const REPORT: &str = "POST /v1/data-planes/{id}/host-deploys";

/// Returns the nodes of a data plane, including retired ones.
fn signers_of(connection: &Connection, data_plane: &str) -> Result<Signers, Error> {
    let bodies: Vec<String> = connection
        .prepare_cached("SELECT body FROM record WHERE data_plane = ?1 AND kind = 'node'")?
        .query_map([data_plane], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let nodes: Vec<NodeRecord> = bodies.iter().filter_map(|body| serde_json::from_str(body).ok()).collect();
    Ok(nodes.iter().collect())
}

fn answer(state: HostDeployState) -> HostDeployAnswer {
    HostDeployAnswer { state, by: None }
}

/// Returns the deploy that stands in place of a host's deploy, or none if the host's deploy is to be adopted: the deploy in
/// force is the one below it, or one of the same place in the order that comes before it.
fn standing(
    connection: &Connection,
    signers: &Signers,
    deploy: &HostDeploy,
) -> Result<Option<StandingDeploy>, Error> {
    let Some((stored, version)) = deploys::in_force(connection, deploy.sub.as_str())? else {
        // Without a deploy nothing is superseded, also if the one below it was lost with a database.
        return Ok(None);
    };
    let below = || {
        let text = stored.host_deploy.as_deref().filter(|_| stored.version == Some(version))?;
        let adopted = SignedHostDeploy::verify(text, signers, &deploy.aud).ok()?;
        let adopted = adopted.deploy();
        Some(adopted.base == deploy.base && compare(adopted, deploy) == Ordering::Less)
    };
    if version == deploy.base || below() == Some(true) {
        return Ok(None);
    }
    let id = stored.id.parse().map_err(|_| Error::NotFound("deploy"))?;
    Ok(Some(StandingDeploy { deploy: id, version }))
}

impl ControlPlane {
    /// Takes the report of a host's deploy, from any node of its data plane.
    pub(in crate::controlplane) fn take_host_deploy(
        &self,
        caller: &Caller,
        text: &str,
    ) -> Result<HostDeployAnswer, Error> {
        let data_plane = caller.data_plane.parse().map_err(|_| Error::NotFound("data plane"))?;
        self.store.note(|transaction| {
            let signers = signers_of(transaction, &caller.data_plane)?;
            let signed = SignedHostDeploy::admit(text, &signers, &data_plane)
                .map_err(|error| Error::invalid("hostDeploy", error.to_string()))?;
            let deploy = signed.deploy();
            let (deployment, id) = (deploy.sub.as_str(), deploy.deploy.as_str());
            check_deployment(transaction, &caller.data_plane, deployment)?;
            let known = deploys::by_id(transaction, id)?;
            match &known {
                Some(known) if known.host_deploy.as_deref() != Some(signed.as_str()) => {
                    let detail = format!("{id} is another deploy");
                    return Err(Error::Conflict { code: "deploy_taken", detail });
                }
                Some(known) if known.status == DeployStatus::Deployed => {
                    return Ok(answer(HostDeployState::Stored));
                }
                Some(known) if known.status == DeployStatus::Failed => return superseded(transaction, known),
                Some(_) => {}
                None => self.insert_host_deploy(transaction, &signed)?,
            }
            if let Some(by) = standing(transaction, &signers, deploy)? {
                self.supersede(transaction, caller, deploy, &by)?;
                return Ok(HostDeployAnswer { state: HostDeployState::Superseded, by: Some(by) });
            }
            // An archive of the same bytes may be here, of a deploy that was rolled back to on a host.
            let same: Option<String> = transaction
                .query_row(
                    "SELECT archive FROM deploy WHERE deployment = ?1 AND digest = ?2 AND size = ?3
                         AND archive IS NOT NULL AND status = 'DEPLOYED' LIMIT 1",
                    params![deployment, deploy.digest.as_slice(), deploy.size],
                    |row| row.get(0),
                )
                .optional()?;
            let Some(archive) = same else { return Ok(answer(HostDeployState::Wanted)) };
            self.adopt(transaction, caller, deploy, &archive)?;
            Ok(answer(HostDeployState::Stored))
        })
    }

    /// Returns the host's deploy whose archive a node is about to send, if it is wanted.
    pub(in crate::controlplane) fn wanted_host_deploy(
        &self,
        caller: &Caller,
        deployment: &str,
        id: &str,
    ) -> Result<Result<HostDeploy, HostDeployAnswer>, Error> {
        self.store.read(|connection| {
            check_deployment(connection, &caller.data_plane, deployment)?;
            let found = deploys::find(connection, deployment, id)?;
            let Some(text) = &found.host_deploy else { return Err(Error::NotFound("host deploy")) };
            match found.status {
                DeployStatus::Deployed => Ok(Err(answer(HostDeployState::Stored))),
                DeployStatus::Failed => superseded(connection, &found).map(Err),
                DeployStatus::Initialized => {
                    let signers = signers_of(connection, &caller.data_plane)?;
                    let data_plane = caller.data_plane.parse().map_err(|_| Error::NotFound("data plane"))?;
                    let signed = SignedHostDeploy::verify(text, &signers, &data_plane)
                        .map_err(|error| Error::invalid("hostDeploy", error.to_string()))?;
                    Ok(Ok(signed.deploy().clone()))
                }
            }
        })
    }

    /// Adopts a host's deploy whose archive was received and read to its end, unless another one has come into force
    /// meanwhile.
    pub(in crate::controlplane) fn finish_host_deploy(
        &self,
        caller: &Caller,
        deploy: &HostDeploy,
        archive: &str,
    ) -> Result<HostDeployAnswer, Error> {
        self.store.note(|transaction| {
            let id = deploy.deploy.as_str();
            let found = deploys::find(transaction, deploy.sub.as_str(), id)?;
            if found.status != DeployStatus::Initialized {
                garbage::discard(transaction, archive)?;
                return match found.status {
                    DeployStatus::Failed => superseded(transaction, &found),
                    _ => Ok(answer(HostDeployState::Stored)),
                };
            }
            let signers = signers_of(transaction, &caller.data_plane)?;
            if let Some(by) = standing(transaction, &signers, deploy)? {
                garbage::discard(transaction, archive)?;
                self.supersede(transaction, caller, deploy, &by)?;
                return Ok(HostDeployAnswer { state: HostDeployState::Superseded, by: Some(by) });
            }
            garbage::keep(transaction, archive)?;
            self.adopt(transaction, caller, deploy, archive)?;
            Ok(answer(HostDeployState::Stored))
        })
    }

    /// Checks what was received of the archive of a host's deploy.
    pub(in crate::controlplane) fn check_received(
        deploy: &HostDeploy,
        received: Received,
    ) -> Result<(), Error> {
        if (deploy.digest, deploy.size) == (received.digest, received.size) {
            return Ok(());
        }
        Err(Error::invalid("archive", "is not the one that the host's deploy names; send that one"))
    }

    fn insert_host_deploy(
        &self,
        transaction: &Transaction<'_>,
        signed: &SignedHostDeploy,
    ) -> Result<(), Error> {
        let deploy = signed.deploy();
        let id = deploy.deploy.as_str();
        let new = New {
            id,
            deployment: deploy.sub.as_str(),
            status: DeployStatus::Initialized,
            description: "",
            by: deploy.token.as_str(),
            // A clock that runs ahead must not put it before what comes later.
            at: deploy.iat.min(self.now()),
        };
        deploys::insert(transaction, &new)?;
        transaction.execute(
            "UPDATE deploy SET host_deploy = ?2, node = ?3, digest = ?4, size = ?5 WHERE id = ?1",
            params![id, signed.as_str(), deploy.iss.as_str(), deploy.digest.as_slice(), deploy.size],
        )?;
        Ok(())
    }

    fn adopt(
        &self,
        transaction: &Transaction<'_>,
        caller: &Caller,
        deploy: &HostDeploy,
        archive: &str,
    ) -> Result<(), Error> {
        let now = self.now();
        let (deployment, id) = (deploy.sub.as_str(), deploy.deploy.as_str());
        let HostDeploy { digest, size, .. } = *deploy;
        deploys::set_archive(transaction, id, &Archive { name: Some(archive.to_owned()), digest, size })?;
        deploys::touch(transaction, id, DeployStatus::Deployed, (deploy.token.as_str(), now))?;
        let version = deploys::put_in_force(transaction, (deployment, &caller.data_plane), id, now.unix())?;
        tracing::warn!(deployment, deploy = id, node = %deploy.iss, version, "a deploy that a host took was adopted");
        self.note_outcome(transaction, caller, id)
    }

    fn supersede(
        &self,
        transaction: &Transaction<'_>,
        caller: &Caller,
        deploy: &HostDeploy,
        by: &StandingDeploy,
    ) -> Result<(), Error> {
        let id = deploy.deploy.as_str();
        deploys::touch(transaction, id, DeployStatus::Failed, (deploy.token.as_str(), self.now()))?;
        let update = "UPDATE deploy SET superseded_by = ?2 WHERE id = ?1";
        transaction.execute(update, [id, by.deploy.as_str()])?;
        let (deployment, standing) = (&deploy.sub, &by.deploy);
        tracing::warn!(%deployment, deploy = id, node = %deploy.iss, %standing, "a deploy that a host took was superseded");
        self.note_outcome(transaction, caller, id)
    }

    fn note_outcome(&self, transaction: &Transaction<'_>, caller: &Caller, id: &str) -> Result<(), Error> {
        let query = "SELECT organization, node.name FROM data_plane JOIN node ON data_plane = data_plane.id WHERE node.id = ?1";
        let (organization, name): (String, String) =
            transaction.query_row(query, [&caller.node], |row| Ok((row.get(0)?, row.get(1)?)))?;
        audit_log::record_done(transaction, &organization, (&caller.node, &name), REPORT, id, self.now())
    }
}

fn check_deployment(connection: &Connection, data_plane: &str, deployment: &str) -> Result<(), Error> {
    let query = "SELECT 1 FROM deployment WHERE id = ?1 AND data_plane = ?2";
    let here = connection.query_row(query, [deployment, data_plane], |_| Ok(())).optional()?;
    here.ok_or(Error::NotFound("deployment"))
}

/// Returns the answer about a host's deploy that was superseded before: the deploy that stands today.
fn superseded(connection: &Connection, stored: &Stored) -> Result<HostDeployAnswer, Error> {
    let standing = deploys::in_force(connection, &stored.deployment)?;
    let by = standing
        .and_then(|(stored, version)| Some(StandingDeploy { deploy: stored.id.parse().ok()?, version }));
    Ok(HostDeployAnswer { state: HostDeployState::Superseded, by })
}
