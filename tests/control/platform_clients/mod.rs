//! Calls of the platform's own clients against the control plane. Each answer decodes into types that describe the
//! expectations of those clients; the control plane's own types are not used.

#![allow(clippy::unwrap_used, clippy::panic)]

mod callers;
mod commands;
mod deploy_command;
mod deploys;
mod errors;
mod estate;
mod expected;
mod flags;
mod instants;
mod logs;
mod outages;
mod preconditions;
mod query;
mod tokens;
mod variables;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::rig::control::Control;
use crate::rig::{Answer, curl};

/// Base paths of the calls: that of today's clients, and those of older ones.
const BASES: [&str; 3] = ["/v1", "/iam/v1beta1", "/platform/v1beta1"];

/// Returns true if people and their programs call this route below a base path, not nodes or other services.
fn of_people(route: &str) -> bool {
    ["/organizations", "/users/self", "/authorization/"].iter().any(|start| route.starts_with(start))
}

/// Calls `path` under a base path with a token.
fn call(control: &Control, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let mut arguments = vec!["-X".to_owned(), method.to_owned()];
    arguments.extend(["-H".to_owned(), format!("Authorization: Bearer {token}")]);
    if let Some(body) = body {
        arguments.extend(["-H".to_owned(), "Content-Type: application/json".to_owned()]);
        arguments.extend(["-d".to_owned(), body.to_string()]);
    }
    arguments.push(format!("{}{path}", control.url));
    curl(&arguments)
}

/// Decodes a successful answer. The clients take only status 200 as success.
fn decoded<T: DeserializeOwned>(answer: &Answer) -> T {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}
