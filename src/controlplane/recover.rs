//! Recovery: a control plane that was restored from a backup has forgotten versions that its nodes have proved. They refuse
//! what is older, and rightly so: it has to go on above them.

use std::collections::BTreeMap;

use rusqlite::params;
use zeroize::Zeroizing;

use super::ControlPlane;
use super::authorization::Actor;
use super::error::Error;
use super::{membership, publish};
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::version::MAX_VERSION;

/// A data plane whose replica goes on at a higher version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// The data plane.
    pub id: String,
    /// The version it had.
    pub from: u64,
    /// The version it has.
    pub to: u64,
}

impl ControlPlane {
    /// Lets the replicas go on above version `above`, of one data plane or of all, and has every node given a snapshot next:
    /// no delta follows what a node holds of a history that is lost here. A replica that has passed `above` since the restore
    /// goes on one version higher, for nodes may have proved another replica under the version it has now.
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
                // Stated here first: a node that holds another replica of this version is the one that contradicts.
                let digest = ReplicaDigest::from_bytes(&lanes).ok_or(rusqlite::Error::InvalidQuery)?;
                membership::note_state(transaction, &id, to, &digest.checksum(), count)?;
                raised.push(Raised { id, from, to });
            }
            if raised.is_empty() && data_plane.is_some() {
                Err(Error::NotFound("data plane"))
            } else {
                Ok(raised)
            }
        })
    }

    /// A new token for the user with this address, for whoever holds the control plane's host: after a token key was dropped,
    /// no old one opens anything.
    pub fn renew_user_token(&self, email: &str) -> Result<Zeroizing<String>, Error> {
        let found: Vec<(String, String)> = self.store.read(|connection| {
            let mut rows = connection
                .prepare("SELECT id, organization FROM user WHERE email = ?1 AND deleted_at IS NULL")?;
            let rows = rows.query_map([email], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        let [(id, organization)] = found.as_slice() else { return Err(Error::NotFound("user")) };
        // Whoever can read the keys could mint it as well: this is the user's own act.
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
