//! Handlers of reconciliation: a node's statement of itself, its revocations, its statement of an outage and its
//! events; and the reports made of them.

use std::sync::Arc;

use axum::body::HttpBody as _;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::body;
use super::caller::bearer;
use super::problem::problem;
use super::{Control, answer, off_reactor};
use crate::api::outage::OutagePage;
use crate::api::outage_report::OutageReport;
use crate::api::page::Page;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::Actor;
use crate::controlplane::error::Error;
use crate::controlplane::memory::uploads::Room;
use crate::controlplane::nodes::enrolment::Caller;
use crate::protocol::environment::EnvironmentAnswer;
use crate::protocol::event::split_lines;
use crate::protocol::json::object;
use crate::protocol::membership::{NodeStanding, NodeStatement};
use crate::protocol::reconciliation::{MAX_BYTES, MAX_LINES, OutageStatement, Position, RevocationAnswer};
use crate::protocol::version::HeldVersions;

/// Maximum size of a node's statement of itself, in bytes.
const MAX_STATEMENT: usize = 256 << 10;

/// Maximum size of a question for environments or deploys, in bytes: enough for some ten thousand deployments.
pub(super) const MAX_QUESTION: usize = 1 << 20;

/// Body that an authenticated node sent.
pub(super) struct Sent {
    pub(super) caller: Caller,
    body: String,
    /// Held until the call is answered.
    _room: Room,
}

impl Sent {
    /// Parses the body. `what` names it in errors.
    pub(super) fn read<T: DeserializeOwned>(&self, what: &str) -> Result<T, Error> {
        object(self.body.as_bytes()).map_err(|error| Error::invalid("body", format!("is no {what}: {error}")))
    }
}

/// Authenticates the node before it reads the body.
async fn sent(
    control: &Arc<ControlPlane>,
    data_plane: String,
    request: Request,
    max: usize,
) -> Result<Sent, Response> {
    let (parts, body) = request.into_parts();
    let authenticated = async {
        let bearer = bearer(&parts.headers)?;
        off_reactor(control, move |control| control.node_in(&bearer, &data_plane)).await
    };
    let caller = authenticated.await.map_err(Error::into_response)?;
    let length = body.size_hint().upper().and_then(|length| usize::try_from(length).ok());
    let room = control.room_for(length.unwrap_or(max).min(max)).await.map_err(Error::into_response)?;
    let bytes = body::read(body, max).await?;
    let body = String::from_utf8(bytes.into())
        .map_err(|_| problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "the body is not UTF-8"))?;
    if split_lines(&body).count() > MAX_LINES {
        let detail = "send fewer lines at once";
        return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail));
    }
    Ok(Sent { caller, body, _room: room })
}

/// Answers a call of a node with what `take` makes of its body.
pub(super) async fn taken<T: Serialize + Send + 'static>(
    control: &Arc<ControlPlane>,
    data_plane: String,
    request: Request,
    max: usize,
    take: impl FnOnce(&ControlPlane, &Sent) -> Result<T, Error> + Send + 'static,
) -> Response {
    match sent(control, data_plane, request, max).await {
        Ok(sent) => answer(control, move |c| take(c, &sent)).await,
        Err(problem) => problem,
    }
}

/// Receives a node's statement of itself: its name and the heads it holds.
///
/// Returns what the node cannot find out by itself.
#[utoipa::path(post, path = "/v1/data-planes/{id}/statement", request_body = NodeStatement,
    responses((status = 200, body = NodeStanding)))]
pub(super) async fn statement(State(control): Control, Path(id): Path<String>, request: Request) -> Response {
    taken(&control, id, request, MAX_STATEMENT, |c, sent| {
        c.take_statement(&sent.caller, &sent.read("statement of a node")?)
    })
    .await
}

/// Returns the environment variables of the data plane's deployments, encrypted to the key that the node has stated.
///
/// Environments of which the node holds the present version are left out.
#[utoipa::path(post, path = "/v1/data-planes/{id}/environments", request_body = HeldVersions,
    responses((status = 200, body = EnvironmentAnswer)))]
pub(super) async fn environments(
    State(control): Control,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    taken(&control, id, request, MAX_QUESTION, |c, sent| {
        c.environments_for(&sent.caller, &sent.read("question for environments")?)
    })
    .await
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Oldest {
    /// Sequence number of the first event that the node still has.
    #[serde(default)]
    oldest: u64,
}

/// Receives events of a node's audit log, one per line, and returns the new position of the log.
///
/// An event that is sent twice counts once.
#[utoipa::path(post, path = "/v1/data-planes/{id}/events", params(Oldest),
    request_body(content = String, content_type = "application/x-ndjson"), responses((status = 200, body = Position)))]
pub(super) async fn events(
    State(control): Control,
    Path(id): Path<String>,
    Query(Oldest { oldest }): Query<Oldest>,
    request: Request,
) -> Response {
    let sent = match sent(&control, id, request, MAX_BYTES).await {
        Ok(sent) => sent,
        Err(problem) => return problem,
    };
    let _turn = control.turn_to_store().await;
    answer(&control, move |c| {
        let Caller { data_plane, node, .. } = &sent.caller;
        c.take_events(data_plane, node, oldest, split_lines(&sent.body))
    })
    .await
}

/// Receives revocations made on hosts, one `local-revocation+jwt` per line, and returns the result of each.
///
/// A revocation that cannot be verified gets no result.
#[utoipa::path(post, path = "/v1/data-planes/{id}/revocations",
    request_body(content = String, content_type = "application/x-ndjson"),
    responses((status = 200, body = Vec<RevocationAnswer>)))]
pub(super) async fn revocations(
    State(control): Control,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    taken(&control, id, request, MAX_BYTES, |c, Sent { caller, body, .. }| {
        c.take_revocations(&caller.data_plane, &caller.node, split_lines(body))
    })
    .await
}

/// Receives a node's statement of an outage that is over.
#[utoipa::path(post, path = "/v1/data-planes/{id}/outages", request_body = OutageStatement, responses((status = 200)))]
pub(super) async fn outage(State(control): Control, Path(id): Path<String>, request: Request) -> Response {
    taken(&control, id, request, MAX_BYTES, |c, sent| {
        let statement: OutageStatement = sent.read("statement of an outage")?;
        c.take_outage(&sent.caller.data_plane, &sent.caller.node, statement)
    })
    .await
}

/// Lists the outages of nodes, newest first.
#[utoipa::path(get, path = "/outages", params(Page), responses((status = 200, body = OutagePage)))]
pub(super) async fn list_outages(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    super::query::Query(page): super::query::Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_outages(&actor, &organization, page)).await
}

/// Shows the report of an outage.
#[utoipa::path(get, path = "/outages/{id}", responses((status = 200, body = OutageReport)))]
pub(super) async fn show_outage(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, move |c| c.show_outage(&actor, &organization, &id)).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::{Duration, Instant};

    use axum::http::Method;
    use tower_service::Service as _;

    use crate::controlplane::http::{Edge, router};
    use crate::controlplane::test_world::World;

    #[test]
    fn a_node_that_sends_what_can_not_be_taken_is_told_so_at_once() {
        let world = World::new();
        let proofs: Vec<String> = (0..5).map(|call| world.proof(&call.to_string())).collect();
        let control = std::sync::Arc::new(world.control);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let call = |proof: &str, method: Method, path: &str, body: String| {
            let request = axum::http::Request::builder()
                .method(method)
                .uri(format!("/v1/data-planes/dpl_a{path}"))
                .header("authorization", format!("Bearer {proof}"))
                .body(axum::body::Body::from(body))
                .unwrap();
            let mut router = router(Edge::new(std::sync::Arc::clone(&control)));
            runtime.block_on(router.call(request)).unwrap().status().as_u16()
        };
        let started = Instant::now();
        for (proof, (method, path, body, status)) in proofs.iter().zip([
            (Method::POST, "/statement", "{}".to_owned(), 200),
            (Method::POST, "/statement", "[]".to_owned(), 422),
            (Method::POST, "/statement", format!("{{\"name\":\"{}\"}}", "x".repeat(257 << 10)), 413),
            (Method::POST, "/outages", "[]".to_owned(), 422),
            (Method::GET, "/feed?since=0&keyset=1&wait=55&nonce=no%20nonce", String::new(), 422),
        ]) {
            assert_eq!(call(proof, method, path, body), status, "{path}");
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }
}
