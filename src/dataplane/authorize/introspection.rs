//! Introspection of standard tokens at the control plane (RFC 7662).
//!
//! An answer is reused for some seconds, and only while the replica stays at the same version: every change of standard
//! tokens at the control plane raises the version, which invalidates older answers. Only the hash of a token's value is
//! kept. Direct-access tokens are never sent here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use crate::dataplane::decide::introspection::Introspection;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::state::Live;
use crate::dataplane::uplink::client::Upstream;
use crate::platform::clock::Clock;
use crate::protocol::event::Connectivity;
use crate::protocol::id::DeploymentId;

/// Maximum number of answers that are kept.
const KEPT: usize = 10_000;
/// Maximum number of requests in progress. Others wait for one of them.
const AT_ONCE: usize = 32;
/// Pause after a request without an answer, in which no other is sent.
const REST: Duration = Duration::from_secs(2);

/// Hash of a token and a deployment.
type Key = [u8; 32];

fn key(token: &[u8], deployment: &DeploymentId) -> Key {
    let mut hash = Sha256::new_with_prefix((token.len() as u64).to_be_bytes());
    hash.update(token);
    hash.update(deployment.as_str());
    hash.finalize().into()
}

struct Kept {
    introspection: Arc<Introspection>,
    until: Instant,
}

/// Answers for one version of the replica.
#[derive(Default)]
struct Cache {
    version: u64,
    answers: HashMap<Key, Kept>,
}

impl Cache {
    /// Returns an answer for this version that is not too old.
    fn get(&mut self, version: u64, key: &Key, now: Instant) -> Option<Arc<Introspection>> {
        if self.version != version {
            self.answers.clear();
            self.version = version;
        }
        self.answers.get(key).filter(|kept| now < kept.until).map(|kept| Arc::clone(&kept.introspection))
    }

    fn put(&mut self, version: u64, key: Key, kept: Kept, now: Instant) {
        if self.version != version {
            return;
        }
        if self.answers.len() >= KEPT {
            self.answers.retain(|_, kept| now < kept.until);
        }
        // A full cache is emptied: further questions are better than unbounded memory.
        if self.answers.len() >= KEPT {
            self.answers.clear();
        }
        self.answers.insert(key, kept);
    }
}

/// Client that asks the control plane about standard tokens.
pub struct Introspector {
    live: Arc<Live>,
    upstream: Arc<Upstream>,
    prover: Arc<Prover>,
    clock: Clock,
    runtime: Handle,
    lifetime: Duration,
    patience: Duration,
    cache: Mutex<Cache>,
    questions: Arc<Semaphore>,
    silent: Mutex<Option<Instant>>,
}

impl Introspector {
    /// Asks through `upstream` on the current runtime. Answers are reused for `lifetime`, and awaited for `patience`.
    pub fn new(
        live: Arc<Live>,
        upstream: Arc<Upstream>,
        prover: Arc<Prover>,
        clock: Clock,
        lifetime: Duration,
        patience: Duration,
    ) -> Self {
        Self {
            live,
            upstream,
            prover,
            clock,
            runtime: Handle::current(),
            lifetime,
            patience,
            cache: Mutex::default(),
            questions: Arc::new(Semaphore::new(AT_ONCE)),
            silent: Mutex::default(),
        }
    }

    /// Returns the control plane's answer about a verified token for a deployment. `version` is that of the replica in
    /// force. Returns `None` without an answer in time.
    pub async fn ask(
        &self,
        token: &[u8],
        deployment: &DeploymentId,
        version: u64,
    ) -> Option<Arc<Introspection>> {
        let key = key(token, deployment);
        if let Some(known) = self.known(version, &key) {
            return Some(known);
        }
        if self.live.connectivity() == Connectivity::Offline || self.rests() {
            return None;
        }
        let asked = timeout(self.patience, self.ask_once(token, deployment, version, key)).await;
        if let Ok(Ok(answer)) = asked {
            return answer;
        }
        *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        None
    }

    /// Returns true in the pause after a request without an answer.
    fn rests(&self) -> bool {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.is_some_and(|since| since.elapsed() < REST)
    }

    fn known(&self, version: u64, key: &Key) -> Option<Arc<Introspection>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(version, key, Instant::now())
    }

    /// Sends one request. An error means that there was no answer.
    async fn ask_once(
        &self,
        token: &[u8],
        deployment: &DeploymentId,
        version: u64,
        key: Key,
    ) -> Result<Option<Arc<Introspection>>, ()> {
        let _turn = self.questions.acquire().await.map_err(|_| ())?;
        // An earlier request may have asked the same.
        if let Some(known) = self.known(version, &key) {
            return Ok(Some(known));
        }
        // No escaping is needed: a verified token is base64url with dots, and an identifier holds letters, digits, `_` and `-`.
        let token = std::str::from_utf8(token).map_err(|_| ())?;
        let form =
            Zeroizing::new(format!("token={token}&token_type_hint=access_token&deployment={deployment}"));
        let (upstream, prover, clock) =
            (Arc::clone(&self.upstream), Arc::clone(&self.prover), Arc::clone(&self.clock));
        // On the daemon's own runtime, since a connection must not end with the worker that opened it.
        let answer = self.runtime.spawn(async move {
            let proof = || prover.upstream(clock());
            upstream.form("/v1/introspect", &proof, &form).await
        });
        let answer = answer.await.map_err(|_| ())?;
        let answer =
            answer.map_err(|error| tracing::debug!(%error, "a standard token could not be asked about"))?;
        let Some(introspection) = Introspection::read(&answer) else { return Ok(None) };
        let introspection = Arc::new(introspection);
        let now = Instant::now();
        let kept = Kept { introspection: Arc::clone(&introspection), until: now + self.lifetime };
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).put(version, key, kept, now);
        Ok(Some(introspection))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn kept(now: Instant) -> Kept {
        let introspection = Arc::new(Introspection::read(br#"{"active":false}"#).unwrap());
        Kept { introspection, until: now + Duration::from_secs(30) }
    }

    #[test]
    fn an_answer_is_good_for_its_version_and_its_time() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        assert!(cache.get(7, &[1; 32], now).is_none());
        cache.put(7, [1; 32], kept(now), now);
        assert!(cache.get(7, &[1; 32], now).is_some());
        assert!(cache.get(7, &[1; 32], now + Duration::from_secs(30)).is_none());
        assert!(cache.get(8, &[1; 32], now).is_none());
        assert!(cache.get(7, &[1; 32], now).is_none(), "what was emptied stays empty");
        // An answer for an older version is not stored.
        cache.put(6, [1; 32], kept(now), now);
        assert!(cache.get(7, &[1; 32], now).is_none());
    }

    #[test]
    fn the_cache_is_bounded() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for number in 0..2 * KEPT as u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            cache.put(0, key, kept(now), now);
            assert!(cache.answers.len() <= KEPT);
        }
    }
}
