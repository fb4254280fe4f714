//! Files of a key ceremony: keys in PEM, keysets in JSON. Private keys are readable by their owner only, and no file is
//! overwritten.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::cli::failure::Failure;
use crate::platform::private_file::create_private;
use crate::protocol::key::{PublicKey, SigningKey};
use crate::protocol::keyset::{KeysetBody, UnverifiedKeyset};

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = std::fs::read_to_string(path);
    text.map(Zeroizing::new).map_err(|source| Failure::File { path: path.into(), source })
}

fn data(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Data(format!("{}: {error}", path.display()))
}

/// Reads a public key from a PEM file.
pub(super) fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    PublicKey::from_pem(&read(path)?).map_err(|error| data(path, &error))
}

/// Reads a private key. Fails if anybody but its owner can read the file.
pub(super) fn private_key(path: &Path) -> Result<SigningKey, Failure> {
    let metadata = std::fs::metadata(path).map_err(|source| Failure::File { path: path.into(), source })?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(data(path, &"others than its owner can read this private key; run chmod 600 on it"));
    }
    SigningKey::from_pkcs8_pem(&read(path)?).map_err(|error| data(path, &error))
}

/// Reads every public key in a directory.
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

/// Returns the name of the public key's file: `root.pub.pem` for `root.pem`.
pub(super) fn public_name(path: &Path) -> PathBuf {
    path.with_extension("pub.pem")
}

/// Creates a file. Fails if it exists.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let written = create_private(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    });
    written.map_err(|source| Failure::File { path: path.into(), source })
}

/// Replaces the content of a file without secrets, atomically.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let beside = path.with_extension("new");
    let written = std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|source| Failure::File { path: path.into(), source })
}

/// Keysets of a file in its order: one JSON object, or several in sequence.
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

    /// Returns the body of its newest keyset.
    pub(super) fn newest(&self) -> KeysetBody {
        let newest = self.0.iter().map(UnverifiedKeyset::body).max_by_key(|body| body.version);
        // `read` rejects empty chains.
        newest.cloned().unwrap_or_else(|| self.0[0].body().clone())
    }
}
