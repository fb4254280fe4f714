//! The ends that a host knows beforehand: of its keyset, of the direct-access tokens in its replica, of the gateway's
//! certificate.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Clock;
use super::live::Live;
use super::snapshot::Snapshot;
use crate::certificate;
use crate::protocol::ends::{End, EndKind, NOTICE, Told, due};
use crate::protocol::time::Time;

/// How often tokens and certificates are looked at.
const INTERVAL: Duration = Duration::from_secs(30);
/// How many tokens are named; the rest is told of by the first of them.
const NAMED: usize = 100;

impl Snapshot {
    /// The end of the keyset.
    pub(super) fn keyset_end(&self) -> Option<End> {
        let keyset = &self.proved.as_ref()?.keyset;
        Some(End { kind: EndKind::Keyset, name: keyset.version().to_string(), at: keyset.body().exp })
    }

    /// The ends of living tokens within the notice, the first one first.
    fn token_ends(&self, now: Time) -> Vec<End> {
        let grants = self.proved.iter().flat_map(|proved| &proved.grants);
        let soon = grants.filter(|(token, grant)| {
            let end = grant.record.expires_at;
            let alive = grant.record.revoked_at.is_none() && !self.local.revoked.contains_key(*token);
            alive && end > now && end <= now.plus(NOTICE)
        });
        let end = |name: String, at| End { kind: EndKind::DirectAccessToken, name, at };
        let mut ends: Vec<End> =
            soon.map(|(token, grant)| end(token.to_string(), grant.record.expires_at)).collect();
        ends.sort_by(|a, b| (a.at, &a.name).cmp(&(b.at, &b.name)));
        ends.truncate(NAMED);
        ends
    }
}

/// Looks at what ends soon, keeps it for whoever asks, and tells the log of it once a day, until the task is dropped.
pub async fn watch(live: Arc<Live>, clock: Clock, certificate: Option<PathBuf>) {
    let mut told = Told::default();
    loop {
        let (now, looking, path) = (clock(), Arc::clone(&live), certificate.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let mut ends = looking.snapshot().token_ends(now);
            // One that can't be read is told of by the gateway, which could not read it either.
            ends.extend(path.and_then(|path| certificate::end(&path).ok()));
            ends
        });
        let Ok(ends) = looked.await else { return };
        live.set_ends(ends);
        for end in told.tell(&due(live.ends(), now), now) {
            tracing::warn!(kind = end.kind.as_str(), left = end.left(now), "{}", end.sentence(now));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
