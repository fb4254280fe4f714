//! Genuine credentials: tokens whose signature was verified, and sessions that a host of the data plane sealed.

use std::sync::Arc;

use super::Reason;
use super::session::{Initiator, Session};
use super::snapshot::Proved;
use crate::protocol::token::{Claims, TokenError, TokenKind, VerifiedToken};

/// Credential whose claims can be read. It may still be expired, revoked or for another deployment.
pub(super) enum GenuineCredential<'c> {
    /// Token whose signature holds under a key of the keyset.
    Token(&'c VerifiedToken),
    /// Session whose seal was opened, and the party that made the browser send the request.
    Session(&'c Session, Initiator),
}

/// Error for a token whose signature was not verified before.
pub(super) struct SignatureUnverified;

impl GenuineCredential<'_> {
    /// Returns the claims of the token, or of the token with which the session began.
    pub(super) fn claims(&self) -> &Claims {
        match self {
            Self::Token(token) => token.claims(),
            Self::Session(session, _) => session.claims(),
        }
    }

    /// Returns true for a standard token, and for a session that began with one.
    pub(super) fn is_standard(&self) -> bool {
        match self {
            Self::Token(token) => token.kind() == TokenKind::Standard,
            Self::Session(session, _) => session.standard_on().is_some(),
        }
    }
}

/// Returns the token of some bytes. Verifies its signature, if that was not done before.
pub(super) fn verify_token(bytes: &[u8], proved: &Proved) -> Result<Arc<VerifiedToken>, Reason> {
    proved.signatures.verify(bytes, &proved.keyset).map_err(|error| match error {
        TokenError::Malformed => Reason::TokenMalformed,
        TokenError::TooLarge => Reason::TokenTooLarge,
        TokenError::KeyUnknown => Reason::KeyUnknown,
        TokenError::SignatureInvalid => Reason::SignatureInvalid,
    })
}

/// Returns the token of some bytes, if its signature was verified before.
pub(super) fn find_verified_token(
    bytes: &[u8],
    proved: &Proved,
) -> Result<Arc<VerifiedToken>, SignatureUnverified> {
    proved.signatures.known(bytes).ok_or(SignatureUnverified)
}
