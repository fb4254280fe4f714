//! WebSockets (RFC 6455): connections that are tunnelled after the deployment has agreed.

use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Version};
use hyper_util::rt::TokioIo;

/// Returns true if a request asks for a WebSocket. No other protocol is permitted; `h2c` would carry requests past the decision.
pub(super) fn wanted(request: &Parts) -> bool {
    let names = |name: header::HeaderName, token: &str| {
        let mut values = request.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.any(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case(token)))
    };
    let mut upgrades = request.headers.get_all(header::UPGRADE).iter();
    let only = matches!((upgrades.next(), upgrades.next()), (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"websocket"));
    only && request.version == Version::HTTP_11
        && request.method == Method::GET
        && names(header::CONNECTION, "upgrade")
        && request.headers.contains_key(header::SEC_WEBSOCKET_KEY)
        && !request.headers.contains_key(header::CONTENT_LENGTH)
        && !request.headers.contains_key(header::TRANSFER_ENCODING)
}

/// Sets the fields that announce the change of protocol.
pub(super) fn mark(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Copies bytes in both directions until one side ends, or for `longest` at most. Holds `place` until then.
pub(super) async fn tunnel(client: OnUpgrade, deployment: OnUpgrade, longest: Duration, place: impl Send) {
    let carried = async {
        let (client, deployment) = (client.await?, deployment.await?);
        let (mut client, mut deployment) = (TokioIo::new(client), TokioIo::new(deployment));
        // The end of a tunnel concerns only its two sides.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut deployment).await;
        Ok::<_, hyper::Error>(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(longest, carried).await {
        tracing::debug!(%error, "a WebSocket did not come about");
    }
    drop(place);
}
