//! Asks the control plane for the code of this data plane's deployments, fetches archives, and reports the deploys that
//! hosts took.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use thiserror::Error;
use tokio::sync::watch;

use super::client::{Fault, Upstream, UpstreamError};
use crate::dataplane::code::{Code, Effect, ReceiveError, Report, Wanted};
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::state::Live;
use crate::platform::clock::Clock;
use crate::platform::failing::Failing;
use crate::protocol::deploy::exchange::{DeployAnswer, HostDeployAnswer, HostDeployReport, HostDeployState};
use crate::protocol::event::Connectivity;
use crate::protocol::json::object;
use crate::protocol::time::Time;
use crate::protocol::version::HeldVersions;

/// Interval at which the node looks for something to do.
const LOOK: Duration = Duration::from_secs(1);
/// Seconds between two checks of the objects on the disk.
const CHECK: i64 = 60;
/// Seconds between two comparisons of the code that runs with its archive.
const COMPARE: i64 = 3600;
/// Seconds after which the node asks although it was told of no change. A deploy that it refused may have been repaired at
/// the control plane.
const ASK: i64 = 600;
/// Seconds after a failed call until the next one, and after one that the control plane refuses.
const AGAIN: (i64, i64) = (10, 600);

/// Reasons why a call about code failed.
#[derive(Debug, Error)]
enum CodeError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the control plane's answer is not understood: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("the archive is not stored: {0}")]
    Receive(#[from] ReceiveError),
    #[error("the thread of the disk ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl CodeError {
    /// Returns the number of seconds until another attempt makes sense.
    fn pause(&self) -> i64 {
        match self {
            Self::Upstream(UpstreamError::Answer { status, .. })
                if status.is_client_error() && *status != StatusCode::TOO_MANY_REQUESTS =>
            {
                AGAIN.1
            }
            Self::Upstream(error) => {
                let asked = error.retry_after().map_or(0, |wait| wait.as_secs());
                AGAIN.0.max(i64::try_from(asked).unwrap_or(AGAIN.1))
            }
            _ => AGAIN.0,
        }
    }
}

/// Kind of call. Each waits after its own failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Ask,
    Fetch,
    Report,
}

/// Follows the code of the data plane.
pub struct Deploys {
    code: Arc<Code>,
    prover: Arc<Prover>,
    live: Arc<Live>,
    clock: Clock,
    /// Number of changes of code, as the control plane last told it.
    changes: watch::Receiver<Option<u64>>,
    /// Time of the last check, and number of deployments in the replica then.
    checked: Option<(Time, usize)>,
    compared: Option<Time>,
    /// Number of changes up to which all deploys were taken or refused, and the time of that answer.
    taken: Option<(u64, Time)>,
    /// Time of the next attempt at each kind of call that failed.
    waits: [Time; 3],
    failing: [Failing; 3],
    looking: Failing,
}

impl Deploys {
    /// Returns what follows the code of a node. `changes` has the control plane's number of changes.
    #[must_use]
    pub fn new(
        code: Arc<Code>,
        prover: Arc<Prover>,
        live: Arc<Live>,
        clock: Clock,
        changes: watch::Receiver<Option<u64>>,
    ) -> Self {
        Self {
            code,
            prover,
            live,
            clock,
            changes,
            checked: None,
            compared: None,
            taken: None,
            waits: [Time::default(); 3],
            failing: Default::default(),
            looking: Failing::default(),
        }
    }

    /// Runs until the task is dropped.
    pub async fn run(mut self, upstream: Arc<Upstream>) {
        loop {
            let looked = self.look_at_the_disk().await;
            self.looking.log(&looked, "the code of deployments could not be checked");
            if self.checked.is_some() && self.live.connectivity() == Connectivity::Online {
                for task in [Task::Report, Task::Ask, Task::Fetch] {
                    self.attempt(task, &upstream).await;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Checks the disk if it is time, and brings the deploys that arrived since the last check to it.
    async fn look_at_the_disk(&mut self) -> Result<(), CodeError> {
        let now = (self.clock)();
        let (held, count) = {
            let snapshot = self.live.snapshot();
            (snapshot.head().is_some(), snapshot.deployment_count())
        };
        if !held {
            return Ok(());
        }
        let fresh = |(at, before): (Time, usize)| (0..CHECK).contains(&now.since(at)) && before == count;
        let check = !self.checked.is_some_and(fresh);
        let compare = !self.compared.is_some_and(|at| (0..COMPARE).contains(&now.since(at)));
        self.off_reactor(move |code| {
            if check {
                code.check(now);
            }
            code.settle(compare, now);
        })
        .await?;
        if check {
            self.checked = Some((now, count));
        }
        if compare {
            self.compared = Some(now);
        }
        Ok(())
    }

    async fn attempt(&mut self, task: Task, upstream: &Upstream) {
        let now = (self.clock)();
        let number = task as usize;
        let wait = self.waits[number].since(now);
        // A clock that was set back must not end the attempts.
        if (1..=AGAIN.1).contains(&wait) {
            return;
        }
        let outcome = match task {
            Task::Ask => self.ask(upstream, now).await,
            Task::Fetch => self.fetch(upstream, now).await,
            Task::Report => self.report(upstream, now).await,
        };
        let message = match task {
            Task::Ask => "code of deployments can't be asked for at the control plane",
            Task::Fetch => "an archive of code can't be fetched from the control plane",
            Task::Report => "a deploy that was made on a host can't be reported to the control plane",
        };
        self.failing[number].log(&outcome, message);
        if let Err(error) = outcome {
            self.waits[number] = now.plus(error.pause());
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/data-planes/{}/{rest}", self.prover.identity.data_plane_id)
    }

    /// Asks for deploys if the control plane counts other changes than before. An older one tells no number.
    async fn ask(&mut self, upstream: &Upstream, now: Time) -> Result<(), CodeError> {
        let Some(changes) = *self.changes.borrow_and_update() else { return Ok(()) };
        let known = |(taken, at): &(u64, Time)| *taken == changes && (0..ASK).contains(&now.since(*at));
        if self.taken.as_ref().is_some_and(known) {
            return Ok(());
        }
        let (mut after, mut all) = (None, true);
        loop {
            let question = HeldVersions { held: self.off_reactor(Code::versions).await?, after };
            let body = serde_json::to_vec(&question)?;
            let answer: DeployAnswer = object(&self.post("deploys", upstream, body).await?)?;
            let texts = answer.deploys;
            let take = move |code: &Code| {
                let effects: Vec<_> = texts.iter().map(|text| code.take_signed(text, now)).collect();
                code.settle(false, now);
                !effects.contains(&Effect::Later)
            };
            all &= self.off_reactor(take).await?;
            // The control plane goes on in order, so that an answer that goes back would have no end.
            if answer.next.is_none() || answer.next <= question.after {
                break;
            }
            after = answer.next;
        }
        if all {
            self.taken = Some((changes, now));
        } else {
            self.waits[Task::Ask as usize] = now.plus(AGAIN.0);
        }
        Ok(())
    }

    /// Runs work that may touch the disk on a blocking thread.
    async fn off_reactor<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Code) -> T + Send + 'static,
    ) -> Result<T, CodeError> {
        let code = Arc::clone(&self.code);
        Ok(tokio::task::spawn_blocking(move || work(&code)).await?)
    }

    async fn post(
        &self,
        rest: &str,
        upstream: &Upstream,
        body: Vec<u8>,
    ) -> Result<hyper::body::Bytes, UpstreamError> {
        let proof = || self.prover.upstream((self.clock)());
        upstream.send(Method::POST, &self.path(rest), Some(&proof), body).await
    }

    /// Fetches the archives of the control plane's deploys. One that fails does not keep the others waiting.
    async fn fetch(&mut self, upstream: &Upstream, now: Time) -> Result<(), CodeError> {
        let mut last = Ok(());
        let wanted = self.off_reactor(move |code| code.wanted(now)).await?;
        for wanted in wanted.into_iter().filter(|wanted| wanted.signed) {
            if let Err(error) = self.fetch_one(upstream, &wanted).await {
                let lacks_space = matches!(
                    &error,
                    CodeError::Upstream(UpstreamError::Body {
                        fault: Fault::Disk(_) | Fault::TooLarge(_),
                        ..
                    }) | CodeError::Receive(_)
                );
                if lacks_space {
                    let (wanted, why, now) = (wanted.clone(), error.to_string(), (self.clock)());
                    self.off_reactor(move |code| code.failed(&wanted, &why, now)).await?;
                }
                last = Err(error);
            }
        }
        last
    }

    async fn fetch_one(&self, upstream: &Upstream, wanted: &Wanted) -> Result<(), CodeError> {
        // A client of this host may be sending one.
        let Some(claim) = self.code.claim(&wanted.deployment) else { return Ok(()) };
        let (code, asked) = (Arc::clone(&self.code), wanted.clone());
        let mut incoming = tokio::task::spawn_blocking(move || code.receive(&asked)).await??;
        let path = self.path(&format!("deploys/{}/{}", wanted.deployment, wanted.deploy));
        let proof = || self.prover.upstream((self.clock)());
        upstream.download(&path, &proof, &mut incoming).await?;
        let (code, wanted, now) = (Arc::clone(&self.code), wanted.clone(), (self.clock)());
        tokio::task::spawn_blocking(move || {
            code.arrived(&wanted, incoming)?;
            code.settle_one(&claim, false, now);
            Ok::<_, CodeError>(())
        })
        .await?
    }

    /// Reports host deploys until the control plane has decided about each.
    async fn report(&mut self, upstream: &Upstream, now: Time) -> Result<(), CodeError> {
        let mut last = Ok(());
        for report in self.off_reactor(Code::to_report).await? {
            match self.report_one(upstream, &report).await {
                // The deploy that the control plane made of it is the next answer.
                Ok(true) => self.taken = None,
                Ok(false) => {
                    self.waits[Task::Report as usize] = now.plus(AGAIN.0);
                }
                Err(error @ CodeError::Upstream(UpstreamError::Answer { status, .. }))
                    if status.is_client_error() =>
                {
                    last = Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        last
    }

    /// Reports one host deploy. Returns true if the control plane has decided about it.
    async fn report_one(&self, upstream: &Upstream, report: &Report) -> Result<bool, CodeError> {
        let body = serde_json::to_vec(&HostDeployReport { host_deploy: report.text.clone() })?;
        let answer = self.post("host-deploys", upstream, body).await?;
        let mut answer: HostDeployAnswer = object(&answer)?;
        if answer.state == HostDeployState::Wanted {
            // Another host has the archive, if this one does not.
            if !report.archive.exists() {
                return Ok(false);
            }
            let path = self.path(&format!("host-deploys/{}/{}", report.deployment, report.deploy()));
            let proof = || self.prover.upstream((self.clock)());
            let open = || File::open(&report.archive);
            answer = object(&upstream.upload(&path, &proof, &open, report.size).await?)?;
        }
        let report = report.clone();
        self.off_reactor(move |code| code.answered(&report, &answer)).await
    }
}
