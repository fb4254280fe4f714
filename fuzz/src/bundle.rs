//! Bundles. The bytes are checked as they are, and as the content of a zstd frame.

use halligan::protocol::bundle::{BundleError, BundleReader, Change, Limits, write_bundle};
use halligan::protocol::keyset::Keyset;

use super::world::frame;
use super::{WORLD, object};

/// The limits are small, so that inputs reach them.
const LIMITS: Limits = Limits { line: 6 * 1024, total: 12 * 1024, keysets: 3 };

struct Bundle {
    keysets: Vec<String>,
    head: String,
    base: u64,
    changes: Vec<Change>,
}

fn read(bytes: &[u8]) -> Result<Bundle, BundleError> {
    let mut reader = BundleReader::new(bytes, LIMITS)?;
    let (keysets, head, base) = (reader.keysets().to_vec(), reader.head().to_owned(), reader.base());
    let changes = reader.by_ref().collect::<Result<_, _>>()?;
    assert!(reader.next().is_none(), "a bundle that ends twice");
    Ok(Bundle { keysets, head, base, changes })
}

/// Checks that an accepted bundle keeps its limits and is the same after writing, and that it is refused if it is
/// truncated. A keyset is verified only with its original payload.
pub fn check(data: &[u8]) -> bool {
    let sent = holds(data);
    let compressed = frame(data);
    holds(&compressed) || sent
}

fn holds(bytes: &[u8]) -> bool {
    let Ok(bundle) = read(bytes) else { return false };
    let lines = zstd::decode_all(bytes).unwrap();
    assert!(lines.split(|&byte| byte == b'\n').all(|line| line.is_empty() || object(line)));
    assert!(bundle.keysets.len() <= LIMITS.keysets);
    let of = |change: &Change| match change {
        Change::Put(record) => record.key.len() + record.body.len(),
        Change::Remove { key, .. } => key.len(),
    };
    let lengths: Vec<usize> =
        bundle.keysets.iter().map(String::len).chain(bundle.changes.iter().map(of)).collect();
    assert!(lengths.iter().all(|&length| length as u64 <= LIMITS.line), "a line that is too long");
    assert!(lengths.iter().sum::<usize>() as u64 <= LIMITS.total, "more than may come out of it");
    if Keyset::verify_chain(&bundle.keysets, &WORLD.pinned()).is_ok() {
        let payload = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["payload"].take();
        let genuine = payload(&WORLD.keyset);
        assert!(bundle.keysets.iter().all(|keyset| payload(keyset) == genuine), "a keyset nobody signed");
    }
    let changes = bundle.changes.iter().cloned();
    let written = write_bundle(&bundle.keysets, &bundle.head, bundle.base, changes).unwrap();
    // The bundle that is written may be longer than the one that was read, and exceed the limits.
    if let Ok(again) = read(&written) {
        assert_eq!((again.keysets, again.head, again.base), (bundle.keysets, bundle.head, bundle.base));
        assert_eq!(again.changes, bundle.changes);
    }
    assert!(read(&written[..written.len() - 1]).is_err(), "a bundle that was cut short");
    true
}
