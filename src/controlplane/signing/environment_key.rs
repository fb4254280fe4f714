//! Key under which the values of environment variables are stored: a file beside the signing keys, never in the database.
//! The first value that is stored creates it.
//!
//! A sealed value is a nonce of 12 bytes and ChaCha20-Poly1305 (RFC 8439) over the value. The associated data is the
//! variable's place, so that a value that is moved to another variable does not open.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand_core::CryptoRng;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rusqlite::{Connection, OptionalExtension as _};
use zeroize::Zeroizing;

use crate::controlplane::error::{EnvironmentKeyError, Error};
use crate::controlplane::store::Transaction;
use crate::platform::private_file::write_private;

/// Name of the file in the state directory.
const FILE: &str = "environment.key";
/// Length of the key, in bytes.
const LENGTH: usize = 32;
/// Difference between the lengths of a sealed value and the value, in bytes.
pub(in crate::controlplane) const SEALING: usize = NONCE_LEN + 16;

/// Place of a stored value, to which the sealed value is bound.
#[derive(Clone, Copy)]
pub(in crate::controlplane) struct Place<'a> {
    pub(in crate::controlplane) deployment: &'a str,
    pub(in crate::controlplane) key: &'a str,
    pub(in crate::controlplane) is_secret: bool,
}

impl Place<'_> {
    /// Returns the associated data. Neither an id nor a name has a line break.
    fn bytes(self) -> Vec<u8> {
        let kind = if self.is_secret { "secret" } else { "plain" };
        format!("halligan environment variable 1\n{}\n{}\n{kind}", self.deployment, self.key).into_bytes()
    }
}

/// Key that seals and opens stored values.
pub(in crate::controlplane) struct SealingKey {
    key: LessSafeKey,
    /// Derived key that blinds the digests of environments.
    blinding: Zeroizing<[u8; LENGTH]>,
    name: [u8; LENGTH],
}

impl SealingKey {
    fn new(bytes: &[u8; LENGTH]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, bytes).ok()?);
        let blinding = Zeroizing::new(blake3::derive_key("halligan environment 1: blinding", bytes));
        Some(Self {
            key,
            blinding,
            name: blake3::derive_key("halligan environment 1: name of the key", bytes),
        })
    }

    /// Seals a value.
    pub(in crate::controlplane) fn seal(
        &self,
        place: Place<'_>,
        value: &str,
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let mut text = Zeroizing::new(Vec::with_capacity(value.len() + SEALING));
        text.extend_from_slice(value.as_bytes());
        let nonce_of_key = Nonce::assume_unique_for_key(nonce);
        // Fails only for a value of more than 256 GiB.
        self.key
            .seal_in_place_append_tag(nonce_of_key, Aad::from(place.bytes()), &mut *text)
            .map_err(|_| Error::invalid("environmentVariables", "a value is too long"))?;
        Ok([&nonce[..], &text].concat())
    }

    /// Opens a sealed value.
    pub(in crate::controlplane) fn open(
        &self,
        place: Place<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<String>, EnvironmentKeyError> {
        let open = || {
            let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
            let mut text = Zeroizing::new(sealed.to_vec());
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let text = self.key.open_in_place(nonce, Aad::from(place.bytes()), &mut text).ok()?;
            Some(Zeroizing::new(std::str::from_utf8(text).ok()?.to_owned()))
        };
        open().ok_or_else(|| EnvironmentKeyError::Damaged {
            deployment: place.deployment.to_owned(),
            key: place.key.to_owned(),
        })
    }

    /// Returns bytes that only the holder of the key can compute, the same ones for the same text.
    pub(in crate::controlplane) fn blind(&self, text: &str) -> [u8; LENGTH] {
        *blake3::keyed_hash(&self.blinding, text.as_bytes()).as_bytes()
    }
}

/// Path of the key file, and the key after its first use.
pub(in crate::controlplane) struct EnvironmentKey {
    path: PathBuf,
    held: Mutex<Option<Arc<SealingKey>>>,
    /// Fault that was logged last.
    reported: Mutex<Option<String>>,
}

impl EnvironmentKey {
    /// Returns the key of the state directory.
    pub(in crate::controlplane) fn beside(directory: &Path) -> Self {
        Self { path: directory.join(FILE), held: Mutex::default(), reported: Mutex::default() }
    }

    /// Drops the key from memory, so that the file is read again.
    pub(in crate::controlplane) fn forget(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns the key that values are stored under. Fails if no value was ever stored, since there is no key then.
    pub(in crate::controlplane) fn stored_under(
        &self,
        connection: &Connection,
    ) -> Result<Arc<SealingKey>, Error> {
        let wanted =
            name_of_key(connection)?.ok_or_else(|| EnvironmentKeyError::Missing(self.path.clone()))?;
        self.named(&wanted)
    }

    /// Returns the key for storing values, and creates it before the first one.
    pub(in crate::controlplane) fn for_storing(
        &self,
        transaction: &Transaction<'_>,
        rng: &mut dyn CryptoRng,
    ) -> Result<Arc<SealingKey>, Error> {
        if let Some(wanted) = name_of_key(transaction)? {
            return self.named(&wanted);
        }
        // A file whose name is not in the database is left over from a transaction that failed.
        let key = match self.read() {
            Err(EnvironmentKeyError::Missing(_)) => self.create(rng)?,
            read => read?,
        };
        transaction.execute("INSERT INTO environment_key (id, name) VALUES (1, ?1)", [&key.name[..]])?;
        let key = Arc::new(key);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&key));
        Ok(key)
    }

    /// Reads the file and returns its fault. Returns `None` if the key is usable, or if nothing is stored under a key.
    pub(in crate::controlplane) fn file_fault(
        &self,
        connection: &Connection,
    ) -> Result<Option<EnvironmentKeyError>, Error> {
        let Some(wanted) = name_of_key(connection)? else { return Ok(None) };
        Ok(match self.read() {
            Ok(key) if key.name == *wanted => None,
            Ok(_) => Some(EnvironmentKeyError::Other(self.path.clone())),
            Err(fault) => Some(fault),
        })
    }

    /// Logs a fault, unless it is the one that was logged last: a list of deployments would log it once for each value.
    pub(in crate::controlplane) fn report(&self, fault: &EnvironmentKeyError) {
        let text = fault.to_string();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.as_ref() != Some(&text) {
            tracing::error!(error = text, "environment variables are shown without their values");
            *reported = Some(text);
        }
    }

    fn named(&self, wanted: &[u8]) -> Result<Arc<SealingKey>, Error> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = held.as_ref().filter(|key| key.name == wanted) {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(self.read()?);
        if key.name != wanted {
            return Err(EnvironmentKeyError::Other(self.path.clone()).into());
        }
        *held = Some(Arc::clone(&key));
        Ok(key)
    }

    fn read(&self) -> Result<SealingKey, EnvironmentKeyError> {
        let failed = |source| EnvironmentKeyError::File { path: self.path.clone(), source };
        let found = match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(EnvironmentKeyError::Missing(self.path.clone()));
            }
            found => found.map_err(failed)?,
        };
        if found.permissions().mode() & 0o077 != 0 {
            return Err(EnvironmentKeyError::Exposed(self.path.clone()));
        }
        let text = Zeroizing::new(std::fs::read_to_string(&self.path).map_err(failed)?);
        let mut bytes = Zeroizing::new([0; LENGTH + 16]);
        let mut key = Zeroizing::new([0; LENGTH]);
        match STANDARD.decode_slice(text.trim(), &mut bytes[..]) {
            Ok(LENGTH) => key.copy_from_slice(&bytes[..LENGTH]),
            _ => return Err(EnvironmentKeyError::Malformed(self.path.clone())),
        }
        SealingKey::new(&key).ok_or_else(|| EnvironmentKeyError::Malformed(self.path.clone()))
    }

    /// Creates the file. It is complete and durable before the first value is stored under its key.
    fn create(&self, rng: &mut dyn CryptoRng) -> Result<SealingKey, EnvironmentKeyError> {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        rng.fill_bytes(&mut bytes[..]);
        let text = Zeroizing::new(STANDARD.encode(&bytes[..]) + "\n");
        write_private(&self.path, text.as_bytes())
            .map_err(|source| EnvironmentKeyError::File { path: self.path.clone(), source })?;
        SealingKey::new(&bytes).ok_or_else(|| EnvironmentKeyError::Malformed(self.path.clone()))
    }
}

/// Returns the name of the key that values are stored under, or `None` before the first value.
fn name_of_key(connection: &Connection) -> Result<Option<Vec<u8>>, Error> {
    let mut query = connection.prepare_cached("SELECT name FROM environment_key WHERE id = 1")?;
    Ok(query.query_row([], |row| row.get(0)).optional()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use getrandom::SysRng;
    use proptest::prelude::*;
    use rand_core::UnwrapErr;

    use super::*;

    fn key(seed: u8) -> SealingKey {
        SealingKey::new(&[seed; LENGTH]).unwrap()
    }

    fn place<'a>(deployment: &'a str, key: &'a str, is_secret: bool) -> Place<'a> {
        Place { deployment, key, is_secret }
    }

    #[test]
    fn a_value_opens_in_its_place_under_its_key_and_nowhere_else() {
        let mut rng = UnwrapErr(SysRng);
        let here = place("dep_a", "A", true);
        let sealed = key(1).seal(here, "s3cret", &mut rng).unwrap();
        assert_eq!(sealed.len(), "s3cret".len() + SEALING);
        assert!(!sealed.windows(6).any(|window| window == b"s3cret"));
        assert_eq!(key(1).open(here, &sealed).unwrap().as_str(), "s3cret");
        assert_ne!(sealed, key(1).seal(here, "s3cret", &mut rng).unwrap(), "no nonce is used twice");
        for elsewhere in [place("dep_b", "A", true), place("dep_a", "B", true), place("dep_a", "A", false)] {
            assert!(key(1).open(elsewhere, &sealed).is_err());
        }
        let error = key(2).open(here, &sealed).unwrap_err();
        assert!(error.to_string().contains("variable A of dep_a") && !error.to_string().contains("s3cret"));
    }

    proptest! {
        #[test]
        fn no_value_with_a_flipped_bit_opens(value in ".{0,40}", at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let here = place("dep_a", "A", false);
            let mut sealed = key(1).seal(here, &value, &mut UnwrapErr(SysRng)).unwrap();
            prop_assert_eq!(&*key(1).open(here, &sealed).unwrap(), &value);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(key(1).open(here, &sealed).is_err());
            prop_assert!(key(1).open(here, &sealed[..at]).is_err());
        }
    }
}
