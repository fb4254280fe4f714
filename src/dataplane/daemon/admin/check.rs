//! Handler that shows how a request would be decided. It changes and records nothing.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::{Administration, problem};
use crate::api::host::check::{Answer, Question};
use crate::dataplane::decide::{Credential, Decision, RequestFacts, Target};
use crate::protocol::permission::Permission;

pub(super) async fn check(State(administration): State<Arc<Administration>>, body: Bytes) -> Response {
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
        _ => return problem(StatusCode::BAD_REQUEST, "invalid", "name a deployment or a host, and not both"),
    };
    let facts =
        RequestFacts { deployment, method: &question.method, uri: &question.uri, client: question.client };
    let token = question.token.as_ref().map(|token| Credential::Token(token.trim().as_bytes()));
    let wall = (administration.clock)();
    let decision = administration.authorizer.consider(token, &facts, wall).await;
    Json(answer(&decision, question.method.clone())).into_response()
}

fn answer(decision: &Decision, method: String) -> Answer {
    let (reason, found) = (decision.reason(), decision.facts());
    Answer {
        allowed: decision.allowed(),
        reason: reason.code().into(),
        title: reason.title().into(),
        detail: decision.detail(),
        step: reason.step().into(),
        status: reason.status(),
        token_id: found.token.map(ToString::to_string),
        generation: found.generation,
        role: found.role.map(ToString::to_string),
        deployment: found.deployment.map(ToString::to_string),
        glass: found.glass,
        method,
        path: found.path.map(str::to_owned),
        route: found.route.map(ToString::to_string),
        permission: found.permission.map(Permission::as_str).map(str::to_owned),
        mutating: found.mutating,
    }
}
