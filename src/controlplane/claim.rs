//! Issuer and keys that this control plane signs with. Tokens, heads and nodes' proofs name the issuer: a changed issuer
//! invalidates every token and every node's identity, so an edit of the configuration alone must not change it.

use std::sync::{Arc, PoisonError};

use rusqlite::{OptionalExtension as _, params};
use thiserror::Error;

use super::ControlPlane;
use super::error::Error;
use super::signing::{Signing, SigningError};

/// Reasons not to sign as the configured issuer.
#[derive(Debug, Error)]
pub enum IssuerError {
    /// This control plane has signed as another issuer.
    #[error(
        "`issuer` in the configuration is {is:?}, and this control plane has signed as {was:?}; under another issuer every token \
         is void and every host has to be enrolled anew. Put the old issuer back, or run `serve --accept-new-issuer` once"
    )]
    Changed {
        /// Issuer that it last signed as.
        was: String,
        /// Issuer in the configuration.
        is: String,
    },
    /// The newest keyset names another issuer.
    #[error(transparent)]
    Keyset(#[from] SigningError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl ControlPlane {
    /// Replaces the signing keys, and wakes every waiting node so that it receives the keysets that vouch for them.
    pub fn sign_with(&self, signing: Signing) -> Result<(), SigningError> {
        let mut held = self.signing.write().unwrap_or_else(PoisonError::into_inner);
        let (have, got) = (held.keyset.version(), signing.keyset.version());
        if got < have {
            return Err(SigningError::Older { have, got });
        }
        signing.check_issuer(&self.issuer)?;
        *held = Arc::new(signing);
        drop(held);
        self.environment_key.forget();
        self.store.wake();
        Ok(())
    }

    /// Compares the issuer with the one last signed as, and stores it. A different issuer is rejected unless `accept`
    /// is true.
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
