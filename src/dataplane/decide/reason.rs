//! Defines the reason codes of decisions. The codes are stable: headers, events, metrics and clients' scripts depend on
//! them.

/// Reason for which a request was allowed or denied.
///
/// ```
/// use halligan::dataplane::decide::Reason;
///
/// assert_eq!((Reason::TokenMissing.code(), Reason::TokenMissing.status()), ("token_missing", 401));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request is allowed.
    Ok,
    /// The request has neither a bearer token nor a session that lasts.
    TokenMissing,
    /// The bearer token is not a token of this system.
    TokenMalformed,
    /// The bearer token is longer than [`crate::protocol::token::MAX_TOKEN`].
    TokenTooLarge,
    /// The token's signature is invalid.
    SignatureInvalid,
    /// The keyset has no token key with the token's `kid`.
    KeyUnknown,
    /// The replica does not hold the token, or not this generation yet.
    TokenUnknown,
    /// The token has expired.
    TokenExpired,
    /// The token's `not_before` is in the future.
    TokenNotYetValid,
    /// The token was revoked or deleted.
    TokenRevoked,
    /// The token was rotated: a newer generation has replaced it.
    TokenRotated,
    /// The token is for another deployment.
    WrongDeployment,
    /// The token's role differs from the role at its creation, or the replica lacks a readable record of it.
    RoleMismatch,
    /// The token's role lacks a permission that the route requires.
    PermissionDenied,
    /// The route map has no route for this method and path.
    RouteUnknown,
    /// The path, or the target of the request, is ambiguous.
    PathInvalid,
    /// The token is a standard token, and the control plane has not vouched for it. A direct-access token would be
    /// decided here.
    NeedsControlPlane,
    /// The client's address is outside the token's networks, or unknown.
    SourceNotAllowed,
    /// The deployment's glass is sealed: direct access is closed until an operator breaks it.
    GlassSealed,
    /// A session was used by another site than the deployment's own pages.
    CrossSite,
    /// The token has reached its rate limit.
    RateLimited,
    /// The node has no replica.
    ReplicaMissing,
    /// The replica is older than the staleness policy allows.
    ReplicaStale,
    /// The clock is more than [`super::now::CLOCK_TOLERANCE`] behind the time floor.
    ClockUntrusted,
    /// The audit log could not record the event.
    AuditUnavailable,
}

impl Reason {
    /// Lists every reason, in the order of the declaration.
    pub const ALL: [Self; 25] = [
        Self::Ok,
        Self::TokenMissing,
        Self::TokenMalformed,
        Self::TokenTooLarge,
        Self::SignatureInvalid,
        Self::KeyUnknown,
        Self::TokenUnknown,
        Self::TokenExpired,
        Self::TokenNotYetValid,
        Self::TokenRevoked,
        Self::TokenRotated,
        Self::WrongDeployment,
        Self::RoleMismatch,
        Self::PermissionDenied,
        Self::RouteUnknown,
        Self::PathInvalid,
        Self::NeedsControlPlane,
        Self::SourceNotAllowed,
        Self::GlassSealed,
        Self::CrossSite,
        Self::RateLimited,
        Self::ReplicaMissing,
        Self::ReplicaStale,
        Self::ClockUntrusted,
        Self::AuditUnavailable,
    ];

    /// Returns the code that headers, events and metrics carry.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::TokenMissing => "token_missing",
            Self::TokenMalformed => "token_malformed",
            Self::TokenTooLarge => "token_too_large",
            Self::SignatureInvalid => "signature_invalid",
            Self::KeyUnknown => "key_unknown",
            Self::TokenUnknown => "token_unknown",
            Self::TokenExpired => "token_expired",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::TokenRevoked => "token_revoked",
            Self::TokenRotated => "token_rotated",
            Self::WrongDeployment => "wrong_deployment",
            Self::RoleMismatch => "role_mismatch",
            Self::PermissionDenied => "permission_denied",
            Self::RouteUnknown => "route_unknown",
            Self::PathInvalid => "path_invalid",
            Self::NeedsControlPlane => "needs_control_plane",
            Self::SourceNotAllowed => "source_not_allowed",
            Self::GlassSealed => "glass_sealed",
            Self::CrossSite => "cross_site",
            Self::RateLimited => "rate_limited",
            Self::ReplicaMissing => "replica_missing",
            Self::ReplicaStale => "replica_stale",
            Self::ClockUntrusted => "clock_untrusted",
            Self::AuditUnavailable => "audit_unavailable",
        }
    }

    /// Returns the HTTP status of the answer, for proxies that pass on every status.
    ///
    /// ```
    /// use halligan::dataplane::decide::Reason;
    ///
    /// assert_eq!(Reason::TokenExpired.status(), 401);
    /// assert_eq!(Reason::PermissionDenied.status(), 403);
    /// // The client may retry: the fault is this node's, and not the token's.
    /// assert_eq!(Reason::ReplicaStale.status(), 503);
    /// ```
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::TokenMissing
            | Self::TokenMalformed
            | Self::TokenTooLarge
            | Self::SignatureInvalid
            | Self::KeyUnknown
            | Self::TokenUnknown
            | Self::TokenExpired
            | Self::TokenNotYetValid
            | Self::TokenRevoked
            | Self::TokenRotated => 401,
            Self::WrongDeployment
            | Self::RoleMismatch
            | Self::PermissionDenied
            | Self::RouteUnknown
            | Self::PathInvalid
            | Self::NeedsControlPlane
            | Self::SourceNotAllowed
            | Self::GlassSealed
            | Self::CrossSite => 403,
            Self::RateLimited => 429,
            Self::ReplicaMissing | Self::ReplicaStale | Self::ClockUntrusted | Self::AuditUnavailable => 503,
        }
    }

    /// Returns the reason as a sentence for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Ok => "The request may pass",
            Self::TokenMissing => "Neither a bearer token nor a living session came with the request",
            Self::TokenMalformed => "What came as a token is none",
            Self::TokenTooLarge => "The token is larger than 4 KiB",
            Self::SignatureInvalid => "The token's signature does not hold",
            Self::KeyUnknown => "The token was signed with a key this node does not know",
            Self::TokenUnknown => "This node's replica does not hold the token",
            Self::TokenExpired => "The token has expired",
            Self::TokenNotYetValid => "The token is not valid yet",
            Self::TokenRevoked => "The token was revoked",
            Self::TokenRotated => "The token was rotated; only its newest value is valid",
            Self::WrongDeployment => "The token is for another deployment",
            Self::RoleMismatch => "The token's role is not the one it was created with",
            Self::PermissionDenied => "The token's role does not allow this",
            Self::RouteUnknown => "No route is known for this method and path",
            Self::PathInvalid => "What was asked for can't be told without doubt",
            Self::NeedsControlPlane => {
                "A standard token needs the control plane to vouch for it; use a direct-access token"
            }
            Self::SourceNotAllowed => "The token may not be used from this address",
            Self::GlassSealed => "The deployment's glass is sealed; an operator can break it on this host",
            Self::CrossSite => "A session opens for the deployment's own pages, and another site sent this",
            Self::RateLimited => "The token was used as often as it may be for now",
            Self::ReplicaMissing => "This node has no replica yet",
            Self::ReplicaStale => "This node's replica is older than its policy allows",
            Self::ClockUntrusted => "This node's clock is behind a time it knows to have passed",
            Self::AuditUnavailable => "This use could not be recorded",
        }
    }

    /// Returns the step of a decision that finds this reason.
    ///
    /// ```
    /// use halligan::dataplane::decide::Reason;
    ///
    /// let reason = Reason::KeyUnknown;
    /// assert_eq!((reason.code(), reason.step()), ("key_unknown", "signature"));
    /// assert_eq!(reason.title(), "The token was signed with a key this node does not know");
    /// ```
    #[must_use]
    pub const fn step(self) -> &'static str {
        match self {
            Self::TokenMissing | Self::TokenMalformed | Self::TokenTooLarge => "token",
            Self::SignatureInvalid | Self::KeyUnknown => "signature",
            Self::ReplicaMissing | Self::TokenUnknown | Self::NeedsControlPlane => "replica",
            Self::TokenExpired
            | Self::TokenNotYetValid
            | Self::TokenRevoked
            | Self::TokenRotated
            | Self::RoleMismatch
            | Self::WrongDeployment
            | Self::SourceNotAllowed
            | Self::CrossSite
            | Self::ReplicaStale
            | Self::ClockUntrusted => "liveness",
            Self::GlassSealed => "glass",
            Self::PathInvalid | Self::RouteUnknown => "route",
            Self::PermissionDenied => "permission",
            Self::RateLimited => "rate",
            Self::AuditUnavailable => "event",
            Self::Ok => "answer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_in_the_order_of_their_numbers_and_no_code_stands_twice() {
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            assert_eq!(Reason::ALL.iter().filter(|other| other.code() == reason.code()).count(), 1);
        }
    }

    #[test]
    fn clients_find_the_codes_and_the_statuses_that_they_rely_on() {
        let statuses = [
            (200, "ok"),
            (
                401,
                "token_missing token_malformed token_too_large signature_invalid key_unknown token_unknown token_expired \
                 token_not_yet_valid token_revoked token_rotated",
            ),
            (
                403,
                "wrong_deployment role_mismatch permission_denied route_unknown path_invalid needs_control_plane \
                 source_not_allowed glass_sealed cross_site",
            ),
            (429, "rate_limited"),
            (503, "replica_missing replica_stale clock_untrusted audit_unavailable"),
        ];
        let expected: Vec<_> = statuses
            .into_iter()
            .flat_map(|(status, codes)| codes.split_whitespace().map(move |code| (code, status)))
            .collect();
        assert_eq!(Reason::ALL.map(|reason| (reason.code(), reason.status())).as_slice(), expected);
    }

    #[test]
    fn people_are_told_each_reason_in_its_own_words_and_the_step_that_found_it() {
        for reason in Reason::ALL {
            let same = Reason::ALL.iter().filter(|other| other.title() == reason.title()).count();
            assert!(same == 1 && reason.title().len() > 15, "{}", reason.code());
        }
        let steps: std::collections::BTreeSet<_> = Reason::ALL.into_iter().map(Reason::step).collect();
        let way = [
            "token",
            "signature",
            "replica",
            "liveness",
            "glass",
            "route",
            "permission",
            "rate",
            "event",
            "answer",
        ];
        assert_eq!(steps, way.into());
        assert_eq!(Reason::Ok.step(), "answer");
    }
}
