//! Identity of the node: its key, which never leaves the host, and the identifier that the control plane assigned to it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::api::node::Enrolled;
use crate::platform::private_file::write_private;
use crate::platform::systemd;
use crate::protocol::environment::key::{DecryptionKey, EncryptionKeyError};
use crate::protocol::id::{DataPlaneId, NodeId};
use crate::protocol::key::{KeyError, PublicKey, SigningKey};
use crate::protocol::keyset::{KeysetError, RootSet};

/// Name of the identity file in the state directory.
pub const IDENTITY_FILE: &str = "node.json";

/// Reasons why the node's files cannot be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{path} can't be used: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        source: std::io::Error,
    },
    /// A required private key is missing.
    #[error(
        "the key file {0} is missing; put the node's key back, or run `halligand new-identity` and give this host a new enrolment \
         token"
    )]
    Missing(PathBuf),
    /// Other users may read a private key.
    #[error("the key file {0} can be read by others than its owner; run chmod 600 on it")]
    Exposed(PathBuf),
    /// The file of the session keys is not in the expected format.
    #[error(
        "the file of session keys {0} must hold one to eight keys, one a line, each 32 bytes in base64; make a key with openssl rand -base64 32"
    )]
    SessionKeys(PathBuf),
    /// A file holds no valid key.
    #[error("{path}: {source}")]
    Key {
        /// Path of the file.
        path: PathBuf,
        /// Error of the key.
        source: KeyError,
    },
    /// A file holds no valid key for environment variables.
    #[error("{path}: {source}; remove it, and the next start makes a new one")]
    EncryptionKey {
        /// Path of the file.
        path: PathBuf,
        /// Error of the key.
        source: EncryptionKeyError,
    },
    /// The pinned roots are no valid root set.
    #[error("the root keys in {path}: {source}")]
    Roots {
        /// Path of the directory.
        path: PathBuf,
        /// Error of the root set.
        source: KeysetError,
    },
    /// The identity file cannot be parsed.
    #[error(
        "{path} is not understood: {source}; put it back from a backup, or run `halligand new-identity` and give this host a new \
         enrolment token"
    )]
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// Error of the parser.
        source: serde_json::Error,
    },
}

/// Identity of the node, from its enrolment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Identifier of the node.
    pub node_id: NodeId,
    /// Identifier of its data plane.
    pub data_plane_id: DataPlaneId,
    /// Issuer name of the control plane, which is the audience of the node's JWTs.
    pub issuer: String,
}

impl From<Enrolled> for Identity {
    fn from(enrolled: Enrolled) -> Self {
        let Enrolled { node_id, data_plane_id, issuer } = enrolled;
        Self { node_id, data_plane_id, issuer }
    }
}

/// Content of the identity file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityFile {
    #[serde(flatten)]
    identity: Identity,
    /// True once a start has created the databases. Files of earlier builds lack it.
    #[serde(default)]
    databases_made: bool,
}

impl IdentityFile {
    fn read(path: &Path) -> Result<Option<Self>, IdentityError> {
        match std::fs::read(path) {
            Ok(bytes) => {
                let parsed = serde_json::from_slice(&bytes);
                parsed.map(Some).map_err(|source| IdentityError::Parse { path: path.into(), source })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::File { path: path.into(), source }),
        }
    }

    fn write(&self, path: &Path) -> Result<(), IdentityError> {
        let failed = |source| IdentityError::File { path: path.into(), source };
        let text = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        write_private(path, &text).map_err(failed)
    }
}

impl Identity {
    /// Reads the identity file. Returns `None` before enrolment.
    pub fn read(path: &Path) -> Result<Option<Self>, IdentityError> {
        Ok(IdentityFile::read(path)?.map(|file| file.identity))
    }

    /// Writes the identity file of a host that has created no database under this identity yet.
    pub fn write(&self, path: &Path) -> Result<(), IdentityError> {
        IdentityFile { identity: self.clone(), databases_made: false }.write(path)
    }
}

/// Records in the identity file at `path` that this host has created its databases. If all of them and their inventory are
/// lost later, the identity shows that this is no first start. Does nothing if the file says so already, or is missing.
pub fn mark_databases_made(path: &Path) -> Result<(), IdentityError> {
    match IdentityFile::read(path)? {
        Some(file) if !file.databases_made => IdentityFile { databases_made: true, ..file }.write(path),
        _ => Ok(()),
    }
}

/// Returns true if the identity file at `path` says that this host has created its databases. A file that is missing or
/// cannot be read says nothing; the start reports it.
pub(super) fn databases_made(path: &Path) -> bool {
    matches!(IdentityFile::read(path), Ok(Some(IdentityFile { databases_made: true, .. })))
}

/// Handling of a missing node key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The key is created: the node is not enrolled yet, and the path is the default.
    Make,
    /// An error is returned. A configured path is maintained by its operator, and an enrolled node is known by its key:
    /// with another one it could neither reach its control plane nor sign its own log.
    Refuse,
}

/// Reads a private file. Rejects a file that other users than its owner can read. Returns `None` if there is none.
pub(super) fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, IdentityError> {
    let failed = |source| IdentityError::File { path: path.into(), source };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 && !systemd::is_credential(path) => {
            return Err(IdentityError::Exposed(path.into()));
        }
        Ok(_) => {}
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map(Some).map_err(failed)
}

/// Reads the node's key. Returns `None` if there is none yet and one may be created.
pub fn read_node_key(path: &Path, absent: Absent) -> Result<Option<SigningKey>, IdentityError> {
    let Some(pem) = read_private(path)? else {
        return if absent == Absent::Make { Ok(None) } else { Err(IdentityError::Missing(path.into())) };
    };
    let key = SigningKey::from_pkcs8_pem(&pem);
    key.map(Some).map_err(|source| IdentityError::Key { path: path.into(), source })
}

/// Creates the node's key.
pub fn make_node_key(path: &Path, rng: &mut dyn CryptoRng) -> Result<SigningKey, IdentityError> {
    let key = SigningKey::generate(rng);
    write_private(path, key.to_pkcs8_pem().as_bytes())
        .map_err(|source| IdentityError::File { path: path.into(), source })?;
    Ok(key)
}

/// Reads the key to which environment variables are encrypted for this node. Returns `None` if there is none yet.
pub fn read_decryption_key(path: &Path) -> Result<Option<DecryptionKey>, IdentityError> {
    let Some(pem) = read_private(path)? else { return Ok(None) };
    let key = DecryptionKey::from_pem(&pem);
    key.map(Some).map_err(|source| IdentityError::EncryptionKey { path: path.into(), source })
}

/// Creates the key to which environment variables are encrypted for this node.
pub fn make_decryption_key(path: &Path, rng: &mut dyn CryptoRng) -> Result<DecryptionKey, IdentityError> {
    let key = DecryptionKey::generate(rng);
    write_private(path, key.to_pem().as_bytes())
        .map_err(|source| IdentityError::File { path: path.into(), source })?;
    Ok(key)
}

/// Reads a public key.
pub fn read_public_key(path: &Path) -> Result<PublicKey, IdentityError> {
    let pem =
        std::fs::read_to_string(path).map_err(|source| IdentityError::File { path: path.into(), source })?;
    PublicKey::from_pem(&pem).map_err(|source| IdentityError::Key { path: path.into(), source })
}

/// Reads the pinned roots: every `*.pem` of a directory, all of which must be valid.
pub fn pinned_roots(directory: &Path, threshold: u32) -> Result<RootSet, IdentityError> {
    let (roots, faults) = readable_roots(directory, threshold)?;
    faults.into_iter().next().map_or(Ok(roots), Err)
}

/// Reads the valid ones of the pinned roots, and returns the errors of the others: a stray file must not prevent a start in
/// an outage. Fails if fewer than the threshold are valid.
pub fn readable_roots(
    directory: &Path,
    threshold: u32,
) -> Result<(RootSet, Vec<IdentityError>), IdentityError> {
    let failed = |path: &Path, source| IdentityError::File { path: path.into(), source };
    let (mut keys, mut faults) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(directory).map_err(|source| failed(directory, source))? {
        let path = entry.map_err(|source| failed(directory, source))?.path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            match read_public_key(&path) {
                Ok(key) => keys.push(key),
                Err(fault) => faults.push(fault),
            }
        }
    }
    match RootSet::new(keys, threshold) {
        Ok(roots) => Ok((roots, faults)),
        Err(source) => Err(match faults.into_iter().next() {
            Some(fault) => fault,
            None => IdentityError::Roots { path: directory.into(), source },
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_identity_stays_the_same_whether_or_not_its_file_says_that_databases_were_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.json");
        mark_databases_made(&path).unwrap();
        assert!(!path.exists() && !databases_made(&path), "a mark enrols nobody");
        // As a build without the mark wrote it.
        let text = r#"{"nodeId":"nod_a","dataPlaneId":"dpl_a","issuer":"halligan.example"}"#;
        std::fs::write(&path, text).unwrap();
        let identity = Identity::read(&path).unwrap().unwrap();
        assert!(!databases_made(&path));
        for _ in 0..2 {
            mark_databases_made(&path).unwrap();
            assert!(databases_made(&path));
            assert_eq!(Identity::read(&path).unwrap().as_ref(), Some(&identity));
        }
        // Another enrolment begins without databases.
        identity.write(&path).unwrap();
        assert!(!databases_made(&path));
        std::fs::write(&path, "{").unwrap();
        assert!(!databases_made(&path));
        mark_databases_made(&path).unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{");
    }
}
