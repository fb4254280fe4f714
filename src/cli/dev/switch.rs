//! `halligan dev outage on|off`: cuts the control plane of a running `halligan dev`, and brings it back.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::failed;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::controlplane::ControlPlane;
use crate::controlplane::http::Edge;
use crate::controlplane::server::Server;
use crate::platform::private_file::write_private;
use crate::platform::state_directory::own_uid;

/// State of the simulated outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    /// The control plane does not listen, and its connections are closed.
    On,
    /// The control plane is running.
    Off,
}

/// Control plane that can be stopped and started.
pub(super) struct Switch {
    control: Arc<ControlPlane>,
    address: SocketAddr,
    server: Option<Server>,
}

impl Switch {
    pub(super) fn start(
        control: Arc<ControlPlane>,
        address: SocketAddr,
        listener: TcpListener,
    ) -> Result<Self, Failure> {
        let server = Server::start(Edge::new(Arc::clone(&control)), listener, None, None)
            .map_err(|error| failed("the control plane can't be served", error))?;
        Ok(Self { control, address, server: Some(server) })
    }

    fn set(&mut self, state: State) -> Result<(), Failure> {
        match state {
            State::On => self.server = None,
            State::Off if self.server.is_some() => {}
            State::Off => {
                let again = || {
                    let listener = TcpListener::bind(self.address)?;
                    Server::start(Edge::new(Arc::clone(&self.control)), listener, None, None)
                };
                // After the connections are closed, the address may stay in use for a moment.
                let mut tries = 0;
                self.server = loop {
                    match again() {
                        Ok(server) => break Some(server),
                        Err(_) if tries < 100 => {
                            tries += 1;
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        Err(error) => return Err(failed("the control plane can't come back", error)),
                    }
                };
            }
        }
        Ok(())
    }
}

/// Socket on which a running `halligan dev` takes commands.
pub(super) struct Socket {
    path: PathBuf,
    pointer: Option<PathBuf>,
    task: JoinHandle<()>,
}

impl Socket {
    pub(super) fn close(self) {
        self.task.abort();
        // An error means that the socket is already gone.
        let _ = std::fs::remove_file(self.path);
        if let Some(pointer) = self.pointer {
            let _ = std::fs::remove_file(pointer);
        }
    }
}

pub(super) fn listen(state: &Path, mut switch: Switch) -> Result<Socket, Failure> {
    let path = state.join("dev.sock");
    // Removes the socket of an instance that was killed. Any other file stays, and makes the bind below fail.
    if std::fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket()) {
        let _ = std::fs::remove_file(&path);
    }
    let broken = |source| Failure::File { path: path.clone(), source };
    let listener = UnixListener::bind(&path).map_err(broken)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(broken)?;
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut asked = String::new();
            if stream.read_line(&mut asked).await.is_err() {
                continue;
            }
            let answer = match State::from_str(asked.trim(), false) {
                Ok(state) => {
                    // Stopping a server with a runtime of its own blocks. Other commands can wait meanwhile.
                    let setting = tokio::task::spawn_blocking(move || {
                        let outcome = switch.set(state);
                        (switch, outcome)
                    });
                    let Ok((back, outcome)) = setting.await else { return };
                    switch = back;
                    outcome.map_or_else(|error| error.to_string(), |()| "ok".into())
                }
                Err(error) => error,
            };
            // The client may have disconnected.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let pointer =
        pointer().filter(|pointer| write_private(pointer, state.as_os_str().as_encoded_bytes()).is_ok());
    Ok(Socket { path, pointer, task })
}

/// Returns the path of the file that names the state directory of the running `halligan dev`, so that it is found
/// without an argument.
fn pointer() -> Option<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty());
    match runtime {
        Some(directory) => Some(PathBuf::from(directory).join("halligan-dev")),
        None => Some(std::env::temp_dir().join(format!("halligan-dev-{}", own_uid().ok()?))),
    }
}

fn running() -> Option<PathBuf> {
    let pointer = pointer()?;
    // Others can write to the directory, so only a file of the same user is trusted.
    let own = std::fs::metadata(&pointer).ok()?.uid() == own_uid().ok()?;
    let text = own.then(|| std::fs::read_to_string(pointer).ok())??;
    Some(PathBuf::from(text))
}

/// Sends a command to the running `halligan dev`.
pub(super) async fn ask(state: State, dir: Option<PathBuf>, output: Output) -> Result<(), Failure> {
    let directory = dir
        .or_else(running)
        .ok_or_else(|| Failure::Usage("no `halligan dev` is running here; name its --dir".into()))?;
    let path = directory.join("dev.sock");
    let broken = |error: std::io::Error| Failure::Unreachable {
        what: format!("`halligan dev` at {}", path.display()),
        why: error.to_string(),
    };
    let mut stream = UnixStream::connect(&path).await.map_err(broken)?;
    let word = if state == State::On { "on" } else { "off" };
    stream.write_all(format!("{word}\n").as_bytes()).await.map_err(broken)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(broken)?;
    if answer != "ok" {
        return Err(Failure::Dev(answer));
    }
    output.say(match state {
        State::On => "The control plane is cut off. The daemon decides alone.",
        State::Off => "The control plane is back.",
    });
    Ok(())
}
