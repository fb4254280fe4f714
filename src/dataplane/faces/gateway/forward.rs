//! Sends an allowed request to its deployment, and streams the answer back.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode, Uri, Version};

use super::config::Upstream;
use super::failure::Failure;
use super::idle_limit::{ClientBroke, IdleLimited, IdleParty, Progress};
use super::{Body, Gateway, headers, websocket};
use crate::platform::net::linger::Lingering;

/// Origin of a request, and the header fields for its deployment.
pub(super) struct Way<'w> {
    pub(super) host: &'w str,
    pub(super) client: IpAddr,
    pub(super) secure: bool,
    pub(super) told: &'w HeaderMap,
}

impl Gateway {
    /// Sends a request to the deployment, and streams its answer.
    pub(super) async fn pass(
        &self,
        mut request: Request<Lingering<Incoming>>,
        upstream: &Upstream,
        way: &Way<'_>,
    ) -> Result<Response<Body>, Failure> {
        let idle = self.limits.idle();
        if request.body().size_hint().lower() > self.limits.body_bytes as u64 {
            return Err(Failure::TooLarge);
        }
        let client = hyper::upgrade::on(&mut request);
        let (mut parts, body) = request.into_parts();
        let place = if websocket::wanted(&parts) {
            let place = Arc::clone(&self.websockets).try_acquire_owned().map_err(|_| Failure::TooMany)?;
            let free = self.websockets.available_permits() + 1;
            let held = self.shares.take_place(way.client, self.limits.share(), free);
            Some((place, held.ok_or(Failure::TooMany)?))
        } else {
            None
        };
        headers::towards_deployment(&mut parts.headers, way.told, way.host, way.client, way.secure);
        if place.is_some() {
            websocket::mark(&mut parts.headers);
        }
        parts.uri = Uri::builder()
            .scheme(upstream.scheme.clone())
            .authority(upstream.authority.clone())
            .path_and_query(parts.uri.path_and_query().cloned().ok_or(Failure::NoUpstream)?)
            .build()
            .map_err(|error| Failure::Unreachable(error.into()))?;
        parts.version = Version::HTTP_11;
        let progress = Progress::new();
        let body = bounded(body, self.limits.body_bytes, idle, progress.clone());
        let sent = self.deployments.send(Request::from_parts(parts, body));
        let mut answer = tokio::select! {
            answer = sent => answer.map_err(|error| Failure::from_error(error.into()))?,
            idler = progress.stalls(idle) => return Err(match idler {
                IdleParty::Sender => Failure::ClientStalled,
                IdleParty::Reader => Failure::DeploymentStalled,
            }),
        };
        if !headers::one_length(answer.headers()) {
            return Err(Failure::TwoLengths);
        }
        let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        let deployment = switched.then(|| hyper::upgrade::on(&mut answer));
        headers::towards_client(answer.headers_mut(), way.told);
        *answer.version_mut() = Version::HTTP_11;
        match (deployment, place) {
            (None, _) => {}
            (Some(_), None) => return Err(Failure::Unasked),
            (Some(deployment), Some(place)) => {
                websocket::mark(answer.headers_mut());
                let longest = Duration::from_secs(self.limits.websocket_seconds);
                tokio::spawn(websocket::tunnel(client, deployment, longest, place));
            }
        }
        Ok(answer.map(|body| IdleLimited::new(body, idle, Progress::new()).boxed_unsync()))
    }
}

/// Limits the size of a request's body, and the time that it may stand still.
fn bounded(body: Lingering<Incoming>, most: usize, idle: Duration, progress: Progress) -> Body {
    IdleLimited::new(Limited::new(body.map_err(ClientBroke), most), idle, progress).boxed_unsync()
}
