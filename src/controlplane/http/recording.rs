//! Audit logging of every call that may change something: a line before the call is carried out, and its result
//! afterwards.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::caller::Address;
use super::fields::{Fingerprint, below_organization};
use super::{Edge, body, off_reactor};
use crate::api::deployment::DeploymentUpdate;
use crate::api::environment::NewEnvironmentVariable;
use crate::api::problem::Problem;
use crate::controlplane::access::audit_log::Attempt;
use crate::controlplane::access::authorization::Actor;
use crate::controlplane::accounts::dag_tags;
use crate::controlplane::error::Error;
use crate::protocol::environment::check_variable_name;

/// Object that a call created.
#[derive(Clone)]
pub(super) struct Made(pub(super) String);

/// Call whose body may hold the values of environment variables.
const UPDATE: &str = "POST /deployments/{id}";
/// Member that holds them.
const VARIABLES: &str = "environmentVariables";

/// Returns a body as the audit log keeps it: with the names of environment variables and without their values. A body that is
/// not understood is left out if values may stand in it, since they may stand anywhere.
fn without_values<'t>(call: &str, text: &'t str) -> Option<Cow<'t, str>> {
    let parsed: Option<Value> = serde_json::from_str(text).ok();
    let named = parsed.as_ref().is_some_and(|value| value.get(VARIABLES).is_some());
    if call != UPDATE {
        return (!named).then_some(Cow::Borrowed(text));
    }
    let update: DeploymentUpdate = serde_json::from_str(text).ok()?;
    let Some(Value::Object(mut members)) = parsed else { return None };
    let Some(variables) = update.environment_variables else { return Some(Cow::Borrowed(text)) };
    // A name that no variable can have may be a value in the wrong place.
    if variables.iter().any(|variable| check_variable_name(&variable.key).is_err()) {
        return None;
    }
    let kept =
        |variable: &NewEnvironmentVariable| json!({ "key": variable.key, "isSecret": variable.is_secret });
    members.insert(VARIABLES.into(), variables.iter().map(kept).collect());
    Some(Cow::Owned(Value::Object(members).to_string()))
}

pub(super) async fn record(
    State(edge): State<Arc<Edge>>,
    actor: Actor,
    route: MatchedPath,
    ids: RawPathParams,
    request: Request,
    next: Next,
) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let call = format!("{} {}", request.method(), below_organization(&route));
    let target = ids.iter().filter(|(name, _)| *name != "organization").last().map(|(_, id)| id.to_owned());
    let address = request.extensions().get::<Address>().and_then(|address| address.0);
    let (mut parts, sent) = request.into_parts();
    let sent = match body::read(sent, dag_tags::MAX_BYTES).await {
        Ok(sent) => sent,
        Err(refused) => return refused,
    };
    let mut hash = Sha256::new_with_prefix(parts.method.as_str());
    for part in [parts.uri.path().as_bytes(), &sent] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    parts.extensions.insert(Fingerprint(hash.finalize().into()));
    let begun = {
        let sent = sent.clone();
        off_reactor(&edge.control, move |control| {
            let request = std::str::from_utf8(&sent).ok().and_then(|text| without_values(&call, text));
            // Larger bodies are the content of a deployment, not a change of permissions, and are left out of the log.
            let request = request.as_deref().filter(|text| text.len() <= body::MAX_BODY);
            control.begin(&actor, &Attempt { address, call: &call, target: target.as_deref(), request })
        })
    };
    let line = match begun.await {
        Ok(line) => line,
        Err(error) => return error.into_response(),
    };
    let control = Arc::clone(&edge.control);
    // A task of its own, so that the result is also stored when the client disconnects.
    let carried_out = tokio::spawn(async move {
        let response = next.run(Request::from_parts(parts, Body::from(sent))).await;
        let status = response.status().as_u16();
        let code = response.extensions().get::<Problem>().and_then(|problem| problem.code.clone());
        let made = response.extensions().get::<Made>().map(|made| made.0.clone());
        let written = off_reactor(&control, move |control| {
            control.finish(line, status, code.as_deref(), made.as_deref())
        });
        if let Err(error) = written.await {
            // The attempt is logged and its effect is committed, so an error to the caller would be wrong.
            tracing::error!(%error, line, "the result of a call could not be written to the audit log");
        }
        response
    });
    carried_out.await.unwrap_or_else(|ended| Error::Io(std::io::Error::other(ended)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_the_names_of_variables_and_no_value() {
        let update = r#"{"name":"a","environmentVariables":[{"key":"A","value":"s3cret","isSecret":true},{"key":"B"}]}"#;
        let kept = without_values(UPDATE, update).unwrap_or_default();
        assert!(
            kept.contains(r#""key":"A""#) && kept.contains(r#""name":"a""#) && !kept.contains("s3cret"),
            "{kept}"
        );
        assert_eq!(without_values(UPDATE, r#"{"name":"a"}"#).as_deref(), Some(r#"{"name":"a"}"#));
        for bad in [
            r#"{"environmentVariables":[{"key":"A=s3cret"}]}"#,
            r#"{"environmentVariables":[{"key":"A","isSecret":"s3cret"}]}"#,
            r#"{"environmentVariables":{"A":"s3cret"}}"#,
            r#"{"environment_variables":[{"key":"A","value":"s3cret"}]}"#,
            r#"{"environmentVariables":["#,
        ] {
            assert_eq!(without_values(UPDATE, bad), None, "{bad}");
        }
        assert_eq!(
            without_values("POST /deployments", r#"{"environmentVariables":[{"value":"s3cret"}]}"#),
            None
        );
        assert_eq!(without_values("POST /deployments", r#"{"\u0065nvironmentVariables":[]}"#), None);
        assert_eq!(without_values("POST /tokens", "{}").as_deref(), Some("{}"));
    }
}
