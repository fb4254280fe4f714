//! Keys that seal browsers' sessions: a file with one key a line, each 32 bytes in base64.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::identity::{Absent, IdentityError, read_private};
use crate::platform::private_file::write_private;

/// A key's bytes.
pub type SessionKey = Zeroizing<[u8; 32]>;

/// Maximum number of keys in a file: the one that seals, and those it replaced.
const MAX_KEYS: usize = 8;

/// Reads the keys of a file. Returns `None` if there is none yet and one may be created.
pub fn read_session_keys(path: &Path, absent: Absent) -> Result<Option<Vec<SessionKey>>, IdentityError> {
    let Some(text) = read_private(path)? else {
        return if absent == Absent::Make { Ok(None) } else { Err(IdentityError::SessionKeys(path.into())) };
    };
    let mut keys = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut key = Zeroizing::new([0; 32]);
        let mut bytes = Zeroizing::new([0; 48]);
        match STANDARD.decode_slice(line, &mut bytes[..]) {
            Ok(32) => key.copy_from_slice(&bytes[..32]),
            _ => return Err(IdentityError::SessionKeys(path.into())),
        }
        keys.push(key);
    }
    if keys.is_empty() || keys.len() > MAX_KEYS {
        return Err(IdentityError::SessionKeys(path.into()));
    }
    Ok(Some(keys))
}

/// Creates a file with one key.
pub fn make_session_key(path: &Path, rng: &mut dyn CryptoRng) -> Result<SessionKey, IdentityError> {
    let mut key = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut key[..]);
    let text = Zeroizing::new(STANDARD.encode(&key[..]) + "\n");
    write_private(path, text.as_bytes())
        .map_err(|source| IdentityError::File { path: path.into(), source })?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;

    use getrandom::SysRng;
    use getrandom::rand_core::UnwrapErr;

    use super::*;

    #[test]
    fn a_key_that_was_made_is_read_again_and_another_may_stand_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("session.key");
        assert!(read_session_keys(&path, Absent::Make).unwrap().is_none());
        // Hosts that share a named file would otherwise each make their own.
        assert!(matches!(read_session_keys(&path, Absent::Refuse), Err(IdentityError::SessionKeys(_))));
        let made = make_session_key(&path, &mut UnwrapErr(SysRng)).unwrap();
        assert_eq!(read_session_keys(&path, Absent::Refuse).unwrap().unwrap(), std::slice::from_ref(&made));
        let old = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{}\n{old}\n", STANDARD.encode([1; 32]))).unwrap();
        assert_eq!(
            read_session_keys(&path, Absent::Refuse).unwrap().unwrap(),
            [Zeroizing::new([1; 32]), made]
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_session_keys(&path, Absent::Make), Err(IdentityError::Exposed(_))));
    }

    #[test]
    fn what_is_no_key_of_32_bytes_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("session.key");
        let key = STANDARD.encode([1; 32]);
        for text in
            ["", "\n", "short", &STANDARD.encode([1; 31]), &STANDARD.encode([1; 33]), &format!("{key}\nx")]
        {
            write_private(&path, text.as_bytes()).unwrap();
            let error = read_session_keys(&path, Absent::Make).unwrap_err();
            assert!(matches!(error, IdentityError::SessionKeys(_)), "{text:?}");
            assert!(!error.to_string().contains(&key));
        }
    }
}
