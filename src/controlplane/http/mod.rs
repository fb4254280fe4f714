//! HTTP API: JSON in the shapes of [`crate::api`], and an OpenAPI document generated from the code.
//!
//! A call of a person or token passes `caller` (address, authentication) and `recording` (audit log) before its
//! handler, which parses it and calls the control plane on a blocking thread.

mod accounts;
mod audit_log;
mod body;
mod caller;
mod code;
mod dag_tags;
mod data_planes;
mod deploys;
mod dual_control;
mod fields;
mod jwks;
mod limits;
mod logs;
mod nodes;
mod openapi;
mod problem;
mod query;
mod reconciliation;
mod recording;
mod roles;
mod schemas;
mod teams;
mod tokens;
mod uploads;

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::body::Body;
use self::limits::Limits;
use self::recording::Made;
use super::ControlPlane;
use super::config;
use super::error::Error;
use crate::controlplane::observe::{calls, export};
use crate::platform::net::forwarded;
use crate::platform::net::listener::Connections;
use crate::platform::net::share::{Each, Share};

type Control = State<Arc<ControlPlane>>;

/// Control plane with the settings of its HTTP API.
pub struct Edge {
    control: Arc<ControlPlane>,
    trusted: Vec<IpNet>,
    limits: Limits,
    share: Share,
}

impl Edge {
    /// Returns the settings for `control` without trusted proxies and with default limits.
    #[must_use]
    pub fn new(control: Arc<ControlPlane>) -> Self {
        let limits = Limits::new(config::Limits::default());
        Self { control, trusted: Vec::new(), limits, share: Share::Quarter }
    }

    /// Trusts the proxies in these networks to name the client address.
    #[must_use]
    pub fn trusting(self, proxies: Vec<IpNet>) -> Self {
        Self { trusted: proxies, ..self }
    }

    /// Sets the limits of callers.
    #[must_use]
    pub fn limited(self, limits: config::Limits) -> Self {
        let share = Share::from(limits.connections_per_client.map(NonZeroU32::get));
        Self { limits: Limits::new(limits), share, ..self }
    }
}

impl Edge {
    /// Returns the router of `/metrics`, to be served on another listener.
    pub(super) fn metrics(&self) -> Router {
        export::router(Arc::clone(&self.control))
    }

    /// Returns the share of one client in its connections. A trusted proxy, or one on this host, has no share: it brings
    /// the connections of many clients.
    pub(super) fn each(&self) -> Each {
        let trusted = self.trusted.clone();
        Each::except(self.share, move |client| client.is_loopback() || forwarded::within(&trusted, client))
    }

    /// Returns the control plane that it serves.
    pub(super) fn control(&self) -> Arc<ControlPlane> {
        Arc::clone(&self.control)
    }

    /// Returns the metrics in which its connections are counted.
    pub(super) fn connections(&self) -> Connections {
        self.control.metrics.connections.clone()
    }
}

/// Base paths of the calls of people. The older ones are those of other clients of the platform; `scope` and `type` of a
/// token, in which they differ, are both read and both written.
const BASES: [&str; 3] = ["/v1", "/iam/v1beta1", "/platform/v1beta1"];

/// Returns a route without its base path.
fn below_base(route: &str) -> &str {
    BASES.iter().find_map(|base| route.strip_prefix(base)).unwrap_or(route)
}

/// Returns the router of the API.
pub fn router(edge: Edge) -> Router {
    let edge = Arc::new(edge);
    let (calls, described) = people().split_for_parts();
    let known = Arc::new(query::Known::from_document(&described));
    let calls = calls
        .route_layer(from_fn_with_state(known, query::refuse_unknown))
        .route_layer(from_fn(fields::unconditional))
        .route_layer(from_fn_with_state(Arc::clone(&edge), recording::record))
        .route_layer(from_fn_with_state(Arc::clone(&edge), caller::authenticate));
    let (others, document) = nodes()
        .routes(routes!(openapi::healthz))
        .routes(routes!(openapi::readyz))
        .routes(routes!(openapi::openapi))
        .routes(routes!(jwks::jwks))
        .split_for_parts();
    // The document describes the newest base path; it says that the others have the same calls. Of two schemas of one name,
    // that of the calls of people stays.
    let mut whole = OpenApi::default().nest(BASES[0], described);
    whole.merge(document);
    BASES
        .into_iter()
        .fold(others, |router, base| router.nest(base, calls.clone()))
        .layer(axum::Extension(openapi::Document::new(whole)))
        .layer(from_fn_with_state(Arc::clone(&edge), caller::locate))
        .layer(from_fn_with_state(Arc::clone(&edge.control), problem::complete))
        .layer(from_fn_with_state(Arc::clone(&edge.control), calls::count))
        .with_state(Arc::clone(&edge.control))
}

/// Routes for people and their automation.
fn people() -> OpenApiRouter<Arc<ControlPlane>> {
    let organization = OpenApiRouter::new()
        .routes(routes!(accounts::show_organization))
        .routes(routes!(tokens::list_tokens, tokens::create_token))
        .routes(routes!(tokens::show_token, tokens::update_token, tokens::delete_token))
        .routes(routes!(tokens::rotate_token))
        .routes(routes!(tokens::replace_roles))
        .routes(routes!(accounts::list_workspaces, accounts::create_workspace))
        .routes(routes!(accounts::show_workspace, accounts::update_workspace, accounts::delete_workspace))
        .routes(routes!(accounts::list_deployments, accounts::create_deployment))
        .routes(routes!(accounts::show_deployment, accounts::update_deployment, accounts::delete_deployment))
        .routes(routes!(accounts::deployment_options))
        .routes(routes!(accounts::list_users, accounts::create_user))
        .routes(routes!(accounts::show_user, accounts::delete_user))
        .routes(routes!(accounts::set_user_roles))
        .routes(routes!(accounts::rotate_user_token))
        .routes(routes!(data_planes::list_data_planes, data_planes::create_data_plane))
        .routes(routes!(data_planes::show_data_plane))
        .routes(routes!(data_planes::create_enrolment_token))
        .routes(routes!(reconciliation::list_outages))
        .routes(routes!(reconciliation::show_outage))
        .routes(routes!(data_planes::list_nodes, data_planes::create_node))
        .routes(routes!(data_planes::retire_node))
        .routes(routes!(dag_tags::show_dag_tags, dag_tags::publish_dag_tags))
        .routes(routes!(deploys::list_deploys, deploys::create_deploy))
        .routes(routes!(deploys::show_deploy, deploys::update_deploy))
        .routes(routes!(deploys::finalize_deploy))
        .routes(routes!(deploys::roll_back))
        .routes(routes!(logs::deployment_logs))
        .routes(routes!(tokens::list_deployment_tokens, tokens::assign_token))
        .routes(routes!(tokens::update_assignment, tokens::remove_assignment))
        .routes(routes!(tokens::show_effective))
        .routes(routes!(roles::list_roles, roles::create_role))
        .routes(routes!(roles::show_role, roles::update_role, roles::delete_role))
        .routes(routes!(roles::list_role_versions))
        .routes(routes!(roles::role_templates))
        .routes(routes!(teams::list_teams, teams::create_team))
        .routes(routes!(teams::show_team, teams::update_team, teams::delete_team))
        .routes(routes!(teams::set_team_roles))
        .routes(routes!(teams::list_team_members, teams::add_team_members))
        .routes(routes!(teams::remove_team_member))
        .routes(routes!(audit_log::list_audit_log))
        .routes(routes!(audit_log::list_audit_logs))
        .routes(routes!(dual_control::show_dual_control, dual_control::set_dual_control))
        .routes(routes!(dual_control::list_requests))
        .routes(routes!(dual_control::show_request))
        .routes(routes!(dual_control::approve_request))
        .routes(routes!(dual_control::reject_request))
        .routes(routes!(dual_control::collect_request));
    OpenApiRouter::new()
        .routes(routes!(accounts::list_organizations))
        .routes(routes!(accounts::show_caller))
        .nest("/organizations/{organization}", organization)
        .routes(routes!(roles::permission_groups))
}

/// Routes for nodes.
fn nodes() -> OpenApiRouter<Arc<ControlPlane>> {
    OpenApiRouter::new()
        .routes(routes!(nodes::enrol))
        .routes(routes!(nodes::feed))
        .routes(routes!(reconciliation::events))
        .routes(routes!(reconciliation::revocations))
        .routes(routes!(reconciliation::outage))
        .routes(routes!(reconciliation::statement))
        .routes(routes!(reconciliation::environments))
        .routes(routes!(nodes::introspect))
        .routes(routes!(code::deploys))
        .routes(routes!(code::archive))
        .routes(routes!(code::host_deploy))
        .routes(routes!(code::host_archive))
        .routes(routes!(uploads::upload))
}

async fn off_reactor<T: Send + 'static>(
    control: &Arc<ControlPlane>,
    work: impl FnOnce(&ControlPlane) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    control.off_reactor(work).await
}

/// Answers a call with what `work` returns.
async fn answer<T: Serialize + Send + 'static>(
    control: &Arc<ControlPlane>,
    work: impl FnOnce(&ControlPlane) -> Result<T, Error> + Send + 'static,
) -> Response {
    match off_reactor(control, work).await {
        Ok(value) => written(StatusCode::OK, &value),
        Err(error) => error.into_response(),
    }
}

/// Answers a call with an object and its entity tag, which `If-Match` is compared with.
fn tagged<T: Serialize>(answer: Result<(String, T), Error>) -> Response {
    match answer {
        Ok((tag, answer)) => {
            let mut response = written(StatusCode::OK, &answer);
            response.headers_mut().extend(HeaderValue::from_str(&tag).ok().map(|tag| (header::ETAG, tag)));
            response
        }
        Err(error) => error.into_response(),
    }
}

/// Answers a call that creates an object. The status is 200: the platform's clients take 201 for a failure, and would lose
/// the value of a new token.
async fn answer_created<T: Serialize + Send + 'static>(
    control: &Arc<ControlPlane>,
    work: impl FnOnce(&ControlPlane) -> Result<T, Error> + Send + 'static,
) -> Response {
    #[derive(Deserialize)]
    struct Identified {
        id: String,
    }
    match off_reactor(control, work)
        .await
        .and_then(|value| Ok(serde_json::to_vec(&value).map_err(io::Error::from)?))
    {
        Ok(body) => {
            let response = json(StatusCode::OK, body.clone());
            match serde_json::from_slice::<Identified>(&body) {
                Ok(Identified { id }) => noted(response, id),
                // An enrolment token has no id that is not secret.
                Err(_) => response,
            }
        }
        Err(error) => error.into_response(),
    }
}

/// Attaches the id of a created object to the response, for the audit log.
fn noted(mut response: Response, id: String) -> Response {
    response.extensions_mut().insert(Made(id));
    response
}

/// Serializes an answer. It may contain token values, so caches must not store it.
fn written<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let body = match serde_json::to_vec(value) {
        Ok(body) => body,
        Err(error) => return Error::Io(error.into()).into_response(),
    };
    json(status, body)
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

/// Answers a call that returns no body.
async fn answer_no_content(
    control: &Arc<ControlPlane>,
    work: impl FnOnce(&ControlPlane) -> Result<(), Error> + Send + 'static,
) -> Response {
    match off_reactor(control, work).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    }
}
