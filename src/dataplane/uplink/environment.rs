//! Asks the control plane for the environment variables of this data plane's deployments, when it says that some changed.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;

use super::client::Upstream;
use super::error::StatementError;
use crate::dataplane::environment::{Effect, Environments};
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::state::Live;
use crate::protocol::environment::EnvironmentAnswer;
use crate::protocol::json::object;
use crate::protocol::time::Time;
use crate::protocol::version::HeldVersions;

/// Seconds between two checks of the files on the disk.
const CHECK: i64 = 60;
/// Seconds after which the node asks although it was told of no change. An environment that it refused may have been
/// repaired at the control plane.
const ASK: i64 = 600;
/// Time limit of one check, and of taking one answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// Follows the environments of the data plane.
pub(super) struct Follower {
    environments: Arc<Environments>,
    prover: Arc<Prover>,
    live: Arc<Live>,
    /// Time of the last check, and number of deployments in the replica then.
    checked: Option<(Time, usize)>,
    /// Number of changes up to which all environments were taken or refused, and the time of that answer.
    taken: Option<(u64, Time)>,
}

impl Follower {
    pub(super) fn new(environments: Arc<Environments>, prover: Arc<Prover>, live: Arc<Live>) -> Self {
        Self { environments, prover, live, checked: None, taken: None }
    }

    /// Checks the files on the disk, if it is time or if deployments came or went.
    pub(super) async fn check(&mut self, now: Time) -> Result<(), StatementError> {
        let snapshot = Arc::clone(&self.live.snapshot());
        if snapshot.head().is_none() {
            return Ok(());
        }
        let count = snapshot.deployment_count();
        let fresh = |(at, before): &(Time, usize)| (0..CHECK).contains(&now.since(*at)) && *before == count;
        if self.checked.as_ref().is_some_and(fresh) {
            return Ok(());
        }
        let environments = Arc::clone(&self.environments);
        within(tokio::task::spawn_blocking(move || environments.check(&snapshot, now))).await?;
        self.checked = Some((now, count));
        Ok(())
    }

    /// Asks for the environments if the control plane counts other changes than before.
    pub(super) async fn follow(
        &mut self,
        changes: u64,
        upstream: &Upstream,
        now: Time,
    ) -> Result<(), StatementError> {
        let known = |(taken, at): &(u64, Time)| *taken == changes && (0..ASK).contains(&now.since(*at));
        // Before the first check the node does not know what it holds.
        if self.checked.is_none() || self.taken.as_ref().is_some_and(known) {
            return Ok(());
        }
        let path = format!("/v1/data-planes/{}/environments", self.prover.identity.data_plane_id);
        let (mut after, mut all) = (None, true);
        loop {
            let question = HeldVersions { held: self.environments.versions(), after };
            let proof = || self.prover.upstream(now);
            let body = serde_json::to_vec(&question)?;
            let answer = upstream.send(Method::POST, &path, Some(&proof), body).await?;
            let answer: EnvironmentAnswer = object(&answer)?;
            let (environments, snapshot) =
                (Arc::clone(&self.environments), Arc::clone(&self.live.snapshot()));
            let texts = answer.environments;
            let take = move || {
                let effects: Vec<_> =
                    texts.iter().map(|text| environments.apply_signed(text, &snapshot, now)).collect();
                !effects.contains(&Effect::Later)
            };
            all &= within(tokio::task::spawn_blocking(take)).await?;
            // The control plane goes on in order, so that an answer that goes back would have no end.
            if answer.next.is_none() || answer.next <= question.after {
                break;
            }
            after = answer.next;
        }
        if all {
            self.taken = Some((changes, now));
        }
        Ok(())
    }
}

/// Waits for work on a blocking thread. A disk that hangs must not keep the node from its statements.
async fn within<T>(work: tokio::task::JoinHandle<T>) -> Result<T, StatementError> {
    Ok(tokio::time::timeout(PATIENCE, work).await.map_err(|_| StatementError::Disk)??)
}
