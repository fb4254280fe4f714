//! Gives a host a new identity: moves its present one aside, so that the next start enrols it again.
//!
//! It is for a copy of another host, and for a retired host. Nothing is deleted. The replica, the revocations and the
//! broken glass stay, since they belong to the data plane and the host, not to the identity.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::dataplane::audit::{AuditError, extent};
use crate::dataplane::config::Config;
use crate::dataplane::node::inventory::Inventory;
use crate::platform::private_file::create_private_directory;
use crate::platform::state_directory::{self, StateError};
use crate::protocol::time::Time;

/// Files that belong to one identity. The log and the outages are among them, since each line of a log names its node.
const OWN: [&str; 9] = [
    "node.json",
    "node.pem",
    "environment.pem",
    "audit.db",
    "audit.db-wal",
    "audit.db-shm",
    "outages.db",
    "outages.db-wal",
    "outages.db-shm",
];

/// Reasons why the identity is not moved aside.
#[derive(Debug, Error)]
pub enum NewIdentityError {
    /// A file cannot be moved.
    #[error("{path} can't be set aside: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        source: std::io::Error,
    },
    /// A daemon is running.
    #[error(
        "a daemon answers at {0}; stop it first (systemctl stop halligand.socket halligand-admin.socket halligand)"
    )]
    Running(PathBuf),
    /// A process holds the state directory: a daemon that starts or stops does not answer on its socket.
    #[error(
        "process {holder} works on {path}; stop it first (systemctl stop halligand.socket halligand-admin.socket halligand)"
    )]
    Held {
        /// Path of the state directory.
        path: PathBuf,
        /// Process, as it described itself in the lock file.
        holder: String,
    },
    /// The lock of the state directory cannot be checked.
    #[error(transparent)]
    Directory(#[from] StateError),
    /// The host has no identity.
    #[error("{0} holds no identity: the next start enrols this host")]
    None(PathBuf),
    /// Events of the log were not uploaded.
    #[error(
        "{0} events of this host's log have not arrived at the control plane; start the daemon until they have, or use --force: \
         they are then only in the directory that is set aside"
    )]
    NotUploaded(u64),
    /// The log cannot be read.
    #[error("the audit log {path} can't be read ({source}); with --force it is set aside as it is")]
    Log {
        /// Path of the log.
        path: PathBuf,
        /// Error of the log.
        source: AuditError,
    },
}

/// Files that were moved aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Directory to which they were moved.
    pub directory: PathBuf,
    /// Names of the files.
    pub files: Vec<String>,
    /// Key file that the configuration names. It stays in its place, and must be replaced by hand.
    pub key_file: Option<PathBuf>,
}

/// Moves the identity of the host that `config` describes aside. With `force`, events that were not uploaded do not prevent it.
pub fn set_identity_aside(config: &Config, force: bool, now: Time) -> Result<SetAside, NewIdentityError> {
    let (state, socket) = (&config.state_dir, &config.listen.admin_socket);
    if UnixStream::connect(socket).is_ok() {
        return Err(NewIdentityError::Running(socket.clone()));
    }
    if let Some(holder) = state_directory::holder(state)? {
        return Err(NewIdentityError::Held { path: state.clone(), holder });
    }
    let present: Vec<&str> = OWN.into_iter().filter(|name| state.join(name).exists()).collect();
    if !present.iter().any(|name| matches!(*name, "node.json" | "node.pem")) {
        return Err(NewIdentityError::None(state.clone()));
    }
    let log = state.join("audit.db");
    if !force && log.exists() {
        let extent = extent(&log).map_err(|source| NewIdentityError::Log { path: log, source })?;
        if extent.last > extent.uploaded {
            return Err(NewIdentityError::NotUploaded(extent.last - extent.uploaded));
        }
    }
    let moved = |path: &Path, source| NewIdentityError::File { path: path.into(), source };
    // The identity file may be the last witness of lost revocations, and it is about to go.
    let inventory = Inventory::new(state);
    inventory.keep().map_err(|error| moved(state, std::io::Error::other(error)))?;
    let directory = make_directory(state, now)?;
    for name in &present {
        let path = state.join(name);
        std::fs::rename(&path, directory.join(name)).map_err(|source| moved(&path, source))?;
    }
    // The files are not lost: the next start creates new ones without an alarm.
    for name in
        present.iter().filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "db"))
    {
        inventory.forget(name).map_err(|error| moved(&state.join(name), std::io::Error::other(error)))?;
    }
    for path in [state, &directory] {
        let synced = std::fs::File::open(path).and_then(|opened| opened.sync_all());
        synced.map_err(|source| moved(path, source))?;
    }
    let files = present.into_iter().map(str::to_owned).collect();
    Ok(SetAside { directory, files, key_file: config.node.key_file.clone() })
}

/// Creates a new directory, so that an earlier identity is never overwritten.
fn make_directory(state: &Path, now: Time) -> Result<PathBuf, NewIdentityError> {
    let mut path = state.join(format!("identity-{}", now.unix()));
    for again in 1.. {
        match create_private_directory(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && again < 100 => {
                path = state.join(format!("identity-{}-{again}", now.unix()));
            }
            Err(source) => return Err(NewIdentityError::File { path, source }),
        }
    }
    Ok(path)
}
