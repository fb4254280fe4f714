//! Counts the calls of the API.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::metrics::gauge::Gauge;

use crate::controlplane::ControlPlane;
use crate::controlplane::memory::metrics::Call;

/// Counts a call by its route. Unknown paths share one series, so that a client cannot create series.
pub(in crate::controlplane) async fn count(
    State(control): State<Arc<ControlPlane>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let path = request.extensions().get::<MatchedPath>();
    let route = path.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let waits = route.ends_with("/feed");
    let metrics = &control.metrics;
    // Dropped also when the client disconnects.
    let waiting = waits.then(|| Waiting::begin(metrics.waiting.clone()));
    let response = next.run(request).await;
    drop(waiting);
    if !waits {
        metrics.seconds.observe(started.elapsed().as_secs_f64());
    }
    let status = response.status().as_u16();
    metrics.calls.get_or_create_owned(&Call { method, route, status }).inc();
    response
}

struct Waiting(Gauge);

impl Waiting {
    fn begin(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}
