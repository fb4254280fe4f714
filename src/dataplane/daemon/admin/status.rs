//! Handler that shows the state of the daemon.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Administration;
use crate::dataplane::node::alarm::{Alarm, AlarmKind};
use crate::dataplane::node::state::{Persisted, Standing};
use crate::protocol::ends::{End, due};
use crate::protocol::time::Time;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    version: &'static str,
    node_id: String,
    data_plane_id: String,
    issuer: String,
    time: Time,
    control_plane: Standing,
    replica: Option<ReplicaStatus>,
    persisted: Option<Persisted>,
    staleness: Vec<RoleFreshness>,
    clock_trusted: bool,
    /// Expiries within thirty days, earliest first.
    ends: Vec<Ending>,
    forks: u64,
    audit_failing: bool,
    /// Reason why this host counts as retired, or `None`.
    retired: Option<String>,
    /// True if another host has this identity.
    shared_identity: bool,
    alarms: Vec<Alarm>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ending {
    #[serde(flatten)]
    end: End,
    left_seconds: i64,
    what: String,
}

impl Ending {
    fn new(end: End, now: Time) -> Self {
        Self { left_seconds: end.left(now), what: end.sentence(now), end }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReplicaStatus {
    version: u64,
    signed_at: Time,
    age_seconds: i64,
    keyset: u64,
    records: u64,
    tokens: usize,
}

/// Time for which a role may still rely on the replica.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RoleFreshness {
    role: String,
    /// Setting that limits it.
    setting: String,
    limit_seconds: i64,
    left_seconds: i64,
    /// True if three quarters of the limit have passed.
    warning: bool,
}

pub(super) async fn status(State(administration): State<Arc<Administration>>) -> Json<Status> {
    let live = administration.replication.live();
    let (snapshot, time) = (live.snapshot(), (administration.clock)());
    let freshness = snapshot.freshness(live.now(time).effective()).into_iter();
    let staleness = freshness
        .map(|(role, freshness)| RoleFreshness {
            setting: freshness.setting.key(&role),
            role,
            limit_seconds: freshness.limit,
            left_seconds: freshness.left(),
            warning: freshness.near(),
        })
        .collect();
    let forks = live.alarms.count(AlarmKind::Fork);
    let replica = snapshot.head().map(|head| ReplicaStatus {
        version: head.head().version,
        signed_at: head.head().iat,
        age_seconds: time.since(snapshot.local().signed_at(head.head())),
        keyset: snapshot.keyset_version(),
        records: head.head().count,
        tokens: snapshot.token_count(),
    });
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        node_id: administration.identity.node_id.to_string(),
        data_plane_id: administration.identity.data_plane_id.to_string(),
        issuer: administration.identity.issuer.clone(),
        time,
        control_plane: live.standing(),
        replica,
        persisted: live.on_disk(),
        staleness,
        clock_trusted: live.now(time).trusted(),
        ends: due(live.ends(), time).into_iter().map(|end| Ending::new(end, time)).collect(),
        forks,
        audit_failing: administration.audit.failing(),
        retired: live.membership.retired(),
        shared_identity: live.membership.shared(time),
        alarms: live.alarms.latest(),
    })
}
