//! State of the host's daemon.

use serde::{Deserialize, Serialize};

use crate::protocol::ends::End;
use crate::protocol::event::Connectivity;
use crate::protocol::time::Time;

/// State of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Identifier of the node.
    pub node_id: String,
    /// Identifier of its data plane.
    pub data_plane_id: String,
    /// Issuer whose replica it holds.
    pub issuer: String,
    /// Time by the host's clock.
    pub time: Time,
    /// Connection to the control plane.
    pub control_plane: ControlPlane,
    /// Replica in force, or `None` if there is none.
    pub replica: Option<Replica>,
    /// Replica on the disk, or `None` if it was not verified.
    pub persisted: Option<Persisted>,
    /// Time left by role until the replica is too old.
    pub staleness: Vec<RoleFreshness>,
    /// False if the clock is behind a time that has passed.
    pub clock_trusted: bool,
    /// Expiries within thirty days, earliest first.
    pub ends: Vec<Ending>,
    /// Number of contradicting heads and keysets since the start.
    pub forks: u64,
    /// True if events cannot be recorded.
    pub audit_failing: bool,
    /// Reason why this host counts as retired, or `None`.
    pub retired: Option<String>,
    /// True if another host has this identity.
    pub shared_identity: bool,
    /// Code of the deployments. Empty from a daemon of an older version.
    #[serde(default)]
    pub code: Vec<Code>,
    /// Latest alarms, oldest first.
    pub alarms: Vec<Alarm>,
}

/// Code of one deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Code {
    /// Identifier of the deployment.
    pub deployment_id: String,
    /// Identifier of the deploy that the deployment runs, or `None` if none was verified since the start.
    pub current: Option<String>,
    /// Identifier of the deploy that it shall run.
    pub deploy: Option<String>,
    /// Origin of that deploy: `control-plane` or `host`.
    pub source: Option<String>,
    /// Version of the control plane's deploy that this host holds, or 0.
    pub version: u64,
    /// Deploy that a host took on top of that version, if it is the one in force.
    pub host: Option<HostCode>,
    /// Number of deploys of hosts that the control plane has not answered about.
    pub waiting: usize,
    /// Reason why the deployment does not run the deploy that it shall run.
    pub problem: Option<String>,
    /// Last deploy of a host that the control plane did not take.
    pub superseded: Option<Superseded>,
}

/// Deploy that a host took from a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostCode {
    /// Node of that host.
    pub node_id: String,
    /// Time of the deploy.
    pub time: Time,
    /// Number among the deploys of hosts on top of one version.
    pub seq: u64,
    /// Token with which it was pushed.
    pub token_id: String,
    /// Event of the decision, in that host's log.
    pub event_id: String,
}

/// Deploy of a host in whose place the control plane keeps another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Superseded {
    /// Identifier of the host's deploy.
    pub deploy: String,
    /// Identifier of the deploy that the control plane keeps.
    pub by: Option<String>,
    /// Version of the control plane's deploy.
    pub version: Option<u64>,
}

/// Connection to the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlane {
    /// State of sync: `connecting`, `live`, `degraded`, `offline` or `stale`.
    pub state: String,
    /// Time at which this state began.
    pub since: Time,
    /// Connectivity, as events record it.
    pub connectivity: Connectivity,
    /// Time at which this connectivity began.
    pub connectivity_since: Time,
    /// Time at which the last answer arrived.
    pub last_contact: Option<Time>,
    /// Time at which the last answer was verified and put in force.
    pub last_renewal: Option<Time>,
    /// Last error, as a sentence.
    pub last_error: Option<String>,
    /// Number of consecutive failures.
    pub failures: u32,
    /// Time of the next attempt, or `None` while an answer is awaited.
    pub next_attempt: Option<Time>,
}

/// Replica in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// Version of the head.
    pub version: u64,
    /// Time at which the head was signed.
    pub signed_at: Time,
    /// Seconds since then.
    pub age_seconds: i64,
    /// Version of the keyset.
    pub keyset: u64,
    /// Number of records.
    pub records: u64,
    /// Number of tokens.
    pub tokens: usize,
}

/// Replica on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Persisted {
    /// Version of the replica.
    pub version: u64,
    /// Time at which all of it was last read and verified.
    pub proved_at: Time,
}

/// Time for which a role may still rely on the replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleFreshness {
    /// Name of the role.
    pub role: String,
    /// Setting that limits it.
    pub setting: String,
    /// Maximum age of the replica, in seconds.
    pub limit_seconds: i64,
    /// Seconds until the replica reaches that age, negative beyond it.
    pub left_seconds: i64,
    /// True if three quarters of the limit have passed.
    pub warning: bool,
}

/// Expiry that is near, or past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// Object that expires, and when.
    #[serde(flatten)]
    pub end: End,
    /// Seconds until then, negative after it.
    pub left_seconds: i64,
    /// Warning and remedy, in a sentence.
    pub what: String,
}

/// Alarm with its last occurrence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alarm {
    /// Time of the last occurrence.
    pub time: Time,
    /// Kind of the alarm, as metrics name it.
    pub kind: String,
    /// Description, as a sentence.
    pub what: String,
    /// Number of consecutive occurrences.
    pub times: u64,
}
