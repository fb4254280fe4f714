//! `halligan token access`: shows the roles of a token, and changes those that can be changed.

use clap::{Args, Subcommand};
use reqwest::Method;
use reqwest::header::IF_MATCH;
use serde_json::{Value, json};

use super::{id_of, resolve};
use crate::cli::control::Control;
use crate::cli::failure::Failure;
use crate::cli::id::{Deployment, Id};
use crate::cli::output::{Column, Output, line};

#[derive(Subcommand, Debug)]
pub(in crate::cli) enum Verb {
    /// Show a token's roles, and with --deployment-id all that they allow there.
    Show {
        /// The token's id or name.
        token: String,
        /// Show what the token may do on this deployment.
        #[arg(long, value_name = "ID")]
        deployment_id: Option<Id<Deployment>>,
    },
    /// Give a standard token another role: in its own scope, or with --deployment-id on a deployment.
    SetRole {
        /// The token's id or name.
        token: String,
        /// The role.
        #[arg(long, short)]
        role: String,
        /// The deployment.
        #[arg(long, value_name = "ID")]
        deployment_id: Option<Id<Deployment>>,
    },
    /// Give a standard token a role on a Dag, or on every Dag with a tag.
    AddDagRole {
        /// The token's id or name.
        token: String,
        #[command(flatten)]
        on: OnDags,
        /// The role.
        #[arg(long, short)]
        role: String,
    },
    /// Take a role on a Dag or a tag away from a standard token.
    RemoveDagRole {
        /// The token's id or name.
        token: String,
        #[command(flatten)]
        on: OnDags,
    },
}

/// Which Dags.
#[derive(Args, Debug)]
pub(in crate::cli) struct OnDags {
    /// The Dag with this id.
    #[arg(long, value_name = "ID", required_unless_present = "dag_tag", conflicts_with = "dag_tag")]
    dag: Option<String>,
    /// Every Dag with this tag.
    #[arg(long, value_name = "TAG")]
    dag_tag: Option<String>,
    /// The deployment; a deployment's token has Dag roles on its own.
    #[arg(long, value_name = "ID")]
    deployment_id: Option<Id<Deployment>>,
}

const ROLES: [Column; 6] = [
    ("ON", "entityType"),
    ("WHICH", "entityId"),
    ("DEPLOYMENT", "deploymentId"),
    ("ROLE", "role"),
    ("VERSION", "roleVersion"),
    ("NEWEST", "newest"),
];

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::Show { token, deployment_id: None } => {
            show(&resolve(control, &token).await?, output);
        }
        Verb::Show { token, deployment_id: Some(deployment) } => {
            let token = resolve(control, &token).await?;
            let id = token["id"].as_str().unwrap_or_default();
            let path = format!("/deployments/{deployment}/tokens/{id}/permissions");
            allowed(&control.organization_call(Method::GET, &path, None).await?, output);
        }
        Verb::SetRole { token, role, deployment_id } => {
            let id = id_of(control, &token).await?;
            show(&set_role(control, &id, &role, deployment_id.as_deref()).await?, output);
        }
        Verb::AddDagRole { token, on, role } => {
            let id = id_of(control, &token).await?;
            let edited = edit(control, &id, |token| {
                let (mut roles, on) = without(token, &on);
                roles.push(json!({
                    "entityType": on.0, "entityId": on.1, "deploymentId": on.2, "role": role,
                }));
                Ok(roles)
            });
            show(&edited.await?, output);
        }
        Verb::RemoveDagRole { token, on } => {
            let id = id_of(control, &token).await?;
            let edited = edit(control, &id, |token| {
                let (roles, (_, which, _)) = without(token, &on);
                // The roles of a direct-access token cannot be changed; the control plane's error explains that better.
                if token["kind"] == "STANDARD" && roles.len() == token["roles"].as_array().map_or(0, Vec::len)
                {
                    return Err(Failure::Usage(format!("the token has no role on {which} there")));
                }
                Ok(roles)
            });
            show(&edited.await?, output);
        }
    }
    Ok(())
}

/// Gives a token another role in its own scope, or on a deployment.
pub(super) async fn set_role(
    control: &Control,
    id: &str,
    role: &str,
    deployment: Option<&str>,
) -> Result<Value, Failure> {
    edit(control, id, |token| {
        let mut roles = token["roles"].as_array().cloned().unwrap_or_default();
        let place = roles.iter_mut().find(|present| match deployment {
            Some(deployment) => present["entityType"] == "DEPLOYMENT" && present["entityId"] == deployment,
            None => present["entityType"] == token["type"],
        });
        match (place, deployment) {
            (Some(present), _) => present["role"] = role.into(),
            (None, Some(deployment)) => {
                roles.push(json!({ "entityType": "DEPLOYMENT", "entityId": deployment, "role": role }));
            }
            (None, None) => {
                let detail = "you may not see the token's role in its own scope; name a --deployment-id";
                return Err(Failure::Usage(detail.into()));
            }
        }
        Ok(roles)
    })
    .await
}

/// Reads a token's roles and replaces them by the result of `change`. If another change comes first, reads the new
/// roles and tries again.
async fn edit(
    control: &Control,
    id: &str,
    change: impl Fn(&Value) -> Result<Vec<Value>, Failure>,
) -> Result<Value, Failure> {
    let path = format!("/tokens/{id}");
    let mut tries = 20;
    loop {
        let (token, tag) = control.receive(control.in_organization(Method::GET, &path).await?).await?;
        let body = json!({ "roles": change(&token)? });
        let mut request = control.in_organization(Method::POST, &format!("{path}/roles")).await?.json(&body);
        if let Some(tag) = tag {
            request = request.header(IF_MATCH, tag);
        }
        tries -= 1;
        match control.send(request).await {
            Err(Failure::Refused { status: 412, .. }) if tries > 0 => {}
            answer => return answer,
        }
    }
}

/// Returns a token's roles without the one on these Dags, and the entity of these Dags in the API's terms.
fn without(token: &Value, on: &OnDags) -> (Vec<Value>, (&'static str, String, Option<String>)) {
    let (kind, which) = match (&on.dag, &on.dag_tag) {
        (Some(dag), _) => ("DAG", dag.clone()),
        (None, tag) => ("DAG_TAG", tag.clone().unwrap_or_default()),
    };
    let own =
        token["roles"].as_array().into_iter().flatten().find(|role| role["entityType"] == token["type"]);
    let own = own.filter(|_| token["type"] == "DEPLOYMENT").and_then(|role| role["entityId"].as_str());
    let deployment = on.deployment_id.as_deref().or(own).map(str::to_owned);
    let same = |role: &Value| {
        role["entityType"] == kind
            && role["entityId"] == *which
            && role["deploymentId"].as_str() == deployment.as_deref()
    };
    let roles = token["roles"].as_array().into_iter().flatten().filter(|role| !same(role)).cloned();
    (roles.collect(), (kind, which, deployment))
}

fn show(token: &Value, output: Output) {
    if output.json {
        return output.one(token, &[]);
    }
    output.list(&token["roles"], &ROLES);
    super::explain(token);
}

fn allowed(found: &Value, output: Output) {
    if output.json {
        return output.one(found, &[]);
    }
    let names = |permissions: &Value| -> Vec<String> {
        let names = permissions.as_array().into_iter().flatten().filter_map(Value::as_str);
        names.map(|name| format!("  {name}")).collect()
    };
    line("on the whole deployment:");
    let whole = names(&found["permissions"]);
    line(&if whole.is_empty() { "  nothing".into() } else { whole.join("\n") });
    for on in found["dags"].as_array().into_iter().flatten() {
        match (on["dag"].as_str(), on["tag"].as_str()) {
            (Some(dag), _) => line(&format!("on the Dag {dag} also:")),
            (None, tag) => line(&format!("on every Dag with the tag {} also:", tag.unwrap_or_default())),
        }
        line(&names(&on["permissions"]).join("\n"));
    }
}
