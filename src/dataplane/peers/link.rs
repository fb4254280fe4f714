//! Connection to one peer: carries a dialogue over HTTP, at intervals, and at once when there is news.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, header};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::archives::Archives;
use super::dialogue::Dialogue;
use super::error::DialogueError;
use super::question::Question;
use super::{MAX_MESSAGE, PROOF};
use crate::dataplane::code::Code;
use crate::dataplane::node::credential::Prover;
use crate::platform::clock::Clock;
use crate::platform::failing::Failing;
use crate::platform::net::http_client::HttpClient;

/// Time limits for an answer, and for an answer that is a complete replica.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));
/// Minimum pause between two pushes of news. News that arrive in the pause are pushed together, which limits the pushes
/// that a peer gets in a second.
const GATHER: Duration = Duration::from_millis(30);
/// Time after which a failed push of news is tried again, unless the interval is shorter.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// Maximum size of a compressed replica, in bytes.
const MAX_REPLICA: usize = 256 << 20;

#[derive(Debug, Error)]
enum LinkError {
    #[error("it can't be reached: {0}")]
    Transport(Box<dyn std::error::Error + Send + Sync>),
    #[error("it did not answer in time")]
    Timeout,
    #[error(transparent)]
    Dialogue(#[from] DialogueError),
    #[error("the thread of the databases ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Connection to one peer.
pub struct PeerLink {
    url: String,
    client: HttpClient<Full<Bytes>>,
    dialogue: Option<Dialogue>,
    changes: watch::Receiver<()>,
    interval: Duration,
    clock: Clock,
    failing: Failing,
    code: Option<News>,
}

/// Code of the deployments. Its news are pushed at once, and its archives are fetched beside the rounds.
struct News {
    code: Arc<Code>,
    prover: Arc<Prover>,
    changes: watch::Receiver<()>,
    fetching: JoinSet<()>,
}

impl PeerLink {
    /// Returns a connection to the peer at `url`. Each change of `changes` is pushed at once.
    #[must_use]
    pub(super) fn new(
        url: &str,
        client: HttpClient<Full<Bytes>>,
        dialogue: Dialogue,
        changes: watch::Receiver<()>,
        interval: Duration,
        clock: Clock,
    ) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self {
            url,
            client,
            dialogue: Some(dialogue),
            changes,
            interval,
            clock,
            failing: Failing::default(),
            code: None,
        }
    }

    /// Adds the code of deployments to the subjects.
    #[must_use]
    pub(super) fn with_code(mut self, code: Option<&Arc<Code>>, prover: &Arc<Prover>) -> Self {
        self.code = code.map(|code| News {
            code: Arc::clone(code),
            prover: Arc::clone(prover),
            changes: code.changes(),
            fetching: JoinSet::new(),
        });
        self
    }

    /// Runs until the task is dropped.
    pub async fn run(mut self, phase: u64) {
        // Nodes that start together must not call together.
        let spread = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut due = Instant::now() + Duration::from_millis(phase % spread / 4);
        loop {
            let news = tokio::select! {
                () = sleep_until(due) => false,
                () = told_of_code(&mut self.code) => false,
                told = self.changes.changed() => {
                    if told.is_err() {
                        return;
                    }
                    true
                }
            };
            let outcome = self.round(news).await;
            if outcome.is_ok() && !news {
                self.fetch_archives().await;
            }
            due = match &outcome {
                Ok(()) if news => due,
                Err(_) if news => due.min(Instant::now() + TELL_AGAIN),
                _ => Instant::now() + self.interval,
            };
            match outcome {
                Ok(()) if self.failing.end() => tracing::info!(peer = self.url, "the peer answers"),
                Ok(()) => {}
                Err(error) if self.failing.begin() => {
                    tracing::warn!(peer = self.url, %error, "the exchange with the peer failed");
                }
                Err(error) => tracing::debug!(peer = self.url, %error, "the exchange with the peer failed"),
            }
            // This pause follows news of code too, so that a peer gets them no more often.
            sleep(GATHER).await;
        }
    }

    /// Fetches the archives that this node lacks, beside the rounds: a revocation must not wait for them.
    async fn fetch_archives(&mut self) {
        let Some(news) = &mut self.code else { return };
        while news.fetching.try_join_next().is_some() {}
        if !news.fetching.is_empty() {
            return;
        }
        let now = (self.clock)();
        let Ok(Some((wanted, peer))) = self.with(move |dialogue| Ok(dialogue.lacks(now))).await else {
            return;
        };
        let Some(news) = &mut self.code else { return };
        let archives = Archives {
            code: Arc::clone(&news.code),
            prover: Arc::clone(&news.prover),
            clock: Arc::clone(&self.clock),
            client: self.client.clone(),
            url: self.url.clone(),
            peer,
        };
        news.fetching.spawn(archives.fetch(wanted));
    }

    async fn round(&mut self, news: bool) -> Result<(), LinkError> {
        let now = (self.clock)();
        if let Some(dialogue) = &mut self.dialogue {
            if news { dialogue.begin_telling() } else { dialogue.begin(now) }
        }
        while let Some(question) = self.with(move |dialogue| dialogue.next(now)).await? {
            let patience = if question.large { PATIENCE.1 } else { PATIENCE.0 };
            let answer = timeout(patience, self.carry(&question)).await.map_err(|_| LinkError::Timeout)??;
            let (status, proof, body) = answer;
            let now = (self.clock)();
            self.with(move |dialogue| dialogue.answered(&question, status, proof.as_deref(), &body, now))
                .await?;
        }
        Ok(())
    }

    /// Runs work that touches the disk on a blocking thread.
    async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Dialogue) -> Result<T, DialogueError> + Send + 'static,
    ) -> Result<T, LinkError> {
        let Some(mut dialogue) = self.dialogue.take() else { return Err(LinkError::Timeout) };
        let (dialogue, outcome) = tokio::task::spawn_blocking(move || {
            let outcome = work(&mut dialogue);
            (dialogue, outcome)
        })
        .await?;
        self.dialogue = Some(dialogue);
        Ok(outcome?)
    }

    async fn carry(&self, question: &Question) -> Result<(u16, Option<Vec<u8>>, Bytes), LinkError> {
        let broken = |error: Box<dyn std::error::Error + Send + Sync>| LinkError::Transport(error);
        let mut request =
            Request::builder().method(question.method).uri(format!("{}{}", self.url, question.path));
        if let Some(bearer) = &question.bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let request = request
            .body(Full::new(Bytes::from(question.body.clone())))
            .map_err(|error| broken(error.into()))?;
        let answer = self.client.request(request).await.map_err(|error| broken(error.into()))?;
        let (parts, body) = answer.into_parts();
        let proof = parts.headers.get(PROOF).map(|proof| proof.as_bytes().to_vec());
        let limit = if question.large { MAX_REPLICA } else { MAX_MESSAGE };
        let body = Limited::new(body, limit).collect().await.map_err(broken)?.to_bytes();
        Ok((parts.status.as_u16(), proof, body))
    }
}

/// Waits until this host learns of a host deploy that it did not know.
async fn told_of_code(code: &mut Option<News>) {
    if let Some(news) = code
        && news.changes.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}
