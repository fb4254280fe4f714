//! The latest changes, as the bundles in which they came: what is passed on to peers, so that a small change stays small.
//! And the latest heads, by version: what peers compare with those they were shown.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use crate::protocol::head::SignedHead;

/// The largest bundle that is kept, in bytes; above it a peer gets the whole replica.
const MAX_BUNDLE: usize = 1 << 20;
/// The most bytes that are kept, and the most bundles.
const MAX_KEPT: (usize, usize) = (8 << 20, 256);

/// The most heads that are kept.
const MAX_HEADS: usize = 256;

/// Bundles that were taken in, by the version they led on from; and the first head of each version.
#[derive(Debug, Default)]
pub(super) struct Recent {
    heads: VecDeque<SignedHead>,
    bundles: VecDeque<(u64, Arc<[u8]>)>,
    bytes: usize,
}

impl Recent {
    /// Keeps a bundle that led on from version `from`.
    pub(super) fn keep(&mut self, from: u64, bundle: Vec<u8>) {
        self.bytes += bundle.len();
        self.bundles.push_back((from, bundle.into()));
        while self.bytes > MAX_KEPT.0 || self.bundles.len() > MAX_KEPT.1 {
            let Some((_, oldest)) = self.bundles.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// Keeps a head, if it is the first one of its version.
    pub(super) fn keep_head(&mut self, head: &SignedHead) {
        if self.head_of(head.head().version).is_none() {
            self.heads.push_back(head.clone());
            if self.heads.len() > MAX_HEADS {
                self.heads.pop_front();
            }
        }
    }

    /// The head of a version.
    pub(super) fn head_of(&self, version: u64) -> Option<&SignedHead> {
        self.heads.iter().rev().find(|head| head.head().version == version)
    }

    /// The bundle that leads on from version `since`.
    pub(super) fn since(&self, since: u64) -> Option<Arc<[u8]>> {
        let found = self.bundles.iter().rev().find(|(from, _)| *from == since);
        found.map(|(_, bundle)| Arc::clone(bundle))
    }
}

/// Reads a bundle and keeps what was read, unless it is large.
pub(super) struct Keeping<R> {
    inner: R,
    kept: Option<Vec<u8>>,
}

impl<R: Read> Keeping<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, kept: Some(Vec::new()) }
    }

    /// What was read, all of it.
    pub(super) fn kept(self) -> Option<Vec<u8>> {
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
