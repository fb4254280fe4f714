//! Administration on the host: HTTP over a Unix socket, for those the kernel says may use it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use zeroize::Zeroizing;

use super::Clock;
use super::audit::{self, AuditLog};
use super::decide::{Decision, RequestFacts, Target, decide};
use super::identity::Identity;
use super::live::{Alarm, Standing};
use super::replication::{Proof, Replication};
use super::store::{Origin, StoreError};
use crate::protocol::bundle::MEDIA_TYPE;
use crate::protocol::key::PublicKey;
use crate::protocol::time::Time;

/// The largest bundle that is taken in through the socket, in bytes.
const MAX_BUNDLE: usize = 256 << 20;

/// What administration works on.
pub struct Administration {
    /// The replica.
    pub replication: Arc<Replication>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// Its database.
    pub audit_path: PathBuf,
    /// Who the node is.
    pub identity: Identity,
    /// The key its checkpoints are signed with.
    pub key: PublicKey,
    /// The clock.
    pub clock: Clock,
    /// User ids that may administer.
    pub allowed: Vec<u32>,
}

/// Makes the socket at `path`. One left behind by a daemon that is gone is replaced; one that answers is not.
pub async fn listen(path: &Path) -> std::io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        return Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, "another daemon answers there"));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // Whoever is in the socket's group may ask; whether they are answered, their user id decides.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// The user this process runs as.
pub fn own_uid() -> std::io::Result<u32> {
    Ok(std::fs::metadata("/proc/self")?.uid())
}

/// The user at the other end of a connection, as the kernel tells (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug)]
pub struct Peer(Option<u32>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|credentials| credentials.uid()))
    }
}

/// The routes of administration.
pub fn router(administration: Arc<Administration>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/check", post(check))
        .route("/v1/replica", get(show))
        .route("/v1/replica/verify", post(prove))
        .route("/v1/replica/export", get(export))
        .route("/v1/replica/import", post(import).layer(DefaultBodyLimit::max(MAX_BUNDLE)))
        .route("/v1/audit", get(tail))
        .route("/v1/audit/verify", post(verify))
        .layer(from_fn_with_state(Arc::clone(&administration), guard))
        .with_state(administration)
}

async fn guard(
    State(administration): State<Arc<Administration>>,
    ConnectInfo(Peer(uid)): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if uid.is_some_and(|uid| administration.allowed.contains(&uid)) {
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
    let title = status.canonical_reason().unwrap_or("error");
    let body = serde_json::json!({
        "type": "about:blank", "title": title, "status": status.as_u16(), "code": code, "detail": detail,
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

impl IntoResponse for StoreError {
    fn into_response(self) -> Response {
        problem(StatusCode::UNPROCESSABLE_ENTITY, "replica_refused", &self.to_string())
    }
}

/// Runs what touches the disk off the reactor.
async fn off_reactor<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Response> {
    let failed = |status, detail: String| problem(status, "failed", &detail);
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())),
        Err(ended) => Err(failed(StatusCode::INTERNAL_SERVER_ERROR, ended.to_string())),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: &'static str,
    node_id: String,
    data_plane_id: String,
    issuer: String,
    time: Time,
    control_plane: Standing,
    replica: Option<ReplicaStatus>,
    audit_failing: bool,
    alarms: Vec<Alarm>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReplicaStatus {
    version: u64,
    signed_at: Time,
    age_seconds: i64,
    keyset: u64,
    records: u64,
    tokens: usize,
}

async fn status(State(administration): State<Arc<Administration>>) -> Json<Status> {
    let live = administration.replication.live();
    let (snapshot, time) = (live.snapshot(), (administration.clock)());
    let replica = snapshot.head().map(|head| ReplicaStatus {
        version: head.head().version,
        signed_at: head.head().iat,
        age_seconds: time.since(head.head().iat),
        keyset: head.head().keyset,
        records: head.head().count,
        tokens: snapshot.token_count(),
    });
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        node_id: administration.identity.node_id.to_string(),
        data_plane_id: administration.identity.data_plane_id.to_string(),
        issuer: administration.identity.issuer.clone(),
        time,
        control_plane: live.standing(),
        replica,
        audit_failing: administration.audit.failing(),
        alarms: live.alarms(),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Question {
    token: Option<Zeroizing<String>>,
    deployment: Option<String>,
    host: Option<String>,
    method: String,
    uri: String,
    client: Option<std::net::IpAddr>,
}

/// What would be decided, and how far the request would come.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    allowed: bool,
    reason: &'static str,
    title: &'static str,
    /// The step at which it is denied.
    step: &'static str,
    status: u16,
    token_id: Option<String>,
    generation: Option<u32>,
    role: Option<String>,
    deployment: Option<String>,
    method: String,
    path: Option<String>,
    route: Option<String>,
    permission: Option<&'static str>,
    mutating: bool,
}

async fn check(State(administration): State<Arc<Administration>>, body: Bytes) -> Response {
    let question: Question = match serde_json::from_slice(&body) {
        Ok(question) => question,
        Err(error) => {
            return problem(
                StatusCode::BAD_REQUEST,
                "invalid",
                &format!("the question is not understood: {error}"),
            );
        }
    };
    let deployment = match (&question.deployment, &question.host) {
        (Some(id), None) => Target::Id(id),
        (None, Some(host)) => Target::Host(host),
        _ => return problem(StatusCode::BAD_REQUEST, "invalid", "name a deployment, or a host, not both"),
    };
    let facts =
        RequestFacts { deployment, method: &question.method, uri: &question.uri, client: question.client };
    let live = administration.replication.live();
    let token = question.token.as_ref().map(|token| token.trim().as_bytes());
    let decision = decide(token, &facts, &live.snapshot(), live.now((administration.clock)()));
    Json(answer(decision, question.method.clone())).into_response()
}

fn answer(decision: Decision, method: String) -> Answer {
    Answer {
        allowed: decision.allowed(),
        reason: decision.reason.code(),
        title: decision.reason.title(),
        step: decision.reason.step(),
        status: decision.reason.status(),
        token_id: decision.token.map(|id| id.to_string()),
        generation: decision.generation,
        role: decision.role.map(|role| role.to_string()),
        deployment: decision.deployment.map(|id| id.to_string()),
        method,
        path: decision.path,
        route: decision.route.map(|route| route.to_string()),
        permission: decision.permission.map(crate::protocol::permission::Permission::as_str),
        mutating: decision.mutating,
    }
}

async fn show(State(administration): State<Arc<Administration>>) -> Response {
    let replication = Arc::clone(&administration.replication);
    let found =
        off_reactor(move || Ok::<_, StoreError>((replication.prove()?, replication.records()?))).await;
    match found {
        Ok((proof, records)) => {
            let records: Vec<_> = records
                .iter()
                .map(|record| {
                    let body: serde_json::Value = serde_json::from_str(&record.body).unwrap_or_default();
                    serde_json::json!({ "kind": record.kind.as_str(), "key": &*record.key, "body": body })
                })
                .collect();
            Json(serde_json::json!({ "head": proof, "records": records })).into_response()
        }
        Err(problem) => problem,
    }
}

async fn prove(State(administration): State<Arc<Administration>>) -> Result<Json<Option<Proof>>, Response> {
    let replication = Arc::clone(&administration.replication);
    off_reactor(move || replication.prove()).await.map(Json)
}

async fn export(State(administration): State<Arc<Administration>>) -> Response {
    let replication = Arc::clone(&administration.replication);
    match off_reactor(move || replication.export()).await {
        Ok(Some(bundle)) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], bundle).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, "replica_missing", "this node has no replica yet"),
        Err(problem) => problem,
    }
}

async fn import(
    State(administration): State<Arc<Administration>>,
    bundle: Bytes,
) -> Result<Json<Option<Proof>>, Response> {
    let (replication, now) = (Arc::clone(&administration.replication), (administration.clock)());
    off_reactor(move || {
        let outcome = replication.take(&bundle, Origin::File, now);
        if let Err(refused) = &outcome
            && refused.alarming()
        {
            replication.live().alarm(&format!("import: {refused}"), now);
        }
        outcome.and_then(|()| replication.prove())
    })
    .await
    .map(Json)
}

#[derive(Deserialize)]
struct Window {
    #[serde(default)]
    after: i64,
    #[serde(default = "plenty")]
    limit: usize,
}

fn plenty() -> usize {
    1000
}

async fn tail(
    State(administration): State<Arc<Administration>>,
    Query(window): Query<Window>,
) -> Result<Response, Response> {
    let path = administration.audit_path.clone();
    let lines = off_reactor(move || audit::events(&path, window.after, window.limit)).await?;
    let body = lines.into_iter().map(|line| line + "\n").collect::<String>();
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

async fn verify(State(administration): State<Arc<Administration>>) -> Result<Json<audit::Report>, Response> {
    let (path, key) = (administration.audit_path.clone(), administration.key.clone());
    off_reactor(move || audit::verify(&path, &key)).await.map(Json)
}
