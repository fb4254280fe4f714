//! Breaking glass: an operator opens direct access to a deployment on this host, with a reason, until a fixed time.
//!
//! The state is on the disk before it is in force, so that a restart neither closes nor prolongs it. It ends at a time that
//! a clock set back does not move ([`Now::effective`]). The [`GlassTask`] writes the end into the audit log, and tries again
//! if the log could not take it.

mod operator;
mod reachability;
mod task;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use thiserror::Error;

pub use operator::{BreakOrder, OrderError};
pub use reachability::{Hysteresis, Reach};
pub use task::GlassTask;

use super::decide::Now;
use crate::api::host::glass::{Breaking, Pane};
use crate::dataplane::decide::glass::Broken;
use crate::dataplane::decide::index::Deployment;
use crate::dataplane::decide::snapshot::Snapshot;
use crate::dataplane::node::schema::{self, Unfit};
use crate::dataplane::node::state::Live;
use crate::protocol::glass::{GlassMode, GlassState};
use crate::protocol::id::DeploymentId;
use crate::protocol::revocation::{RevocationError, check_reason};
use crate::protocol::time::Time;

/// Migrations; a released one is never edited.
const MIGRATIONS: [&str; 1] = ["
-- A row stays until its end is in the audit log. `left` is how many seconds it may still last, however the clock is set.
CREATE TABLE broken (deployment TEXT PRIMARY KEY, operator TEXT NOT NULL, reason TEXT NOT NULL, broken_at INTEGER NOT NULL,
    until INTEGER NOT NULL, left INTEGER NOT NULL, sealed_by TEXT) STRICT;
-- How the control plane was judged last.
CREATE TABLE judged (id INTEGER PRIMARY KEY CHECK (id = 1), outage INTEGER NOT NULL) STRICT;
"];

/// Reasons why glass cannot be broken or sealed.
#[derive(Debug, Error)]
pub enum GlassError {
    /// SQLite reports an error.
    #[error("the glass database can't be used: {0}")]
    Database(#[from] rusqlite::Error),
    /// The schema is newer than this build, or the database is gone.
    #[error("the glass database {0}")]
    Unfit(#[from] Unfit),
    /// The replica holds no such deployment.
    #[error("this node's replica holds no deployment {0}")]
    Unknown(String),
    /// The deployment has no glass: direct access is always open.
    #[error("the glass of {0} is `always`: there is nothing to break")]
    Always(DeploymentId),
    /// The glass is not broken.
    #[error("the glass of {0} is not broken")]
    NotBroken(DeploymentId),
    /// The duration is too short, or longer than this host's configuration allows.
    #[error("glass can be broken for 1 to {0} seconds (glass.max_break_seconds)")]
    Duration(i64),
    /// The reason breaks the rules of [`crate::protocol::revocation::check_reason`].
    #[error(transparent)]
    Reason(#[from] RevocationError),
    /// The clock is not trusted, so no end can be computed.
    #[error("this node's clock is behind a time that has passed; set it right first")]
    Clock,
}

/// Glass that was sealed or whose time is over, with the facts for its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Deployment whose glass it is.
    pub deployment: DeploymentId,
    /// Facts of its breaking.
    pub broken: Broken,
    /// Operator who sealed it, or `None` if its time was over.
    pub sealed_by: Option<String>,
}

impl From<Broken> for Breaking {
    fn from(Broken { operator, reason, broken_at, until }: Broken) -> Self {
        Self { operator, reason, broken_at, until }
    }
}

impl Snapshot {
    fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.proved.iter().flat_map(|proved| proved.directory.deployments.values())
    }

    /// Returns the identifier and the mode of a deployment, or `None` if the replica does not hold it.
    fn glass_mode(&self, deployment: &str) -> Option<(DeploymentId, GlassMode)> {
        let found = self.proved.as_ref()?.directory.deployments.get(deployment)?;
        Some((found.id.clone(), found.glass))
    }

    /// Returns true if any deployment has this mode.
    fn keeps_glass(&self, mode: GlassMode) -> bool {
        self.deployments().any(|deployment| deployment.glass == mode)
    }

    /// Returns the glass of every deployment at `now`, sorted by name.
    #[must_use]
    pub fn panes(&self, now: Time) -> Vec<Pane> {
        let mut panes: Vec<_> = self
            .deployments()
            .map(|deployment| {
                let state = self.local.glass(deployment, now);
                let broken = self.local.broken.get(&deployment.id).filter(|_| state == GlassState::Broken);
                Pane {
                    deployment_id: deployment.id.clone(),
                    name: deployment.name.clone(),
                    mode: deployment.glass,
                    state,
                    breaking: broken.cloned().map(Breaking::from),
                }
            })
            .collect();
        panes.sort_by(|a, b| (&a.name, &a.deployment_id).cmp(&(&b.name, &b.deployment_id)));
        panes
    }
}

/// Broken glass of this host, in memory and in the database.
pub struct Glass {
    connection: Mutex<Connection>,
    live: Arc<Live>,
    longest: i64,
}

impl Glass {
    /// Opens or creates the database at `path`, and puts glass that is still broken in force. `longest` is the maximum
    /// duration of broken glass, in seconds.
    pub fn open(path: &Path, live: Arc<Live>, longest: i64, now: Now) -> Result<Self, GlassError> {
        let connection = schema::open(path, &MIGRATIONS)??;
        // The clock may have been set while the daemon was down: nothing lasts longer than the time it had left.
        let effective = now.effective().unix();
        connection.execute(
            "UPDATE broken SET until = min(until, ?1 + left) WHERE sealed_by IS NULL",
            [effective],
        )?;
        let broken: BTreeMap<_, _> = connection
            .prepare("SELECT deployment, operator, reason, broken_at, until FROM broken WHERE sealed_by IS NULL AND until > ?1")?
            .query_map([effective], read_row)?
            .collect::<Result<_, _>>()?;
        let outage = connection
            .query_row("SELECT outage FROM judged", [], |row| row.get(0))
            .optional()?
            .unwrap_or(false);
        live.change_local(|local| (local.broken, local.outage) = (broken, outage));
        Ok(Self { connection: Mutex::new(connection), live, longest })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // Every change is one statement: after a panic the database is as it was before.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that `deployment` has glass that can be broken as requested, before anything is written.
    pub fn check(
        &self,
        deployment: &str,
        reason: &str,
        seconds: i64,
        now: Now,
    ) -> Result<DeploymentId, GlassError> {
        check_reason(reason)?;
        if !(1..=self.longest).contains(&seconds) {
            return Err(GlassError::Duration(self.longest));
        }
        if !now.trusted() {
            return Err(GlassError::Clock);
        }
        match self.live.snapshot().glass_mode(deployment) {
            None => Err(GlassError::Unknown(deployment.to_owned())),
            Some((id, GlassMode::Always)) => Err(GlassError::Always(id)),
            Some((id, _)) => Ok(id),
        }
    }

    /// Breaks the glass of a deployment, or replaces its end. The change is durable and in force on return.
    pub fn break_glass(&self, deployment: &DeploymentId, broken: &Broken) -> Result<(), GlassError> {
        let connection = self.lock();
        let row = params![
            deployment.as_str(),
            broken.operator,
            broken.reason,
            broken.broken_at.unix(),
            broken.until.unix(),
            broken.until.since(broken.broken_at)
        ];
        connection.execute(
            "INSERT OR REPLACE INTO broken (deployment, operator, reason, broken_at, until, left)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            row,
        )?;
        self.live.change_local(|local| {
            local.broken.insert(deployment.clone(), broken.clone());
        });
        Ok(())
    }

    /// Seals the glass of a deployment. The change is in force and durable on return.
    pub fn seal(&self, deployment: &DeploymentId, operator: &str) -> Result<Broken, GlassError> {
        let connection = self.lock();
        let broken = self.live.snapshot().local().broken.get(deployment).cloned();
        let broken = broken.ok_or_else(|| GlassError::NotBroken(deployment.clone()))?;
        // In memory first: the end of access takes effect even if the disk fails.
        self.live.change_local(|local| {
            local.broken.remove(deployment);
        });
        connection.execute(
            "UPDATE broken SET sealed_by = ?2 WHERE deployment = ?1",
            [deployment.as_str(), operator],
        )?;
        Ok(broken)
    }

    /// Ends glass whose time is over at `now`, and returns all glass whose end is not in the log yet. `passed` is the
    /// number of seconds since the last call, by the monotonic clock.
    pub fn ended(&self, now: Now, passed: i64) -> Result<Vec<Ended>, GlassError> {
        let connection = self.lock();
        let any = connection.prepare_cached("SELECT 1 FROM broken")?.exists([])?;
        if !any {
            return Ok(Vec::new());
        }
        if passed > 0 {
            connection.execute("UPDATE broken SET left = max(left - ?1, 0)", [passed])?;
        }
        // The end is final, even if the time floor is lowered later.
        connection.execute(
            "UPDATE broken SET left = 0 WHERE sealed_by IS NULL AND left > 0 AND until <= ?1",
            [now.effective().unix()],
        )?;
        let mut statement = connection.prepare_cached(
            "SELECT deployment, operator, reason, broken_at, until, sealed_by FROM broken
             WHERE sealed_by IS NOT NULL OR left <= 0 OR until <= ?1",
        )?;
        let ended = statement
            .query_map([now.effective().unix()], |row| {
                let (deployment, broken) = read_row(row)?;
                Ok(Ended { deployment, broken, sealed_by: row.get(5)? })
            })?
            .collect::<Result<Vec<_>, _>>()?;
        if !ended.is_empty() {
            self.live.change_local(|local| {
                for ended in &ended {
                    local.broken.remove(&ended.deployment);
                }
            });
        }
        Ok(ended)
    }

    /// Removes glass whose end is in the log.
    pub fn forget(&self, ended: &Ended) -> Result<(), GlassError> {
        // Glass that was broken anew in the meantime stays.
        self.lock().execute(
            "DELETE FROM broken WHERE deployment = ?1 AND broken_at = ?2 AND until = ?3",
            params![ended.deployment.as_str(), ended.broken.broken_at.unix(), ended.broken.until.unix()],
        )?;
        Ok(())
    }

    /// Stores the judgement of the control plane and puts it in force.
    pub fn judge(&self, outage: bool) -> Result<(), GlassError> {
        // On the disk first, so that access that was opened stays open after a restart. A disk error closes no access.
        let written = self.lock().execute("INSERT OR REPLACE INTO judged VALUES (1, ?1)", [outage]);
        self.live.change_local(|local| local.outage = outage);
        written?;
        Ok(())
    }
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<(DeploymentId, Broken)> {
    let deployment = DeploymentId::new(row.get::<_, String>(0)?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })?;
    let broken = Broken {
        operator: row.get(1)?,
        reason: row.get(2)?,
        broken_at: Time::from_unix(row.get(3)?),
        until: Time::from_unix(row.get(4)?),
    };
    Ok((deployment, broken))
}

#[cfg(test)]
mod tests;
