//! Recovery of a control plane that was restored from a backup. It has lost versions that its nodes have verified, and
//! they reject older ones to prevent a rollback, so it must continue above them.

use std::collections::BTreeMap;

use rusqlite::params;
use zeroize::Zeroizing;

use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::Actor;
use crate::controlplane::calls::generation;
use crate::controlplane::error::Error;
use crate::controlplane::replica::versions::DeploymentPart;
use crate::controlplane::replica::{publish, states};
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::version::MAX_VERSION;

/// Data plane whose version was raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// Id of the data plane.
    pub id: String,
    /// Version before the recovery.
    pub from: u64,
    /// Version after the recovery.
    pub to: u64,
}

impl ControlPlane {
    /// Raises the versions above `above`, of one data plane or of all. Every node is given a snapshot next, because no
    /// delta can start from a version of the lost history. A replica that has passed `above` since the restore rises by
    /// one, since nodes may have verified another replica of its present version. The next rotation of each token skips the
    /// generations that the lost history may have given.
    pub fn recover(&self, above: u64, data_plane: Option<&str>) -> Result<Vec<Raised>, Error> {
        if above >= MAX_VERSION {
            return Err(Error::invalid("above", format!("versions end below {MAX_VERSION}")));
        }
        self.store.write(|transaction| {
            let mut rows =
                transaction.prepare("SELECT id, version, count, digest FROM data_plane ORDER BY id")?;
            let all = rows.query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?, row.get(2)?, row.get::<_, Vec<u8>>(3)?))
            })?;
            generation::mark_lost(transaction)?;
            let mut raised = Vec::new();
            for row in all {
                let (id, from, count, lanes) = row?;
                if data_plane.is_some_and(|wanted| wanted != id) {
                    continue;
                }
                let to = publish::next_version(from.max(above))?;
                let row = params![id, to];
                transaction.execute("UPDATE data_plane SET version = ?2 WHERE id = ?1", row)?;
                transaction.execute("INSERT OR REPLACE INTO oldest_delta VALUES (?1, ?2)", row)?;
                // Recorded first, so that a node which holds another replica of this version is reported as the
                // contradiction.
                let digest = ReplicaDigest::from_bytes(&lanes).ok_or(rusqlite::Error::InvalidQuery)?;
                states::note_state(transaction, &id, to, &digest.checksum(), count)?;
                for part in [DeploymentPart::Environment, DeploymentPart::Code] {
                    part.raise_all(transaction, &id, self.now().unix())?;
                }
                raised.push(Raised { id, from, to });
            }
            if raised.is_empty() && data_plane.is_some() {
                Err(Error::NotFound("data plane"))
            } else {
                Ok(raised)
            }
        })
    }

    /// Creates a new token for the user with this email address, for operators of the control plane's host. It is
    /// needed after a token key was removed, which invalidates every user's token.
    pub fn renew_user_token(&self, email: &str) -> Result<Zeroizing<String>, Error> {
        let found: Vec<(String, String)> = self.store.read(|connection| {
            let mut rows = connection
                .prepare("SELECT id, organization FROM user WHERE email = ?1 AND deleted_at IS NULL")?;
            let rows = rows.query_map([email], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        let [(id, organization)] = found.as_slice() else { return Err(Error::NotFound("user")) };
        // The act is attributed to the user: whoever can read the keys could mint the token in any case.
        let actor = Actor {
            id: id.clone(),
            organization: organization.clone(),
            role: None,
            workspaces: BTreeMap::new(),
            deployments: BTreeMap::new(),
        };
        Ok(self.rotate_user_token(&actor, organization, id)?.token)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::controlplane::test_world::World;
    use crate::protocol::digest::ReplicaDigest;
    use crate::protocol::membership::NodeStatement;

    #[test]
    fn no_node_that_took_the_recovered_replica_is_blamed_for_a_fork() {
        let world = World::new();
        let state = |version, digest| {
            let heads = vec![world.head_of(version, digest, 0)];
            world.state(&NodeStatement { heads, ..NodeStatement::default() });
            world.count("SELECT count(*) FROM replica_fork")
        };
        let right = ReplicaDigest::empty().checksum();
        for (forks, above) in [(1, 5), (2, 700)] {
            let to = world.control.recover(above, None).unwrap()[0].to;
            assert_eq!(state(to, [7; 32]), forks, "a node that holds what another control plane published");
            assert_eq!(state(to, right), forks, "a node that holds what this one published");
        }
    }
}
