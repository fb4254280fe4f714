//! Calls of nodes: enrolment, and the feed.

use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::{Body, Control, answer, bearer, off_reactor};
use crate::controlplane::enrolment::Enrolment;
use crate::protocol::bundle::MEDIA_TYPE;

pub(super) async fn enrol(State(control): Control, Body(enrolment): Body<Enrolment>) -> Response {
    answer(&control, StatusCode::OK, move |c| c.enrol(&enrolment)).await
}

#[derive(Deserialize)]
pub(super) struct Since {
    #[serde(default, rename = "since")]
    version: u64,
    #[serde(default)]
    keyset: u64,
    #[serde(default)]
    wait: u64,
}

pub(super) async fn feed(
    State(control): Control,
    Path(id): Path<String>,
    Query(query): Query<Since>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let result = async {
        let (bearer, plane) = (bearer(&parts)?, id.clone());
        off_reactor(&control, move |c| c.authenticate_node(&bearer, &plane)).await?;
        control.wait_for_change(&id, query.version, query.wait).await?;
        off_reactor(&control, move |c| c.feed(&id, query.version, query.keyset)).await
    };
    match result.await {
        Ok(bundle) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], bundle).into_response(),
        Err(error) => error.into_response(),
    }
}
