//! Authentication of callers, and their addresses.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Edge, off_reactor};
use crate::controlplane::access::authorization::Actor;
use crate::controlplane::error::Error;
use crate::platform::net::forwarded;

/// Address that a call comes from, if known.
#[derive(Clone, Copy)]
pub(super) struct Address(pub(super) Option<IpAddr>);

/// Returns the bearer token of a call (RFC 6750).
pub(super) fn bearer(headers: &HeaderMap) -> Result<Vec<u8>, Error> {
    let token = crate::platform::net::bearer::token_of(headers);
    token
        .map(<[u8]>::to_vec)
        .ok_or(Error::Unauthenticated("a bearer token is needed, in one Authorization field"))
}

/// Finds the client address of a call, and limits the failed authentications of each address.
pub(super) async fn locate(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<IpAddr>>().map(|peer| peer.0);
    let client = peer.and_then(|peer| forwarded::client(request.headers(), peer, &edge.trusted));
    request.extensions_mut().insert(Address(client));
    // If a proxy names the client in an unreadable way, the failures are counted for the proxy.
    let address = client.or(peer);
    let response = next.run(request).await;
    if let (StatusCode::UNAUTHORIZED, Some(address)) = (response.status(), address)
        && let Err(limited) = edge.limits.failed(address)
    {
        return limited.into_response();
    }
    response
}

/// Authenticates the caller.
pub(super) async fn authenticate(
    State(edge): State<Arc<Edge>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Error> {
    let bearer = bearer(request.headers())?;
    let actor = off_reactor(&edge.control, move |control| control.authenticate(&bearer)).await?;
    edge.limits.called(&actor.id)?;
    request.extensions_mut().insert(actor);
    Ok(next.run(request).await)
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        // Every route for people is behind `authenticate`.
        parts.extensions.get().cloned().ok_or(Error::Unauthenticated("a bearer token is needed"))
    }
}
