//! Peers: the nodes of a data plane pass on what they know, without their control plane.
//!
//! A node pushes new revocations to every configured peer at once, and compares its list with theirs at intervals in both
//! directions, so that a missed one arrives later by any path. Nodes compare heads as well: two different heads of one
//! version are evidence, and raise an alarm. A node without an uplink takes newer heads and changes from a peer. A
//! statement of a peer is never trusted because of its sender: a revocation is verified with the key of the node that made
//! it, a head and its changes with the keyset. A hostile peer can only withhold information.
//!
//! Nodes tell each other the deploys that hosts took as well, and fetch their archives from each other.
//!
//! A call has one node as its audience, and an answer is signed together with its question, so that an attacker in between
//! can change neither.
//!
//! [`PeerFace`] answers and [`Dialogue`] asks; both take bytes and return bytes. [`serve`] and [`PeerLink`] do the I/O around them.

mod answer;
mod archives;
mod authentication;
mod dialogue;
mod error;
mod face;
mod link;
mod question;
mod server;
mod start;

pub use authentication::{Peer, PeerRefusal, authenticate};
pub use dialogue::Dialogue;
pub use error::DialogueError;
pub use face::{PeerFace, Reply};
pub use link::PeerLink;
pub use question::{PeerRequest, Question};
pub use server::serve;
pub use start::{Parts, PeersError, start};

use serde::{Deserialize, Serialize};

use crate::dataplane::revocations::ReceivedCounts;
use crate::protocol::id::NodeId;
use crate::protocol::node_proof::Instance;

/// Header that carries the answering node's proof.
pub const PROOF: &str = "halligan-node";
/// Path at which a node states its identity, without authentication.
pub const NAME_PATH: &str = "/v2/peer/node";
/// Maximum number of revocations in a message.
pub const MAX_REVOCATIONS: usize = 500;
/// Maximum size of a message of revocations, in bytes.
pub const MAX_MESSAGE: usize = 5 << 20;

/// Identity of the node at an address. It is unproved; the answer to a call that names this node as audience proves it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Name {
    /// Node that answers.
    pub node: NodeId,
    /// Identifies the start of its daemon.
    pub instance: Instance,
}

/// Signed heads that two nodes exchange to find contradictions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Heads {
    /// Heads as compact JWS.
    pub heads: Vec<String>,
}

/// Revocations that one node sends to another.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// Identifier of the sender's list. It changes when the list was lost.
    pub list: String,
    /// Number of the last revocation in this message, where the receiver continues.
    pub next: u64,
    /// Revocations as compact JWS.
    pub revocations: Vec<String>,
}

/// Maximum number of host deploys in a message.
pub const MAX_DEPLOYS: usize = 256;

/// Host deploys that two nodes exchange.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Deployed {
    /// Host deploys as compact JWS.
    pub deploys: Vec<String>,
}

/// Result of a push of revocations.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Received {
    /// Identifier of the receiver's list. It changes when the list was lost.
    pub list: String,
    /// Number of new, known and rejected revocations.
    pub taken: ReceivedCounts,
}
