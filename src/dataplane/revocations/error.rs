//! Errors of the revocations' database, each with the advice for the operator.

use std::path::PathBuf;

use thiserror::Error;

use super::MAX_OF_NODE;
use crate::dataplane::node::schema::Unfit;
use crate::protocol::id::{NodeId, TokenId};
use crate::protocol::revocation::RevocationError;

/// Reasons why a revocation cannot be made, stored or read.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// SQLite reports an error.
    #[error("the revocations' database can't be used: {0}")]
    Database(#[from] rusqlite::Error),
    /// The schema is newer than this build, or the database is lost.
    #[error("the revocations' database {0}{way}", way = way_on(.0))]
    Unfit(#[from] Unfit),
    /// The revocation cannot be verified.
    #[error(transparent)]
    Revocation(#[from] RevocationError),
    /// A row whose token cannot be read.
    #[error(
        "row {0} of the revocations' database can't be read, so it is unknown which token it revokes; put the file back from a backup, \
         or run halligand accept-loss revocations.db --reason TEXT"
    )]
    Unreadable(u64),
    /// The database holds fewer revoked tokens than the inventory, or other ones.
    #[error(
        "the revocations' database holds {held} revoked tokens, and this host had {noted}; put the file back from a backup, \
         or run halligand accept-loss revocations.db --reason TEXT"
    )]
    Lost {
        /// Number of revoked tokens in the database.
        held: u64,
        /// Number of revoked tokens in the inventory.
        noted: u64,
    },
    /// The damaged database cannot be moved aside.
    #[error("{path} can't be moved out of the way: {source}")]
    Aside {
        /// Path of the database.
        path: PathBuf,
        /// Error of the file system.
        source: std::io::Error,
    },
    /// The database lacks a revocation that the audit log records.
    #[error(
        "the audit log records that token {0} was revoked on this host, and the revocations' database lacks it; put the file \
         back from a backup, or run halligand accept-loss revocations.db --reason TEXT"
    )]
    Untold(TokenId),
    /// The node has made the maximum number of revocations.
    #[error("node {0} has made {MAX_OF_NODE} revocations, the maximum; further ones are rejected")]
    TooMany(NodeId),
}

/// Returns the advice for an operator whose database is lost.
fn way_on(unfit: &Unfit) -> &'static str {
    if unfit.is_lost() {
        "; put the file back from a backup, or run halligand accept-loss revocations.db --reason TEXT"
    } else {
        ""
    }
}
