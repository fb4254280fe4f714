//! `halligan team`: manages users with common roles.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::control::Control;
use super::estate::grant;
use super::failure::Failure;
use super::output::{Column, Output, confirm};
use crate::api::id::{TeamId, UserId};

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Create a team, without members yet.
    Create {
        /// Its name.
        name: String,
        /// Who is in it.
        #[arg(long, short, default_value = "")]
        description: String,
        /// Its role in the organization.
        #[arg(long, default_value = "ORGANIZATION_MEMBER")]
        organization_role: String,
        /// A role in a workspace, as ID=ROLE; can be repeated.
        #[arg(long, value_name = "ID=ROLE", value_parser = grant)]
        workspace_role: Vec<Value>,
    },
    /// List teams, a thousand at a time.
    List {
        /// Go on behind the page before.
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<String>,
    },
    /// Show a team.
    Show {
        /// The team's id.
        id: TeamId,
    },
    /// Change a team's name or description.
    Update {
        /// The team's id.
        id: TeamId,
        /// The new name.
        #[arg(long, short)]
        name: Option<String>,
        /// The new description.
        #[arg(long, short)]
        description: Option<String>,
    },
    /// Set a team's roles.
    SetRoles {
        /// The team's id.
        id: TeamId,
        /// The role in the organization.
        #[arg(long)]
        organization_role: Option<String>,
        /// All roles in workspaces from now on, as ID=ROLE; can be repeated.
        #[arg(long, value_name = "ID=ROLE", value_parser = grant)]
        workspace_role: Vec<Value>,
    },
    /// List the members of a team.
    Members {
        /// The team's id.
        id: TeamId,
    },
    /// Add users to a team.
    Add {
        /// The team's id.
        id: TeamId,
        /// The users' ids.
        #[arg(required = true)]
        users: Vec<UserId>,
    },
    /// Take a user out of a team.
    Remove {
        /// The team's id.
        id: TeamId,
        /// The user's id.
        user: UserId,
    },
    /// Delete a team. Its members lose what they had by it, and stay.
    Delete {
        /// The team's id.
        id: TeamId,
        /// Don't ask.
        #[arg(long, short, visible_alias = "yes")]
        force: bool,
    },
}

const TEAM: [Column; 6] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("DESCRIPTION", "description"),
    ("ORGANIZATION ROLE", "organizationRole"),
    ("WORKSPACE ROLES", "workspaceRoles"),
    ("MEMBERS", "membersCount"),
];
const MEMBER: [Column; 2] = [("ID", "userId"), ("EMAIL", "email")];

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    let path = |id: &str| format!("/teams/{id}");
    match verb {
        Verb::Create { name, description, organization_role, workspace_role } => {
            let body = json!({
                "name": name, "description": description, "organizationRole": organization_role,
                "workspaceRoles": workspace_role,
            });
            output.one(&control.organization_call(Method::POST, "/teams", Some(body)).await?, &TEAM);
        }
        Verb::List { cursor } => {
            let query = [("limit", Some("1000".into())), ("cursor", cursor)];
            output.page(&control.organization_list("/teams", &query).await?, "teams", &TEAM);
        }
        Verb::Show { id } => {
            output.one(&control.organization_call(Method::GET, &path(&id), None).await?, &TEAM);
        }
        Verb::Update { id, name, description } => {
            if name.is_none() && description.is_none() {
                return Err(Failure::Usage("say what to change: --name or --description".into()));
            }
            let body = Some(json!({ "name": name, "description": description }));
            output.one(&control.organization_call(Method::POST, &path(&id), body).await?, &TEAM);
        }
        Verb::SetRoles { id, organization_role, workspace_role } => {
            let workspaces = (!workspace_role.is_empty()).then_some(workspace_role);
            let body = Some(json!({ "organizationRole": organization_role, "workspaceRoles": workspaces }));
            let path = format!("/teams/{id}/roles");
            output.one(&control.organization_call(Method::POST, &path, body).await?, &TEAM);
        }
        Verb::Members { id } => {
            let path = format!("/teams/{id}/members");
            output.list(&control.organization_call(Method::GET, &path, None).await?, &MEMBER);
        }
        Verb::Add { id, users } => {
            let path = format!("/teams/{id}/members");
            let body = Some(json!({ "memberIds": users }));
            output.list(&control.organization_call(Method::POST, &path, body).await?, &MEMBER);
        }
        Verb::Remove { id, user } => {
            let path = format!("/teams/{id}/members/{user}");
            control.organization_call(Method::DELETE, &path, None).await?;
            output.say(&format!("took {user} out of {id}"));
        }
        Verb::Delete { id, force } => {
            confirm(&format!("Deleting {id}"), force)?;
            control.organization_call(Method::DELETE, &path(&id), None).await?;
            output.say(&format!("deleted {id}"));
        }
    }
    Ok(())
}
