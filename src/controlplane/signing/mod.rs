//! Signing keys of the control plane. The root key is not among them: it signs keysets, and stays offline.

pub mod environment_key;
pub(in crate::controlplane) mod known_keysets;

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::protocol::ends::{End, EndKind};
use crate::protocol::key::{KeyError, PublicKey, SigningKey};
use crate::protocol::keyset::{
    KeyUse, Keyset, KeysetBody, KeysetError, KeysetKey, RootSet, UnverifiedKeyset, sign_keyset,
};
use crate::protocol::time::Time;

/// Lifetime of the first keyset, in seconds: a year, in which the next one must be signed.
const LIFETIME: i64 = 365 * 24 * 3600;

/// Reasons to reject the keys.
#[derive(Debug, Error)]
pub enum SigningError {
    /// A file cannot be read or written.
    #[error("{path} can't be used: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Cause of the failure.
        source: std::io::Error,
    },
    /// A file that is to be created exists already.
    #[error(
        "{0} is there already, without keysets.ndjson: put that file back if it was lost, or move *.pem away if an earlier attempt \
         broke off here, and try again"
    )]
    BrokenOff(PathBuf),
    /// The directory has neither keys nor a database.
    #[error(
        "{0} holds no control plane; run `halligan-control init` to make one, or put the keys and the database back from a backup"
    )]
    NotInitialized(PathBuf),
    /// The private key's file can be read by others than its owner.
    #[error("the key file {0} can be read by others than its owner; run chmod 600 on it")]
    Exposed(PathBuf),
    /// A file does not contain a valid key.
    #[error("{path}: {source}")]
    Key {
        /// Path of the file.
        path: PathBuf,
        /// Cause of the failure.
        source: KeyError,
    },
    /// The keyset does not match the root or the keys.
    #[error("{path}: {source}")]
    Keyset {
        /// Path of the file.
        path: PathBuf,
        /// Cause of the failure.
        source: KeysetError,
    },
    /// The keyset does not list a key that is to sign.
    #[error(
        "the key {0} is not in the newest keyset, so nodes would refuse its signatures; sign a keyset that lists the key, or put \
         the listed key back"
    )]
    NotListed(PathBuf),
    /// The keyset belongs to another control plane.
    #[error(
        "{path}: keyset {version} names the issuer {keyset:?}, and `issuer` in the configuration is {issuer:?}; nodes would refuse \
         everything that this control plane signs. Put the old issuer back, or publish a keyset that names the new one (`halligan key renew --issuer`)"
    )]
    Issuer {
        /// Path of the file.
        path: PathBuf,
        /// Version of the keyset.
        version: u64,
        /// Issuer that the keyset names.
        keyset: String,
        /// Issuer of this control plane.
        issuer: String,
    },
    /// The newest keyset in the file is older than the one in force.
    #[error(
        "the newest keyset is version {got}, and version {have} is in force; add keysets to the file, and remove none"
    )]
    Older {
        /// Version in force.
        have: u64,
        /// Newest version in the file.
        got: u64,
    },
}

/// Signing keys, and the keyset chain that vouches for them.
pub struct Signing {
    pub(in crate::controlplane) token: SigningKey,
    pub(in crate::controlplane) replica: SigningKey,
    pub(in crate::controlplane) keyset: Keyset,
    pub(in crate::controlplane) chain: Vec<String>,
    /// Version of each keyset in the chain.
    versions: Vec<u64>,
    path: PathBuf,
}

impl Signing {
    /// Creates root, token and replica keys and the first keyset in `directory`. Fails if it has any of them already.
    pub fn create(directory: &Path, now: Time, rng: &mut dyn CryptoRng) -> Result<(), SigningError> {
        Self::create_for(directory, None, now, rng)
    }

    /// Creates the keys like [`Self::create`], with a keyset that names `issuer` as the issuer of the heads signed under it.
    pub fn create_for(
        directory: &Path,
        issuer: Option<&str>,
        now: Time,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), SigningError> {
        let [root, token, replica] = std::array::from_fn(|_| SigningKey::generate(rng));
        let listed = |key_use, key: &SigningKey| KeysetKey { key_use, jwk: key.public().jwk() };
        let body = KeysetBody {
            iss: issuer.map(str::to_owned),
            version: 1,
            iat: now,
            exp: now.plus(LIFETIME),
            keys: vec![listed(KeyUse::Token, &token), listed(KeyUse::Replica, &replica)],
            roots: vec![root.public().jwk()],
            threshold: 1,
        };
        let [root_pem, token, replica] = [&root, &token, &replica].map(SigningKey::to_pkcs8_pem);
        let (public, keysets) = (root.public().to_pem(), format!("{}\n", sign_keyset(&body, &[&root])));
        // The keysets are written last, so that their presence means that all files were written.
        let files = [
            ("root.pem", root_pem.as_bytes(), 0o600),
            ("token.pem", token.as_bytes(), 0o600),
            ("replica.pem", replica.as_bytes(), 0o600),
            ("root.pub.pem", public.as_bytes(), 0o644),
            ("keysets.ndjson", keysets.as_bytes(), 0o644),
        ];
        for (number, (name, bytes, mode)) in files.iter().enumerate() {
            if let Err(error) = write_new(&directory.join(name), bytes, *mode) {
                // This call created all of these files, and nothing is signed with the keys.
                for (made, ..) in &files[..number] {
                    let _ = std::fs::remove_file(directory.join(made));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Returns the expiry of the keyset.
    #[must_use]
    pub fn keyset_end(&self) -> End {
        End { kind: EndKind::Keyset, name: self.keyset.version().to_string(), at: self.keyset.body().exp }
    }

    /// Reads the keys and verifies that the keyset vouches for them.
    pub fn load(directory: &Path) -> Result<Self, SigningError> {
        let files = ["keysets.ndjson", "token.pem", "replica.pem", "root.pub.pem", "control.db"];
        let missing =
            |path: PathBuf| path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
        if files.iter().all(|name| missing(directory.join(name))) {
            return Err(SigningError::NotInitialized(directory.into()));
        }
        let roots = roots(directory)?;
        let path = directory.join("keysets.ndjson");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| SigningError::File { path: path.clone(), source })?;
        let chain: Vec<String> = text.lines().map(str::to_owned).collect();
        let keyset = RootSet::new(roots, 1).and_then(|pinned| Keyset::verify_chain(&chain, &pinned));
        let version = |text: &String| Ok(UnverifiedKeyset::parse(text)?.body().version);
        let versions = chain.iter().map(version).collect::<Result<Vec<_>, _>>();
        let wrong = |source| SigningError::Keyset { path: path.clone(), source };
        let (keyset, versions) = (keyset.map_err(wrong)?, versions.map_err(wrong)?);
        let (token_path, replica_path) = (directory.join("token.pem"), directory.join("replica.pem"));
        let (token, replica) = (read_key(&token_path)?, read_key(&replica_path)?);
        if keyset.token_key(token.public().kid().as_str()).is_none() {
            return Err(SigningError::NotListed(token_path));
        }
        if keyset.replica_key(replica.public().kid().as_str()).is_none() {
            return Err(SigningError::NotListed(replica_path));
        }
        Ok(Self { token, replica, keyset, chain, versions, path })
    }

    /// Returns the keysets newer than version `held`, oldest first.
    pub(in crate::controlplane) fn keysets_above(&self, held: u64) -> &[String] {
        let known = self.versions.iter().take_while(|version| **version <= held).count();
        &self.chain[known..]
    }

    /// Returns the path of the keysets.
    pub(in crate::controlplane) fn keysets_path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory that the keys were read from.
    pub(in crate::controlplane) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Fails if the keyset names an issuer other than `issuer`.
    pub fn check_issuer(&self, issuer: &str) -> Result<(), SigningError> {
        let Some(named) = self.keyset.other_issuer(issuer) else {
            return Ok(());
        };
        let (path, version, keyset) = (self.path.clone(), self.keyset.version(), named.to_owned());
        Err(SigningError::Issuer { path, version, keyset, issuer: issuer.to_owned() })
    }
}

/// Reads the root keys that the chain begins with: `root.pub.pem`, or several, `root-1.pub.pem` and so on. Nodes decide
/// which roots must have signed, because they pin them; this only finds early what nodes would reject.
fn roots(directory: &Path) -> Result<Vec<PublicKey>, SigningError> {
    let failed = |path: &Path, source| SigningError::File { path: path.into(), source };
    let mut roots = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|source| failed(directory, source))? {
        let path = entry.map_err(|source| failed(directory, source))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("root") && name.ends_with(".pub.pem") {
            let pem = std::fs::read_to_string(&path).map_err(|source| failed(&path, source))?;
            roots.push(PublicKey::from_pem(&pem).map_err(|source| SigningError::Key { path, source })?);
        }
    }
    if roots.is_empty() {
        return Err(failed(&directory.join("root.pub.pem"), ErrorKind::NotFound.into()));
    }
    Ok(roots)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SigningError> {
    let failed = |source| SigningError::File { path: path.into(), source };
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => SigningError::BrokenOff(path.into()),
        _ => failed(error),
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| {
        // A half-written key is useless, and would make the next attempt fail.
        let _ = std::fs::remove_file(path);
        failed(error)
    })
}

fn read_key(path: &Path) -> Result<SigningKey, SigningError> {
    let failed = |source| SigningError::File { path: path.into(), source };
    if std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
        return Err(SigningError::Exposed(path.into()));
    }
    let pem = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
    SigningKey::from_pkcs8_pem(&pem).map_err(|source| SigningError::Key { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn keys_whose_creation_fails_are_taken_back_and_made_at_the_next_attempt() {
        for stands in ["root.pem", "token.pem", "replica.pem", "root.pub.pem", "keysets.ndjson"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(stands);
            std::fs::write(&path, "").unwrap();
            let make =
                || Signing::create(directory.path(), Time::from_unix(1), &mut StdRng::seed_from_u64(1));
            let error = make().unwrap_err().to_string();
            assert!(error.contains(stands) && error.contains("is there already"), "{error}");
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "{stands} alone is left");
            std::fs::remove_file(path).unwrap();
            make().unwrap();
            Signing::load(directory.path()).unwrap();
        }
    }
}
