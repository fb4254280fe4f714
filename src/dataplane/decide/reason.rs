//! Reason codes: stable words for why a request was allowed or denied.

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Allowed.
    Ok,
    /// No token came with the request.
    TokenMissing,
    /// What came is no token.
    TokenMalformed,
    /// What came is longer than a token may be.
    TokenTooLarge,
    /// The signature does not hold.
    SignatureInvalid,
    /// The key that signed it is not in the keyset.
    KeyUnknown,
    /// The replica does not hold it, or not yet this generation of it.
    TokenUnknown,
    /// Its expiry has passed.
    TokenExpired,
    /// Its time has not come.
    TokenNotYetValid,
    /// It was revoked or deleted.
    TokenRevoked,
    /// A newer generation took its place.
    TokenRotated,
    /// It opens another deployment.
    WrongDeployment,
    /// Its role is not what it was at creation.
    RoleMismatch,
    /// Its role does not allow this.
    PermissionDenied,
    /// Nothing is known about this method and path.
    RouteUnknown,
    /// The path has more than one reading.
    PathInvalid,
    /// A standard token: only the control plane can vouch for it. A direct-access token would be decided here.
    NeedsControlPlane,
    /// It may not be used from there.
    SourceNotAllowed,
    /// The deployment's glass is whole: nobody gets in directly until it is broken.
    GlassSealed,
    /// It was used as often as it may be for now.
    RateLimited,
    /// The node has no replica.
    ReplicaMissing,
    /// The replica is older than the policy allows.
    ReplicaStale,
    /// The clock is behind a time the node knows to have passed.
    ClockUntrusted,
    /// The event could not be recorded.
    AuditUnavailable,
}

impl Reason {
    /// Every reason, in the order of the declaration.
    pub const ALL: [Self; 24] = [
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
        Self::RateLimited,
        Self::ReplicaMissing,
        Self::ReplicaStale,
        Self::ClockUntrusted,
        Self::AuditUnavailable,
    ];

    /// The code as it stands in headers, logs and metrics.
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
            Self::RateLimited => "rate_limited",
            Self::ReplicaMissing => "replica_missing",
            Self::ReplicaStale => "replica_stale",
            Self::ClockUntrusted => "clock_untrusted",
            Self::AuditUnavailable => "audit_unavailable",
        }
    }

    /// The HTTP status it answers with where the proxy passes every status on.
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
            | Self::GlassSealed => 403,
            Self::RateLimited => 429,
            Self::ReplicaMissing | Self::ReplicaStale | Self::ClockUntrusted | Self::AuditUnavailable => 503,
        }
    }

    /// The reason in a sentence, for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Ok => "The request may pass",
            Self::TokenMissing => "No bearer token came with the request",
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
            Self::RateLimited => "The token was used as often as it may be for now",
            Self::ReplicaMissing => "This node has no replica yet",
            Self::ReplicaStale => "This node's replica is older than its policy allows",
            Self::ClockUntrusted => "This node's clock is behind a time it knows to have passed",
            Self::AuditUnavailable => "This use could not be recorded",
        }
    }

    /// The step of the request's way at which it is found.
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
}
