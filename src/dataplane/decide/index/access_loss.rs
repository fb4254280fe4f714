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
    #[must_use]
    pub fn none(token: TokenId) -> Self {
        Self { token, generation: 0, revoked: false, expired: 0, not_before: None, expires_at: None }
    }
}
