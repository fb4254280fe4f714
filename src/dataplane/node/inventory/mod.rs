//! Inventory of a host's state: which databases it created, the extent of its revocations, and its file of ended sessions.
//! Without it, a lost database would look like one that was never created.
//!
//! The inventory is a file beside the databases. If it is missing or unreadable, it is made again from the databases and the
//! identity: a host with one of the databases, or whose identity file says that they were created, has created all of them,
//! and must have all revocations that the audit log records.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::identity::{IDENTITY_FILE, databases_made};
use crate::platform::private_file::write_private;
use crate::protocol::id::TokenId;
use crate::protocol::jws::BASE64URL;
use crate::protocol::time::Time;

/// Name of the file in the state directory.
const FILE: &str = "databases.json";
/// Database of the replica.
const REPLICA: &str = "replica.db";
/// Database of the audit log.
pub const AUDIT: &str = "audit.db";
/// Database of the local revocations.
pub const REVOCATIONS: &str = "revocations.db";
/// File with an operator's acceptance that revocations are lost. It stays until a start has handled the loss completely.
pub(in crate::dataplane) const ACCEPTED_LOSS: &str = "accepted-loss.json";
/// Databases of a host. The first start creates all of them.
const DATABASES: [&str; 5] = [REPLICA, AUDIT, REVOCATIONS, "outages.db", "glass.db"];

/// Held from reading the inventory until it is written, because revocations and sessions change it on other threads.
static CHANGE: Mutex<()> = Mutex::new(());

/// Reasons why a database is not created as a new one.
#[derive(Debug, Error)]
pub enum InventoryError {
    /// The database existed, and is missing.
    #[error("it is missing, though this host had one")]
    Missing,
    /// The database had content, and is empty.
    #[error("it is empty, though this host had one")]
    Empty,
    /// The database lacks a table that it had.
    #[error("it lacks the table {0}, though this host had one")]
    Incomplete(String),
    /// The inventory cannot be read or written.
    #[error("{path} can't be used: {source}")]
    File {
        /// Path of the inventory.
        path: PathBuf,
        /// Error of the file system.
        source: std::io::Error,
    },
}

/// Number of revoked tokens, and a sum over their identifiers that is independent of the order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    tokens: u64,
    sum: String,
}

impl Extent {
    /// Returns the extent of `tokens`, which must be distinct.
    pub(in crate::dataplane) fn from_tokens<'t>(tokens: impl IntoIterator<Item = &'t TokenId>) -> Self {
        let mut extent = Self::default();
        tokens.into_iter().for_each(|token| extent.add(token));
        extent
    }

    /// Adds a token that is not included yet.
    pub(in crate::dataplane) fn add(&mut self, token: &TokenId) {
        let mut sum = BASE64URL.decode(&self.sum).unwrap_or_default();
        sum.resize(blake3::OUT_LEN, 0);
        let hash = blake3::hash(token.as_str().as_bytes());
        sum.iter_mut().zip(hash.as_bytes()).for_each(|(sum, byte)| *sum ^= byte);
        (self.tokens, self.sum) = (self.tokens + 1, BASE64URL.encode(sum));
    }

    /// Returns true if a set of this extent can include all tokens of `noted`. Larger sets qualify, since a full disk may
    /// have prevented the last update of the inventory.
    pub(in crate::dataplane) fn covers(&self, noted: &Self) -> bool {
        self.tokens > noted.tokens || self == noted
    }

    /// Returns the number of tokens.
    pub(in crate::dataplane) fn tokens(&self) -> u64 {
        self.tokens
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    databases: BTreeSet<String>,
    /// `None` if revocations were never counted, which does not prove that there were none.
    revocations: Option<Extent>,
    /// File of ended sessions, or `None` if none was written.
    ended_sessions: Option<NotedSessions>,
    /// Number of events that the audit log had when this was noted. It may have had more later.
    #[serde(default)]
    events: u64,
    /// True if the replica's database holds a replica.
    #[serde(default)]
    replica: bool,
}

impl Noted {
    /// Clears the facts about the content of the database `name`, because a new one is created in its place.
    fn clear(&mut self, name: &str) {
        match name {
            AUDIT => self.events = 0,
            REPLICA => self.replica = false,
            _ => {}
        }
    }
}

/// Facts of the file of ended sessions that was written last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::dataplane) struct NotedSessions {
    /// Digest of the file.
    pub(in crate::dataplane) digest: String,
    /// Latest time at which a session in it began.
    pub(in crate::dataplane) latest: Option<Time>,
}

/// Inventory of a state directory.
#[derive(Clone, Debug)]
pub struct Inventory {
    directory: PathBuf,
}

impl Inventory {
    /// Returns the inventory of the databases in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.into() }
    }

    /// Returns the inventory of the directory that holds the database at `path`.
    #[must_use]
    pub fn beside(path: &Path) -> Self {
        Self::new(path.parent().unwrap_or(Path::new("")))
    }

    fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Reads the inventory. Returns `None` if it is missing or cannot be parsed.
    fn find(&self) -> Result<Option<Noted>, InventoryError> {
        let path = self.path();
        match std::fs::read(&path) {
            Ok(text) => Ok(serde_json::from_slice(&text)
                .inspect_err(|error| {
                    tracing::error!(path = %path.display(), %error, "the inventory of databases is not valid; making it again from the other files");
                })
                .ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(InventoryError::File { path, source }),
        }
    }

    /// Returns the inventory that follows from the other files. A database with content shows that the host ran before. So
    /// does the mark in the identity file, which remains when all databases are lost.
    fn witnessed(&self) -> Noted {
        let has_content =
            |name: &str| std::fs::metadata(self.directory.join(name)).is_ok_and(|found| found.len() > 0);
        let ran =
            DATABASES.into_iter().any(has_content) || databases_made(&self.directory.join(IDENTITY_FILE));
        let databases = DATABASES.into_iter().filter(|_| ran).map(str::to_owned).collect();
        Noted { databases, ..Noted::default() }
    }

    fn write(&self, noted: &Noted) -> Result<(), InventoryError> {
        let failed = |source| InventoryError::File { path: self.path(), source };
        let text = serde_json::to_vec(noted).map_err(|error| failed(error.into()))?;
        write_private(&self.path(), &text).map_err(failed)
    }

    /// Applies `change` to the inventory, and writes it if it differs from the file.
    fn change(&self, change: impl FnOnce(&mut Noted)) -> Result<(), InventoryError> {
        let _change = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.find()?;
        let mut noted = found.clone().unwrap_or_else(|| self.witnessed());
        change(&mut noted);
        if found.as_ref() == Some(&noted) { Ok(()) } else { self.write(&noted) }
    }

    /// Writes the inventory if it is missing or unreadable, as long as the other files show which databases were made.
    pub fn keep(&self) -> Result<(), InventoryError> {
        self.change(|_| {})
    }

    /// Checks that the database `name` exists and is not empty, if this host ever created it. Returns true if it did.
    pub fn check(&self, name: &str) -> Result<bool, InventoryError> {
        let _change = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = if let Some(noted) = self.find()? {
            noted
        } else {
            // Written before any database is created, since a database that this start creates does not prove an earlier start.
            let noted = self.witnessed();
            self.write(&noted)?;
            noted
        };
        if !noted.databases.contains(name) {
            return Ok(false);
        }
        match std::fs::metadata(self.directory.join(name)) {
            Ok(found) if found.len() == 0 => Err(InventoryError::Empty),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(InventoryError::Missing),
            // Opening the database reports other errors.
            _ => Ok(true),
        }
    }

    /// Records that the database `name` was created.
    pub fn made(&self, name: &str) -> Result<(), InventoryError> {
        self.change(|noted| {
            if noted.databases.insert(name.to_owned()) {
                noted.clear(name);
            }
        })
    }

    /// Permits a new database `name`, without an alarm for a lost one.
    pub fn forget(&self, name: &str) -> Result<(), InventoryError> {
        self.change(|noted| {
            noted.databases.remove(name);
            noted.clear(name);
            if name == REVOCATIONS {
                noted.revocations = Some(Extent::default());
            }
        })
    }

    /// Returns true if the count of the revocations is complete. Otherwise only the audit log shows them. A start that was
    /// interrupted while it handled an accepted loss has counted the remaining revocations, but may not have signed those of the
    /// audit log again; the file of the acceptance shows that.
    pub(in crate::dataplane) fn counted(&self) -> Result<bool, InventoryError> {
        let path = self.directory.join(ACCEPTED_LOSS);
        let pending = path.try_exists().map_err(|source| InventoryError::File { path, source })?;
        Ok(!pending && self.revocations()?.is_some())
    }

    /// Returns the extent of the revocations at the last count.
    pub(in crate::dataplane) fn revocations(&self) -> Result<Option<Extent>, InventoryError> {
        Ok(self.find()?.and_then(|noted| noted.revocations))
    }

    /// Returns the facts of the file of ended sessions that was written last.
    pub(in crate::dataplane) fn ended_sessions(&self) -> Result<Option<NotedSessions>, InventoryError> {
        Ok(self.find()?.and_then(|noted| noted.ended_sessions))
    }

    /// Stores the facts of the file of ended sessions.
    pub(in crate::dataplane) fn note_ended_sessions(
        &self,
        file: NotedSessions,
    ) -> Result<(), InventoryError> {
        self.change(|noted| noted.ended_sessions = Some(file))
    }

    /// Returns the noted number of events of the audit log, or 0 if none was noted. The log may have had more later.
    pub(in crate::dataplane) fn events(&self) -> Result<u64, InventoryError> {
        Ok(self.find()?.map_or(0, |noted| noted.events))
    }

    /// Stores the number of events that the audit log has.
    pub(in crate::dataplane) fn note_events(&self, events: u64) -> Result<(), InventoryError> {
        self.change(|noted| noted.events = events)
    }

    /// Returns true if the replica's database held a replica.
    pub(in crate::dataplane) fn had_replica(&self) -> Result<bool, InventoryError> {
        Ok(self.find()?.is_some_and(|noted| noted.replica))
    }

    /// Stores whether the replica's database holds a replica.
    pub(in crate::dataplane) fn note_replica(&self, held: bool) -> Result<(), InventoryError> {
        self.change(|noted| noted.replica = held)
    }

    /// Stores the extent of the revocations.
    pub(in crate::dataplane) fn count_revocations(&self, extent: &Extent) -> Result<(), InventoryError> {
        self.change(|noted| noted.revocations = Some(extent.clone()))
    }
}

/// Moves a database and SQLite's files beside it to an unused name. Returns that name.
pub fn set_aside(path: &Path, now: Time) -> std::io::Result<PathBuf> {
    let with = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let taken = |aside: &Path| {
        ["", "-wal", "-shm"].iter().any(|suffix| with(aside, suffix).symlink_metadata().is_ok())
    };
    let first = with(path, &format!(".damaged-{}", now.unix()));
    let mut aside = first.clone();
    for number in 2_u32.. {
        if !taken(&aside) {
            break;
        }
        aside = with(&first, &format!("-{number}"));
    }
    for suffix in ["", "-wal", "-shm"] {
        match std::fs::rename(with(path, suffix), with(&aside, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}
