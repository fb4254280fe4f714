//! Damage to the files of a host.

use std::path::{Path, PathBuf};

use halligan::platform::private_file::write_private;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rusqlite::Connection;

/// Names of the files of a host.
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

/// Names of those files that are databases.
pub const DATABASES: [&str; 5] = ["replica.db", "revocations.db", "audit.db", "outages.db", "glass.db"];

pub const SWAPPED: &str = "swapped with another host's";
pub const LOST: &str = "lost";
pub const EMPTY: &str = "emptied";
pub const CUT: &str = "cut short";
const DAMAGED: &str = "damaged";
/// Kinds of damage to a file.
pub const HOW: [&str; 5] = [LOST, EMPTY, CUT, DAMAGED, SWAPPED];

const SUFFIXES: [&str; 2] = ["-wal", "-shm"];

/// Writes the log of a database into the database file, so that one file contains everything. Returns false if that
/// fails.
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

/// Damages a file. Returns false if there is nothing to damage.
pub fn damage(directory: &Path, file: &str, how: &str, random: &mut StdRng) -> bool {
    let path = directory.join(file);
    if !path.exists() || !settle(&path) {
        return false;
    }
    let bytes = std::fs::read(&path).unwrap();
    if bytes.is_empty() && how != LOST {
        // The file was emptied before, so nothing is left to damage.
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

/// Swaps a file of two hosts. Returns false if one of them does not have it.
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

/// Returns the path and content of every file of a host.
pub fn keep(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Restores all files of a host.
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

/// Database and table of every write that a daemon makes while it follows its control plane.
const WRITTEN: [(&str, &str); 4] = [
    ("replica.db", "head"),
    ("replica.db", "record"),
    ("revocations.db", "revocation"),
    ("outages.db", "outage"),
];

/// Makes every write to these tables fail, as a full disk does. The audit log is left out, because it repeats failed
/// writes in real time, which would make the story depend on it.
pub fn fill(directory: &Path) {
    for (database, table) in WRITTEN {
        let path = directory.join(database);
        if !path.exists() {
            continue;
        }
        let Ok(connection) = Connection::open(path) else { continue };
        for (number, deed) in ["INSERT", "UPDATE", "DELETE"].iter().enumerate() {
            // A damaged database may not have the table.
            let _ = connection.execute_batch(&format!(
                "CREATE TRIGGER IF NOT EXISTS full_{table}_{number} BEFORE {deed} ON {table} BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            ));
        }
    }
}

/// Makes writes succeed again. Returns true if they failed before.
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
