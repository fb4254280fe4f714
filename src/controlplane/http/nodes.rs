//! Handlers for nodes: enrolment, the feed and introspection.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};
use serde::Deserialize;

use super::caller::bearer;
use super::{Control, answer, off_reactor, written};
use crate::api::node::{Enrolled, Enrolment};
use crate::api::problem::{self, Problem};
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::feed::{Held, check_nonce};
use crate::controlplane::replica::spool::{Answer, Transfer};
use crate::controlplane::tokens::introspection::{self, Question};
use crate::platform::net::bearer::{client, is_basic};
use crate::protocol::bundle::MEDIA_TYPE;

/// Size of a piece of an answer, in bytes, and number of pieces that may wait to be sent.
const PIECE: usize = 64 << 10;
const PIECES: usize = 4;
/// Time after which a node that accepts no data is disconnected.
const PATIENCE: Duration = Duration::from_mins(1);

/// Enrols a host as a node of a data plane.
#[utoipa::path(post, path = "/v1/enrol", security(()), request_body = Enrolment,
    responses((status = 200, body = Enrolled), (status = 401, description = "the enrolment token or the proof does not hold",
        body = Problem, content_type = problem::MEDIA_TYPE)))]
pub(super) async fn enrol(
    State(control): Control,
    super::Body(enrolment): super::Body<Enrolment>,
) -> Response {
    answer(&control, move |c| c.enrol(&enrolment)).await
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Since {
    /// Version that the node holds, or 0 for none.
    #[serde(default, rename = "since")]
    version: u64,
    /// Version of the keyset that the node holds, or 0 for none.
    #[serde(default)]
    keyset: u64,
    /// Time to hold the answer back while nothing has changed, in seconds; at most 55.
    #[serde(default)]
    wait: u64,
    /// Value that the head of the answer must have as its `nonce`, so that it cannot be a head signed earlier.
    #[serde(default)]
    nonce: Option<String>,
}

/// Introspects a standard token (RFC 7662): returns its state and its permissions on a deployment.
///
/// Nodes may ask about deployments of their own data plane only. Other services come with the id and the value of an API token
/// as client credentials (RFC 6749 section 2.3.1), and learn of tokens of its organization.
#[utoipa::path(post, path = "/v1/introspect", security(("bearer" = []), ("client" = [])),
    request_body(content = Question, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, body = introspection::Answer)))]
pub(super) async fn introspect(
    State(control): Control,
    headers: HeaderMap,
    question: Result<Form<Question>, FormRejection>,
) -> Response {
    if is_basic(&headers) {
        return introspect_for(&control, &headers, question).await;
    }
    let answered = async {
        let bearer = bearer(&headers)?;
        let node = off_reactor(&control, move |c| c.node_of(&bearer)).await?;
        // A caller that is not a node must not learn what was wrong with the request.
        let question = match question {
            Ok(Form(question)) => question,
            Err(rejection) => return Ok(rejection.into_response()),
        };
        let answer = off_reactor(&control, move |c| c.introspect(&node.data_plane, &question)).await?;
        Ok::<_, Error>(written(StatusCode::OK, &answer))
    };
    answered.await.unwrap_or_else(IntoResponse::into_response)
}

/// Answers another service, which comes with client credentials.
async fn introspect_for(
    control: &Arc<ControlPlane>,
    headers: &HeaderMap,
    question: Result<Form<Question>, FormRejection>,
) -> Response {
    let answered = async {
        let unknown = || Error::Unauthenticated("a client comes with the id and the value of an API token");
        let client = client(headers).ok_or_else(unknown)?;
        let actor = off_reactor(control, move |c| {
            let actor = c.authenticate(client.secret.as_bytes())?;
            if actor.id == client.id { Ok(actor) } else { Err(unknown()) }
        });
        let actor = actor.await?;
        let question = match question {
            Ok(Form(question)) => question,
            Err(rejection) => return Ok(rejection.into_response()),
        };
        let answer = off_reactor(control, move |c| c.introspect_for(&actor, &question)).await?;
        Ok::<_, Error>(written(StatusCode::OK, &answer))
    };
    let mut response = answered.await.unwrap_or_else(IntoResponse::into_response);
    if response.status() == StatusCode::UNAUTHORIZED {
        // The challenge is one of the scheme that the client used (RFC 6749 section 5.2).
        let challenge = HeaderValue::from_static("Basic realm=\"halligan\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Returns the changes of a data plane's replica since a version, as a bundle.
///
/// The answer is held back until there is a change or `wait` has passed.
#[utoipa::path(get, path = "/v1/data-planes/{id}/feed", params(Since),
    responses((status = 200, content_type = "application/vnd.halligan.bundle", body = Vec<u8>), (status = 206, content_type = "application/vnd.halligan.bundle", body = Vec<u8>, description = "the rest of an answer")))]
pub(super) async fn feed(
    State(control): Control,
    Path(id): Path<String>,
    Query(query): Query<Since>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let result = async {
        let bearer = bearer(&parts.headers)?;
        let held = Held { version: query.version, keyset: query.keyset };
        let caller = if let Some(known) = control.known_node_in(&bearer, &id) {
            known?
        } else {
            let plane = id.clone();
            off_reactor(&control, move |c| c.node_in(&bearer, &plane)).await?
        };
        control.note_position(&id, &caller.node, held.version)?;
        // Checked before the wait, so that an invalid request fails at once.
        check_nonce(query.nonce.as_deref())?;
        let (start, answer) = if let Some(rest) = rest(&control, &id, &parts.headers) {
            rest
        } else {
            control.wait_for_change(&id, held, query.wait).await?;
            (0, control.serve_feed(&id, held, query.nonce.as_deref()).await?)
        };
        let body = if let Some(bytes) = answer.in_memory() {
            Body::from(bytes.slice(usize::try_from(start).unwrap_or(0)..))
        } else {
            let (sender, body) = Channel::new(PIECES);
            tokio::spawn(hand_out(start, Arc::clone(&answer), sender, control.transfer().await?));
            Body::new(body)
        };
        Ok::<_, Error>(bundle(start, &answer, body))
    };
    result.await.unwrap_or_else(IntoResponse::into_response)
}

/// Returns the rest of an answer of which the node has the beginning (RFC 9110 section 13.1.5), if it is still kept.
/// Otherwise the node gets a whole answer.
fn rest(control: &ControlPlane, data_plane: &str, headers: &HeaderMap) -> Option<(u64, Arc<Answer>)> {
    let (tag, start) = wanted(data_plane, headers)?;
    let answer = control.feed_again(&tag)?;
    (start < answer.length()).then_some((start, answer))
}

/// Parses which answer the rest is requested of, and from which offset.
fn wanted(data_plane: &str, headers: &HeaderMap) -> Option<(String, u64)> {
    let tag = headers.get(header::IF_RANGE)?.to_str().ok()?.strip_prefix('"')?.strip_suffix('"')?;
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    let start = range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?;
    // A tag begins with its data plane, which the node has been authenticated for.
    tag.strip_prefix(data_plane)?.starts_with('-').then(|| (tag.to_owned(), start))
}

/// Returns the response with the bytes of an answer from `start` on.
fn bundle(start: u64, answer: &Answer, body: Body) -> Response {
    let length = answer.length();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(header::CONTENT_LENGTH, (length - start).into());
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", answer.tag())) {
        headers.insert(header::ETAG, tag);
    }
    let range = HeaderValue::from_str(&format!("bytes {start}-{}/{length}", length.saturating_sub(1)));
    let status = match range {
        Ok(range) if start > 0 => {
            headers.insert(header::CONTENT_RANGE, range);
            StatusCode::PARTIAL_CONTENT
        }
        _ => StatusCode::OK,
    };
    (status, headers, body).into_response()
}

/// Sends an answer in pieces, as fast as the node accepts them.
async fn hand_out(mut start: u64, answer: Arc<Answer>, mut sender: Sender<Bytes>, _transfer: Transfer) {
    while start < answer.length() {
        let whole = Arc::clone(&answer);
        let read = tokio::task::spawn_blocking(move || whole.read(start, PIECE)).await;
        let Ok(Ok(piece)) = read else {
            tracing::error!("an answer of the feed can't be read back");
            return;
        };
        start += piece.len() as u64;
        // A node that accepts no data for so long, or has disconnected, sends a new request.
        let sent = tokio::time::timeout(PATIENCE, sender.send_data(piece.into())).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_the_rest_of_an_own_answer_is_asked_for() {
        let headers = |range: &str, tag: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, range.parse().unwrap());
            headers.insert(header::IF_RANGE, tag.parse().unwrap());
            headers
        };
        assert_eq!(wanted("dpl_a", &headers("bytes=7-", "\"dpl_a-0-2\"")), Some(("dpl_a-0-2".into(), 7)));
        for (range, tag) in [
            ("bytes=7-9", "\"dpl_a-0-2\""),
            ("bytes=-7", "\"dpl_a-0-2\""),
            ("lines=7-", "\"dpl_a-0-2\""),
            ("bytes=7-", "dpl_a-0-2"),
            ("bytes=7-", "\"dpl_b-0-2\""),
            ("bytes=7-", "\"dpl_ab-0-2\""),
        ] {
            assert_eq!(wanted("dpl_a", &headers(range, tag)), None, "{range} {tag}");
        }
        assert_eq!(wanted("dpl_a", &HeaderMap::new()), None);
    }
}
