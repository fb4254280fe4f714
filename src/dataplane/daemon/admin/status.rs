//! Handler that shows the state of the daemon.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Administration;
use crate::api::host::status::{
    Alarm, Code, ControlPlane, Ending, HostCode, Persisted, Replica, RoleFreshness, Status, Superseded,
};
use crate::dataplane::code::CodeState;
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::state::Standing;
use crate::protocol::ends::{End, due};
use crate::protocol::time::Time;

fn ending(end: End, now: Time) -> Ending {
    Ending { left_seconds: end.left(now), what: end.sentence(now), end }
}

fn control_plane(standing: Standing) -> ControlPlane {
    let Standing { progress, last_renewal, last_error, next_attempt } = standing;
    ControlPlane {
        state: progress.state.as_str().to_owned(),
        since: progress.since,
        connectivity: progress.connectivity,
        connectivity_since: progress.connectivity_since,
        last_contact: progress.answered,
        last_renewal,
        last_error,
        failures: progress.failures,
        next_attempt,
    }
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
    let replica = snapshot.head().map(|head| Replica {
        version: head.head().version,
        signed_at: head.head().iat,
        age_seconds: time.since(snapshot.local().signed_at(head.head())),
        keyset: snapshot.keyset_version(),
        records: head.head().count,
        tokens: snapshot.token_count(),
    });
    let persisted = live.on_disk();
    let persisted = persisted.map(|disk| Persisted { version: disk.version, proved_at: disk.proved_at });
    let alarms = live.alarms.latest().into_iter().map(|alarm| Alarm {
        time: alarm.time,
        kind: alarm.kind.as_str().to_owned(),
        what: alarm.what,
        times: alarm.times,
    });
    Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node_id: administration.identity.node_id.to_string(),
        data_plane_id: administration.identity.data_plane_id.to_string(),
        issuer: administration.identity.issuer.clone(),
        time,
        control_plane: control_plane(live.standing()),
        replica,
        persisted,
        staleness,
        clock_trusted: live.now(time).trusted(),
        ends: due(live.ends(), time).into_iter().map(|end| ending(end, time)).collect(),
        forks,
        audit_failing: administration.audit.failing(),
        retired: live.membership.retired(),
        shared_identity: live.membership.shared(time),
        code: administration.code.states().iter().map(code).collect(),
        alarms: alarms.collect(),
    })
}

fn code(state: &CodeState) -> Code {
    let source = state.deploy.as_ref().map(|_| if state.host.is_some() { "host" } else { "control-plane" });
    Code {
        deployment_id: state.deployment.to_string(),
        current: state.current.as_ref().map(ToString::to_string),
        deploy: state.deploy.as_ref().map(ToString::to_string),
        source: source.map(str::to_owned),
        version: state.version,
        host: state.host.as_ref().map(|host| HostCode {
            node_id: host.iss.to_string(),
            time: host.iat,
            seq: host.seq,
            token_id: host.token.to_string(),
            event_id: host.event.clone(),
        }),
        waiting: state.waiting,
        problem: state.problem.clone(),
        superseded: state.superseded.as_ref().map(|(deploy, by)| Superseded {
            deploy: deploy.to_string(),
            version: by.as_ref().map(|by| by.version),
            by: by.as_ref().map(|by| by.deploy.to_string()),
        }),
    }
}
