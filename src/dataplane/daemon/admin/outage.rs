//! Handlers that show the outages of this node.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;

use super::{Administration, off_reactor};
use crate::protocol::outage::Report;

/// Maximum number of outages in a list.
const LISTED: usize = 50;

pub(super) async fn list(
    State(administration): State<Arc<Administration>>,
) -> Result<Json<Vec<Report>>, Response> {
    let (outages, now) = (Arc::clone(&administration.outages), (administration.clock)());
    off_reactor(move || outages.list(LISTED, now)).await.map(Json)
}

pub(super) async fn show(
    State(administration): State<Arc<Administration>>,
    Path(id): Path<String>,
) -> Result<Json<Report>, Response> {
    let (outages, now) = (Arc::clone(&administration.outages), (administration.clock)());
    off_reactor(move || outages.show(&id, now)).await.map(Json)
}
