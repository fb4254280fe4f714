//! Users that may administer the daemon, and the mode of the socket that lets them connect.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use crate::platform::state_directory::own_uid;

/// User ids that may administer: root, the daemon's own, and those in the configuration.
#[derive(Debug)]
pub struct Allowed {
    own: u32,
    named: ArcSwap<Vec<u32>>,
    /// Path of the socket, if this daemon sets its mode.
    socket: OnceLock<PathBuf>,
}

impl Allowed {
    /// Allows root, the user of this process, and the users `named`.
    pub fn new(named: Vec<u32>) -> std::io::Result<Self> {
        Ok(Self { own: own_uid()?, named: ArcSwap::from_pointee(named), socket: OnceLock::new() })
    }

    /// Replaces the users from the configuration.
    pub fn set(&self, named: Vec<u32>) {
        self.named.store(Arc::new(named));
        if let Some(socket) = self.socket.get()
            && let Err(error) = self.admit(socket)
        {
            tracing::warn!(%error, socket = %socket.display(), "the admin socket's mode can't be changed");
        }
    }

    /// Sets the mode of this daemon's own socket, now and after each change of the users. Members of the socket's group may
    /// connect. If the configuration names a user, every user may connect, since the named user need not be in the group. In
    /// both cases the answer depends on the user id.
    pub fn guard_own(&self, socket: &Path) -> std::io::Result<()> {
        self.admit(socket)?;
        let _ = self.socket.set(socket.to_owned());
        self.warn_of_the_locked_out(socket);
        Ok(())
    }

    fn admit(&self, socket: &Path) -> std::io::Result<()> {
        let mode = if self.others().is_empty() { 0o660 } else { 0o666 };
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(mode))
    }

    /// Returns the users from the configuration that are allowed for no other reason.
    fn others(&self) -> Vec<u32> {
        self.named.load().iter().copied().filter(|uid| *uid != 0 && *uid != self.own).collect()
    }

    /// Logs a warning about configured users that cannot connect to the socket unless they are in its group.
    pub fn warn_of_the_locked_out(&self, socket: &Path) {
        let others = self.others();
        if !others.is_empty()
            && let Some((path, needed)) = closed_to_others(socket)
        {
            tracing::warn!(
                users = ?others, path = %path.display(), needed,
                "admin.allow_uids names users who can't reach the admin socket unless they are in the group of this path: add them \
                 to it, or give the path the mode (for systemd's socket: SocketMode=0666 in a drop-in of halligand-admin.socket)"
            );
        }
    }

    /// Returns true if the user may administer.
    #[must_use]
    pub fn may(&self, uid: u32) -> bool {
        uid == 0 || uid == self.own || self.named.load().contains(&uid)
    }
}

/// Returns the first part of a socket's path that blocks users outside its group, and the mode that it needs.
fn closed_to_others(socket: &Path) -> Option<(PathBuf, &'static str)> {
    let mode = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.permissions().mode());
    for directory in socket.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
        if mode(directory).is_ok_and(|mode| mode & 0o001 == 0) {
            return Some((directory.to_owned(), "o+x"));
        }
    }
    mode(socket).is_ok_and(|mode| mode & 0o006 != 0o006).then(|| (socket.to_owned(), "o+rw"))
}
