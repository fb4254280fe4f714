//! Verified replicas, before a snapshot decides by them.

use super::index::{AccessLoss, Index, Indexer, Retirement};
use crate::protocol::head::SignedHead;
use crate::protocol::keyset::Keyset;
use crate::protocol::record::{Record, RecordKind};

/// Replica whose signatures and digest are verified.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Newest keyset of the chain.
    pub keyset: Keyset,
    /// Head over the records.
    pub head: SignedHead,
    /// Records of the replica.
    pub records: Vec<Record>,
    /// Losses that this node knows beyond the records.
    pub losses: Vec<AccessLoss>,
    /// Retirements of nodes that this node knows.
    pub retirements: Vec<Retirement>,
}

/// Replica whose signatures and digest are verified, indexed. The bodies of its records stay on the disk.
#[derive(Clone)]
pub struct Verified {
    /// Newest keyset of the chain.
    pub keyset: Keyset,
    /// Head over the records.
    pub head: SignedHead,
    /// Index of the records, with the losses that this node knows beyond them.
    pub index: Index,
}

impl Verified {
    /// Indexes a replica whose records are in memory.
    #[must_use]
    pub fn index(replica: Replica) -> Self {
        let Replica { keyset, head, records, losses, retirements } = replica;
        let (tokens, others): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.kind == RecordKind::Token);
        let indexer = Indexer::new(others);
        for token in &tokens {
            indexer.add(token);
        }
        let mut index = indexer.finish();
        for loss in &losses {
            index.apply_loss(loss, head.head().iat);
        }
        for retirement in &retirements {
            index.apply_retirement(retirement);
        }
        Self { keyset, head, index }
    }
}
