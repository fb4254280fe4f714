//! Reasons why outages cannot be stored or reported.

use thiserror::Error;

use crate::dataplane::audit::AuditError;
use crate::dataplane::node::schema::Unfit;
use crate::dataplane::revocations::LedgerError;

/// Reasons why outages cannot be stored or reported.
#[derive(Debug, Error)]
pub enum OutageError {
    /// SQLite reports an error.
    #[error("the outages' database can't be used: {0}")]
    Database(#[from] rusqlite::Error),
    /// The schema is newer than this build, or the database is gone.
    #[error("the outages' database {0}")]
    Unfit(#[from] Unfit),
    /// Outages are gone from the database, other than the oldest of many.
    #[error("the outages' database is incomplete: it holds {held} of the last {made} outages")]
    Lost {
        /// Number of outages that are there.
        held: u64,
        /// Number of outages that should be there.
        made: u64,
    },
    /// The audit log cannot be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The local revocations cannot be read.
    #[error(transparent)]
    Revocations(#[from] LedgerError),
    /// No outage has this identifier.
    #[error("this node knows of no outage {0}")]
    Unknown(String),
}
