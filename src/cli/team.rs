//! `halligan team`: manages users with common roles.

use clap::Subcommand;

use super::control::Control;
use super::deletion::delete;
use super::failure::Failure;
use super::grants::{OnDeployments, grant, organization_role};
use super::output::{Column, Output};
use crate::api::id::{TeamId, UserId};
use crate::api::role::OrganizationRole;
use crate::api::team::{NewMembers, NewTeam, Team, TeamMemberPage, TeamPage, TeamUpdate};
use crate::api::user::{UserRoles, WorkspaceGrant};

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Create a team.
    Create {
        /// The name of the team.
        name: String,
        /// The description of the team.
        #[arg(long, short, default_value = "")]
        description: String,
        /// The id of a member; can be repeated.
        #[arg(long, value_name = "ID")]
        member: Vec<UserId>,
        /// The role in the organization.
        #[arg(long, default_value = "ORGANIZATION_MEMBER", value_parser = organization_role)]
        organization_role: OrganizationRole,
        /// A role in a workspace, as ID=ROLE; can be repeated.
        #[arg(long, value_name = "ID=ROLE", value_parser = grant)]
        workspace_role: Vec<WorkspaceGrant>,
    },
    /// List teams, a thousand per page.
    List {
        /// The cursor of the page before. The next page begins after it.
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
        #[arg(long, value_parser = organization_role)]
        organization_role: Option<OrganizationRole>,
        /// All roles in workspaces from now on, as ID=ROLE; can be repeated.
        #[arg(long, value_name = "ID=ROLE", value_parser = grant)]
        workspace_role: Vec<WorkspaceGrant>,
        #[command(flatten)]
        on: OnDeployments,
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
    /// Remove a user from a team.
    Remove {
        /// The team's id.
        id: TeamId,
        /// The user's id.
        user: UserId,
    },
    /// Delete a team. Its members keep their accounts and lose the team's roles.
    Delete {
        /// The team's id.
        id: TeamId,
        /// Don't ask.
        #[arg(long, short, visible_alias = "yes")]
        force: bool,
    },
}

const TEAM: [Column; 8] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("DESCRIPTION", "description"),
    ("ORGANIZATION ROLE", "organizationRole"),
    ("WORKSPACE ROLES", "workspaceRoles"),
    ("DEPLOYMENT ROLES", "deploymentRoles"),
    ("DAG ROLES", "dagRoles"),
    ("MEMBERS", "membersCount"),
];
const MEMBER: [Column; 2] = [("ID", "userId"), ("EMAIL", "email")];

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    let path = |id: &str| format!("/teams/{id}");
    match verb {
        Verb::Create { name, description, member, organization_role, workspace_role } => {
            let new = NewTeam {
                name,
                description,
                member_ids: member.into_iter().map(Into::into).collect(),
                organization_role,
                workspace_roles: workspace_role,
            };
            output.one(&control.post::<Team>("/teams", &new).await?, &TEAM);
        }
        Verb::List { cursor } => {
            let query = [("limit", Some("1000".into())), ("cursor", cursor)];
            output.page(&control.list::<TeamPage>("/teams", &query).await?, "teams", &TEAM);
        }
        Verb::Show { id } => output.one(&control.get::<Team>(&path(&id)).await?, &TEAM),
        Verb::Update { id, name, description } => {
            if name.is_none() && description.is_none() {
                return Err(Failure::Usage("say what to change: --name or --description".into()));
            }
            let update = TeamUpdate { name, description };
            output.one(&control.post::<Team>(&path(&id), &update).await?, &TEAM);
        }
        Verb::SetRoles { id, organization_role, workspace_role, on } => {
            let workspace_roles = (!workspace_role.is_empty()).then_some(workspace_role);
            let (deployment_roles, dag_roles) = on.split();
            let roles = UserRoles { organization_role, workspace_roles, deployment_roles, dag_roles };
            output.one(&control.post::<Team>(&format!("/teams/{id}/roles"), &roles).await?, &TEAM);
        }
        Verb::Members { id } => {
            let members = |page: TeamMemberPage| (page.team_members, page.extent.next_cursor);
            output.list(&control.all(&format!("/teams/{id}/members"), members).await?, &MEMBER);
        }
        Verb::Add { id, users } => {
            let new = NewMembers { member_ids: users.into_iter().map(Into::into).collect() };
            let page: TeamMemberPage = control.post(&format!("/teams/{id}/members"), &new).await?;
            output.list(&page.team_members, &MEMBER);
        }
        Verb::Remove { id, user } => {
            control.delete(&format!("/teams/{id}/members/{user}")).await?;
            output.say(&format!("took {user} out of {id}"));
        }
        Verb::Delete { id, force } => delete(control, output, &path(&id), &id, force).await?,
    }
    Ok(())
}
