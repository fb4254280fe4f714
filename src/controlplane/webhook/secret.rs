//! Signatures of messages, in the format of Standard Webhooks. The receiver can verify the origin of a message, and
//! that it is not a replay.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

/// Permitted lengths of a secret, in bytes.
const LENGTH: std::ops::RangeInclusive<usize> = 24..=64;
/// Maximum number of secrets in a file. While a secret is being replaced, the file has the old and the new one.
const AT_ONCE: usize = 4;

/// Reasons to reject a file of secrets. They do not quote its content.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("the webhook's secret {path} can't be read: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Cause of the failure.
        source: std::io::Error,
    },
    /// Others than the owner can read the file.
    #[error("the webhook's secret {0} can be read by others than its owner; run chmod 600 on it")]
    Exposed(PathBuf),
    /// A line is not a valid secret.
    #[error("{path}: line {line} is no secret of a webhook: whsec_ and then 24 to 64 random bytes in base64")]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },
    /// The file has no secret, or too many.
    #[error("{path} holds {count} secrets of a webhook, one a line; it must be 1 to {AT_ONCE}")]
    Count {
        /// Path of the file.
        path: PathBuf,
        /// Number of secrets.
        count: usize,
    },
}

/// Signing secrets, in the order of the file.
pub(super) struct Secrets(Vec<Zeroizing<Vec<u8>>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// Reads a file with one secret per line. `guarded` skips the check of its permissions, for files that the service
    /// manager protects.
    pub(super) fn read(path: &Path, guarded: bool) -> Result<Self, SecretError> {
        let failed = |source| SecretError::File { path: path.into(), source };
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
        if !guarded && mode & 0o077 != 0 {
            return Err(SecretError::Exposed(path.into()));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
        let mut secrets = Vec::new();
        for (line, secret) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
            let malformed = || SecretError::Malformed { path: path.into(), line: line + 1 };
            secrets.push(parse(secret).ok_or_else(malformed)?);
        }
        if secrets.is_empty() || secrets.len() > AT_ONCE {
            return Err(SecretError::Count { path: path.into(), count: secrets.len() });
        }
        Ok(Self(secrets))
    }

    /// Returns the `webhook-signature` of a message. It has one signature per secret, so that the receiver needs only
    /// one of them.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let content = format!("{id}.{timestamp}.{body}");
        let signatures = self.0.iter().filter_map(|secret| {
            // HMAC accepts keys of any length, so this never fails.
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
            mac.update(content.as_bytes());
            Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

/// Parses `whsec_` followed by base64.
fn parse(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = Zeroizing::new(STANDARD.decode(text.strip_prefix("whsec_")?).ok()?);
    LENGTH.contains(&bytes.len()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The sample of the specification's own libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn read(text: &str, mode: u32) -> Result<Secrets, SecretError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        Secrets::read(file.path(), false)
    }

    fn sign(secrets: &Secrets) -> String {
        secrets.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#)
    }

    #[test]
    fn signs_as_others_do() {
        assert_eq!(sign(&read(&format!("{SECRET}\n"), 0o600).unwrap()), SIGNATURE);
    }

    #[test]
    fn while_a_secret_is_replaced_both_sign() {
        let other = format!("whsec_{}", STANDARD.encode([7; 32]));
        let both = sign(&read(&format!("{other}\n\n{SECRET}\n"), 0o600).unwrap());
        let (first, second) = both.split_once(' ').unwrap();
        assert_eq!(second, SIGNATURE);
        assert_eq!(first, sign(&read(&other, 0o400).unwrap()));
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_quoted() {
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        for bad in [&SECRET[6..], "whsec_????", &short, &long, "MYSECRET", "whsec_MYSECRET=="] {
            let error = read(&format!("{SECRET}\n{bad}\n"), 0o600).unwrap_err();
            assert!(matches!(error, SecretError::Malformed { line: 2, .. }), "{bad}: {error}");
            let quoted = format!("{error} {error:?}").contains(bad.strip_prefix("whsec_").unwrap_or(bad));
            assert!(!quoted, "{error:?}");
        }
        assert!(matches!(read("whsec_", 0o600), Err(SecretError::Malformed { line: 1, .. })));
        assert!(matches!(read("\n", 0o600), Err(SecretError::Count { count: 0, .. })));
        assert!(matches!(
            read(&format!("{SECRET}\n").repeat(5), 0o600),
            Err(SecretError::Count { count: 5, .. })
        ));
        for mode in [0o640, 0o604, 0o644] {
            assert!(matches!(read(SECRET, mode), Err(SecretError::Exposed(_))), "{mode:o}");
        }
        assert_eq!(format!("{:?}", read(SECRET, 0o600).unwrap()), "Secrets(1)");
    }
}
