//! The age of the head in force.

use crate::protocol::head::Head;
use crate::protocol::time::Time;

/// Age of the head in force, as far as this node can tell it without trusting a clock.
///
/// ```
/// use halligan::dataplane::decide::HeadAge;
/// use halligan::protocol::time::Time;
///
/// let iat = Time::from_unix(1_800_000_000);
/// let age = HeadAge { version: 1, iat, held: 3600, signed: iat };
/// // A clock that is accepted half an hour after `iat` does not hide that the head was held for an hour.
/// assert_eq!(age.accepted(iat.plus(1800)).signed, iat.plus(-1800));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadAge {
    /// Version of the head.
    pub version: u64,
    /// `iat` of the head.
    pub iat: Time,
    /// Seconds since the head arrived, counted with the monotonic clock while a daemon ran.
    pub held: i64,
    /// Time from which the age of the head is computed: its `iat`, or earlier.
    pub signed: Time,
}

impl HeadAge {
    /// Returns the age of a head that has just arrived.
    #[must_use]
    pub fn just_arrived(head: &Head) -> Self {
        Self { version: head.version, iat: head.iat, held: 0, signed: head.iat }
    }

    /// Returns true if this is the age of `head`.
    ///
    /// ```
    /// use halligan::dataplane::decide::HeadAge;
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// let (first, second) = (world::head(1, &world::records()), world::head(2, &world::records()));
    /// let age = HeadAge::just_arrived(first.head());
    /// assert!(age.belongs_to(first.head()));
    /// assert!(!age.belongs_to(second.head()));
    /// ```
    #[must_use]
    pub fn belongs_to(&self, head: &Head) -> bool {
        (self.version, self.iat) == (head.version, head.iat)
    }

    /// Returns the age of the same head after `wall` was accepted as the time. The head counts as signed at its `iat` or as long ago
    /// as it was held, whichever is earlier, so that an accepted clock makes no head younger than the time that passed on this node.
    #[must_use]
    pub fn accepted(self, wall: Time) -> Self {
        Self { signed: self.signed.min(wall.plus(-self.held)), ..self }
    }
}
