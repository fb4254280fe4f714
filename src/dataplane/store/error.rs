//! Why the replica's store refuses.

use thiserror::Error;

use super::Origin;
use crate::dataplane::alarm::AlarmKind;
use crate::dataplane::schema::Unfit;
use crate::protocol::bundle::BundleError;
use crate::protocol::head::HeadError;
use crate::protocol::keyset::KeysetError;
use crate::protocol::record::RecordKind;
use crate::protocol::time::Time;

/// Why a replica could not be opened, or a bundle was refused. What was proved before stays in force.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database can't be used.
    #[error("the replica database can't be used: {0}")]
    Database(#[from] rusqlite::Error),
    /// A newer build has written it, or it is gone.
    #[error("the replica database {0}")]
    Unfit(#[from] Unfit),
    /// The bundle can't be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The keyset chain does not end in the pinned roots.
    #[error(transparent)]
    Keyset(#[from] KeysetError),
    /// The head is not believed.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The keyset no longer holds the key that signed the head.
    #[error(
        "the key that signed the replica is not in keyset {0}; the replica is dead until a new head comes"
    )]
    KeyDropped(u64),
    /// The head was signed under a keyset that is not known here.
    #[error("the head goes by keyset {head}, the newest known is {keyset}")]
    KeysetVersion {
        /// The keyset of the head.
        head: u64,
        /// The newest known.
        keyset: u64,
    },
    /// The keyset's time is over.
    #[error("keyset {0} has expired; the control plane must publish a new one")]
    KeysetExpired(u64),
    /// The head was signed too long ago: the feed is frozen.
    #[error("the head expired at {0}: the feed is frozen")]
    Frozen(Time),
    /// The head is an earlier answer of the feed.
    #[error(
        "the feed answered with a head of {0} that was signed for an earlier request: the answer was played back, or something in \
         between caches it"
    )]
    Replayed(Time),
    /// The head was signed in this node's future.
    #[error("the head was signed at {0}, ahead of this node's clock")]
    Future(Time),
    /// An older head than the one held.
    #[error(
        "the head is at version {got}, this node has proved {have} and takes no older one; if the control plane was restored \
         from a backup, run `halligan-control recover --above {have}` there"
    )]
    Rollback {
        /// The version held.
        have: u64,
        /// The version offered.
        got: u64,
    },
    /// Another head for the same version.
    #[error(
        "two heads contradict each other about version {0}; both are kept as evidence. If the control plane was restored from a \
         backup, run `halligan-control recover --above {0}` there"
    )]
    Fork(u64),
    /// Two keysets of one version.
    #[error(
        "two rightly signed keysets contradict each other about version {0}; both are kept as evidence: somebody signs with the \
         root keys who should not"
    )]
    KeysetFork(u64),
    /// A delta of another history than the one held here.
    #[error(
        "the changes up to version {got} do not follow version {have} that this node has proved: the control plane has another \
         history, as one that was restored from a backup has; a snapshot is asked for next"
    )]
    History {
        /// The version held.
        have: u64,
        /// The version offered.
        got: u64,
    },
    /// A delta for another version than the one held.
    #[error("the bundle starts from version {got}, this node has {have}")]
    Base {
        /// The version held.
        have: u64,
        /// The version it starts from.
        got: u64,
    },
    /// One record stands twice.
    #[error("{0} {1} stands twice in the bundle")]
    Twice(RecordKind, String),
    /// More changes than there can be between the two versions.
    #[error("the bundle holds more changes than the head of version {0} leaves room for")]
    TooMany(u64),
    /// The records are not what the head says.
    #[error("the records are not those the head of version {0} was signed for")]
    Digest(u64),
    /// A signed change of what may never change.
    #[error("a signed change to {kind} {key} breaks an invariant: {what}")]
    Invariant {
        /// What kind of record.
        kind: RecordKind,
        /// Which.
        key: String,
        /// What it would have changed.
        what: &'static str,
    },
    /// A bundle could not be written.
    #[error("the bundle could not be written: {0}")]
    Write(#[from] std::io::Error),
    /// A row that can't be one.
    #[error("the replica database holds an unknown kind of record")]
    Kind,
}

impl StoreError {
    /// The alarm it is when it came by `origin`. What somebody mistyped at a prompt is an error there, and an alarm would look like
    /// tampering; what was rightly signed and contradicts what was proved is evidence, whoever brings it.
    #[must_use]
    pub fn alarm_by(&self, origin: Origin) -> Option<AlarmKind> {
        let evidence = |kind: &AlarmKind| matches!(kind, AlarmKind::Fork | AlarmKind::Invariant);
        self.alarm().filter(|kind| origin != Origin::File || evidence(kind))
    }

    /// The alarm it is, unless it is a broken disk, or two changes that crossed.
    #[must_use]
    pub fn alarm(&self) -> Option<AlarmKind> {
        match self {
            Self::Database(_) | Self::Unfit(_) | Self::Base { .. } | Self::Write(_) => None,
            Self::Rollback { .. } => Some(AlarmKind::Rollback),
            Self::Fork(_) | Self::KeysetFork(_) => Some(AlarmKind::Fork),
            Self::History { .. } => Some(AlarmKind::History),
            Self::Frozen(_) | Self::Replayed(_) => Some(AlarmKind::Frozen),
            Self::Invariant { .. } => Some(AlarmKind::Invariant),
            Self::Future(_) => Some(AlarmKind::Clock),
            Self::Bundle(_)
            | Self::Keyset(_)
            | Self::Head(_)
            | Self::KeyDropped(_)
            | Self::KeysetVersion { .. }
            | Self::KeysetExpired(_)
            | Self::Twice(..)
            | Self::TooMany(_)
            | Self::Digest(_)
            | Self::Kind => Some(AlarmKind::Refused),
        }
    }
}
