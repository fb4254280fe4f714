//! Result of a decision: an allowed request, or a denied one with its reason.

use std::sync::Arc;

use super::routes::CanonicalPath;
use super::snapshot::Granted;
use super::staleness::Freshness;
use super::{Reason, RequestFacts};
use crate::protocol::glass::GlassState;
use crate::protocol::id::{DeploymentId, SessionId, TokenId};
use crate::protocol::permission::Permission;
use crate::protocol::role::RoleRef;

/// Result of a decision.
#[derive(Clone, Debug)]
pub enum Decision {
    /// The request may pass.
    Allowed(Allowed),
    /// The request is denied.
    Denied(Denied),
}

/// Source of the permissions of an allowed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Role that a direct-access token was created with.
    Role(RoleRef),
    /// Answer of the control plane about a standard token. Such a token names no role.
    ControlPlane,
}

/// Allowed request. Only the steps of a decision make one.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// Identifier of the token.
    pub token: TokenId,
    /// Generation of the token.
    pub generation: u32,
    /// Source of the token's permissions.
    pub authority: Authority,
    /// Deployment of the request.
    pub deployment: DeploymentId,
    /// All permissions of the token, not only the required one.
    pub granted: Granted,
    /// Maximum number of uses of the token in a minute.
    pub rate_limit: Option<u32>,
    pub(super) findings: Findings,
}

/// Denied request.
#[derive(Clone, Debug)]
pub struct Denied {
    pub(super) reason: Reason,
    /// Seconds after which a retry can succeed, for the header `Retry-After`.
    pub retry_after: Option<u64>,
    /// Identifier of the token, after its signature was found valid.
    pub(super) token: Option<TokenId>,
    /// Generation of the token.
    pub(super) generation: Option<u32>,
    /// Role of the token.
    pub(super) role: Option<RoleRef>,
    /// Deployment of the request, if the replica holds it.
    pub(super) deployment: Option<DeploymentId>,
    pub(super) findings: Findings,
}

/// Facts that the steps found, whatever the result. A step that was not reached leaves its members empty.
#[derive(Clone, Debug)]
pub(super) struct Findings {
    pub(super) session: Option<SessionId>,
    pub(super) glass: Option<GlassState>,
    pub(super) route: Option<Arc<str>>,
    pub(super) path: Option<String>,
    pub(super) permission: Option<Permission>,
    pub(super) freshness: Option<Freshness>,
    pub(super) mutating: bool,
}

impl Findings {
    /// Returns what is known before the first step. Without a route, every method but GET and HEAD counts as mutating.
    pub(super) fn initial(facts: &RequestFacts<'_>) -> Self {
        Self {
            session: None,
            glass: None,
            route: None,
            path: None,
            permission: None,
            freshness: None,
            mutating: !matches!(facts.method, "GET" | "HEAD"),
        }
    }

    /// Names the path of a request that is decided before its route is found.
    pub(super) fn name_path(&mut self, facts: &RequestFacts<'_>) {
        self.path = CanonicalPath::parse(facts.uri).ok().map(|path| path.as_str().to_owned());
    }
}

/// Facts of a decision, as its event records them. A step that was not reached leaves its members empty.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'d> {
    /// Identifier of the session by which the token is used, or that a sign-in began.
    pub session: Option<&'d SessionId>,
    /// Identifier of the token, after its signature was found valid.
    pub token: Option<&'d TokenId>,
    /// Generation of the token.
    pub generation: Option<u32>,
    /// Role of the token.
    pub role: Option<&'d RoleRef>,
    /// Deployment of the request, if the replica holds it.
    pub deployment: Option<&'d DeploymentId>,
    /// State of the deployment's glass.
    pub glass: Option<GlassState>,
    /// Template of the route that matched.
    pub route: Option<&'d Arc<str>>,
    /// Canonical path of the request.
    pub path: Option<&'d str>,
    /// Permission that the route requires.
    pub permission: Option<Permission>,
    /// Age of the replica and the limit for the token's role, in seconds.
    pub freshness: Option<Freshness>,
    /// True if the request may change something. Without a route, every method but GET and HEAD counts as mutating.
    pub mutating: bool,
}

impl Decision {
    /// Returns true if the request is allowed.
    #[must_use]
    pub fn allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// Returns the reason of a denial, or [`Reason::Ok`].
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Allowed(_) => Reason::Ok,
            Self::Denied(denied) => denied.reason,
        }
    }

    /// Returns the facts that the steps found.
    ///
    /// ```
    /// use halligan::dataplane::decide::{Now, Reason, decide};
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// let (token, snapshot) = (world::token(), world::snapshot());
    /// let wall = world::NOW.plus(120);
    /// let now = Now { wall, floor: wall };
    /// let request = world::request("GET", "/api/v2/dags/sales");
    /// let decision = decide(Some(token.as_bytes()), &request, &snapshot, now);
    /// assert_eq!(decision.reason(), Reason::Ok);
    /// let facts = decision.facts();
    /// assert_eq!(facts.route.map(|route| &**route), Some("/api/v2/dags/{dag_id}"));
    /// assert_eq!(facts.permission.unwrap().as_str(), "deployment.airflow.dag.get");
    /// assert!(!facts.mutating);
    /// ```
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        match self {
            Self::Allowed(allowed) => allowed.facts(),
            Self::Denied(denied) => denied.facts(),
        }
    }

    /// Explains a denial further than its reason code, as [`Denied::detail`] does.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Allowed(_) => None,
            Self::Denied(denied) => denied.detail(),
        }
    }

    /// Returns the decision on a request whose event can't be recorded: it is denied.
    #[must_use]
    pub(in crate::dataplane) fn unrecorded(self) -> Self {
        Self::Denied(match self {
            Self::Allowed(allowed) => allowed.denied(Reason::AuditUnavailable),
            Self::Denied(denied) => denied.instead(Reason::AuditUnavailable),
        })
    }
}

impl Allowed {
    /// Returns the facts that the steps found.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        let role = match &self.authority {
            Authority::Role(role) => Some(role),
            Authority::ControlPlane => None,
        };
        Facts {
            token: Some(&self.token),
            generation: Some(self.generation),
            role,
            deployment: Some(&self.deployment),
            ..Facts::from_findings(&self.findings)
        }
    }

    /// Denies what the steps allowed, for a reason outside of them.
    fn denied(self, reason: Reason) -> Denied {
        let role = match self.authority {
            Authority::Role(role) => Some(role),
            Authority::ControlPlane => None,
        };
        Denied {
            reason,
            retry_after: None,
            token: Some(self.token),
            generation: Some(self.generation),
            role,
            deployment: Some(self.deployment),
            findings: self.findings,
        }
    }

    /// Denies a use beyond the token's rate limit. A retry can succeed after `retry_after` seconds.
    #[must_use]
    pub(in crate::dataplane) fn limited(self, retry_after: u64) -> Denied {
        Denied { retry_after: Some(retry_after), ..self.denied(Reason::RateLimited) }
    }

    /// Returns an allowed read for tests of what follows a decision.
    #[cfg(test)]
    pub(in crate::dataplane) fn sample(token: TokenId, deployment: DeploymentId, granted: Granted) -> Self {
        let facts =
            RequestFacts { deployment: super::Target::Unknown, method: "GET", uri: "/", client: None };
        let (generation, authority) = (1, Authority::ControlPlane);
        Self {
            token,
            generation,
            authority,
            deployment,
            granted,
            rate_limit: None,
            findings: Findings::initial(&facts),
        }
    }
}

impl Denied {
    /// Returns a denial before any step, with no other facts.
    #[must_use]
    pub fn new(reason: Reason, facts: &RequestFacts<'_>) -> Self {
        let findings = Findings::initial(facts);
        Self {
            reason,
            retry_after: None,
            token: None,
            generation: None,
            role: None,
            deployment: None,
            findings,
        }
    }

    /// Returns a denial before any step that names the path of the request.
    ///
    /// ```
    /// use halligan::dataplane::decide::{Denied, Reason, RequestFacts, Target};
    ///
    /// let facts = RequestFacts {
    ///     deployment: Target::Unknown,
    ///     method: "GET",
    ///     uri: "/api/v2/dags/a%20b?limit=1",
    ///     client: None,
    /// };
    /// let denied = Denied::with_path(Reason::PathInvalid, &facts);
    /// assert_eq!(denied.facts().path, Some("/api/v2/dags/a b"));
    /// // An ambiguous path is not named at all.
    /// let ambiguous = RequestFacts { uri: "/api/v2/../secret", ..facts };
    /// assert_eq!(Denied::with_path(Reason::PathInvalid, &ambiguous).facts().path, None);
    /// ```
    #[must_use]
    pub fn with_path(reason: Reason, facts: &RequestFacts<'_>) -> Self {
        let mut denied = Self::new(reason, facts);
        denied.findings.name_path(facts);
        denied
    }

    /// Returns the denial for another reason, which was found later.
    #[must_use]
    pub(in crate::dataplane) fn instead(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns the facts that the steps found.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            token: self.token.as_ref(),
            generation: self.generation,
            role: self.role.as_ref(),
            deployment: self.deployment.as_ref(),
            ..Facts::from_findings(&self.findings)
        }
    }

    /// Explains the denial further than its reason code: for a stale replica, the age, the limit and the setting that
    /// defines the limit.
    ///
    /// ```
    /// use halligan::dataplane::decide::{Decision, Now, Reason, decide};
    /// use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// let policy = Staleness { default: 60, ..Staleness::default() };
    /// let snapshot = Snapshot::build(world::replica(1, world::records()), policy, None);
    /// // The head was signed a minute after `NOW`.
    /// let wall = world::NOW.plus(180);
    /// let request = world::request("GET", "/api/v2/dags");
    /// let now = Now { wall, floor: wall };
    /// let decision = decide(Some(world::token().as_bytes()), &request, &snapshot, now);
    /// let Decision::Denied(denied) = decision else { panic!("a stale replica denies") };
    /// assert_eq!(denied.reason(), Reason::ReplicaStale);
    /// let detail = denied.detail().unwrap();
    /// assert!(detail.contains("signed 120 s ago; staleness.default_seconds allows 60 s"), "{detail}");
    /// ```
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        let Freshness { age, limit, setting } =
            self.findings.freshness.filter(|_| self.reason == Reason::ReplicaStale)?;
        let key = setting.key(self.role.as_ref().map_or("", RoleRef::name));
        Some(format!(
            "the replica was signed {age} s ago; {key} allows {limit} s in this host's configuration"
        ))
    }

    /// Returns the denial of a request by a session, or of a route that requires a permission, for tests of what follows.
    #[cfg(test)]
    pub(in crate::dataplane) fn about(
        self,
        session: Option<SessionId>,
        permission: Option<Permission>,
    ) -> Self {
        Self { findings: Findings { session, permission, ..self.findings }, ..self }
    }
}

impl<'d> Facts<'d> {
    fn from_findings(findings: &'d Findings) -> Self {
        Self {
            session: findings.session.as_ref(),
            token: None,
            generation: None,
            role: None,
            deployment: None,
            glass: findings.glass,
            route: findings.route.as_ref(),
            path: findings.path.as_deref(),
            permission: findings.permission,
            freshness: findings.freshness,
            mutating: findings.mutating,
        }
    }
}
