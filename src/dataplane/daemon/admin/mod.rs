//! Administration on the host: HTTP over a Unix socket. The kernel's credentials of the peer decide whether it is allowed.

pub mod allowed;
mod audit;
mod check;
mod clock;
mod glass;
mod outage;
mod reload;
mod replica;
mod revocation;
mod session;
mod status;

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post, put};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

pub use reload::{AskError, ask_for_reload};

use self::allowed::Allowed;
use super::reload::Reload;
use crate::api::host::replica::MAX_BUNDLE;
use crate::api::problem::{MEDIA_TYPE, Problem};
use crate::dataplane::audit::AuditLog;
use crate::dataplane::authorize::Authorizer;
use crate::dataplane::code::Code;
use crate::dataplane::glass::GlassTask;
use crate::dataplane::node::identity::Identity;
use crate::dataplane::replica::replication::Replication;
use crate::dataplane::revocations::Revocations;
use crate::dataplane::uplink::outage::Outages;
use crate::platform::clock::Clock;
use crate::platform::database::database_error;
use crate::platform::net::listener::{Bounds, Connections, accept};
use crate::platform::net::serve::serve_router;
use crate::protocol::key::PublicKey;

/// Parts of the daemon that the handlers work with.
pub struct Administration {
    /// Decides and records.
    pub authorizer: Arc<Authorizer>,
    /// Replica of the node.
    pub replication: Arc<Replication>,
    /// Local revocations of the data plane's hosts.
    pub revocations: Arc<Revocations>,
    /// Broken glass, and the task that records its changes.
    pub glass_task: Arc<GlassTask>,
    /// Outages of this node.
    pub outages: Arc<Outages>,
    /// Audit log of the node.
    pub audit: Arc<AuditLog>,
    /// Path of the audit log's database.
    pub audit_path: PathBuf,
    /// Identity of the node.
    pub identity: Identity,
    /// Public key that verifies the log's checkpoints.
    pub key: PublicKey,
    /// Clock of the node.
    pub clock: Clock,
    /// Makes sync ask the control plane at once.
    pub wake: Arc<Notify>,
    /// Users that may administer.
    pub allowed: Arc<Allowed>,
    /// Reloads the configuration.
    pub reload: Arc<Reload>,
    /// Code of the deployments.
    pub code: Arc<Code>,
}

/// Binds the socket at `path`. A socket that no program listens on is replaced. The socket of a running program, or a file of
/// another kind, is an error.
pub async fn listen(path: &Path) -> std::io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let dead = match UnixStream::connect(path).await {
        Ok(_) => {
            return Err(std::io::Error::new(
                ErrorKind::AddrInUse,
                "another daemon listens on this socket; stop it, or name another path in listen.admin_socket",
            ));
        }
        // Only this error means that no program listens. A running program whose queue is full, or that uses datagrams, causes
        // other errors.
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(not_a_socket()),
        Ok(_) if !dead => {
            let what = "another program's socket stands there; stop that program, or name another path in \
                        listen.admin_socket";
            return Err(std::io::Error::new(ErrorKind::AddrInUse, what));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    // Members of the socket's group may connect. The answer depends on their user id.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Rejects a path of the admin socket that [`listen`] rejects whatever runs at the moment, and changes nothing.
pub fn examine(path: &Path) -> std::io::Result<()> {
    std::os::unix::net::SocketAddr::from_pathname(path).map_err(|error| {
        std::io::Error::new(error.kind(), format!("{error}; name another path in listen.admin_socket"))
    })?;
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(not_a_socket()),
        // A file in place of a directory. What only its owner may see is not refused.
        Err(error) if error.kind() == ErrorKind::NotADirectory => Err(std::io::Error::new(
            error.kind(),
            "a part of the path is no directory; name another path in listen.admin_socket",
        )),
        _ => Ok(()),
    }
}

fn not_a_socket() -> std::io::Error {
    std::io::Error::new(
        ErrorKind::AlreadyExists,
        "something else than a socket stands there; move it away, or name another path in listen.admin_socket",
    )
}

/// User at the other end of a connection, by the kernel's credentials (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug)]
pub struct Peer(Option<u32>);

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(uid) => write!(f, "uid {uid}"),
            None => f.write_str("an unknown user"),
        }
    }
}

impl Peer {
    fn from_stream(stream: &UnixStream) -> Self {
        Self(stream.peer_cred().ok().map(|credentials| credentials.uid()))
    }
}

/// Maximum number of connections at a time, for operators and monitoring.
const MAX_CONNECTIONS: u32 = 64;

/// Serves administration until shutdown.
pub fn serve(
    listener: UnixListener,
    administration: Arc<Administration>,
    counted: Connections,
    stopped: watch::Receiver<()>,
) -> JoinHandle<()> {
    let (router, stop) = (router(administration), stopped.clone());
    let bounds = Bounds { name: "admin", connections: MAX_CONNECTIONS, each: None, counted };
    accept(listener, bounds, stopped, move |stream, (), place| {
        let peer = Peer::from_stream(&stream);
        place.hold(serve_router(stream, router.clone(), peer, stop.clone()))
    })
}

/// Returns the routes of administration.
pub fn router(administration: Arc<Administration>) -> Router {
    Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/check", post(check::check))
        .route("/v1/replica", get(replica::show))
        .route("/v1/replica/forks", get(replica::forks))
        .route("/v1/replica/reset", post(replica::reset))
        .route("/v1/replica/verify", post(replica::prove))
        .route("/v1/replica/export", get(replica::export))
        .route("/v1/replica/import", post(replica::import).layer(DefaultBodyLimit::max(MAX_BUNDLE)))
        .route("/v1/revocations", get(revocation::list).post(revocation::revoke))
        .route("/v1/clock/accept", post(clock::accept))
        .route("/v1/glass", get(glass::list))
        .route("/v1/glass/{deployment}", put(glass::break_glass).delete(glass::seal))
        .route("/v1/sessions", get(session::list))
        .route("/v1/sessions/{id}", delete(session::end))
        .route("/v1/outages", get(outage::list))
        .route("/v1/outages/{id}", get(outage::show))
        .route("/v1/audit", get(audit::tail))
        .route("/v1/audit/verify", post(audit::verify))
        .route("/v1/reload", post(reload::reload))
        .layer(from_fn_with_state(Arc::clone(&administration), guard))
        .with_state(administration)
}

async fn guard(
    State(administration): State<Arc<Administration>>,
    ConnectInfo(Peer(uid)): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if uid.is_some_and(|uid| administration.allowed.may(uid)) {
        next.run(request).await
    } else {
        let who = uid.map_or_else(|| "an unknown user".into(), |uid| format!("user id {uid}"));
        problem(
            StatusCode::FORBIDDEN,
            "not_allowed",
            &format!("{who} may not administer this daemon; use sudo, or add it to admin.allow_uids"),
        )
    }
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let (code, detail) = (Some(code.to_owned().into()), Some(detail.to_owned()));
    let problem = Problem { code, detail, ..Problem::new(status) };
    (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], problem.to_json()).into_response()
}

/// Returns the answer for work that failed: 503 if the database could not be read or written, so that a later attempt may
/// succeed, and 422 if the work was refused.
fn not_done(error: &(dyn std::error::Error + 'static)) -> Response {
    if database_error(error).is_none() {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "failed", &error.to_string());
    }
    let detail =
        format!("{error}; make room on the disk of the state directory, or make it writable, and try again");
    problem(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", &detail)
}

/// Runs work that touches the disk on a blocking thread.
async fn off_reactor<T: Send + 'static, E: std::error::Error + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Response> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(not_done(&error)),
        Err(ended) => Err(problem(StatusCode::INTERNAL_SERVER_ERROR, "failed", &ended.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::daemon::clock_acceptance::ClockError;
    use crate::dataplane::glass::{GlassError, OrderError};
    use crate::dataplane::replica::store::StoreError;
    use crate::dataplane::revocations::LedgerError;
    use crate::protocol::revocation::RevocationError;

    #[test]
    fn a_database_that_takes_nothing_is_no_fault_of_the_call() {
        let full = || {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
            rusqlite::Error::SqliteFailure(code, Some("database or disk is full".into()))
        };
        let answers = [
            not_done(&LedgerError::Database(full())),
            clock::not_accepted(&ClockError::NotStored(StoreError::Database(full()))),
            glass::not_changed(&OrderError::NotStored(GlassError::Database(full()))),
            glass::not_changed(&OrderError::Refused(GlassError::Database(full()))),
        ];
        for answer in answers {
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        let refused = not_done(&LedgerError::Revocation(RevocationError::Reason));
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
}
