//! Header fields that say how a call is meant.

use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::controlplane::error::Error;
use crate::controlplane::idempotency::IdempotencyKey;
use crate::controlplane::precondition::IfMatch;

/// The field of an idempotency key.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What a call is, for telling a repeat from another call: SHA-256 of method, path and body.
#[derive(Clone, Copy)]
pub(super) struct Fingerprint(pub(super) [u8; 32]);

/// The key of a call that may be repeated, if it has one.
pub(super) struct Repeatable(pub(super) Option<IdempotencyKey>);

/// The one value of a field; none where it is not there.
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
        // A string of structured fields (RFC 9651), as the draft has it; many clients leave the quotes out.
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

/// Calls that compare `If-Match` with the `ETag` of the token they change, by route below the organization, and name in the
/// OpenAPI document.
pub(super) const CONDITIONAL: [(&str, &str); 6] = [
    ("/tokens/{id}", "update_token"),
    ("/tokens/{id}", "delete_token"),
    ("/tokens/{id}/rotate", "rotate_token"),
    ("/tokens/{id}/roles", "replace_roles"),
    ("/deployments/{id}/tokens/{token}", "update_assignment"),
    ("/deployments/{id}/tokens/{token}", "remove_assignment"),
];

/// Refuses `If-Match` on the other calls that change something: what they change has no `ETag`, so none can match (RFC 9110
/// section 13.1.1). To ignore the field would do what the caller asked not to.
pub(super) async fn unconditional(route: MatchedPath, request: Request, next: Next) -> Response {
    let route = below_organization(&route);
    // On a route of the table every method that changes something stands in it; another one is answered by 405.
    let compared = request.method().is_safe() || CONDITIONAL.iter().any(|(path, _)| *path == route);
    let refused = !compared
        && request
            .headers()
            .get_all(header::IF_MATCH)
            .iter()
            .any(|value| value.as_bytes().trim_ascii() != b"*");
    if refused { Error::Stale.into_response() } else { next.run(request).await }
}

/// A route without the organization, with which most begin.
pub(super) fn below_organization(route: &MatchedPath) -> &str {
    let route = route.as_str();
    match route.strip_prefix("/v1/organizations/{organization}") {
        Some("") => "/",
        Some(path) => path,
        None => route,
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
