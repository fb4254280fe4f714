//! Expiries that a host knows in advance: of its keyset, of the direct-access tokens in its replica, and of the gateway's
//! certificate.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::state::Live;
use crate::dataplane::decide::index::Revoked;
use crate::dataplane::decide::snapshot::Snapshot;
use crate::platform::certificate;
use crate::platform::clock::Clock;
use crate::protocol::ends::{End, EndKind, GivenWarnings, NOTICE, due};
use crate::protocol::time::Time;

/// Interval at which tokens and certificates are checked.
const INTERVAL: Duration = Duration::from_secs(30);
/// Maximum number of tokens that are listed. The first ones stand for the rest.
const NAMED: usize = 100;

impl Snapshot {
    /// Returns the expiry of the keyset.
    pub(in crate::dataplane) fn keyset_end(&self) -> Option<End> {
        let keyset = &self.proved.as_ref()?.keyset;
        Some(End { kind: EndKind::Keyset, name: keyset.version().to_string(), at: keyset.body().exp })
    }

    /// Returns the expiries of active tokens within the notice, earliest first.
    fn token_ends(&self, now: Time) -> Vec<End> {
        let grants = self.proved.iter().flat_map(|proved| proved.index.grants.iter());
        let soon = grants.filter(|grant| {
            let end = grant.expires_at;
            let alive = grant.revoked == Revoked::No && !self.local.revoked.contains_key(grant.token());
            alive && end > now && end <= now.plus(NOTICE)
        });
        let end = |name: String, at| End { kind: EndKind::DirectAccessToken, name, at };
        let mut ends: Vec<End> = soon.map(|grant| end(grant.token().to_string(), grant.expires_at)).collect();
        ends.sort_by(|a, b| (a.at, &a.name).cmp(&(b.at, &b.name)));
        ends.truncate(NAMED);
        ends
    }
}

/// Collects the expiries, stores them for `status` and metrics, and logs them once a day, until the task is dropped.
pub async fn watch(live: Arc<Live>, clock: Clock, certificate: Option<PathBuf>) {
    let mut given = GivenWarnings::default();
    loop {
        let (now, looking, path) = (clock(), Arc::clone(&live), certificate.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let mut ends = looking.snapshot().token_ends(now);
            // An unreadable certificate is not reported here, because the gateway reports it.
            ends.extend(path.and_then(|path| certificate::end(&path).ok()));
            ends
        });
        let Ok(ends) = looked.await else { return };
        live.set_ends(ends);
        for end in given.not_yet_given(&due(live.ends(), now), now) {
            tracing::warn!(kind = end.kind.as_str(), left = end.left(now), "{}", end.sentence(now));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
