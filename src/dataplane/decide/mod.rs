//! Decides on a request: a pure function of the token's bytes, the facts of the request, a snapshot of the replica, and
//! the time.
//!
//! The function does no I/O and takes no lock. `steps` has its steps in order; the first one that returns a [`Reason`]
//! denies the request.

mod decision;
mod genuine;
pub mod glass;
mod head_age;
pub mod index;
pub mod introspection;
mod local;
mod now;
mod reason;
pub mod routes;
pub mod session;
pub mod signatures;
pub(in crate::dataplane) mod slots;
pub mod snapshot;
pub mod staleness;
mod steps;
#[cfg(test)]
pub(in crate::dataplane) mod tests;
mod verified;

use std::convert::Infallible;
use std::net::IpAddr;

pub use decision::{Allowed, Authority, Decision, Denied, Facts};
pub use head_age::HeadAge;
pub use now::{CLOCK_TOLERANCE, Now, clocks_agree};
pub use reason::Reason;
pub use steps::sign_in;

use self::genuine::{find_verified_token, verify_token};
use self::introspection::Introspection;
use self::session::{Initiator, Session};
use self::snapshot::{Proved, Snapshot};

/// Deployment to which a request is directed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Identifier of the deployment, from the proxy's configuration.
    Id(&'a str),
    /// Identifier of the deployment that a call to the daemon itself is about. The daemon's own routes count, and not those
    /// of the deployment.
    Daemon(&'a str),
    /// Host name of the request. The deployment is the one whose record lists it.
    Host(&'a str),
    /// The request names no host, or contradictory ones.
    Unknown,
}

/// Credential of a request.
#[derive(Clone, Copy, Debug)]
pub enum Credential<'a> {
    /// Bytes that a client presents as a token.
    Token(&'a [u8]),
    /// Session that a cookie opened, and the party that made the browser send the request.
    Session(&'a Session, Initiator),
}

/// Facts of a request, except its credential.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// Deployment to which the request is directed.
    pub deployment: Target<'a>,
    /// Method of the request.
    pub method: &'a str,
    /// Path and query of the request, as the client sent them.
    pub uri: &'a str,
    /// Address of the client, if known.
    pub client: Option<IpAddr>,
}

/// Decides with the replica alone. A standard token gets [`Reason::NeedsControlPlane`] at best.
///
/// ```
/// use halligan::dataplane::decide::{Now, Reason, RequestFacts, Target, decide};
/// use halligan::dataplane::decide::snapshot::Snapshot;
/// use halligan::protocol::time::Time;
///
/// let deployment = Target::Id("dep_a");
/// let facts = RequestFacts { deployment, method: "GET", uri: "/api/v2/dags", client: None };
/// let wall = Time::from_unix(1_800_000_000);
/// let decision = decide(Some(b"token"), &facts, &Snapshot::absent(), Now { wall, floor: wall });
/// assert_eq!(decision.reason(), Reason::ReplicaMissing);
/// ```
#[must_use]
pub fn decide(token: Option<&[u8]>, facts: &RequestFacts<'_>, snapshot: &Snapshot, now: Now) -> Decision {
    decide_introspected(token.map(Credential::Token), None, facts, snapshot, now)
}

/// Decides like [`decide`], also on a session, and with the control plane's answer about a standard token. A direct-access
/// token is decided from the replica, and the answer is ignored.
///
/// ```
/// use halligan::dataplane::decide::snapshot::Snapshot;
/// use halligan::dataplane::decide::{Credential, Now, Reason, RequestFacts, Target, decide_introspected};
/// use halligan::protocol::time::Time;
///
/// let facts = RequestFacts { deployment: Target::Id("dep_a"), method: "GET", uri: "/", client: None };
/// let wall = Time::from_unix(1_800_000_000);
/// let now = Now { wall, floor: wall };
/// let token = Some(Credential::Token(b"token"));
/// let decision = decide_introspected(token, None, &facts, &Snapshot::absent(), now);
/// assert_eq!(decision.reason(), Reason::ReplicaMissing);
/// ```
#[must_use]
pub fn decide_introspected(
    credential: Option<Credential<'_>>,
    introspection: Option<&Introspection>,
    facts: &RequestFacts<'_>,
    snapshot: &Snapshot,
    now: Now,
) -> Decision {
    let verify = |bytes: &[u8], proved: &Proved| Ok(verify_token(bytes, proved));
    let Ok::<_, Infallible>(decision) =
        steps::request(facts, now, verify, credential, introspection, snapshot);
    decision
}

/// Decides like [`decide_introspected`] without an answer of the control plane, unless that takes the verification of a
/// signature: then it returns `None` at once. A verification takes a hundred times as long as the rest of a decision.
///
/// ```
/// use halligan::dataplane::decide::snapshot::Snapshot;
/// use halligan::dataplane::decide::{Now, Reason, RequestFacts, Target, decide_known};
/// use halligan::protocol::time::Time;
///
/// let facts = RequestFacts { deployment: Target::Id("dep_a"), method: "GET", uri: "/", client: None };
/// let wall = Time::from_unix(1_800_000_000);
/// let now = Now { wall, floor: wall };
/// let decision = decide_known(None, &facts, &Snapshot::absent(), now).unwrap();
/// assert_eq!(decision.reason(), Reason::TokenMissing);
/// ```
#[must_use]
pub fn decide_known(
    credential: Option<Credential<'_>>,
    facts: &RequestFacts<'_>,
    snapshot: &Snapshot,
    now: Now,
) -> Option<Decision> {
    let verify = |bytes: &[u8], proved: &Proved| find_verified_token(bytes, proved).map(Ok);
    steps::request(facts, now, verify, credential, None, snapshot).ok()
}
