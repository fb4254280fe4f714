//! `halligan role`: manages built-in and custom roles.

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::control::Control;
use super::failure::Failure;
use super::id::role;
use super::output::{Column, Output, confirm};
use crate::api::id::WorkspaceId;

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// List roles, the built-in ones first.
    List {
        /// Those held on this only.
        #[arg(long)]
        scope: Option<Scope>,
    },
    /// Show a role and what it allows.
    Show {
        /// The role's name or id.
        #[arg(value_parser = role)]
        role: String,
    },
    /// List every version of a role, newest first. Direct-access tokens stay with the one they were made with.
    Versions {
        /// The role's name or id.
        #[arg(value_parser = role)]
        role: String,
    },
    /// Create a custom role.
    #[command(after_help = "Examples:
  halligan role create night-shift --scope deployment --from DEPLOYMENT_VIEWER -p deployment.airflow.dagRun.create
  halligan role create etl-runner --scope dag --from DAG_RUNNER")]
    Create(Create),
    /// Change a custom role. Other permissions or another name make a new version: standard tokens follow it,
    /// direct-access tokens stay with theirs.
    Update(Update),
    /// Delete a custom role that no token has.
    Delete {
        /// The role's name or id.
        #[arg(value_parser = role)]
        role: String,
        /// Don't ask.
        #[arg(long, short, visible_alias = "yes")]
        force: bool,
    },
    /// List roles to start a custom one from.
    Templates,
    /// List every permission a custom role can have, in groups.
    Permissions {
        /// Those that can be held on this only.
        #[arg(long)]
        scope: Option<Scope>,
    },
}

/// Kind of object that a role is held on.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Scope {
    Organization,
    Workspace,
    Deployment,
    Dag,
}

impl Scope {
    const fn word(self) -> &'static str {
        match self {
            Self::Organization => "ORGANIZATION",
            Self::Workspace => "WORKSPACE",
            Self::Deployment => "DEPLOYMENT",
            Self::Dag => "DAG",
        }
    }

    /// Returns the query `?scopeType=…`, or an empty text.
    fn query(scope: Option<Self>) -> String {
        scope.map(|scope| format!("?scopeType={}", scope.word())).unwrap_or_default()
    }
}

#[derive(Args, Debug)]
pub(super) struct Create {
    /// Its name: 1 to 64 letters, digits, '_' or '-'.
    name: String,
    /// What it is held on: deployment or dag.
    #[arg(long)]
    scope: Scope,
    /// What it is for.
    #[arg(long, short, default_value = "")]
    description: String,
    /// A permission it has; can be repeated.
    #[arg(long = "permission", short, value_name = "PERMISSION", required_unless_present = "from")]
    permissions: Vec<String>,
    /// A template or role whose permissions it has, too.
    #[arg(long, value_name = "ROLE", value_parser = role)]
    from: Option<String>,
    /// A workspace it can be held in; can be repeated. Without one, in every one.
    #[arg(long = "workspace-id", value_name = "ID")]
    workspaces: Vec<WorkspaceId>,
}

#[derive(Args, Debug)]
pub(super) struct Update {
    /// The role's name or id.
    #[arg(value_parser = role)]
    role: String,
    /// The new name.
    #[arg(long)]
    name: Option<String>,
    /// The new description.
    #[arg(long, short)]
    description: Option<String>,
    /// A permission it gets; can be repeated.
    #[arg(long = "add", value_name = "PERMISSION")]
    add: Vec<String>,
    /// A permission it loses; can be repeated.
    #[arg(long = "remove", value_name = "PERMISSION")]
    remove: Vec<String>,
    /// A permission of all it has from now on; can be repeated.
    #[arg(long = "permission", short, value_name = "PERMISSION", conflicts_with_all = ["add", "remove"])]
    permissions: Vec<String>,
    /// A workspace of all it can be held in from now on; can be repeated.
    #[arg(long = "workspace-id", value_name = "ID")]
    workspaces: Vec<WorkspaceId>,
    /// Let it be held in every workspace.
    #[arg(long, conflicts_with = "workspaces")]
    any_workspace: bool,
}

const LIST: [Column; 5] = [
    ("NAME", "name"),
    ("ID", "id"),
    ("SCOPE", "scopeType"),
    ("VERSION", "version"),
    ("DESCRIPTION", "description"),
];
const ONE: [Column; 9] = [
    ("name", "name"),
    ("id", "id"),
    ("description", "description"),
    ("scope", "scopeType"),
    ("version", "version"),
    ("digest", "digest"),
    ("workspaces", "restrictedWorkspaceIds"),
    ("changed", "updatedAt"),
    ("permissions", "permissions"),
];
const VERSION: [Column; 5] = [
    ("VERSION", "version"),
    ("NAME", "name"),
    ("MADE", "createdAt"),
    ("BY", "createdBy"),
    ("DIGEST", "digest"),
];
const TEMPLATE: [Column; 3] = [("NAME", "name"), ("SCOPE", "scopeType"), ("DESCRIPTION", "description")];

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    let get = |path: String| async move { control.organization_call(Method::GET, &path, None).await };
    match verb {
        Verb::List { scope } => {
            let query = Scope::query(scope).replace('?', "&");
            let page = get(format!("/roles?limit=1000{query}")).await?;
            if output.json {
                output.one(&page, &[]);
            } else {
                output.list(&page["roles"], &LIST);
            }
        }
        Verb::Show { role } => output.one(&get(format!("/roles/{role}")).await?, &ONE),
        Verb::Versions { role } => output.list(&get(format!("/roles/{role}/versions")).await?, &VERSION),
        Verb::Create(create) => {
            let made = control.organization_call(Method::POST, "/roles", Some(body(create, control).await?));
            output.one(&made.await?, &ONE);
        }
        Verb::Update(update) => {
            let path = format!("/roles/{}", update.role);
            let body = changes(update, control).await?;
            output.one(&control.organization_call(Method::POST, &path, Some(body)).await?, &ONE);
        }
        Verb::Delete { role, force } => {
            confirm(&format!("Deleting {role}"), force)?;
            control.organization_call(Method::DELETE, &format!("/roles/{role}"), None).await?;
            output.say(&format!("deleted {role}"));
        }
        Verb::Templates => output.list(&get("/role-templates".into()).await?, &TEMPLATE),
        Verb::Permissions { scope } => {
            let path = format!("/v1/authorization/permission-groups{}", Scope::query(scope));
            permissions(&control.call(Method::GET, &path, None).await?, output);
        }
    }
    Ok(())
}

/// Returns the permissions of a template or role.
async fn permissions_of(control: &Control, name: &str) -> Result<Vec<String>, Failure> {
    let templates = control.organization_call(Method::GET, "/role-templates", None).await?;
    let found = templates.as_array().into_iter().flatten().find(|template| template["name"] == name);
    let found = match found {
        Some(template) => template.clone(),
        None => control.organization_call(Method::GET, &format!("/roles/{name}"), None).await?,
    };
    let names = found["permissions"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(names.map(str::to_owned).collect())
}

async fn body(create: Create, control: &Control) -> Result<Value, Failure> {
    let mut permissions = create.permissions;
    if let Some(from) = create.from {
        permissions.extend(permissions_of(control, &from).await?);
    }
    Ok(json!({
        "name": create.name,
        "description": create.description,
        "scopeType": create.scope.word(),
        "permissions": permissions,
        "restrictedWorkspaceIds": create.workspaces,
    }))
}

async fn changes(update: Update, control: &Control) -> Result<Value, Failure> {
    let permissions = if update.add.is_empty() && update.remove.is_empty() {
        (!update.permissions.is_empty()).then_some(update.permissions)
    } else {
        let mut permissions = permissions_of(control, &update.role).await?;
        for gone in &update.remove {
            if !permissions.contains(gone) {
                return Err(Failure::Usage(format!("{} does not have {gone}", update.role)));
            }
        }
        permissions.retain(|permission| !update.remove.contains(permission));
        permissions.extend(update.add);
        Some(permissions)
    };
    let workspaces = (update.any_workspace || !update.workspaces.is_empty()).then_some(update.workspaces);
    if permissions.is_none() && workspaces.is_none() && update.name.is_none() && update.description.is_none()
    {
        return Err(Failure::Usage(
            "say what to change: --name, --description, --add, --remove, --permission, --workspace-id or --any-workspace"
                .into(),
        ));
    }
    Ok(json!({
        "name": update.name,
        "description": update.description,
        "permissions": permissions,
        "restrictedWorkspaceIds": workspaces,
    }))
}

/// Prints permissions, grouped by their objects.
fn permissions(groups: &Value, output: Output) {
    if output.json {
        return output.one(groups, &[]);
    }
    let entries = groups.as_array().into_iter().flatten().flat_map(|group| {
        group["permissions"].as_array().into_iter().flatten().map(|entry| {
            json!({ "name": entry["name"], "description": entry["description"], "scopes": group["scopeTypes"] })
        })
    });
    let columns = [("PERMISSION", "name"), ("WHAT IT LETS ONE DO", "description"), ("HELD ON", "scopes")];
    output.list(&entries.collect::<Vec<_>>(), &columns);
}
