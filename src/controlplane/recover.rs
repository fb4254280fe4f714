//! Recovery: a control plane that was restored from a backup has forgotten versions that its nodes have proved. They refuse
//! what is older, and rightly so: it has to go on above them.

use std::collections::BTreeMap;

use rusqlite::params;
use zeroize::Zeroizing;

use super::ControlPlane;
use super::authorization::Actor;
use super::error::Error;

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
    /// Lets the replicas go on above version `above`: of one data plane, or of all. One that is above it already stays as it
    /// is. Every node is given a snapshot next, for what it holds is of a history that is lost here.
    pub fn recover(&self, above: u64, data_plane: Option<&str>) -> Result<Vec<Raised>, Error> {
        // Versions are counted up one by one: what no change will ever reach is a slip of the finger.
        if above >= 1 << 40 {
            return Err(Error::invalid("above", "this is no version a node can have"));
        }
        self.store.write(|transaction| {
            let mut rows = transaction.prepare("SELECT id, version FROM data_plane ORDER BY id")?;
            let all = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?)))?;
            let mut raised = Vec::new();
            let mut known = false;
            for row in all {
                let (id, from) = row?;
                if data_plane.is_some_and(|wanted| wanted != id) {
                    continue;
                }
                known = true;
                if from <= above {
                    let to = above + 1;
                    let row = params![id, to];
                    transaction.execute("UPDATE data_plane SET version = ?2 WHERE id = ?1", row)?;
                    transaction.execute("INSERT OR REPLACE INTO oldest_delta VALUES (?1, ?2)", row)?;
                    raised.push(Raised { id, from, to });
                }
            }
            if known || data_plane.is_none() { Ok(raised) } else { Err(Error::NotFound("data plane")) }
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
