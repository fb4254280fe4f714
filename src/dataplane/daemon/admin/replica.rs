//! Handlers that show, verify, export and import the replica.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Administration, off_reactor, problem};
use crate::api::host::replica::{Content, ForkedHead, Record, Reset, VerifiedReplica};
use crate::dataplane::replica::store::{Origin, StoreError};
use crate::protocol::bundle::MEDIA_TYPE;

pub(super) async fn show(
    State(administration): State<Arc<Administration>>,
) -> Result<Json<Content>, Response> {
    let (replication, now) = (Arc::clone(&administration.replication), (administration.clock)());
    let (head, records) =
        off_reactor(move || Ok::<_, StoreError>((replication.prove(now)?, replication.records()?))).await?;
    let records = records.iter().map(|record| Record {
        kind: record.kind.as_str().to_owned(),
        key: (*record.key).to_owned(),
        body: serde_json::from_str(&record.body).unwrap_or_default(),
    });
    Ok(Json(Content { head, records: records.collect() }))
}

pub(super) async fn prove(
    State(administration): State<Arc<Administration>>,
) -> Result<Json<Option<VerifiedReplica>>, Response> {
    let (replication, now) = (Arc::clone(&administration.replication), (administration.clock)());
    let proved = off_reactor(move || replication.prove(now)).await;
    if administration.replication.live().on_disk().is_none() {
        // Sync asks the control plane, whose answer replaces the damaged records on the disk.
        administration.wake.notify_one();
    }
    proved.map(Json)
}

pub(super) async fn export(State(administration): State<Arc<Administration>>) -> Response {
    let replication = Arc::clone(&administration.replication);
    match off_reactor(move || replication.export()).await {
        Ok(Some(bundle)) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], bundle).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, "replica_missing", "this node has no replica yet"),
        Err(problem) => problem,
    }
}

pub(super) async fn import(
    State(administration): State<Arc<Administration>>,
    bundle: Bytes,
) -> Result<Json<Option<VerifiedReplica>>, Response> {
    let (replication, now) = (Arc::clone(&administration.replication), (administration.clock)());
    off_reactor(move || {
        replication.apply_bundle(&*bundle, Origin::File, now)?;
        replication.prove(now)
    })
    .await
    .map(Json)
}

pub(super) async fn forks(
    State(administration): State<Arc<Administration>>,
) -> Result<Json<Vec<ForkedHead>>, Response> {
    let replication = Arc::clone(&administration.replication);
    off_reactor(move || replication.forks()).await.map(Json)
}

/// Removes the replica, and reads the trust directory again.
pub(super) async fn reset(
    State(administration): State<Arc<Administration>>,
) -> Result<Json<Reset>, Response> {
    let (replication, now) = (Arc::clone(&administration.replication), (administration.clock)());
    off_reactor(move || replication.forget(now)).await?;
    tracing::warn!(
        "an operator on this host removed the replica; the node asks its control plane for another"
    );
    administration.wake.notify_one();
    Ok(Json(Reset { reset: true }))
}
