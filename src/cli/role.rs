//! `halligan role`: manages built-in and custom roles.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::control::Control;
use super::failure::Failure;
use super::id::role;
use super::output::{Column, Output, confirm};
use crate::api::id::WorkspaceId;
use crate::api::role::{NewRole, PermissionGroup, Role, RoleHistory, RolePage, RoleTemplate, RoleUpdate};
use crate::protocol::permission::{Permission, PermissionSet, retired};
use crate::protocol::role::RoleScope;

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// List roles, the built-in ones first.
    List {
        /// Only roles that are held on this kind of object.
        #[arg(long)]
        scope: Option<Scope>,
    },
    /// Show a role and what it allows.
    Show {
        /// The role's name or id.
        #[arg(value_parser = role)]
        role: String,
    },
    /// List every version of a role, newest first. A direct-access token keeps the version that it was created with.
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
    /// Change a custom role. Other permissions or another name make a new version: standard tokens get it, direct-access
    /// tokens keep theirs.
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
    /// List templates for custom roles.
    Templates,
    /// List every permission that a custom role can have, in groups.
    Permissions {
        /// Only permissions that can be held on this kind of object.
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

    const fn scope(self) -> RoleScope {
        match self {
            Self::Organization => RoleScope::Organization,
            Self::Workspace => RoleScope::Workspace,
            Self::Deployment => RoleScope::Deployment,
            Self::Dag => RoleScope::Dag,
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct Create {
    /// The name of the role: 1 to 64 letters, digits, '_' or '-', with single spaces between words.
    name: String,
    /// Objects on which the role is held: deployment or dag.
    #[arg(long)]
    scope: Scope,
    /// Purpose of the role.
    #[arg(long, short, default_value = "")]
    description: String,
    /// A permission of the role; can be repeated.
    #[arg(long = "permission", short, value_name = "PERMISSION", required_unless_present = "from")]
    permissions: Vec<Permission>,
    /// A template or role whose permissions the role has as well.
    #[arg(long, value_name = "ROLE", value_parser = role)]
    from: Option<String>,
    /// A workspace in which the role can be held; can be repeated. Without one, the role can be held in all.
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
    /// A permission to add; can be repeated.
    #[arg(long = "add", value_name = "PERMISSION")]
    add: Vec<Permission>,
    /// A permission to remove; can be repeated.
    #[arg(long = "remove", value_name = "PERMISSION")]
    remove: Vec<Permission>,
    /// A permission of the new, complete set; can be repeated.
    #[arg(long = "permission", short, value_name = "PERMISSION", conflicts_with_all = ["add", "remove"])]
    permissions: Vec<Permission>,
    /// A workspace of the new, complete list in which it can be held; can be repeated.
    #[arg(long = "workspace-id", value_name = "ID")]
    workspaces: Vec<WorkspaceId>,
    /// Let the role be held in every workspace.
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
    match verb {
        Verb::List { scope } => {
            let query = [
                ("limit", Some("1000".to_owned())),
                ("includeDefaultRoles", Some("true".to_owned())),
                ("scopeTypes", scope.map(|scope| scope.word().to_owned())),
            ];
            let page: RolePage = control.list("/roles", &query).await?;
            if output.json {
                output.one(&page, &[]);
            } else {
                let roles: Vec<Role> = page.default_roles.into_iter().flatten().chain(page.roles).collect();
                output.list(&roles, &LIST);
            }
        }
        Verb::Show { role } => output.one(&show(control, &role).await?, &ONE),
        Verb::Versions { role } => {
            let path = format!("{}/versions", path(control, &role).await?);
            let versions: Vec<RoleHistory> = control.get(&path).await?;
            output.list(&versions, &VERSION);
        }
        Verb::Create(create) => {
            let new = new(create, control).await?;
            output.one(&control.post::<Role>("/roles", &new).await?, &ONE);
        }
        Verb::Update(update) => {
            let path = path(control, &update.role).await?;
            let changes = changes(update, control).await?;
            output.one(&control.post::<Role>(&path, &changes).await?, &ONE);
        }
        Verb::Delete { role, force } => {
            confirm(&format!("Deleting {role}"), force)?;
            control.delete(&path(control, &role).await?).await?;
            output.say(&format!("deleted {role}"));
        }
        Verb::Templates => {
            output.list(&control.get::<Vec<RoleTemplate>>("/role-templates").await?, &TEMPLATE);
        }
        Verb::Permissions { scope } => {
            let query = scope.map(|scope| format!("?scopeType={}", scope.word())).unwrap_or_default();
            let path = format!("/v1/authorization/permission-groups{query}");
            permissions(&control.get_at::<Vec<PermissionGroup>>(&path).await?, output);
        }
    }
    Ok(())
}

async fn show(control: &Control, role: &str) -> Result<Role, Failure> {
    control.get(&path(control, role).await?).await
}

/// Returns the path of a role below the organization. A name with spaces is no part of a path: such a role is found in the
/// list, and named by its id.
async fn path(control: &Control, role: &str) -> Result<String, Failure> {
    if !role.contains(' ') {
        return Ok(format!("/roles/{role}"));
    }
    let all = control.all("/roles", |page: RolePage| (page.roles, page.extent.next_cursor)).await?;
    let found = all.into_iter().find(|known| known.name == role);
    found.map(|found| format!("/roles/{}", found.id)).ok_or_else(|| {
        Failure::Usage(format!("there is no role named {role:?}; `halligan role list` shows those there are"))
    })
}

/// Returns the permissions of a template or role.
async fn permissions_of(control: &Control, name: &str) -> Result<PermissionSet, Failure> {
    let templates: Vec<RoleTemplate> = control.get("/role-templates").await?;
    match templates.into_iter().find(|template| template.name == name) {
        Some(template) => Ok(template.permissions),
        None => Ok(show(control, name).await?.permissions),
    }
}

async fn new(create: Create, control: &Control) -> Result<NewRole, Failure> {
    let mut permissions: PermissionSet = create.permissions.into_iter().collect();
    if let Some(from) = create.from {
        permissions = permissions.union(permissions_of(control, &from).await?.difference(retired()));
    }
    Ok(NewRole {
        name: create.name,
        description: create.description,
        scope_type: create.scope.scope(),
        permissions,
        restricted_workspace_ids: create.workspaces.into_iter().map(Into::into).collect(),
    })
}

async fn changes(update: Update, control: &Control) -> Result<RoleUpdate, Failure> {
    let permissions = if update.add.is_empty() && update.remove.is_empty() {
        (!update.permissions.is_empty()).then(|| update.permissions.into_iter().collect())
    } else {
        let permissions = permissions_of(control, &update.role).await?;
        for gone in &update.remove {
            if !permissions.contains(*gone) {
                return Err(Failure::Usage(format!("{} does not have {gone}", update.role)));
            }
        }
        let (added, removed) = (update.add.into_iter().collect(), update.remove.into_iter().collect());
        Some(permissions.difference(removed).union(added))
    };
    let workspaces = (update.any_workspace || !update.workspaces.is_empty())
        .then(|| update.workspaces.into_iter().map(Into::into).collect::<Vec<String>>());
    if permissions.is_none() && workspaces.is_none() && update.name.is_none() && update.description.is_none()
    {
        return Err(Failure::Usage(
            "say what to change: --name, --description, --add, --remove, --permission, --workspace-id or --any-workspace"
                .into(),
        ));
    }
    Ok(RoleUpdate {
        name: update.name,
        description: update.description,
        permissions,
        restricted_workspace_ids: workspaces,
    })
}

/// Prints permissions, grouped by their objects.
fn permissions(groups: &[PermissionGroup], output: Output) {
    if output.json {
        return output.one(&groups, &[]);
    }
    let entries = groups.iter().flat_map(|group| {
        group.permissions.iter().map(|entry| {
            json!({ "name": entry.name, "description": entry.description, "scopes": group.scope_types })
        })
    });
    let columns = [("PERMISSION", "name"), ("WHAT IT LETS ONE DO", "description"), ("HELD ON", "scopes")];
    output.list(&entries.collect::<Vec<_>>(), &columns);
}
