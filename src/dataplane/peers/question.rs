//! A call between peers: as the asking node makes it, and as the answering node receives it.

use crate::protocol::id::NodeId;

/// Subject of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Name,
    Heads,
    Pull,
    Push,
    Deploys,
    Bundle,
}

/// Request to a peer.
#[derive(Clone, Debug)]
pub struct Question {
    /// HTTP method: `GET`, or `POST` with a body.
    pub method: &'static str,
    /// Path and query of the request.
    pub path: String,
    /// Proof of this node's identity, or `None` in the request for the peer's name.
    pub bearer: Option<String>,
    /// Body of the request.
    pub body: Vec<u8>,
    /// True if the answer may be a complete replica.
    pub large: bool,
    /// Node that must answer, or `None` in the request for the peer's name.
    pub(super) asked: Option<NodeId>,
    pub(super) call: String,
    pub(super) topic: Topic,
    /// Number of the last revocation that is pushed.
    pub(super) through: u64,
    /// True if the message is full: there may be more to push.
    pub(super) whole_page: bool,
}

/// Request of an authenticated peer.
#[derive(Clone, Copy, Debug)]
pub struct PeerRequest<'a> {
    /// Method of the request.
    pub method: &'a str,
    /// Path of the request, without the query.
    pub path: &'a str,
    /// Query of the request.
    pub query: &'a str,
    /// Body of the request.
    pub body: &'a [u8],
}
