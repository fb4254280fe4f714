//! Code for nodes: the deploy in force of each deployment, signed, and its archive.

use rusqlite::OptionalExtension as _;

use super::enrolment::Caller;
use crate::controlplane::ControlPlane;
use crate::controlplane::code::deploys::{self, Archive};
use crate::controlplane::error::Error;
use crate::protocol::deploy::exchange::{DeployAnswer, DeployQuestion};
use crate::protocol::deploy::signed::{Deploy, sign_deploy};

/// Maximum number of deploys in an answer. It stays far below the 1 MiB that a node takes.
const MAX_DEPLOYS: usize = 200;

/// Columns of a deployment with code: its id, its version and its archive.
type Row = (String, u64, String, [u8; 32], u64);

impl ControlPlane {
    /// Returns the number of changes to the code of a data plane's deployments, or none before the first one.
    pub(super) fn deploy_changes(&self, data_plane: &str) -> Result<Option<u64>, Error> {
        self.store.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT deploy_changes FROM data_plane WHERE id = ?1")?;
            let changes: u64 = query.query_row([data_plane], |row| row.get(0))?;
            Ok((changes > 0).then_some(changes))
        })
    }

    /// Returns the deploys in force of which a node holds another version than the present one, or none.
    pub(in crate::controlplane) fn deploys_for(
        &self,
        caller: &Caller,
        question: &DeployQuestion,
    ) -> Result<DeployAnswer, Error> {
        let (now, signing) = (self.now(), self.signing());
        self.store.read(|connection| {
            let mut rows = connection.prepare_cached(
                "SELECT deployment.id, code_version, deploy.id, digest, size
                 FROM deployment JOIN deploy ON deploy.id = deployment.deploy
                 WHERE data_plane = ?1 AND code_version > 0 AND deployment.id > ?2 ORDER BY deployment.id",
            )?;
            let after = question.after.as_deref().unwrap_or_default();
            let all =
                rows.query_map([caller.data_plane.as_str(), after], |row| -> rusqlite::Result<Row> {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                })?;
            let mut answer = DeployAnswer::default();
            let mut last = None;
            for row in all {
                let (deployment, version, deploy, digest, size) = row?;
                if question.held.get(&deployment) == Some(&version) {
                    continue;
                }
                if answer.deploys.len() == MAX_DEPLOYS {
                    answer.next = last;
                    break;
                }
                let claims = Deploy {
                    iss: self.issuer.clone(),
                    aud: caller.data_plane.parse().map_err(|_| Error::NotFound("data plane"))?,
                    sub: deployment.parse().map_err(|_| Error::NotFound("deployment"))?,
                    deploy: deploy.parse().map_err(|_| Error::NotFound("deploy"))?,
                    version,
                    iat: now,
                    digest,
                    size,
                };
                answer.deploys.push(sign_deploy(&claims, &signing.replica));
                last = Some(deployment);
            }
            Ok(answer)
        })
    }

    /// Returns the archive of a deploy of a deployment on the caller's data plane.
    pub(in crate::controlplane) fn archive_for(
        &self,
        caller: &Caller,
        deployment: &str,
        deploy: &str,
    ) -> Result<(String, Archive), Error> {
        self.store.read(|connection| {
            let query = "SELECT 1 FROM deployment WHERE id = ?1 AND data_plane = ?2";
            let here =
                connection.query_row(query, [deployment, &caller.data_plane], |_| Ok(())).optional()?;
            here.ok_or(Error::NotFound("deployment"))?;
            let found = deploys::find(connection, deployment, deploy)?;
            let deployed = found.version.is_some();
            let archive = found.archive.filter(|_| deployed);
            let kept = archive.and_then(|archive| Some((archive.name.clone()?, archive)));
            kept.ok_or(Error::NotFound("archive"))
        })
    }
}
