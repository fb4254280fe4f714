//! The files of a ceremony: keys in PEM, keysets as JSON. What is secret is made readable for its owner alone, and nothing
//! is written over.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::cli::failure::Failure;
use crate::protocol::key::{PublicKey, SigningKey};
use crate::protocol::keyset::{KeysetBody, UnverifiedKeyset};

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = std::fs::read_to_string(path);
    text.map(Zeroizing::new).map_err(|source| Failure::File { path: path.into(), source })
}

fn data(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Data(format!("{}: {error}", path.display()))
}

/// Reads a public key.
pub(super) fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    PublicKey::from_pem(&read(path)?).map_err(|error| data(path, &error))
}

/// Reads a private key that nobody but its owner can read.
pub(super) fn private_key(path: &Path) -> Result<SigningKey, Failure> {
    let metadata = std::fs::metadata(path).map_err(|source| Failure::File { path: path.into(), source })?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(data(path, &"others than its owner can read this private key; run chmod 600 on it"));
    }
    SigningKey::from_pkcs8_pem(&read(path)?).map_err(|error| data(path, &error))
}

/// Reads every public key of a directory.
pub(super) fn directory(path: &Path) -> Result<Vec<PublicKey>, Failure> {
    let failed = |source| Failure::File { path: path.into(), source };
    let mut keys = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|extension| extension == "pem") {
            keys.push(public_key(&file)?);
        }
    }
    Ok(keys)
}

/// `root.pem` has its public key in `root.pub.pem`.
pub(super) fn public_name(path: &Path) -> PathBuf {
    path.with_extension("pub.pem")
}

/// Makes a file. One that is there stays as it is.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    opened
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(|source| Failure::File { path: path.into(), source })
}

/// Puts other content into a file that holds no secret: the old or the new, never half of it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let beside = path.with_extension("new");
    let written = std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|source| Failure::File { path: path.into(), source })
}

/// The keysets of a file, in its order: one as JSON, or several, one after the other.
pub(super) struct Chain(pub(super) Vec<UnverifiedKeyset>);

impl Chain {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = read(path)?;
        let values = serde_json::Deserializer::from_str(&text).into_iter::<Box<RawValue>>();
        let mut keysets = Vec::new();
        for value in values {
            let value = value.map_err(|error| data(path, &error))?;
            keysets.push(UnverifiedKeyset::parse(value.get()).map_err(|error| data(path, &error))?);
        }
        if keysets.is_empty() {
            return Err(data(path, &"there is no keyset in it"));
        }
        Ok(Self(keysets))
    }

    /// What its newest keyset says.
    pub(super) fn newest(&self) -> KeysetBody {
        let newest = self.0.iter().map(UnverifiedKeyset::body).max_by_key(|body| body.version);
        // `read` lets no empty chain come to be.
        newest.cloned().unwrap_or_else(|| self.0[0].body().clone())
    }
}
