//! Peers: the nodes of a data plane pass on what they know, without their control plane.
//!
//! Revocations go to every configured peer at once, and are compared at intervals in both directions, so that one that was
//! missed arrives later and by whatever way there is. So are heads: two that say different things of one version are
//! evidence, and alarmed. A node that has lost its uplink takes newer heads and changes from a peer that has it. Nothing a
//! peer says is believed for being said by it: a revocation is proved with the key of the node that made it, a head and its
//! changes with the keyset. What a peer can do is to keep silent.
//!
//! A call is for one node and no other; an answer is signed with its question, so that nobody in between can change either.
//!
//! [`PeerFace`] answers and [`Dialogue`] asks; both are bytes in and bytes out. Around them, [`serve`] listens and
//! [`PeerLink`] carries.

mod answer;
mod authentication;
mod dialogue;
mod face;
mod link;
mod server;
mod start;

pub use authentication::{PeerRefusal, authenticate};
pub use dialogue::{Dialogue, DialogueError, Question};
pub use face::{Asked, PeerFace, Reply};
pub use link::PeerLink;
pub use server::serve;
pub use start::{Parts, PeersError, start};

use serde::{Deserialize, Serialize};

use super::revocation::Taken;
use crate::protocol::id::NodeId;

/// The header in which who answers proves itself to who asked.
pub const PROOF: &str = "halligan-node";
/// Where a node says who it is, to anybody.
pub const NAME_PATH: &str = "/v2/peer/node";
/// The most revocations in a message.
pub const MAX_REVOCATIONS: usize = 500;
/// The largest message of revocations, in bytes.
pub const MAX_MESSAGE: usize = 5 << 20;

/// Who answers at an address. Nothing proves it: a call that is made for this node does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Name {
    /// The node.
    pub node: NodeId,
    /// Which start of its daemon.
    pub instance: String,
}

/// Signed heads that two nodes exchange to find contradictions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Heads {
    /// Compact JWS.
    pub heads: Vec<String>,
}

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
