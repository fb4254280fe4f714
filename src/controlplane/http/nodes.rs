//! Calls of nodes: enrolment, the feed, and introspection.

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
use crate::controlplane::ControlPlane;
use crate::controlplane::enrolment::{Enrolled, Enrolment};
use crate::controlplane::error::Error;
use crate::controlplane::feed::{Answer, Held, check_nonce};
use crate::controlplane::introspection::{self, Question};
use crate::protocol::bundle::MEDIA_TYPE;

/// A piece of an answer, in bytes, and how many may wait to be sent.
const PIECE: usize = 64 << 10;
const PIECES: usize = 4;
/// How long a node may take nothing.
const PATIENCE: Duration = Duration::from_mins(1);

/// Makes a host a node of a data plane.
#[utoipa::path(post, path = "/v1/enrol", security(()), request_body = Enrolment, responses((status = 200, body = Enrolled)))]
pub(super) async fn enrol(
    State(control): Control,
    super::Body(enrolment): super::Body<Enrolment>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.enrol(&enrolment)).await
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Since {
    /// The version the node holds; 0 for none.
    #[serde(default, rename = "since")]
    version: u64,
    /// The version of the keyset it holds; 0 for none.
    #[serde(default)]
    keyset: u64,
    /// How long to hold the answer back while nothing has changed, in seconds; at most 55.
    #[serde(default)]
    wait: u64,
    /// What the head of the answer must hold as its `nonce`, so that it can be no head signed earlier.
    #[serde(default)]
    nonce: Option<String>,
}

/// Whether a standard token is alive, and what it may do on a deployment (RFC 7662). Nodes ask, each for the deployments
/// of its own data plane.
#[utoipa::path(post, path = "/v1/introspect",
    request_body(content = Question, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, body = introspection::Answer)))]
pub(super) async fn introspect(
    State(control): Control,
    headers: HeaderMap,
    question: Result<Form<Question>, FormRejection>,
) -> Response {
    let answered = async {
        let bearer = bearer(&headers)?;
        let node = off_reactor(&control, move |c| c.node_of(&bearer)).await?;
        // Nobody who is no node learns what was wrong with the question.
        let question = match question {
            Ok(Form(question)) => question,
            Err(rejection) => return Ok(rejection.into_response()),
        };
        let answer = off_reactor(&control, move |c| c.introspect(&node.data_plane, &question)).await?;
        Ok::<_, Error>(written(StatusCode::OK, &answer))
    };
    answered.await.unwrap_or_else(IntoResponse::into_response)
}

/// What has changed in a data plane's replica since a version, as a bundle. Held back until there is something to tell.
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
        let (bearer, plane) = (bearer(&parts.headers)?, id.clone());
        let held = Held { version: query.version, keyset: query.keyset };
        off_reactor(&control, move |c| {
            let node = c.authenticate_node(&bearer, &plane)?;
            c.note_position(&plane, &node, held.version)
        })
        .await?;
        // Before the wait: who asks for what can't be given is told at once.
        check_nonce(query.nonce.as_deref())?;
        if let Some((start, answer)) = rest(&control, &id, &parts.headers) {
            return Ok((start, answer));
        }
        control.wait_for_change(&id, held, query.wait).await?;
        Ok::<_, Error>((
            0,
            off_reactor(&control, move |c| c.feed_for(&id, held, query.nonce.as_deref())).await?,
        ))
    };
    match result.await {
        Ok((start, answer)) => bundle(start, answer),
        Err(error) => error.into_response(),
    }
}

/// The rest of an answer whose beginning the node has (RFC 9110 section 13.1.5), if it is still kept. Otherwise the
/// question is answered as if for the first time.
fn rest(control: &ControlPlane, data_plane: &str, headers: &HeaderMap) -> Option<(u64, Arc<Answer>)> {
    let (tag, start) = wanted(data_plane, headers)?;
    let answer = control.feed_again(&tag)?;
    (start < answer.length()).then_some((start, answer))
}

/// Of which answer the rest is asked for, and from where on.
fn wanted(data_plane: &str, headers: &HeaderMap) -> Option<(String, u64)> {
    let tag = headers.get(header::IF_RANGE)?.to_str().ok()?.strip_prefix('"')?.strip_suffix('"')?;
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    let start = range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?;
    // A tag begins with the data plane, for which the node has proved itself.
    tag.strip_prefix(data_plane)?.starts_with('-').then(|| (tag.to_owned(), start))
}

/// Hands an answer out from `start` on.
fn bundle(start: u64, answer: Arc<Answer>) -> Response {
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
    let (sender, body) = Channel::new(PIECES);
    tokio::spawn(hand_out(start, answer, sender));
    (status, headers, Body::new(body)).into_response()
}

/// Sends piece after piece, as fast as the node takes them.
async fn hand_out(mut start: u64, answer: Arc<Answer>, mut sender: Sender<Bytes>) {
    while start < answer.length() {
        let whole = Arc::clone(&answer);
        let read = tokio::task::spawn_blocking(move || whole.read(start, PIECE)).await;
        let Ok(Ok(piece)) = read else {
            tracing::error!("an answer of the feed can't be read back");
            return;
        };
        start += piece.len() as u64;
        // Whoever takes nothing for so long, or has gone, asks again.
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
