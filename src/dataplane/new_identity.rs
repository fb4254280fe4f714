//! Gives a host an identity of its own: what makes it the node it was is set aside, and the next start enrols it anew.
//!
//! For a copy of another host, and for a host that was retired. Nothing is deleted. The replica, what was revoked and the
//! broken glass stay: they are the data plane's and the host's, not the identity's.

use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::audit::{AuditError, extent};
use super::config::Config;
use super::inventory::Inventory;
use crate::protocol::time::Time;
use crate::state_directory::{self, StateError};

/// What is one node's alone. The log and the outages go with the identity: a log names its node in every line.
const OWN: [&str; 8] = [
    "node.json",
    "node.pem",
    "audit.db",
    "audit.db-wal",
    "audit.db-shm",
    "outages.db",
    "outages.db-wal",
    "outages.db-shm",
];

/// Why the identity is not set aside.
#[derive(Debug, Error)]
pub enum NewIdentityError {
    /// A file can't be moved.
    #[error("{path} can't be set aside: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The daemon runs.
    #[error(
        "a daemon answers at {0}; stop it first (systemctl stop halligand.socket halligand-admin.socket halligand)"
    )]
    Running(PathBuf),
    /// A process works on the state directory: a daemon that starts or stops holds it without answering.
    #[error(
        "process {holder} works on {path}; stop it first (systemctl stop halligand.socket halligand-admin.socket halligand)"
    )]
    Held {
        /// The state directory.
        path: PathBuf,
        /// The process, as it wrote itself down.
        holder: String,
    },
    /// It can't be told whether one does.
    #[error(transparent)]
    Directory(#[from] StateError),
    /// There is nothing to set aside.
    #[error("{0} holds no identity: the next start enrols this host")]
    None(PathBuf),
    /// Events would not reach the control plane.
    #[error(
        "{0} events of this host's log have not arrived at the control plane; start the daemon until they have, or use --force: \
         they are then only in the directory that is set aside"
    )]
    NotUploaded(u64),
    /// The log can't be read.
    #[error("the audit log {path} can't be read ({source}); with --force it is set aside as it is")]
    Log {
        /// The log.
        path: PathBuf,
        /// Why.
        source: AuditError,
    },
}

/// What was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The directory it lies in now.
    pub directory: PathBuf,
    /// The names of the files.
    pub files: Vec<String>,
    /// A key file that the configuration names. It stays where it is, and must be replaced by hand.
    pub key_file: Option<PathBuf>,
}

/// Sets the identity of the host that `config` describes aside. With `force`, also a log that has not arrived above.
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
    let directory = make_directory(state, now)?;
    let moved = |path: &Path, source| NewIdentityError::File { path: path.into(), source };
    for name in &present {
        let path = state.join(name);
        std::fs::rename(&path, directory.join(name)).map_err(|source| moved(&path, source))?;
    }
    // They were not lost: the next start begins them without an alarm.
    let inventory = Inventory::new(state);
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

/// Makes a directory that was not there: what was set aside before is never overwritten.
fn make_directory(state: &Path, now: Time) -> Result<PathBuf, NewIdentityError> {
    let mut path = state.join(format!("identity-{}", now.unix()));
    for again in 1.. {
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && again < 100 => {
                path = state.join(format!("identity-{}-{again}", now.unix()));
            }
            Err(source) => return Err(NewIdentityError::File { path, source }),
        }
    }
    Ok(path)
}
