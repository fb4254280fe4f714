//! OpenAPI document: the descriptions of the handlers, with what holds for all of them.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Required, ResponseBuilder};

use super::fields::CONDITIONAL;
use super::{Control, off_reactor};
use crate::api::problem::{self, Problem};

/// Title, licence and metadata of the document.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Halligan control plane", description = "API tokens for Airflow deployments: their life, their roles, and what data planes know of them. The calls of people are served under `/iam/v1beta1` and `/platform/v1beta1` as well as under `/v1`."),
    components(schemas(Problem)),
    security(("bearer" = [])),
)]
struct Frame;

/// Serialized OpenAPI document.
#[derive(Clone)]
pub(super) struct Document(Bytes);

impl Document {
    pub(super) fn new(api: OpenApi) -> Self {
        let mut document = Frame::openapi();
        document.merge(api);
        complete(&mut document);
        // Strings, numbers, lists and maps always serialize.
        Self(document.to_json().unwrap_or_default().into())
    }
}

/// Returns the OpenAPI document.
#[utoipa::path(get, path = "/openapi.json", security(()), responses((status = 200, body = Object)))]
pub(super) async fn openapi(Extension(document): Extension<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document.0)
}

/// Returns 200 if the control plane answers.
#[utoipa::path(get, path = "/healthz", security(()), responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Returns 200 if the control plane can do its work, else 503.
///
/// The body has one line per problem, including those that do not make it unready yet.
#[utoipa::path(get, path = "/readyz", security(()), responses((status = 200, body = String), (status = 503, body = String)))]
pub(super) async fn readyz(State(control): Control) -> Response {
    let findings = off_reactor(&control, |control| Ok(control.findings())).await;
    let findings = match findings {
        Ok(findings) => findings,
        Err(error) => return error.into_response(),
    };
    let blocked = findings.iter().any(|finding| finding.blocks);
    let status = if blocked { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut text = if blocked { "not ready\n" } else { "ok\n" }.to_owned();
    for finding in findings {
        text.push_str(&finding.detail);
        text.push('\n');
    }
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

fn complete(document: &mut OpenApi) {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "A user's or API token; for calls of nodes, a JWT signed with the node's key (RFC 7523).",
        ))
        .build();
    let client = HttpBuilder::new()
        .scheme(HttpAuthScheme::Basic)
        .description(Some(
            "The id and the value of an API token, as client credentials (RFC 6749 section 2.3.1).",
        ))
        .build();
    if let Some(components) = &mut document.components {
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme("client", SecurityScheme::Http(client));
    }
    for (path, item) in &mut document.paths.paths {
        for (mutating, operation) in operations(item) {
            place(path, operation);
            fields(operation);
            refusals(path, mutating, operation);
            described(operation);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    [(false, &mut item.get), (true, &mut item.post), (true, &mut item.put), (true, &mut item.delete)]
        .into_iter()
        .filter_map(|(mutating, operation)| operation.as_mut().map(|operation| (mutating, operation)))
}

/// Describes the path parameters, which are all ids.
fn place(path: &str, operation: &mut Operation) {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters = operation.parameters.get_or_insert_default();
    for name in names {
        let id = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[A-Za-z0-9_-]{1,64}$"));
        let parameter: Parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(id))
            .build();
        parameters.push(RefOr::T(parameter));
    }
}

/// Operations that create a token value once and accept an idempotency key.
const REPEATABLE: [&str; 2] = ["create_token", "rotate_token"];

/// Describes the header fields `Idempotency-Key` and `If-Match`.
fn fields(operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    if REPEATABLE.contains(&&*id) {
        let description = "A key of this call and its repeats, such as a UUID: the call is carried out once.";
        field(operation, "Idempotency-Key", description, r"^[!#-\[\]-~]{1,255}$");
    }
    if CONDITIONAL.iter().any(|(_, known)| *known == id) {
        let description = "The `ETag` of the object that was seen: what has changed since is left as it is.";
        field(operation, "If-Match", description, "^[ -~]+$");
        refuse(operation, "412", "it has changed since it was seen");
    }
}

/// Describes one header field.
fn field(operation: &mut Operation, name: &str, description: &str, pattern: &str) {
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    let field = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .description(Some(description))
        .required(Required::False)
        .schema(Some(schema))
        .build();
    operation.parameters.get_or_insert_default().push(RefOr::T(field));
}

/// Describes the errors that a call can return.
fn refusals(path: &str, mutating: bool, operation: &mut Operation) {
    // A call that states its own security is open to all if it requires nothing.
    let none = SecurityRequirement::default();
    let open = operation.security.as_ref().is_some_and(|stated| stated.iter().all(|scheme| *scheme == none));
    let queried = operation.parameters.iter().flatten().any(
        |parameter| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in != ParameterIn::Path),
    );
    let bodied = operation.request_body.is_some();
    let mut refusals = vec![("500", "it failed inside")];
    if !open {
        refusals.extend([
            ("401", "no or no valid token"),
            ("403", "the caller's role does not allow it"),
            ("429", "too many calls; `Retry-After` says when to come back"),
        ]);
    }
    if path.contains('{') {
        refusals.extend([("400", "the path is not understood"), ("404", "nothing of this id")]);
    }
    if queried || bodied {
        refusals.extend([("400", "not understood"), ("422", "a field that can't be taken")]);
    }
    if mutating {
        refusals.extend([
            ("408", "the body did not arrive in time"),
            ("409", "it contradicts what stands"),
            ("413", "the body is too large"),
        ]);
    }
    if bodied {
        refusals.push(("415", "the body is not of the right media type"));
    }
    for (status, description) in refusals {
        refuse(operation, status, description);
    }
}

/// Describes one error.
fn refuse(operation: &mut Operation, status: &str, description: &str) {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(description).content(problem::MEDIA_TYPE, body);
    let responses = &mut operation.responses.responses;
    responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(response.build()));
}

/// OpenAPI requires a description of each response. For a successful one, the operation's summary says enough.
fn described(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            "done".clone_into(&mut response.description);
        }
    }
}
