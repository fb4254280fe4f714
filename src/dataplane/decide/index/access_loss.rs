//! Losses of access that a node knows of beyond the records of its replica.

use crate::protocol::id::TokenId;
use crate::protocol::time::Time;

/// Loss of access that a node knows of, though its records do not state it. It can end a token, never revive one.
#[derive(Clone, Debug)]
pub struct AccessLoss {
    /// Token that loses access.
    pub token: TokenId,
    /// First generation that was not rotated away. Earlier ones are dead.
    pub generation: u32,
    /// True if the token is revoked.
    pub revoked: bool,
    /// Last generation that had expired under a time floor that was lowered since.
    pub expired: u32,
    /// Start of `generation`, if its record states an earlier one.
    pub not_before: Option<Time>,
    /// End of `generation`, if its record states a later one.
    pub expires_at: Option<Time>,
}

impl AccessLoss {
    /// Returns the loss of nothing.
    ///
    /// ```
    /// use halligan::dataplane::decide::snapshot::{AccessLoss, Replica, Snapshot, Staleness};
    /// use halligan::dataplane::decide::{Now, Reason, decide};
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// # let (wall, token) = (world::NOW.plus(120), world::token());
    /// # let now = Now { wall, floor: wall };
    /// // The ledger of this node has seen generation 2. The replica brings back generation 1.
    /// let loss = AccessLoss { generation: 2, ..AccessLoss::none("tok_etl".parse()?) };
    /// let replica = Replica { losses: vec![loss], ..world::replica(1, world::records()) };
    /// let snapshot = Snapshot::build(replica, Staleness::default(), None);
    /// let request = world::request("GET", "/api/v2/dags");
    /// let decision = decide(Some(token.as_bytes()), &request, &snapshot, now);
    /// assert_eq!(decision.reason(), Reason::TokenRotated);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn none(token: TokenId) -> Self {
        Self { token, generation: 0, revoked: false, expired: 0, not_before: None, expires_at: None }
    }
}
