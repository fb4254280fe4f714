//! Request header fields `Idempotency-Key` and `If-Match`.

use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::problem;
use crate::controlplane::calls::idempotency::IdempotencyKey;
use crate::controlplane::calls::precondition::IfMatch;
use crate::controlplane::error::Error;

/// Name of the idempotency key's field.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Fingerprint that tells a repeat from a different call: SHA-256 of method, path and body.
#[derive(Clone, Copy)]
pub(super) struct Fingerprint(pub(super) [u8; 32]);

/// Idempotency key of a call, if it has one.
pub(super) struct Repeatable(pub(super) Option<IdempotencyKey>);

/// Returns the only value of a field, or none if it is absent. Fails if there are several.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Error> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(Some).map_err(|_| Error::Malformed(format!("the field {name} is not ASCII")))
        }
        (Some(_), Some(_)) => Err(Error::Malformed(format!("the field {name} is there more than once"))),
    }
}

impl<S: Sync> FromRequestParts<S> for Repeatable {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let Some(value) = one(&parts.headers, IDEMPOTENCY_KEY)? else { return Ok(Self(None)) };
        // The draft defines the value as a string of structured fields (RFC 9651); many clients leave out the quotes.
        let key = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        let plain = (1..=255).contains(&key.len())
            && key.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\".contains(&b));
        if !plain {
            let detail = "an idempotency key is 1 to 255 printable characters, such as a UUID";
            return Err(Error::Malformed(detail.into()));
        }
        let fingerprint = parts.extensions.get::<Fingerprint>();
        let Some(Fingerprint(fingerprint)) = fingerprint else { return Ok(Self(None)) };
        Ok(Self(Some(IdempotencyKey { key: key.to_owned(), fingerprint: *fingerprint })))
    }
}

/// Routes, below the organization, that compare `If-Match` with the `ETag` of the token or deployment they change, each with its
/// operation's name in the OpenAPI document.
pub(super) const CONDITIONAL: [(&str, &str); 8] = [
    ("/tokens/{id}", "update_token"),
    ("/tokens/{id}", "delete_token"),
    ("/tokens/{id}/rotate", "rotate_token"),
    ("/tokens/{id}/roles", "replace_roles"),
    ("/deployments/{id}", "update_deployment"),
    ("/deployments/{id}", "delete_deployment"),
    ("/deployments/{id}/tokens/{token}", "update_assignment"),
    ("/deployments/{id}/tokens/{token}", "remove_assignment"),
];

/// Rejects `If-Match` on other calls that change something: their objects have no `ETag`, so no value can match (RFC
/// 9110 section 13.1.1). If the field were ignored, the call would do what its caller asked not to do.
pub(super) async fn unconditional(route: MatchedPath, request: Request, next: Next) -> Response {
    let route = below_organization(&route);
    // Each method that changes something on these routes is in the table; any other method is answered with 405.
    let compared = request.method().is_safe() || CONDITIONAL.iter().any(|(path, _)| *path == route);
    let refused = !compared
        && request
            .headers()
            .get_all(header::IF_MATCH)
            .iter()
            .any(|value| value.as_bytes().trim_ascii() != b"*");
    if refused {
        let detail = "what this call changes has no ETag, so no value in If-Match matches; send the call without If-Match, or with *";
        return problem(StatusCode::PRECONDITION_FAILED, Error::Stale.code(), detail);
    }
    next.run(request).await
}

/// Returns a route without its base path and the organization part that most routes begin with.
pub(super) fn below_organization(route: &MatchedPath) -> &str {
    match super::below_base(route.as_str()).strip_prefix("/organizations/{organization}") {
        Some("") => "/",
        Some(path) => path,
        None => route.as_str(),
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let seen = one(&parts.headers, header::IF_MATCH.as_str())?;
        if seen.is_some_and(|seen| seen.trim().is_empty()) {
            return Err(Error::Malformed(
                "the field if-match is empty; send the ETag of what you saw".into(),
            ));
        }
        Ok(Self(seen.map(str::to_owned)))
    }
}
