//! Code of deployments: a Dag folder as one archive, the signed objects that say which one a host shall run, and the order
//! between them.
//!
//! | module | subject |
//! | --- | --- |
//! | [`tree`], [`archive`] | what an archive may hold, and how it is read |
//! | [`signed`] | the control plane's choice of an archive |
//! | [`host`] | a choice that was made on a host, in an outage |
//! | [`order`] | which of them is in force |
//! | [`exchange`] | questions of nodes to the control plane, and its answers |

pub mod archive;
pub mod exchange;
pub mod host;
pub mod order;
pub mod signed;
pub mod tree;

use base64::Engine as _;

use super::jws::BASE64URL;

/// Media type of an archive, for `Content-Type`.
pub const MEDIA_TYPE: &str = "application/gzip";
/// Maximum size of an archive, in bytes: 1 GiB.
pub const MAX_ARCHIVE: u64 = 1 << 30;
/// Maximum number of files and directories of an archive.
pub const MAX_ENTRIES: usize = 100_000;
/// Maximum size of all files of an archive together, unpacked, in bytes: 4 GiB.
pub const MAX_UNPACKED: u64 = 4 << 30;
/// Maximum length of a path, in bytes.
pub const MAX_PATH: usize = 1024;
/// Maximum length of one name of a path, in bytes. No usual file system takes a longer one.
pub const MAX_NAME: usize = 255;
/// Maximum number of names of a path.
pub const MAX_DEPTH: usize = 32;

/// Returns a digest as calls and answers write it: base64url, 43 characters.
///
/// ```
/// use halligan::protocol::deploy::digest_text;
///
/// assert_eq!(digest_text(&[0; 32]), "A".repeat(43));
/// ```
#[must_use]
pub fn digest_text(digest: &[u8; 32]) -> String {
    BASE64URL.encode(digest)
}
