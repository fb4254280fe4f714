//! The public keys that sign tokens, as a JWK set (RFC 7517).

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::Control;
use crate::protocol::key::Jwk;
use crate::protocol::keyset::KeyUse;

/// JWK set.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct JwkSet {
    /// Keys that sign tokens.
    keys: Vec<SigningJwk>,
}

/// Public key with what it is for.
#[derive(Serialize, utoipa::ToSchema)]
struct SigningJwk {
    #[serde(flatten)]
    key: Jwk,
    /// Always `sig`.
    #[serde(rename = "use")]
    key_use: &'static str,
    /// Always `EdDSA`.
    alg: &'static str,
}

/// Returns the keys that sign tokens.
///
/// A signature says who issued a token, not that it still lives: ask `/v1/introspect` for that.
#[utoipa::path(get, path = "/.well-known/jwks.json", security(()), responses((status = 200, body = JwkSet)))]
pub(super) async fn jwks(State(control): Control) -> Response {
    let signing = control.signing();
    let keys = signing.keyset.body().keys.iter().filter(|key| key.key_use == KeyUse::Token);
    // The keyset was verified: a `kid` in it is right, and one that is left out is made.
    let keys = keys.filter_map(|key| crate::protocol::key::PublicKey::from_jwk(&key.jwk).ok());
    let keys = keys.map(|key| SigningJwk { key: key.jwk(), key_use: "sig", alg: "EdDSA" }).collect();
    // Keys are added before they sign, so a copy that is a few minutes old misses none.
    let headers = [(header::CACHE_CONTROL, "public, max-age=300")];
    (headers, axum::Json(JwkSet { keys })).into_response()
}
