//! Peers: the nodes of a data plane pass on what they know, without their control plane.
//!
//! Revocations go to every configured peer at once, and are compared at intervals in both directions, so that one that was
//! missed arrives later and by whatever way there is. A node that has lost its uplink takes newer heads and changes from a
//! peer that has it. Nothing a peer says is believed for being said by it: a revocation is proved with the key of the node
//! that made it, a head and its changes with the keyset. What a peer can do is to keep silent.
//!
//! [`PeerFace`] answers and [`Dialogue`] asks; both are bytes in and bytes out. Around them, [`serve`] listens and
//! [`PeerLink`] carries.

mod authentication;
mod dialogue;
mod face;
mod link;
mod server;
mod start;

pub use authentication::{PeerRefusal, authenticate};
pub use dialogue::{Dialogue, Question};
pub use face::{Asked, PeerFace, Reply};
pub use link::PeerLink;
pub use server::serve;
pub use start::{Parts, PeersError, start};

use serde::{Deserialize, Serialize};

use super::revocation::Taken;

/// The header in which who answers proves itself to who asked.
pub const PROOF: &str = "halligan-node";
/// The most revocations in a message.
pub const MAX_REVOCATIONS: usize = 500;
/// The largest message of revocations, in bytes.
pub const MAX_MESSAGE: usize = 5 << 20;

/// Revocations on their way from one node to another.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// The sender's list, and the last number of it in this message: where to go on.
    pub list: String,
    /// The number.
    pub next: u64,
    /// What was signed.
    pub revocations: Vec<String>,
}

/// What came of revocations that were sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Received {
    /// The receiver's list: another name than before means that it has lost what it had.
    pub list: String,
    /// What came of them.
    pub taken: Taken,
}
