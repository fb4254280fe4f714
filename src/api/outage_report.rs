//! Answer about one outage of the control plane. It has the members of the
//! [report](outage::Report) that hosts and the control plane make, with instants in place of seconds.

use serde::{Deserialize, Serialize};

use super::instant::Instant;
use crate::protocol::deploy::exchange::{self, HostDeployState};
use crate::protocol::id::TokenId;
use crate::protocol::outage::{self, Ended, OutageState};
use crate::protocol::reconciliation::{AlarmNote, Outcome};

/// Report of one outage of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct OutageReport {
    /// Id of the outage (`out_…`).
    pub id: String,
    /// Id of the node.
    pub node_id: String,
    /// Name of the node, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Id of the node's data plane.
    pub data_plane_id: String,
    /// Progress of its reconciliation.
    pub state: OutageState,
    /// Time at which the node first found the control plane unreachable.
    pub began_at: Instant,
    /// Time at which the control plane answered again. No value while the outage is open.
    pub ended_at: Option<Instant>,
    /// Time of the last answer before the outage.
    pub last_contact_at: Option<Instant>,
    /// First error, in one sentence.
    pub cause: String,
    /// Number of allowed requests.
    pub uses: u64,
    /// Summary of the uses of each token.
    pub tokens: Vec<TokenUses>,
    /// Number of uses of tokens that the control plane had revoked, deleted or rotated before.
    pub late_use_count: u64,
    /// The first 1000 of these late uses.
    pub late_uses: Vec<LateUse>,
    /// Revocations that operators made on hosts during the outage, at most 1000.
    pub revocations: Vec<MergedRevocation>,
    /// Deploys that the host took during the outage, as far as they were reported, at most 1000.
    pub deploys: Vec<OutageDeploy>,
    /// Alarms of the node during the outage.
    pub alarms: Vec<OutageAlarm>,
    /// Faults of the node's log. If there are none, the control plane has received every recorded event up to `logThrough`.
    pub log_faults: Vec<LogFault>,
    /// Number of the node's last event that has been received.
    pub log_through: u64,
    /// Entries of all kinds, in order of time.
    pub timeline: Vec<Moment>,
}

/// Summary of a token's uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TokenUses {
    /// Id of the token.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub token_id: TokenId,
    /// Name of the token, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of allowed requests.
    pub count: u64,
    /// Time of the first use.
    pub first_at: Instant,
    /// Time of the last use.
    pub last_at: Instant,
}

/// Use of a token, a request that was allowed, after the token's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LateUse {
    /// Time of the request.
    pub time: Instant,
    /// Id of the audit event.
    pub event_id: String,
    /// Id of the token.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub token_id: TokenId,
    /// Generation of the token.
    pub generation: u32,
    /// Id of the deployment to which the request was directed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// Method of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Canonical path of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Address of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Time at which the token ended.
    pub ended_at: Instant,
    /// Way in which it ended.
    pub ended: Ended,
}

/// Revocation that an operator made on a host during the outage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct MergedRevocation {
    /// Id of the revoked token.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub token_id: TokenId,
    /// Id of the node on which it was made.
    pub node_id: String,
    /// Time of the revocation.
    pub revoked_at: Instant,
    /// User who made it, by the kernel's credentials.
    pub operator: String,
    /// The operator's reason.
    pub reason: String,
    /// Result at the control plane. No value until the control plane has received the revocation.
    pub outcome: Option<Outcome>,
}

/// Deploy that a host took during the outage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct OutageDeploy {
    /// Id of the deploy.
    pub deploy_id: String,
    /// Id of the deployment whose code it is.
    pub deployment_id: String,
    /// Id of the token with which it was pushed.
    pub token_id: String,
    /// Time at which the host took it.
    pub time: Instant,
    /// Result at the control plane.
    pub state: HostDeployState,
    /// Id of the deploy that stood in its place when it was reported, if it was superseded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by_id: Option<String>,
}

/// Alarm of a node during the outage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct OutageAlarm {
    /// Time at which the alarm last occurred.
    pub time: Instant,
    /// Kind of the alarm, as a word for programs.
    pub kind: String,
    /// Description in one sentence.
    pub what: String,
    /// Number of occurrences in a row.
    pub times: u64,
}

/// Fault in the log that a node sent: a gap, a fork or a new beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LogFault {
    /// Number of the event at which the fault shows.
    pub sequence: u64,
    /// Kind of the fault, as a word for programs.
    pub kind: String,
    /// Description in one sentence.
    pub what: String,
    /// Time at which the control plane noticed it.
    pub noted_at: Instant,
}

/// One entry of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// Time of the entry.
    pub time: Instant,
    /// Kind of the entry: `outage`, `use`, `late-use`, `revocation`, `deploy`, `alarm` or `log`.
    pub kind: String,
    /// Description in one sentence.
    pub what: String,
}

/// Converts each item of a list.
fn each<T: Into<U>, U>(list: Vec<T>) -> Vec<U> {
    list.into_iter().map(Into::into).collect()
}

impl From<outage::Report> for OutageReport {
    fn from(report: outage::Report) -> Self {
        Self {
            id: report.id,
            node_id: report.node_id,
            node_name: report.node_name,
            data_plane_id: report.data_plane_id,
            state: report.state,
            began_at: report.began_at.into(),
            ended_at: report.ended_at.map(Into::into),
            last_contact_at: report.last_contact_at.map(Into::into),
            cause: report.cause,
            uses: report.uses,
            tokens: each(report.tokens),
            late_use_count: report.late_use_count,
            late_uses: each(report.late_uses),
            revocations: each(report.revocations),
            deploys: each(report.deploys),
            alarms: each(report.alarms),
            log_faults: each(report.log_faults),
            log_through: report.log_through,
            timeline: each(report.timeline),
        }
    }
}

impl From<outage::TokenUses> for TokenUses {
    fn from(uses: outage::TokenUses) -> Self {
        let outage::TokenUses { token_id, name, count, first_at, last_at } = uses;
        Self { token_id, name, count, first_at: first_at.into(), last_at: last_at.into() }
    }
}

impl From<outage::LateUse> for LateUse {
    fn from(late: outage::LateUse) -> Self {
        let outage::LateUse { used, ended_at, ended } = late;
        Self {
            time: used.time.into(),
            event_id: used.event_id,
            token_id: used.token_id,
            generation: used.generation,
            deployment_id: used.deployment_id,
            method: used.method,
            path: used.path,
            client: used.client,
            ended_at: ended_at.into(),
            ended,
        }
    }
}

impl From<outage::MergedRevocation> for MergedRevocation {
    fn from(merged: outage::MergedRevocation) -> Self {
        let outage::MergedRevocation { token_id, node_id, revoked_at, operator, reason, outcome } = merged;
        Self { token_id, node_id, revoked_at: revoked_at.into(), operator, reason, outcome }
    }
}

impl From<exchange::OutageDeploy> for OutageDeploy {
    fn from(deploy: exchange::OutageDeploy) -> Self {
        let exchange::OutageDeploy { deploy_id, deployment_id, token_id, time, state, superseded_by_id } =
            deploy;
        Self { deploy_id, deployment_id, token_id, time: time.into(), state, superseded_by_id }
    }
}

impl From<AlarmNote> for OutageAlarm {
    fn from(AlarmNote { time, kind, what, times }: AlarmNote) -> Self {
        Self { time: time.into(), kind, what, times }
    }
}

impl From<outage::LogFault> for LogFault {
    fn from(outage::LogFault { sequence, kind, what, noted_at }: outage::LogFault) -> Self {
        Self { sequence, kind, what, noted_at: noted_at.into() }
    }
}

impl From<outage::Moment> for Moment {
    fn from(outage::Moment { time, kind, what }: outage::Moment) -> Self {
        Self { time: time.into(), kind, what }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::time::Time;

    /// Replaces the times of a host's report.
    fn with_instants(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(with_instants),
            Value::Object(members) => {
                for (name, member) in members {
                    match member.as_i64() {
                        Some(seconds) if name == "time" || name.ends_with("At") => {
                            *member = Time::from_unix(seconds).rfc3339().into();
                        }
                        _ => with_instants(member),
                    }
                }
            }
            _ => {}
        }
    }

    #[test]
    fn a_report_has_the_members_of_the_hosts_report_and_instants_in_place_of_seconds() {
        let at = 1_795_527_055;
        let moment = json!({ "time": at, "kind": "use", "what": "first use" });
        let late = json!({ "time": at + 1, "eventId": "evt_a", "tokenId": "tok_a", "generation": 7, "deploymentId": "dep_a",
            "method": "GET", "path": "/dags", "client": "10.0.0.7", "endedAt": at + 2, "ended": "rotated" });
        let mut whole = json!({ "id": "out_a", "nodeId": "nod_a", "nodeName": "a", "dataPlaneId": "dpl_a", "state": "closed",
            "beganAt": at + 3, "endedAt": at + 4, "lastContactAt": at + 5, "cause": "refused", "uses": 1, "lateUseCount": 2,
            "tokens": [{ "tokenId": "tok_a", "name": "t", "count": 3, "firstAt": at + 6, "lastAt": at + 7 }],
            "lateUses": [late],
            "revocations": [{ "tokenId": "tok_a", "nodeId": "nod_a", "revokedAt": at + 8, "operator": "root", "reason": "lost",
                "outcome": "already" }],
            "deploys": [{ "deployId": "d", "deploymentId": "dep_a", "tokenId": "tok_a", "time": at + 9, "state": "superseded",
                "supersededById": "e" }],
            "alarms": [{ "time": at + 10, "kind": "clock", "what": "it jumped", "times": 4 }],
            "logFaults": [{ "sequence": 5, "kind": "gap", "what": "events are missing", "notedAt": at + 11 }],
            "logThrough": 6, "timeline": [moment] });
        let mut sparse = json!({ "id": "out_a", "nodeId": "nod_a", "dataPlaneId": "dpl_a", "state": "open", "beganAt": at,
            "endedAt": null, "lastContactAt": null, "cause": "", "uses": 0, "lateUseCount": 0, "tokens": [], "lateUses": [],
            "revocations": [], "deploys": [], "alarms": [], "logFaults": [], "logThrough": 0, "timeline": [] });
        for report in [&mut whole, &mut sparse] {
            let of_host: outage::Report = serde_json::from_value(report.clone()).unwrap();
            assert_eq!(serde_json::to_value(&of_host).unwrap(), *report, "the form between hosts stays");
            let shown = OutageReport::from(of_host);
            with_instants(report);
            assert_eq!(serde_json::to_value(&shown).unwrap(), *report);
            assert_eq!(serde_json::from_value::<OutageReport>(report.clone()).unwrap(), shown);
        }
        assert_eq!(whole["lateUses"][0]["endedAt"], "2026-11-24T13:30:57Z");
    }
}
