//! Checks that the configuration, the keys and the database belong to one control plane. Tokens, heads and nodes' proofs
//! name its issuer, and its keys sign tokens and heads. Under another issuer or other keys all of them are void, so an edit
//! of the configuration or a file in the wrong place must not change the issuer or the keys.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, params};
use thiserror::Error;

use super::ControlPlane;
use super::error::Error;
use super::signing::known_keysets::{self, Known};
use super::signing::{Signing, SigningError};
use super::store::Store;
use crate::platform::database::has_table;

/// Reasons not to sign with the present keys as the configured issuer.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// This control plane has signed as another issuer.
    #[error(
        "`issuer` in the configuration is {is:?}, and the control plane of {database} has signed as {was:?}; under another issuer \
         every token is void and every host must be enrolled again. If the database is another control plane's, put this one's \
         back; if the configuration was changed by mistake, put the old issuer back; if the new issuer is meant, run \
         `serve --accept-new-issuer` once"
    )]
    Issuer {
        /// Path of the database.
        database: PathBuf,
        /// Issuer that it last signed as.
        was: String,
        /// Issuer in the configuration.
        is: String,
    },
    /// The keys are of another control plane than the database.
    #[error(
        "{database} and the keys beside it are not of one control plane: it has signed under keyset {version} with the token key \
         {was}, {keysets} knows neither, and token.pem is {is}; with these keys every token is refused. Put back the database of \
         these keys, or the keys and keysets.ndjson of this database; if every key was replaced on purpose, run \
         `serve --accept-new-keys` once"
    )]
    Keys {
        /// Path of the database.
        database: PathBuf,
        /// Path of the keysets.
        keysets: PathBuf,
        /// Version of the newest keyset that it has signed under.
        version: u64,
        /// Thumbprint of the first token key in that keyset.
        was: String,
        /// Thumbprint of the present token key.
        is: String,
    },
    /// The keys or keysets can't be used.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl ClaimError {
    fn keys(known: Known, database: PathBuf, signing: &Signing) -> Self {
        Self::Keys {
            database,
            keysets: signing.keysets_path().to_owned(),
            version: known.version,
            was: known.token_key,
            is: signing.token.public().kid().to_string(),
        }
    }
}

/// Returns the issuer that the control plane of a database last signed as.
fn issuer_before(connection: &Connection) -> Result<Option<String>, Error> {
    Ok(connection.query_row("SELECT issuer FROM signed_as", [], |row| row.get(0)).optional()?)
}

/// Changes that the operator accepts for this start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accepted {
    /// Another issuer than the one last signed as.
    pub issuer: bool,
    /// Keys that have nothing in common with those of the database.
    pub keys: bool,
}

impl ControlPlane {
    /// Compares the keys and the issuer with those that the database was last used with, and stores them.
    ///
    /// # Errors
    ///
    /// [`ClaimError::Keys`] and [`ClaimError::Issuer`] for others, unless they are accepted.
    pub fn claim(&self, accepted: Accepted) -> Result<(), ClaimError> {
        let signing = self.signing();
        signing.check_issuer(&self.issuer)?;
        match self.check_keys(&signing) {
            Err(error @ ClaimError::Keys { .. }) if accepted.keys => {
                tracing::warn!(%error, "signing with the new keys from now on (--accept-new-keys); tokens that the old keys signed are refused");
            }
            checked => checked?,
        }
        self.claim_issuer(accepted.issuer)?;
        self.remember_keysets(&signing);
        Ok(())
    }

    /// Fails if a start with the database at `path` would refuse `signing` or `issuer`. Changes nothing.
    pub fn examine_claim(path: &Path, signing: &Signing, issuer: &str) -> Result<(), ClaimError> {
        let Some(connection) = Store::examine(path)? else { return Ok(()) };
        // A start adds the tables that an earlier program did not have.
        let has = |table| has_table(&connection, table).map_err(Error::from);
        if has("signed_under")?
            && let Some(known) = known_keysets::other(&connection, signing)?
        {
            return Err(ClaimError::keys(known, path.into(), signing));
        }
        if has("signed_as")?
            && let Some(was) = issuer_before(&connection)?.filter(|was| was != issuer)
        {
            return Err(ClaimError::Issuer { database: path.into(), was, is: issuer.to_owned() });
        }
        Ok(())
    }

    /// Replaces the signing keys, and wakes every waiting node so that it receives the keysets that vouch for them.
    pub fn sign_with(&self, signing: Signing) -> Result<(), ClaimError> {
        signing.check_issuer(&self.issuer)?;
        self.check_keys(&signing)?;
        let signing = Arc::new(signing);
        let mut held = self.signing.write().unwrap_or_else(PoisonError::into_inner);
        let (have, got) = (held.keyset.version(), signing.keyset.version());
        if got < have {
            return Err(SigningError::Older { have, got }.into());
        }
        *held = Arc::clone(&signing);
        drop(held);
        self.remember_keysets(&signing);
        self.environment_key.forget();
        self.store.wake();
        Ok(())
    }

    /// Fails if the database was used with the keys of another control plane.
    pub fn check_own_keys(&self) -> Result<(), ClaimError> {
        self.check_keys(&self.signing())
    }

    /// Fails if `signing` has no key and no keyset in common with those that the database was used with.
    fn check_keys(&self, signing: &Signing) -> Result<(), ClaimError> {
        match self.store.read(|connection| known_keysets::other(connection, signing))? {
            Some(known) => Err(ClaimError::keys(known, self.store.path(), signing)),
            None => Ok(()),
        }
    }

    /// Stores the keysets that the control plane signs under. A failure is only logged, so that a stolen key can be dropped
    /// on a full disk, too.
    fn remember_keysets(&self, signing: &Signing) {
        let remember = || {
            if self.store.read(|connection| known_keysets::are_stored(connection, signing))? {
                return Ok(false);
            }
            self.store.note(|transaction| known_keysets::store(transaction, signing))?;
            Ok(true)
        };
        self.bookkeeping.settle("the keysets", remember());
    }

    fn claim_issuer(&self, accept: bool) -> Result<(), ClaimError> {
        match self.store.read(issuer_before)? {
            Some(was) if was == self.issuer => return Ok(()),
            Some(was) if !accept => {
                return Err(ClaimError::Issuer { database: self.store.path(), was, is: self.issuer.clone() });
            }
            Some(was) => {
                tracing::warn!(
                    was,
                    is = self.issuer,
                    "signing as another issuer from now on; tokens and nodes of the old issuer are refused"
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
