//! Decides on a request: a pure function of the token's bytes, the facts of the request, a snapshot of the replica, and
//! the time.
//!
//! The function does no I/O and takes no lock. `steps` has its steps in order; the first one that returns a [`Reason`]
//! denies the request.

pub mod glass;
mod head_age;
pub mod index;
pub mod introspection;
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

use std::net::IpAddr;
use std::sync::Arc;

pub use head_age::HeadAge;
pub use now::{CLOCK_TOLERANCE, Now};
pub use reason::Reason;

use self::introspection::Introspection;
use self::routes::CanonicalPath;
use self::session::{Durations, Initiator, Session};
use self::snapshot::{Granted, Snapshot};
use self::staleness::Freshness;
use self::steps::{Step, Stop, known, verified};
use crate::protocol::glass::GlassState;
use crate::protocol::id::{DeploymentId, SessionId, TokenId};
use crate::protocol::permission::Permission;
use crate::protocol::role::RoleRef;

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

/// Result of a decision, with the facts that the steps found before it ended. A step that was not reached leaves its
/// members empty.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Reason of the result: [`Reason::Ok`] allows the request, any other denies it.
    pub reason: Reason,
    /// Identifier of the session by which the token is used, or that a sign-in began.
    pub session: Option<SessionId>,
    /// Identifier of the token, after its signature was found valid.
    pub token: Option<TokenId>,
    /// Generation of the token.
    pub generation: Option<u32>,
    /// Role of the token.
    pub role: Option<RoleRef>,
    /// Deployment of the request, if the replica holds it.
    pub deployment: Option<DeploymentId>,
    /// State of the deployment's glass.
    pub glass: Option<GlassState>,
    /// Template of the route that matched.
    pub route: Option<Arc<str>>,
    /// Canonical path of the request.
    pub path: Option<String>,
    /// Permission that the route requires.
    pub permission: Option<Permission>,
    /// All permissions of the token, not only the required one.
    pub granted: Granted,
    /// Age of the replica and the limit for the token's role, in seconds.
    pub freshness: Option<Freshness>,
    /// Maximum number of uses of the token in a minute.
    pub rate_limit: Option<u32>,
    /// Seconds after which a retry can succeed, for the header `Retry-After`.
    pub retry_after: Option<u64>,
    /// True if the request may change something. Without a route, every method but GET and HEAD counts as mutating.
    pub mutating: bool,
}

impl Decision {
    /// Returns a decision with this reason and no other facts.
    #[must_use]
    pub fn new(reason: Reason, facts: &RequestFacts<'_>) -> Self {
        Self {
            reason,
            session: None,
            token: None,
            generation: None,
            role: None,
            deployment: None,
            glass: None,
            route: None,
            path: None,
            permission: None,
            granted: Granted::default(),
            freshness: None,
            rate_limit: None,
            retry_after: None,
            mutating: !matches!(facts.method, "GET" | "HEAD"),
        }
    }

    /// Names the path of a request that is decided before its route is found.
    pub(super) fn name_path(&mut self, facts: &RequestFacts<'_>) {
        self.path = CanonicalPath::parse(facts.uri).ok().map(|path| path.as_str().to_owned());
    }

    /// Returns true if the request is allowed.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.reason == Reason::Ok
    }

    /// Explains a denial further than its reason code: for a stale replica, the age, the limit and the setting that
    /// defines the limit.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        let Freshness { age, limit, setting } =
            self.freshness.filter(|_| self.reason == Reason::ReplicaStale)?;
        let key = setting.key(self.role.as_ref().map_or("", RoleRef::name));
        Some(format!(
            "the replica was signed {age} s ago; {key} allows {limit} s in this host's configuration"
        ))
    }
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
/// assert_eq!(decision.reason, Reason::ReplicaMissing);
/// ```
#[must_use]
pub fn decide(token: Option<&[u8]>, facts: &RequestFacts<'_>, snapshot: &Snapshot, now: Now) -> Decision {
    decide_introspected(token.map(Credential::Token), None, facts, snapshot, now)
}

/// Decides like [`decide`], also on a session, and with the control plane's answer about a standard token. A direct-access
/// token is decided from the replica, and the answer is ignored.
#[must_use]
pub fn decide_introspected(
    credential: Option<Credential<'_>>,
    introspection: Option<&Introspection>,
    facts: &RequestFacts<'_>,
    snapshot: &Snapshot,
    now: Now,
) -> Decision {
    let mut decision = Decision::new(Reason::Ok, facts);
    let step = Step { facts, now, decision: &mut decision };
    if let Err(reason) = step.all(verified, credential, introspection, snapshot) {
        decision.reason = reason;
    }
    decision
}

/// Decides like [`decide_introspected`] without an answer of the control plane, unless that takes the verification of a
/// signature: then it returns `None` at once. A verification takes a hundred times as long as the rest of a decision.
#[must_use]
pub fn decide_known(
    credential: Option<Credential<'_>>,
    facts: &RequestFacts<'_>,
    snapshot: &Snapshot,
    now: Now,
) -> Option<Decision> {
    let mut decision = Decision::new(Reason::Ok, facts);
    let step = Step { facts, now, decision: &mut decision };
    match step.all(known, credential, None, snapshot) {
        Ok(()) => {}
        Err(Stop::Denied(reason)) => decision.reason = reason,
        Err(Stop::SignatureUnverified) => return None,
    }
    Some(decision)
}

/// Decides on a sign-in: all but the route is decided as for a request. Returns the session if the sign-in is allowed.
#[must_use]
pub fn sign_in(
    token: &[u8],
    introspection: Option<&Introspection>,
    (id, durations): (SessionId, Durations),
    facts: &RequestFacts<'_>,
    snapshot: &Snapshot,
    now: Now,
) -> (Decision, Option<Session>) {
    let mut decision = Decision::new(Reason::Ok, facts);
    let step = Step { facts, now, decision: &mut decision };
    let begun = step.sign_in(token, introspection, snapshot, (id, durations));
    // The page's own path, which no route map holds.
    decision.name_path(facts);
    match begun {
        Ok(session) => (decision, Some(session)),
        Err(reason) => (Decision { reason, ..decision }, None),
    }
}
