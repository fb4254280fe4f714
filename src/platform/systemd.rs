//! Service manager (systemd): the sockets and credentials that it passes in, and the notifications sent to it.
//!
//! In a process that was started otherwise there are no sockets and no credentials, and notifications have no effect.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use listenfd::ListenFd;
pub use sd_notify::NotifyState;

/// Sockets opened by the service manager, which outlive this process (sd_listen_fds(3)), by the `FileDescriptorName=`
/// of their units.
#[derive(Debug, Default)]
pub struct Sockets {
    tcp: Vec<(String, TcpListener)>,
    unix: Vec<(String, UnixListener)>,
}

impl Sockets {
    /// Takes over the inherited sockets. It must be called once, before any thread is started, because it changes the
    /// environment.
    pub fn inherit() -> io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut inherited = ListenFd::from_env();
        let mut sockets = Self::default();
        for index in 0..inherited.len() {
            let name = names.next().unwrap_or_default().to_owned();
            if let Ok(Some(listener)) = inherited.take_tcp_listener(index) {
                listener.set_nonblocking(true)?;
                sockets.tcp.push((name, listener));
            } else if let Some(listener) = inherited.take_unix_listener(index)? {
                listener.set_nonblocking(true)?;
                sockets.unix.push((name, listener));
            }
        }
        Ok(sockets)
    }

    /// Takes the TCP listeners with this name.
    pub fn take_tcp(&mut self, name: &str) -> Vec<TcpListener> {
        self.tcp.extract_if(.., |(of, _)| of == name).map(|(_, listener)| listener).collect()
    }

    /// Takes the Unix listener with this name.
    pub fn take_unix(&mut self, name: &str) -> Option<UnixListener> {
        let at = self.unix.iter().position(|(of, _)| of == name)?;
        Some(self.unix.swap_remove(at).1)
    }

    /// Logs the sockets that were not taken. The name in such a socket's unit is probably misspelt.
    pub fn warn_of_the_rest(&self) {
        let tcp = self.tcp.iter().map(|(name, _)| name);
        for name in tcp.chain(self.unix.iter().map(|(name, _)| name)) {
            tracing::warn!(
                name,
                "the service manager passed a socket that this program does not use; check FileDescriptorName= in its unit"
            );
        }
    }
}

/// Returns the path of a credential (systemd.exec(5), `LoadCredential=`), if this service was given it.
#[must_use]
pub fn credential(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name);
    path.is_file().then_some(path)
}

/// Returns true if the file is a credential of this service. The service manager restricts its readers by an access
/// control list, which the file's mode shows as permissions of its group.
#[must_use]
pub fn is_credential(path: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY")
        .is_some_and(|directory| path.parent() == Some(Path::new(&directory)))
}

/// Sends a notification to the service manager (sd_notify(3)).
pub fn notify(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the service manager can't be notified");
    }
}

/// Notifies that a reload has started. [`NotifyState::Ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(since) => notify(&[NotifyState::Reloading, since]),
        Err(error) => tracing::warn!(%error, "there is no monotonic clock"),
    }
}

/// Returns true if a service manager receives notifications.
#[must_use]
pub fn listens() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Returns the time after which the service manager kills a silent service, or none without a watchdog.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}
