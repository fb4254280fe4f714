//! Outages of the control plane, as `halligan` and the control plane list them. The answer about one is a
//! [`OutageReport`](super::outage_report::OutageReport).

use serde::{Deserialize, Serialize};

use super::instant::Instant;
use super::page::Extent;
use crate::protocol::outage::{OutageState, Report};

/// Outage in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Outage {
    /// Id of the outage.
    pub id: String,
    /// Id of the node.
    pub node_id: String,
    /// Name of the node.
    pub node_name: String,
    /// Id of the node's data plane.
    pub data_plane_id: String,
    /// Progress of its reconciliation.
    pub state: OutageState,
    /// Time at which the control plane first failed to answer.
    pub began_at: Instant,
    /// Time at which it answered again, or none while it does not.
    pub ended_at: Option<Instant>,
    /// Number of allowed requests.
    pub uses: u64,
    /// Number of uses of tokens after their revocation or rotation.
    pub late_uses: u64,
    /// Number of tokens revoked on hosts during the outage.
    pub revocations: u64,
    /// Number of faults of the node's log.
    pub log_faults: u64,
}

/// Page of outages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct OutagePage {
    /// Outages of the page, the newest first.
    pub outages: Vec<Outage>,
    /// Extent of the page.
    #[serde(flatten)]
    pub extent: Extent,
}

impl From<Report> for Outage {
    fn from(report: Report) -> Self {
        let count = |length| u64::try_from(length).unwrap_or(u64::MAX);
        Self {
            revocations: count(report.revocations.len()),
            log_faults: count(report.log_faults.len()),
            id: report.id,
            node_id: report.node_id,
            node_name: report.node_name.unwrap_or_default(),
            data_plane_id: report.data_plane_id,
            state: report.state,
            began_at: report.began_at.into(),
            ended_at: report.ended_at.map(Into::into),
            uses: report.uses,
            late_uses: report.late_use_count,
        }
    }
}
