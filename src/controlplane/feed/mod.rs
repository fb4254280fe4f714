//! Feed of a data plane: the changes since a version, under a freshly signed head. Each answer also proves that the
//! control plane is reachable.
//!
//! Work that thousands of nodes have in common is done once: the state of the replica lies in memory ([`Published`]), the
//! changes are read once (`Delta`), and a snapshot is written once for all nodes that start from nothing ([`Spool`]), to
//! a file if it is large; a slow node is served from it without a lock, and an interrupted download is resumed. A node that
//! holds a version sends a nonce, and its head is signed for this request alone, so that nobody can play it back.

mod serving;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::replica::delta::{Delta, each_change};
use crate::controlplane::replica::spool::{Answer, Spool};
use crate::controlplane::signing::Signing;
use crate::controlplane::store::Published;
use crate::protocol::bundle::{BundleWriter, small_bundle};
use crate::protocol::head::{Head, is_nonce, sign_head, sign_head_for};
use crate::protocol::time::Time;

/// Time for which a node may accept a head from the feed, in seconds.
const HEAD_LIFETIME: i64 = 900;
/// Maximum time that an answer is held back, in seconds.
pub const MAX_WAIT: u64 = 55;

/// Versions that a node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Version of its head, or 0 for none.
    pub version: u64,
    /// Version of its keyset, or 0 for none.
    pub keyset: u64,
}

impl ControlPlane {
    /// Waits until there is a change that a node with `held` does not have, or until `wait` seconds have passed. Reads
    /// no database.
    pub async fn wait_for_change(&self, data_plane: &str, held: Held, wait: u64) -> Result<(), Error> {
        let mut versions = self.store.versions(data_plane)?;
        let changed = async {
            while versions.borrow_and_update().version == held.version
                && self.signing().keyset.version() <= held.keyset
            {
                if versions.changed().await.is_err() {
                    return Err(Error::NotFound("data plane"));
                }
            }
            Ok(())
        };
        // On a timeout the answer has no changes, only a fresh head.
        tokio::time::timeout(Duration::from_secs(wait.min(MAX_WAIT)), changed).await.unwrap_or(Ok(()))
    }

    /// Returns the version of a data plane's replica.
    pub(in crate::controlplane) fn version(&self, data_plane: &str) -> Result<u64, Error> {
        Ok(self.store.published(data_plane)?.version)
    }

    /// Returns the bundle from what a node holds to the present: a delta, or a snapshot if it holds nothing or a
    /// version of another history.
    pub fn feed(&self, data_plane: &str, held: Held) -> Result<Arc<Answer>, Error> {
        self.feed_for(data_plane, held, None)
    }

    /// Returns the same bundle. If the request carries a nonce, its head is signed for this request alone.
    pub fn feed_for(&self, data_plane: &str, held: Held, nonce: Option<&str>) -> Result<Arc<Answer>, Error> {
        check_nonce(nonce)?;
        let published = self.store.published(data_plane)?;
        if held.version > 0 && held.version == published.version {
            return self.small_answer(data_plane, held, nonce, &Delta::none(published), &[]);
        }
        let delta = self.store.read(|reader| Delta::read(reader, data_plane, held.version))?;
        match &delta.lines {
            Some(lines) => self.small_answer(data_plane, held, nonce, &delta, lines),
            None => self.large_answer(data_plane, held, delta.nonce(held.version, nonce)),
        }
    }

    /// Signs and compresses a small answer.
    fn small_answer(
        &self,
        data_plane: &str,
        held: Held,
        nonce: Option<&str>,
        delta: &Delta,
        lines: &[u8],
    ) -> Result<Arc<Answer>, Error> {
        let (signing, now) = (self.signing(), self.now());
        let keysets = signing.keysets_above(held.keyset);
        let signed = self.head(data_plane, &delta.published, &signing, nonce, now)?;
        let bytes = small_bundle(keysets, &signed, delta.base, lines)?;
        let what = answer_key(data_plane, delta.base, &delta.published, keysets.len(), &signing);
        Ok(Arc::new(Answer::small(
            nonce.map_or_else(|| what.clone(), |nonce| format!("{what}-{nonce}")),
            now,
            bytes,
        )))
    }

    /// Writes a large answer to a file, or returns one that is in the spool. Nodes that start from nothing send no nonce
    /// and share it; any other answer is signed for its request.
    fn large_answer(&self, data_plane: &str, held: Held, nonce: Option<&str>) -> Result<Arc<Answer>, Error> {
        let (signing, now) = (self.signing(), self.now());
        let keysets = signing.keysets_above(held.keyset);
        // Everything in the answer is of one state of the database.
        self.store.read(|reader| {
            let Delta { published, base, .. } = Delta::read(reader, data_plane, held.version)?;
            let what = answer_key(data_plane, base, &published, keysets.len(), &signing);
            let what = nonce.map_or_else(|| what.clone(), |nonce| format!("{what}-{nonce}"));
            if let Some(answer) = self.spool.find_recent(&what, now) {
                return Ok(answer);
            }
            let signed = self.head(data_plane, &published, &signing, nonce, now)?;
            let mut writer = BundleWriter::new(Spool::page(), keysets, &signed, base)?;
            each_change(reader, data_plane, base, |change| {
                writer.change(change)?;
                Ok(true)
            })?;
            Ok(self.spool.keep(what, now, writer.finish()?, nonce.is_none())?)
        })
    }

    /// Signs a head for `published`.
    fn head(
        &self,
        data_plane: &str,
        published: &Published,
        signing: &Signing,
        nonce: Option<&str>,
        now: Time,
    ) -> Result<String, Error> {
        let head = Head {
            iss: self.issuer.clone(),
            aud: data_plane.parse().map_err(|_| Error::NotFound("data plane"))?,
            version: published.version,
            digest: published.digest,
            count: published.count,
            iat: now,
            exp: now.plus(HEAD_LIFETIME),
            keyset: signing.keyset.version(),
        };
        Ok(nonce.map_or_else(
            || sign_head(&head, &signing.replica),
            |nonce| sign_head_for(&head, nonce, &signing.replica),
        ))
    }

    /// Returns the answer with this entity tag, if it is still kept.
    pub fn feed_again(&self, tag: &str) -> Option<Arc<Answer>> {
        self.spool.find(tag, self.now())
    }
}

/// Returns the key of an answer: the data plane, the versions that it leads from and to, and the keysets in it.
fn answer_key(
    data_plane: &str,
    base: u64,
    published: &Published,
    keysets: usize,
    signing: &Signing,
) -> String {
    let known = signing.chain.len() - keysets;
    format!("{data_plane}-{base}-{}-{known}-{}", published.version, signing.keyset.version())
}

/// Rejects a nonce of invalid form.
pub(in crate::controlplane) fn check_nonce(nonce: Option<&str>) -> Result<(), Error> {
    if nonce.is_none_or(is_nonce) {
        return Ok(());
    }
    Err(Error::invalid("nonce", "must be 1 to 128 letters, digits, - and _"))
}
