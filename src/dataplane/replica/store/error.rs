//! Errors of the replica's store.

use thiserror::Error;

use super::Origin;
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::schema::Unfit;
use crate::protocol::bundle::BundleError;
use crate::protocol::head::HeadError;
use crate::protocol::keyset::KeysetError;
use crate::protocol::record::RecordKind;
use crate::protocol::time::Time;

/// Reasons why a replica cannot be opened or a bundle is rejected. The state that was proved before stays in force.
#[derive(Debug, Error)]
pub enum StoreError {
    /// SQLite reports an error.
    #[error("the replica database can't be used: {0}")]
    Database(#[from] rusqlite::Error),
    /// The schema is newer than this build, or the database is gone.
    #[error("the replica database {0}")]
    Unfit(#[from] Unfit),
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The keyset chain does not begin at the pinned roots.
    #[error(transparent)]
    Keyset(#[from] KeysetError),
    /// The head cannot be verified.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The newest keyset no longer lists the key that signed the head, or names another issuer.
    #[error(
        "the key that signed the replica is not in keyset {0}, or that keyset names another issuer; the replica is unusable until a \
         new head arrives"
    )]
    Superseded(u64),
    /// The head was signed under a keyset that this node does not hold.
    #[error("the head was signed under keyset {head}, and this node's newest keyset is {keyset}")]
    KeysetVersion {
        /// Version of the keyset that the head names.
        head: u64,
        /// Version of the newest keyset held.
        keyset: u64,
    },
    /// The keyset has expired.
    #[error("keyset {0} has expired; the control plane must publish a new one")]
    KeysetExpired(u64),
    /// The head was signed too long ago: the feed is frozen.
    #[error("the head expired at {0}: the feed is frozen")]
    Frozen(Time),
    /// The head answers an earlier request of this node.
    #[error(
        "the feed answered with a head of {0} that was signed for an earlier request: the answer was played back, or something in \
         between caches it"
    )]
    Replayed(Time),
    /// The head's `iat` is in this node's future.
    #[error("the head was signed at {0}, ahead of this node's clock")]
    Future(Time),
    /// The head is older than the one held.
    #[error(
        "the head is at version {got}, this node has proved {have} and takes no older one; if the control plane was restored \
         from a backup, run `halligan-control recover --above {have}` there"
    )]
    Rollback {
        /// Version that this node holds.
        have: u64,
        /// Version that the bundle offers.
        got: u64,
    },
    /// The head contradicts another one of the same version.
    #[error(
        "two heads contradict each other about version {0}; both are kept as evidence. If the control plane was restored from a \
         backup, run `halligan-control recover --above {0}` there"
    )]
    Fork(u64),
    /// Two keysets of one version contradict each other.
    #[error(
        "two rightly signed keysets contradict each other about version {0}; both are kept as evidence: somebody signs with the \
         root keys who should not"
    )]
    KeysetFork(u64),
    /// The delta belongs to another history than the one held here.
    #[error(
        "the changes up to version {got} do not follow version {have} that this node has proved: the control plane has another \
         history, as one that was restored from a backup has; a snapshot is asked for next"
    )]
    History {
        /// Version that this node holds.
        have: u64,
        /// Version that the bundle offers.
        got: u64,
    },
    /// The delta begins at another version than the one held.
    #[error("the bundle starts from version {got}, this node has {have}")]
    Base {
        /// Version that this node holds.
        have: u64,
        /// Version at which the delta begins.
        got: u64,
    },
    /// A record appears twice.
    #[error("{0} {1} stands twice in the bundle")]
    Twice(RecordKind, String),
    /// The bundle holds more changes than there can be between the two versions.
    #[error("the bundle holds more changes than the head of version {0} leaves room for")]
    TooMany(u64),
    /// The records do not have the digest or the count that the head states.
    #[error("the records are not those the head of version {0} was signed for")]
    Digest(u64),
    /// A signed change of a member that must never change.
    #[error("a signed change to {kind} {key} breaks an invariant: {what}")]
    Invariant {
        /// Kind of the record.
        kind: RecordKind,
        /// Key of the record.
        key: String,
        /// Member that the bundle would have changed.
        what: &'static str,
    },
    /// A bundle cannot be written.
    #[error("the bundle could not be written: {0}")]
    Write(#[from] std::io::Error),
    /// A row has an unknown kind of record.
    #[error("the replica database holds an unknown kind of record")]
    Kind,
}

impl StoreError {
    /// Returns the alarm that this error raises for a bundle from `origin`. An input error at a prompt is no alarm, because
    /// it would look like tampering. A correctly signed contradiction is evidence, and an alarm, whatever its origin.
    #[must_use]
    pub fn alarm_by(&self, origin: Origin) -> Option<AlarmKind> {
        let evidence = |kind: &AlarmKind| matches!(kind, AlarmKind::Fork | AlarmKind::Invariant);
        self.alarm().filter(|kind| origin != Origin::File || evidence(kind))
    }

    /// Returns true if damage of the disk can be the cause, or if the bundle left losses: the disk must be read again.
    #[must_use]
    pub(in crate::dataplane) fn may_be_of_the_disk(&self) -> bool {
        matches!(
            self,
            Self::Database(_) | Self::Digest(_) | Self::History { .. } | Self::Invariant { .. } | Self::Kind
        )
    }

    /// Returns the alarm that this error raises. A disk failure, or two changes that crossed, raises none.
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
            | Self::Superseded(_)
            | Self::KeysetVersion { .. }
            | Self::KeysetExpired(_)
            | Self::Twice(..)
            | Self::TooMany(_)
            | Self::Digest(_)
            | Self::Kind => Some(AlarmKind::Refused),
        }
    }
}
