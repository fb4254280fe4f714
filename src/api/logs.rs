//! Logs of deployments, made of the decisions that hosts report.

use serde::{Deserialize, Serialize};

use super::instant::Instant;

/// Component of Airflow that writes a log. Hosts report only requests, which belong to the web server, and in Airflow 3 to
/// the API server. The logs of the other components are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LogSource {
    /// Scheduler; its log is empty.
    Scheduler,
    /// Web server.
    Webserver,
    /// API server.
    Apiserver,
    /// Triggerer; its log is empty.
    Triggerer,
    /// Workers; their log is empty.
    Worker,
    /// Processor of Dags; its log is empty.
    DagProcessor,
}

/// Part of a log that is requested.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::IntoParams))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "control", into_params(parameter_in = Query))]
pub struct LogFilter {
    /// Components; all of them by default.
    #[serde(default)]
    pub sources: Vec<LogSource>,
    /// Maximum number of entries of the page, 1 to 5000.
    #[serde(default = "page")]
    #[cfg_attr(feature = "control", param(default = 500, minimum = 1, maximum = 5000))]
    pub limit: u64,
    /// Number of entries to skip.
    #[serde(default)]
    #[cfg_attr(feature = "control", param(default = 0, minimum = 0, maximum = 100_000))]
    pub offset: u64,
    /// Maximum number of entries of all pages, 1 to 100000.
    #[serde(default = "all")]
    #[cfg_attr(feature = "control", param(default = 10_000, minimum = 1, maximum = 100_000))]
    pub max_num_results: u64,
    /// Seconds before now that the log begins at; a day by default.
    #[serde(default)]
    #[cfg_attr(feature = "control", param(minimum = 1, maximum = 34_560_000))]
    pub range: Option<i64>,
    /// Beginning of the log (RFC 3339), together with `endDate` and in place of `range`.
    #[serde(default)]
    #[cfg_attr(feature = "control", param(value_type = Option<Instant>))]
    pub start_date: Option<Instant>,
    /// End of the log (RFC 3339), together with `startDate`.
    #[serde(default)]
    #[cfg_attr(feature = "control", param(value_type = Option<Instant>))]
    pub end_date: Option<Instant>,
    /// Text that each entry contains, in upper or lower case.
    #[serde(default)]
    #[cfg_attr(feature = "control", param(max_length = 500))]
    pub search_text: Option<String>,
    /// `searchId` of the page before: the log has the same begin and end then, and entries that arrived later are left out.
    #[serde(default)]
    #[cfg_attr(feature = "control", param(max_length = 500))]
    pub search_id: Option<String>,
}

const fn page() -> u64 {
    500
}

const fn all() -> u64 {
    10_000
}

/// Page of a log, the newest entry first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LogPage {
    /// Maximum number of entries of the page.
    pub limit: u64,
    /// Maximum number of entries of all pages.
    pub max_num_results: u64,
    /// Number of entries skipped.
    pub offset: u64,
    /// Number of entries of the page.
    pub result_count: u64,
    /// Entries of the page.
    pub results: Vec<LogEntry>,
    /// Id of the search, for its next page.
    pub search_id: String,
}

/// Entry of a log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct LogEntry {
    /// Text of the entry.
    pub raw: String,
    /// Time of the entry, in seconds since 1970.
    pub timestamp: f64,
    /// Component.
    pub source: LogSource,
}
