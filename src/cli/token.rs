//! `halligan token`: the life of an API token.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::control::Control;
use super::failure::Failure;
use super::output::{Column, Output, confirm, line};

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Create a token and show its value, once.
    #[command(after_help = "Examples:
  halligan token create -n oncall --deployment-id dep_… --direct-access -e 30
  TOKEN=$(halligan token create -n ci --workspace-id wsp_… -r WORKSPACE_AUTHOR -c)")]
    Create(Create),
    /// List tokens.
    List(List),
    /// Show a token.
    Show {
        /// The token's id.
        id: String,
    },
    /// Change a token's name or description.
    Update {
        /// The token's id.
        id: String,
        /// The new name.
        #[arg(long, short)]
        name: Option<String>,
        /// The new description.
        #[arg(long, short)]
        description: Option<String>,
    },
    /// Give a token a new value, shown once. The old value stops.
    Rotate {
        /// The token's id.
        id: String,
        /// Don't ask.
        #[arg(long, short)]
        force: bool,
        /// Print the value alone, for scripts.
        #[arg(long, short)]
        clean_output: bool,
    },
    /// Delete a token for good.
    Delete {
        /// The token's id.
        id: String,
        /// Don't ask.
        #[arg(long, short)]
        force: bool,
    },
}

#[derive(Args, Debug)]
pub(super) struct Create {
    /// Its name.
    #[arg(long, short)]
    name: String,
    /// What it is for.
    #[arg(long, short, default_value = "")]
    description: String,
    /// A token for this deployment.
    #[arg(long, value_name = "ID", conflicts_with = "workspace_id")]
    deployment_id: Option<String>,
    /// A token for this workspace. Without this and --deployment-id, it is one for the organization.
    #[arg(long, value_name = "ID")]
    workspace_id: Option<String>,
    /// Its role there; a deployment token's is DEPLOYMENT_ADMIN unless another is named.
    #[arg(long, short)]
    role: Option<String>,
    /// Days until it expires, 1 to 3650. A direct-access token must expire.
    #[arg(long, short, value_name = "DAYS")]
    expiration: Option<i64>,
    /// Let it open the deployment also while the control plane is down. Its role can never be changed.
    #[arg(long)]
    direct_access: bool,
    /// Print the value alone, for scripts.
    #[arg(long, short)]
    clean_output: bool,
}

/// Which tokens to list.
#[derive(Args, Debug)]
pub(super) struct List {
    /// Of this scope.
    #[arg(long = "type", value_parser = ["organization", "workspace", "deployment"])]
    token_type: Option<String>,
    /// Of this kind.
    #[arg(long, value_parser = ["standard", "direct-access"])]
    kind: Option<String>,
    /// Of this deployment.
    #[arg(long, value_name = "ID")]
    deployment_id: Option<String>,
    /// Of this workspace and its deployments.
    #[arg(long, value_name = "ID")]
    workspace_id: Option<String>,
    /// Made by this user or token.
    #[arg(long, value_name = "ID")]
    created_by: Option<String>,
    /// With this in the name or description.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// In this order.
    #[arg(long, default_value = "createdAt:asc", value_parser = ["createdAt:asc", "createdAt:desc", "name:asc", "name:desc", "updatedAt:desc", "endAt:asc"])]
    sort: String,
    /// How many to skip.
    #[arg(long, default_value_t = 0)]
    offset: u64,
    /// How many to show, up to 1000.
    #[arg(long, default_value_t = 100)]
    limit: u64,
}

const LIST: [Column; 7] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("KIND", "kind"),
    ("ROLES", "roles"),
    ("EXPIRES", "endAt"),
    ("ROTATED", "lastRotatedAt"),
    ("ENDS IN", "shortToken"),
];

const ONE: [Column; 12] = [
    ("id", "id"),
    ("name", "name"),
    ("description", "description"),
    ("type", "type"),
    ("kind", "kind"),
    ("roles", "roles"),
    ("valid from", "startAt"),
    ("expires", "endAt"),
    ("created", "createdAt"),
    ("by", "createdBy"),
    ("rotated", "lastRotatedAt"),
    ("ends in", "shortToken"),
];

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    let path = |id: &str| format!("/tokens/{id}");
    match verb {
        Verb::Create(create) => {
            let clean = create.clean_output;
            let made = control.organization_call(Method::POST, "/tokens", Some(body(create))).await?;
            with_value(&made, clean, output);
        }
        Verb::List(list) => {
            let word = |word: Option<String>| word.map(|word| word.to_uppercase().replace('-', "_"));
            let query = [
                ("type", word(list.token_type)),
                ("kind", word(list.kind)),
                ("entityId", list.deployment_id),
                ("workspaceId", list.workspace_id),
                ("createdBy", list.created_by),
                ("search", list.search),
                ("sorts", Some(list.sort)),
                ("offset", Some(list.offset.to_string())),
                ("limit", Some(list.limit.to_string())),
            ];
            output.page(&control.organization_list("/tokens", &query).await?, "tokens", &LIST);
        }
        Verb::Show { id } => {
            output.one(&control.organization_call(Method::GET, &path(&id), None).await?, &ONE);
        }
        Verb::Update { id, name, description } => {
            if name.is_none() && description.is_none() {
                return Err(Failure::Usage("say what to change: --name or --description".into()));
            }
            let body = json!({ "name": name, "description": description });
            output.one(&control.organization_call(Method::POST, &path(&id), Some(body)).await?, &ONE);
        }
        Verb::Rotate { id, force, clean_output } => {
            confirm(&format!("The present value of {id} stops; that"), force)?;
            let path = format!("/tokens/{id}/rotate");
            let made = control.organization_call(Method::POST, &path, None).await?;
            with_value(&made, clean_output, output);
        }
        Verb::Delete { id, force } => {
            confirm(&format!("Deleting {id}"), force)?;
            control.organization_call(Method::DELETE, &path(&id), None).await?;
            output.say(&format!("deleted {id}"));
        }
    }
    Ok(())
}

fn body(create: Create) -> Value {
    let (token_type, entity) = match (create.deployment_id, create.workspace_id) {
        (Some(id), _) => ("DEPLOYMENT", Some(id)),
        (None, Some(id)) => ("WORKSPACE", Some(id)),
        (None, None) => ("ORGANIZATION", None),
    };
    json!({
        "name": create.name,
        "description": create.description,
        "type": token_type,
        "kind": if create.direct_access { "DIRECT_ACCESS" } else { "STANDARD" },
        "entityId": entity,
        "role": create.role,
        "tokenExpiryPeriodInDays": create.expiration,
    })
}

/// Shows a token with its value: the only time it can be seen.
fn with_value(made: &Value, clean: bool, output: Output) {
    if clean {
        return line(made["token"].as_str().unwrap_or_default());
    }
    output.one(made, &ONE);
    if !output.json {
        line(&format!("\n{}\n", made["token"].as_str().unwrap_or_default()));
        eprintln!("This is the token. It is shown this once; keep it in a vault.");
    }
}
