//! Sessions of browsers. A session stands in the place of a verified token: it holds the claims that the token's signature
//! covered, never the token's value, and every request with it is decided like one with the token.
//!
//! [`Session`] has no public constructor. One comes into being by an allowed sign-in ([`super::sign_in`]), or by opening a
//! sealed cookie ([`seal::SealKeys::open`]).

pub mod ended;
pub mod seal;

use serde::{Deserialize, Serialize};

use super::{Now, Reason};
use crate::protocol::id::{DeploymentId, SessionId};
use crate::protocol::time::Time;
use crate::protocol::token::{Claims, VerifiedToken};

/// Durations of a session, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durations {
    /// Time from sign-in after which a session ends.
    pub max: i64,
    /// Time without a request after which a session ends.
    pub idle: i64,
}

/// Access of a browser to a deployment through one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session(Content);

/// Content of a session, as it is sealed. Only this module reads and writes it, so that no text becomes a session unopened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    id: SessionId,
    kid: String,
    claims: Claims,
    begun: Time,
    ends: Time,
    until: Time,
    /// Deployment for which a standard token signed in: its claims name none. `None` for a direct-access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    standard_on: Option<DeploymentId>,
}

impl Session {
    /// Begins a session for a token that was allowed at `now`. It ends with the token at the latest. `begun` is later than
    /// `now` if every session that began until now has ended.
    pub(super) fn begin(
        id: SessionId,
        token: &VerifiedToken,
        (token_ends, standard_on): (Time, Option<DeploymentId>),
        (begun, now): (Time, Time),
        durations: Durations,
    ) -> Self {
        let mut claims = token.claims().clone();
        // No decision reads these, and a cookie has little room.
        claims.permissions = Vec::new();
        let ends = claims.exp.unwrap_or(token_ends).min(token_ends).min(now.plus(durations.max));
        let until = ends.min(now.plus(durations.idle));
        let kid = token.kid().as_str().to_owned();
        Self(Content { id, kid, claims, begun, ends, until, standard_on })
    }

    /// Returns the session with its idle time counted from `now`, or `None` if it was counted anew a moment ago, or would
    /// not last longer. A twentieth of the idle time is a moment: a page sends many requests at once.
    ///
    /// ```
    /// use halligan::dataplane::decide::session::Durations;
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// let durations = Durations { max: 8 * 3600, idle: 3600 };
    /// let session = world::session(durations);
    /// let begun = session.begun();
    /// assert_eq!((session.until(), session.ends()), (begun.plus(3600), begun.plus(8 * 3600)));
    ///
    /// // The next requests of a page do not renew the session. A request half an hour later does.
    /// assert_eq!(session.renewed(begun.plus(5), durations), None);
    /// let renewed = session.renewed(begun.plus(1800), durations).unwrap();
    /// assert_eq!(renewed.until(), begun.plus(1800 + 3600));
    /// assert_eq!(renewed.ends(), session.ends());
    /// ```
    #[must_use]
    pub fn renewed(&self, now: Time, durations: Durations) -> Option<Self> {
        // A configuration that was shortened since the sign-in holds for sessions that exist.
        let ends = self.0.ends.min(self.0.begun.plus(durations.max));
        let until = ends.min(now.plus(durations.idle));
        let due = until.since(self.0.until) > durations.idle / 20;
        due.then(|| Self(Content { until, ..self.0.clone() }))
    }

    /// Returns the identifier of the session, which events carry.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.0.id
    }

    /// Returns the claims of the token that signed in.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.0.claims
    }

    /// Returns the deployment for which a standard token signed in, or `None` for a direct-access token.
    #[must_use]
    pub fn standard_on(&self) -> Option<&DeploymentId> {
        self.0.standard_on.as_ref()
    }

    /// Returns the thumbprint of the key that signed the token.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.0.kid
    }

    /// Returns the time of the sign-in.
    #[must_use]
    pub fn begun(&self) -> Time {
        self.0.begun
    }

    /// Returns the time at which the session ends even if it is used.
    #[must_use]
    pub fn ends(&self) -> Time {
        self.0.ends
    }

    /// Returns the time at which the session ends if it is not used.
    #[must_use]
    pub fn until(&self) -> Time {
        self.0.until
    }

    /// Checks that the session has neither ended nor been ended on this host. Its token is checked after that.
    pub(super) fn check(&self, now: Now, ended: bool) -> Result<(), Reason> {
        // Like the token's expiry it is compared with the time floor: a clock that was set back revives no session.
        let over = ended || now.effective() >= self.0.until || now.effective() >= self.0.ends;
        if over { Err(Reason::TokenMissing) } else { Ok(()) }
    }
}

/// Party that made a browser send a request, as the browser states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    /// A page of the same origin.
    SameOrigin,
    /// A person who opened a page at the top level: by a link from anywhere, a bookmark, or by typing.
    Navigation,
    /// Something else: a page of another origin, a frame, or a browser that states nothing.
    Elsewhere,
}

impl Initiator {
    /// Returns true if a request with this method may use a session. A method that may change something requires a page of
    /// the same origin. Other sites can only make a browser open a page, which shows them nothing.
    ///
    /// ```
    /// use halligan::dataplane::decide::session::Initiator;
    ///
    /// assert!(Initiator::SameOrigin.may_use_session("POST"));
    /// // A link in a mail opens a page. It deletes nothing.
    /// assert!(Initiator::Navigation.may_use_session("GET"));
    /// assert!(!Initiator::Navigation.may_use_session("DELETE"));
    /// assert!(!Initiator::Elsewhere.may_use_session("GET"));
    /// ```
    #[must_use]
    pub fn may_use_session(self, method: &str) -> bool {
        match self {
            Self::SameOrigin => true,
            Self::Navigation => matches!(method, "GET" | "HEAD"),
            Self::Elsewhere => false,
        }
    }
}
