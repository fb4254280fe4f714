//! Deploys that clients send to this host: the way to deploy while the control plane is away.
//!
//! The head of the request is decided like any other, and the event of the decision is on the disk before the body is read.
//! The body goes to the disk piece by piece on a thread of its own, so that it delays no authorization.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming as Body};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{Face, plain};
use crate::api::deploy::HostDeployed;
use crate::api::problem::{self, Problem};
use crate::dataplane::authorize::Verdict;
use crate::dataplane::code::{Claim, Code, Incoming, PushError, Pushed, Source};
use crate::dataplane::decide::{Credential, Decision, Denied, RequestFacts, Target};
use crate::dataplane::faces::answer::Answer;
use crate::dataplane::node::alarm::AlarmKind;
use crate::platform::net::fields::{self, Fields as _};
use crate::platform::net::linger::Lingering;
use crate::platform::net::{bearer, forwarded};
use crate::protocol::deploy::{MAX_ARCHIVE, digest_text};
use crate::protocol::id::DeploymentId;

/// Path of deploys. The identifier of the deployment follows.
pub(super) const DEPLOYS: &str = "/v1/deploys/";

/// Time limit between two pieces of an archive.
const IDLE: Duration = Duration::from_secs(30);
/// Time limit for a complete archive.
const LONGEST: Duration = Duration::from_hours(1);
/// Number of pieces that wait for the disk.
const AHEAD: usize = 16;

/// Reasons why an allowed deploy is not made.
enum Failure {
    /// Another one is being made for the same deployment.
    Busy,
    /// The body ended early, or came too slowly.
    Incomplete,
    /// The archive is refused, or can't be stored.
    Push(PushError),
    /// The daemon ends.
    Ending,
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        Self::Push(error)
    }
}

/// Message to the thread that writes an archive.
enum Piece {
    Data(Bytes),
    /// The body is complete.
    End,
}

impl Face {
    /// Answers a request for a deploy of `deployment`.
    pub(super) async fn deploy(
        &self,
        deployment: &str,
        peer: IpAddr,
        request: &Parts,
        body: Lingering<Body>,
    ) -> Answer {
        let Some(code) = &self.code else { return plain(StatusCode::NOT_FOUND, "not found\n") };
        if request.method != Method::PUT {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "an archive is sent with PUT\n");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("PUT"));
            return answer;
        }
        let (headers, trusted) = (&request.headers, self.trusted.load_full());
        let facts = RequestFacts {
            deployment: Target::Daemon(deployment),
            method: request.method.as_str(),
            uri: request.uri.path_and_query().map_or("", PathAndQuery::as_str),
            client: forwarded::client(headers, peer, &trusted),
        };
        let credential = bearer::token_of(headers).map(Credential::Token);
        let trace = || {
            self.authorizer.traces.request(|name| {
                let told = || headers.only(name).and_then(fields::text);
                forwarded::within(&trusted, peer).then(told).flatten()
            })
        };
        let verdict = self.authorizer.authorize(credential, &facts, trace()).await;
        let allowed = match &verdict.decision {
            Decision::Allowed(allowed) => allowed,
            Decision::Denied(denied) => return self.denied(denied, &verdict.event),
        };
        let received = match length(request) {
            Some(length) if length > MAX_ARCHIVE => Err(PushError::TooLarge(MAX_ARCHIVE).into()),
            _ => receive(code, &allowed.deployment, body).await,
        };
        let (claim, incoming) = match received {
            Ok(received) => received,
            Err(failure) => return self.failed(&verdict, deployment, &failure),
        };
        // The body may have taken long: a token that was revoked meanwhile must not deploy.
        let wall = (self.authorizer.clock)();
        if !self.authorizer.consider(credential, &facts, wall).await.allowed() {
            code.discard_push(incoming);
            let verdict = self.authorizer.authorize(credential, &facts, trace()).await;
            // If the second decision allows it, the cause of the first denial ended in between. The client may try again.
            return match &verdict.decision {
                Decision::Allowed(_) => self.failed(&verdict, deployment, &Failure::Busy),
                Decision::Denied(denied) => self.denied(denied, &verdict.event),
            };
        }
        let source = Source { token: allowed.token.clone(), event: verdict.event.to_string() };
        let code = Arc::clone(code);
        let pushed = tokio::task::spawn_blocking(move || code.push(&claim, incoming, &source, wall)).await;
        match pushed {
            Ok(Ok(pushed)) => {
                self.answers.own(&verdict.event, StatusCode::OK, "application/json", body_of(&pushed))
            }
            Ok(Err(error)) => self.failed(&verdict, deployment, &error.into()),
            Err(_) => self.failed(&verdict, deployment, &Failure::Ending),
        }
    }

    /// Returns a denial with the status of its reason, since no proxy translates the status of this call.
    fn denied(&self, denied: &Denied, event: &str) -> Answer {
        self.answers.denied(denied, event, denied.reason().status()).map(http_body_util::Full::from)
    }

    fn failed(&self, verdict: &Verdict, deployment: &str, failure: &Failure) -> Answer {
        let (status, code, detail) = match failure {
            Failure::Busy => {
                let detail = "another archive of this deployment arrives; try again";
                (StatusCode::CONFLICT, "deploy_in_progress", detail.to_owned())
            }
            Failure::Incomplete => {
                let detail = "the archive ended early or came too slowly; send it again";
                (StatusCode::BAD_REQUEST, "archive_incomplete", detail.to_owned())
            }
            Failure::Push(error @ PushError::Refused(_)) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "archive_refused", error.to_string())
            }
            Failure::Push(error @ PushError::TooLarge(_)) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "archive_too_large", error.to_string())
            }
            Failure::Push(error @ PushError::Nameless) => {
                (StatusCode::SERVICE_UNAVAILABLE, "node_unknown", error.to_string())
            }
            Failure::Push(PushError::Disk(why)) => {
                let what = format!("the code of {deployment} is not switched: {why}");
                self.authorizer.live.alarms.raise(AlarmKind::Damaged, &what, verdict.time);
                let detail = "this host can't store the archive; its operators find the reason in its log";
                (StatusCode::INSUFFICIENT_STORAGE, "disk_failed", detail.to_owned())
            }
            Failure::Ending => {
                let detail = "the daemon of this host ends; try again";
                (StatusCode::SERVICE_UNAVAILABLE, "daemon_ending", detail.to_owned())
            }
        };
        let problem = Problem {
            code: Some(code.into()),
            detail: Some(detail),
            event: Some(verdict.event.to_string()),
            ..Problem::new(status)
        };
        self.answers.own(&verdict.event, status, problem::MEDIA_TYPE, problem.to_json())
    }
}

fn length(request: &Parts) -> Option<u64> {
    request.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn body_of(Pushed(deploy): &Pushed) -> String {
    let answer = HostDeployed {
        deploy: deploy.deploy.clone(),
        digest: digest_text(&deploy.digest),
        size: deploy.size,
        seq: deploy.seq,
        base: deploy.base,
    };
    serde_json::to_string(&answer).unwrap_or_default()
}

/// Receives the body into a file.
async fn receive(
    code: &Arc<Code>,
    deployment: &DeploymentId,
    mut body: Lingering<Body>,
) -> Result<(Claim, Incoming), Failure> {
    let claim = code.claim(deployment).ok_or(Failure::Busy)?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    let code = Arc::clone(code);
    let writing = tokio::task::spawn_blocking(move || write(&code, claim, receiver));
    let ends = Instant::now() + LONGEST;
    loop {
        let left = ends.saturating_duration_since(Instant::now()).min(IDLE);
        let piece = match timeout(left, body.frame()).await {
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Piece::Data(data),
                // Trailers are ignored.
                Err(_) => continue,
            },
            Ok(None) => Piece::End,
            // The thread learns of it from the end of the channel.
            Err(_) | Ok(Some(Err(_))) => break,
        };
        let last = matches!(piece, Piece::End);
        // If the thread ended, it has the reason.
        if sender.send(piece).await.is_err() || last {
            break;
        }
    }
    drop(sender);
    writing.await.map_err(|_| Failure::Ending)?
}

/// Writes the pieces of an archive. One that ends early, or can't be written, leaves nothing.
fn write(code: &Code, claim: Claim, mut pieces: mpsc::Receiver<Piece>) -> Result<(Claim, Incoming), Failure> {
    let mut incoming = code.receive_push(&claim)?;
    loop {
        let failure = match pieces.blocking_recv() {
            Some(Piece::Data(data)) => match incoming.write(&data) {
                Ok(()) => continue,
                Err(error) => Failure::Push(error.into()),
            },
            Some(Piece::End) => return Ok((claim, incoming)),
            None => Failure::Incomplete,
        };
        code.discard_push(incoming);
        return Err(failure);
    }
}
