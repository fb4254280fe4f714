//! Export of the metrics: reads the gauges from the database, and answers `/metrics`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use rusqlite::Connection;

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::memory::metrics::{DataPlane, Kind, Table};
use crate::controlplane::nodes::instances::SHOWN;
use crate::protocol::time::Time;

/// Media type of the metrics.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl ControlPlane {
    /// Returns all metrics in the OpenMetrics text format.
    pub(in crate::controlplane) fn metrics_text(&self) -> Result<String, Error> {
        let metrics = &self.metrics;
        // Cleared first: a deleted data plane must not keep its last value.
        let (replicas, nodes) = (&metrics.replicas, &metrics.nodes);
        for family in [&replicas.versions, &nodes.living, &nodes.ahead, &nodes.shared, &nodes.forks] {
            family.clear();
        }
        replicas.tokens.clear();
        metrics.writable.set(self.writable().is_ok().into());
        metrics.environment_key.set(self.environment_key_fault()?.is_none().into());
        self.set_ends()?;
        self.store.read(|connection| {
            self.set_tokens(connection)?;
            self.set_data_planes(connection)?;
            self.set_tables(connection)?;
            self.set_late_uses(connection)?;
            self.set_announcements(connection)
        })?;
        for plane in self.nodes_ahead()? {
            let data_plane = DataPlane { data_plane: plane.data_plane };
            let number = i64::try_from(plane.nodes).unwrap_or(i64::MAX);
            nodes.ahead.get_or_create_owned(&data_plane).set(number);
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &metrics.registry);
        Ok(text)
    }

    /// Sets the time until the first end of each kind.
    fn set_ends(&self) -> Result<(), Error> {
        let ends = &self.metrics.replicas.ends;
        ends.clear();
        // The list is sorted, so the first of each kind is the soonest. Expiry dates of keyset and certificate are
        // exported even when they are not due.
        for end in self.due_ends()?.into_iter().chain(self.own_ends()) {
            let kind = Kind { kind: end.kind.as_str().into() };
            if ends.get(&kind).is_none() {
                ends.get_or_create_owned(&kind).set(end.left(self.now()));
            }
        }
        Ok(())
    }

    /// Sets the number of tokens of each kind.
    fn set_tokens(&self, connection: &Connection) -> Result<(), Error> {
        let mut rows = connection
            .prepare_cached("SELECT kind, count(*) FROM token WHERE deleted_at IS NULL GROUP BY kind")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let kind: String = row.get(0)?;
            self.metrics.replicas.tokens.get_or_create_owned(&Kind { kind }).set(row.get(1)?);
        }
        Ok(())
    }

    /// Sets the version of each data plane's replica, and the numbers of its nodes.
    fn set_data_planes(&self, connection: &Connection) -> Result<(), Error> {
        let (replicas, nodes) = (&self.metrics.replicas, &self.metrics.nodes);
        let mut rows = connection.prepare_cached(
            "SELECT id, version, (SELECT count(*) FROM node WHERE data_plane = data_plane.id AND retired_at IS NULL),
                 (SELECT count(*) FROM node
                  WHERE data_plane = data_plane.id AND retired_at IS NULL AND shared_at > ?1),
                 (SELECT count(*) FROM replica_fork WHERE data_plane = data_plane.id)
             FROM data_plane",
        )?;
        let mut rows = rows.query([self.now().plus(-SHOWN).unix()])?;
        while let Some(row) = rows.next()? {
            let data_plane = DataPlane { data_plane: row.get(0)? };
            replicas.versions.get_or_create_owned(&data_plane).set(row.get(1)?);
            nodes.living.get_or_create_owned(&data_plane).set(row.get(2)?);
            nodes.shared.get_or_create_owned(&data_plane).set(row.get(3)?);
            nodes.forks.get_or_create_owned(&data_plane).set(row.get(4)?);
            // Initialised to 0, so that the first fault is visible.
            nodes.log_faults.get_or_create_owned(&data_plane);
            nodes.ahead.get_or_create_owned(&data_plane).set(0);
        }
        Ok(())
    }

    /// Sets the sizes of the database's tables, as they were last measured.
    fn set_tables(&self, connection: &Connection) -> Result<(), Error> {
        let tables = &self.metrics.tables;
        let mut rows = connection.prepare_cached("SELECT name, rows, bytes FROM table_size")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let table = Table { table: row.get(0)? };
            tables.rows.get_or_create_owned(&table).set(row.get(1)?);
            tables.bytes.get_or_create_owned(&table).set(row.get(2)?);
        }
        Ok(())
    }

    /// Sets the numbers of uses that became known too late.
    fn set_late_uses(&self, connection: &Connection) -> Result<(), Error> {
        let nodes = &self.metrics.nodes;
        let mut rows = connection.prepare_cached(
            "SELECT data_plane.id, count(late_use.event), max(late_use.noted_at)
             FROM data_plane LEFT JOIN late_use ON late_use.data_plane = data_plane.id GROUP BY data_plane.id",
        )?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let data_plane = DataPlane { data_plane: row.get(0)? };
            // The count comes from the database: it survives restarts, and counts each use once.
            let counter = nodes.late_uses.get_or_create_owned(&data_plane);
            counter.inner().store(row.get(1)?, Ordering::Relaxed);
            if let Some(at) = row.get::<_, Option<i64>>(2)? {
                nodes.late_use_noted.get_or_create_owned(&data_plane).set(at);
            }
        }
        Ok(())
    }

    /// Sets the length of the webhook's queue, and the age of its first announcement.
    fn set_announcements(&self, connection: &Connection) -> Result<(), Error> {
        let webhook = &self.metrics.webhook;
        // Without a webhook, announcements queued for an earlier one are not exported.
        if self.announces {
            let (waiting, oldest) = connection
                .prepare_cached("SELECT count(*), min(made_at) FROM announcement WHERE done_at IS NULL")?
                .query_row([], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)))?;
            webhook.waiting.set(waiting);
            let age = oldest.map_or(0, |made| self.now().since(Time::from_unix(made)).max(0));
            webhook.age.set(age);
        }
        Ok(())
    }
}

/// Router that answers `/metrics` only.
pub(in crate::controlplane) fn router(control: Arc<ControlPlane>) -> Router {
    let metrics = |State(control): State<Arc<ControlPlane>>| async move {
        let told = tokio::task::spawn_blocking(move || control.metrics_text()).await;
        match told {
            Ok(Ok(text)) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "the database can't be read\n").into_response(),
        }
    };
    Router::new().route("/metrics", get(metrics)).with_state(control)
}
