//! Who calls, and from where.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;

use super::{Edge, off_reactor};
use crate::controlplane::authorization::Actor;
use crate::controlplane::error::Error;

/// The address a call comes from, where it is known.
#[derive(Clone, Copy)]
pub(super) struct Address(pub(super) Option<IpAddr>);

/// The bearer token of a call (RFC 6750).
pub(super) fn bearer(headers: &HeaderMap) -> Result<Vec<u8>, Error> {
    let value = headers.get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
    let (scheme, token) = value
        .and_then(|value| value.split_at_checked(7))
        .ok_or(Error::Unauthenticated("a bearer token is needed"))?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(Error::Unauthenticated("a bearer token is needed"));
    }
    Ok(token.to_vec())
}

/// Finds out where a call comes from, and bounds how often an address may fail to say who it is.
pub(super) async fn locate(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<IpAddr>>().map(|peer| peer.0);
    let address = peer.map(|peer| client(peer, request.headers(), &edge.trusted));
    request.extensions_mut().insert(Address(address));
    let response = next.run(request).await;
    if let (StatusCode::UNAUTHORIZED, Some(address)) = (response.status(), address)
        && let Err(limited) = edge.limits.failed(address)
    {
        return limited.into_response();
    }
    response
}

/// The client behind trusted proxies: the last address of `X-Forwarded-For` that is not one of theirs.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let known = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    let forwarded = headers.get_all("x-forwarded-for").iter().rev();
    let said = forwarded.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    for text in said {
        if !known(&client) {
            break;
        }
        // What can't be read was not written by a proxy we trust: who wrote it is as far as we can see.
        let Ok(address) = text.trim().parse::<IpAddr>() else { break };
        client = address.to_canonical();
    }
    client
}

/// Finds out who calls.
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
        // Every route of people is behind `authenticate`.
        parts.extensions.get().cloned().ok_or(Error::Unauthenticated("a bearer token is needed"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_trusted_proxies_say_is_believed() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        for (peer, forwarded, expected) in [
            ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
            ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
            ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
            ("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
            ("10.0.0.1", "203.0.113.9, nonsense", "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
        ] {
            let headers = HeaderMap::from_iter([(
                header::HeaderName::from_static("x-forwarded-for"),
                forwarded.parse().unwrap(),
            )]);
            let found = client(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {forwarded}");
        }
    }
}
