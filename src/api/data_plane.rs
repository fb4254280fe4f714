//! Data planes, and the tokens with which hosts enrol as their nodes.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::id::DataPlaneId;
use super::instant::Instant;
#[cfg(feature = "control")]
use super::name::Name;
use super::page::Extent;

/// Properties of a new data plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewDataPlane {
    /// Name of the data plane.
    #[cfg_attr(feature = "control", schema(value_type = Name))]
    pub name: String,
}

/// Data plane, with the state of its replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DataPlane {
    /// Id of the data plane.
    pub id: DataPlaneId,
    /// Name of the data plane.
    pub name: String,
    /// Time of creation.
    pub created_at: Instant,
    /// Version of its replica.
    pub version: u64,
    /// Number of records in its replica.
    pub records: u64,
    /// Number of nodes, without retired ones.
    pub nodes: u64,
}

/// Page of data planes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DataPlanePage {
    /// Data planes of the page, by name.
    pub data_planes: Vec<DataPlane>,
    /// Extent of the page.
    #[serde(flatten)]
    pub extent: Extent,
}

/// Properties of a new enrolment token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewEnrolmentToken {
    /// Lifetime of the token, in seconds.
    #[serde(default = "a_day", deserialize_with = "super::number::number")]
    #[cfg_attr(feature = "control", schema(minimum = 60, maximum = 2_592_000, default = 86_400))]
    pub expires_in_seconds: i64,
}

fn a_day() -> i64 {
    86_400
}

/// One-time enrolment token, shown only once.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EnrolmentToken {
    /// Value of the token.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub enrolment_token: Zeroizing<String>,
    /// Time at which the token expires.
    pub expires_at: Instant,
}
