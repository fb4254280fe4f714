//! What happens to the files of a host.

use std::path::{Path, PathBuf};

use halligan::platform::private_file::write_private;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rusqlite::Connection;

/// The files of a host.
pub const FILES: [&str; 10] = [
    "replica.db",
    "revocations.db",
    "audit.db",
    "outages.db",
    "glass.db",
    "databases.json",
    "ended-sessions.json",
    "session.key",
    "node.json",
    "node.pem",
];

/// Those of them that are databases.
pub const DATABASES: [&str; 5] = ["replica.db", "revocations.db", "audit.db", "outages.db", "glass.db"];

pub const SWAPPED: &str = "swapped with another host's";
pub const LOST: &str = "lost";
pub const EMPTY: &str = "emptied";
pub const CUT: &str = "cut short";
const DAMAGED: &str = "damaged";
/// What happens to one.
pub const HOW: [&str; 5] = [LOST, EMPTY, CUT, DAMAGED, SWAPPED];

const SUFFIXES: [&str; 2] = ["-wal", "-shm"];

/// Writes what stands in a database's log into its file, so that there is one file to be damaged.
pub fn settle(path: &Path) -> bool {
    if path.extension().is_none_or(|extension| extension != "db") {
        return true;
    }
    let Ok(connection) = Connection::open(path) else { return false };
    let settled = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).is_ok();
    drop(connection);
    for suffix in SUFFIXES {
        let _ = std::fs::remove_file(path.with_extension(format!("db{suffix}")));
    }
    settled
}

/// Damages a file; whether there was one.
pub fn damage(directory: &Path, file: &str, how: &str, random: &mut StdRng) -> bool {
    let path = directory.join(file);
    if !path.exists() || !settle(&path) {
        return false;
    }
    let bytes = std::fs::read(&path).unwrap();
    if bytes.is_empty() && how != LOST {
        // It was emptied before: there is nothing left to damage.
        return false;
    }
    match how {
        LOST => std::fs::remove_file(&path).unwrap(),
        EMPTY => std::fs::write(&path, b"").unwrap(),
        CUT => std::fs::write(&path, &bytes[..random.random_range(0..bytes.len())]).unwrap(),
        _ => {
            let mut bytes = bytes;
            let at = random.random_range(0..bytes.len().min(64));
            bytes[at..].iter_mut().take(200).for_each(|byte| *byte ^= 0x5a);
            std::fs::write(&path, bytes).unwrap();
        }
    }
    true
}

/// Swaps a file of two hosts; whether both had one.
pub fn swap(one: &Path, other: &Path, database: &str) -> bool {
    let (one, other) = (one.join(database), other.join(database));
    if !one.exists() || !other.exists() || !settle(&one) || !settle(&other) {
        return false;
    }
    swap_names(&one, &other);
    true
}

/// Swaps two files.
pub fn swap_names(one: &Path, other: &Path) {
    let aside = one.with_extension("aside");
    std::fs::rename(one, &aside).unwrap();
    std::fs::rename(other, one).unwrap();
    std::fs::rename(&aside, other).unwrap();
}

/// Reads all files of a host.
pub fn keep(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Puts all files of a host back.
pub fn put_back(directory: &Path, kept: Vec<(PathBuf, Vec<u8>)>) {
    std::fs::remove_dir_all(directory).unwrap();
    std::fs::create_dir(directory).unwrap();
    for (path, content) in kept {
        write_private(&path, &content).unwrap();
    }
}

/// Copies all files of a host.
pub fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The tables that are written to while a daemon follows its control plane.
const WRITTEN: [(&str, &str); 4] = [
    ("replica.db", "head"),
    ("replica.db", "record"),
    ("revocations.db", "revocation"),
    ("outages.db", "outage"),
];

/// Has every write to these tables fail, as a full disk does. The audit log is left out: it tries again by itself, and when
/// is a matter of real time.
pub fn fill(directory: &Path) {
    for (database, table) in WRITTEN {
        let path = directory.join(database);
        if !path.exists() {
            continue;
        }
        let Ok(connection) = Connection::open(path) else { continue };
        for (number, deed) in ["INSERT", "UPDATE", "DELETE"].iter().enumerate() {
            // A host that was damaged may not have the table.
            let _ = connection.execute_batch(&format!(
                "CREATE TRIGGER IF NOT EXISTS full_{table}_{number} BEFORE {deed} ON {table} BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            ));
        }
    }
}

/// Has writes succeed again; whether they did not.
pub fn make_room(directory: &Path) -> bool {
    let mut was_full = false;
    for (database, table) in WRITTEN {
        let path = directory.join(database);
        if !path.exists() {
            continue;
        }
        let Ok(connection) = Connection::open(path) else { continue };
        for number in 0..3 {
            let trigger = format!("full_{table}_{number}");
            let query = "SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND name = ?1";
            was_full |=
                connection.prepare(query).is_ok_and(|mut query| query.exists([&trigger]).unwrap_or(false));
            let _ = connection.execute_batch(&format!("DROP TRIGGER IF EXISTS {trigger}"));
        }
    }
    was_full
}
