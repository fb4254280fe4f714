//! The issuer this control plane signs as. Tokens, heads and the proofs of nodes name it, so a changed issuer makes every token
//! void and every node a stranger: it is never changed by a slip in the configuration.

use rusqlite::{OptionalExtension as _, params};
use thiserror::Error;

use super::ControlPlane;
use super::error::Error;
use super::signing::SigningError;

/// Why this control plane does not sign as the configured issuer.
#[derive(Debug, Error)]
pub enum IssuerError {
    /// It has signed as another one.
    #[error(
        "`issuer` in the configuration is {is:?}, and this control plane has signed as {was:?}; under another issuer every token \
         is void and every host has to be enrolled anew. Put the old issuer back, or run `serve --accept-new-issuer` once"
    )]
    Changed {
        /// The issuer it last signed as.
        was: String,
        /// The configured issuer.
        is: String,
    },
    /// The newest keyset names another one.
    #[error(transparent)]
    Keyset(#[from] SigningError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl ControlPlane {
    /// Compares the issuer with the one last signed as, and keeps it. Another one is refused unless `accept` says that it is
    /// meant.
    pub fn claim_issuer(&self, accept: bool) -> Result<(), IssuerError> {
        self.signing().check_issuer(&self.issuer)?;
        let before: Option<String> = self.store.read(|connection| {
            Ok(connection.query_row("SELECT issuer FROM signed_as", [], |row| row.get(0)).optional()?)
        })?;
        match before {
            Some(was) if was == self.issuer => return Ok(()),
            Some(was) if !accept => return Err(IssuerError::Changed { was, is: self.issuer.clone() }),
            Some(was) => {
                tracing::warn!(
                    was,
                    is = self.issuer,
                    "signs as another issuer from now on; tokens and nodes of the old one are refused"
                );
            }
            None => {}
        }
        let row = params![self.issuer, self.now().unix()];
        let insert = "INSERT OR REPLACE INTO signed_as (id, issuer, since) VALUES (1, ?1, ?2)";
        self.store.note(|transaction| Ok(transaction.execute(insert, row).map(drop)?))?;
        Ok(())
    }
}
