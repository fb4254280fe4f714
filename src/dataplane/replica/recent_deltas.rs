//! The latest changes, as the bundles in which they came, so that a peer gets a small bundle for a small change; and the
//! latest heads by version, which peers compare with theirs.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use crate::protocol::head::SignedHead;

/// Maximum size of a kept bundle, in bytes. A peer gets a complete replica instead of a larger one.
const MAX_BUNDLE: usize = 1 << 20;
/// Maximum number of bytes, and of bundles, that are kept.
const MAX_KEPT: (usize, usize) = (8 << 20, 256);

/// Maximum number of heads that are kept.
const MAX_HEADS: usize = 256;

/// Applied bundles by the version that they begin at, and the first head of each version.
#[derive(Debug, Default)]
pub(in crate::dataplane) struct RecentDeltas {
    heads: VecDeque<SignedHead>,
    bundles: VecDeque<(u64, Arc<[u8]>)>,
    bytes: usize,
}

impl RecentDeltas {
    /// Keeps a bundle that begins at version `from`.
    pub(in crate::dataplane) fn keep(&mut self, from: u64, bundle: Vec<u8>) {
        self.bytes += bundle.len();
        self.bundles.push_back((from, bundle.into()));
        while self.bytes > MAX_KEPT.0 || self.bundles.len() > MAX_KEPT.1 {
            let Some((_, oldest)) = self.bundles.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// Keeps a head, if it is the first one of its version.
    pub(in crate::dataplane) fn keep_head(&mut self, head: &SignedHead) {
        if self.head_of(head.head().version).is_none() {
            self.heads.push_back(head.clone());
            if self.heads.len() > MAX_HEADS {
                self.heads.pop_front();
            }
        }
    }

    /// Returns the head of a version.
    pub(in crate::dataplane) fn head_of(&self, version: u64) -> Option<&SignedHead> {
        self.heads.iter().rev().find(|head| head.head().version == version)
    }

    /// Returns the bundle that begins at version `since`.
    pub(in crate::dataplane) fn since(&self, since: u64) -> Option<Arc<[u8]>> {
        let found = self.bundles.iter().rev().find(|(from, _)| *from == since);
        found.map(|(_, bundle)| Arc::clone(bundle))
    }
}

/// Reader that keeps a copy of a bundle, unless it is large.
pub(in crate::dataplane) struct Keeping<R> {
    inner: R,
    kept: Option<Vec<u8>>,
}

impl<R: Read> Keeping<R> {
    pub(in crate::dataplane) fn new(inner: R) -> Self {
        Self { inner, kept: Some(Vec::new()) }
    }

    /// Returns the copy, if it is complete.
    pub(in crate::dataplane) fn kept(self) -> Option<Vec<u8>> {
        self.kept
    }
}

impl<R: Read> Read for Keeping<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.kept = self.kept.take().filter(|kept| kept.len() + read <= MAX_BUNDLE).map(|mut kept| {
            kept.extend_from_slice(&buffer[..read]);
            kept
        });
        Ok(read)
    }
}
