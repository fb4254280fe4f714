//! Teams: groups of users with common roles. A member has the team's roles as well as their own; the higher one counts.

mod members;

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use serde::{Deserialize, Serialize};

pub use members::{NewMembers, TeamMember};
pub(in crate::controlplane) use members::{inherited, leave_all};

use crate::api::page::Page;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation, OrganizationRole, WorkspaceRole};
use crate::controlplane::access::workspace_grants::{self, Holder, UserRoles, WorkspaceGrant};
use crate::controlplane::calls::page::{Range, check};
use crate::controlplane::error::Error;
use crate::controlplane::names::{Name, check_description, check_name, taken};
use crate::protocol::time::Time;

/// Properties of a new team.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewTeam {
    /// Name of the team.
    #[schema(value_type = Name)]
    pub name: String,
    /// Description of its members.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub description: String,
    /// Role in the organization.
    #[serde(default = "member")]
    pub organization_role: OrganizationRole,
    /// Roles in workspaces.
    #[serde(default)]
    pub workspace_roles: Vec<WorkspaceGrant>,
}

fn member() -> OrganizationRole {
    OrganizationRole::OrganizationMember
}

/// Changes to a team. Absent members keep their values.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeamUpdate {
    /// New name of the team.
    #[schema(value_type = Option<Name>)]
    pub name: Option<String>,
    /// New description of the team.
    #[schema(max_length = 500)]
    pub description: Option<String>,
}

/// Team of users.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Team {
    /// Id of the team.
    pub id: String,
    /// Name of the team.
    pub name: String,
    /// Description of its members.
    pub description: String,
    /// Role in the organization.
    pub organization_role: OrganizationRole,
    /// Roles in workspaces.
    pub workspace_roles: Vec<WorkspaceGrant>,
    /// Number of members.
    pub members_count: u64,
    /// Time of creation.
    pub created_at: Time,
    /// Id of the user or token that created it.
    pub created_by: String,
    /// Time of the last change.
    pub updated_at: Time,
    /// Id of the user or token that changed it last.
    pub updated_by: String,
}

/// Page of teams.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TeamPage {
    /// Teams of the page.
    pub teams: Vec<Team>,
    /// Number of teams on all pages.
    pub total_count: u64,
    /// Number of teams skipped.
    pub offset: u64,
    /// Maximum number of teams on the page.
    pub limit: u64,
    /// Cursor of the next page, or none on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

const COLUMNS: &str = "id, name, description, role, created_at, created_by, updated_at, updated_by,
                       (SELECT count(*) FROM team_member WHERE team = team.id) FROM team";

fn read_row(row: &Row<'_>) -> rusqlite::Result<Team> {
    let role: String = row.get(3)?;
    Ok(Team {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        organization_role: OrganizationRole::parse(&role).ok_or(rusqlite::Error::InvalidQuery)?,
        workspace_roles: Vec::new(),
        members_count: row.get(8)?,
        created_at: Time::from_unix(row.get(4)?),
        created_by: row.get(5)?,
        updated_at: Time::from_unix(row.get(6)?),
        updated_by: row.get(7)?,
    })
}

fn workspace_roles(connection: &Connection, team: &str) -> Result<Vec<WorkspaceGrant>, Error> {
    let mut rows = connection
        .prepare_cached("SELECT workspace, role FROM team_role WHERE team = ?1 ORDER BY workspace")?;
    let rows = rows.query_map([team], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let mut roles = Vec::new();
    for row in rows {
        let (workspace_id, role) = row?;
        roles.extend(WorkspaceRole::parse(&role).map(|role| WorkspaceGrant { workspace_id, role }));
    }
    Ok(roles)
}

fn find(connection: &Connection, organization: &str, id: &str) -> Result<Team, Error> {
    let query = format!("SELECT {COLUMNS} WHERE organization = ?1 AND id = ?2");
    let found = connection.prepare_cached(&query)?.query_row([organization, id], read_row).optional()?;
    let mut team = found.ok_or(Error::NotFound("team"))?;
    team.workspace_roles = workspace_roles(connection, id)?;
    Ok(team)
}

impl ControlPlane {
    /// Creates a team without members.
    pub fn create_team(&self, actor: &Actor, organization: &str, new: &NewTeam) -> Result<Team, Error> {
        actor.may(Operation::Administer, organization)?;
        check_name("name", &new.name)?;
        check_description(&new.description)?;
        let (id, now) = (self.new_id(), self.now().unix());
        self.store.write(|transaction| {
            let role = new.organization_role.as_str();
            let row = params![id, organization, new.name, new.description, role, now, actor.id];
            transaction
                .execute("INSERT INTO team (id, organization, name, description, role, created_at, created_by, updated_at, updated_by)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6, ?7)", row)
                .map_err(taken)?;
            workspace_grants::set(transaction, organization, Holder::Team(&id), &new.workspace_roles)?;
            find(transaction, organization, &id)
        })
    }

    /// Lists teams by name.
    pub fn list_teams(&self, actor: &Actor, organization: &str, page: Page) -> Result<TeamPage, Error> {
        actor.may(Operation::ReadOrganization, organization)?;
        let range = check(page, "teams")?;
        self.store.read(|connection| {
            let count = "SELECT count(*) FROM team WHERE organization = ?1";
            let total_count = connection.query_row(count, [organization], |row| row.get(0))?;
            let query = format!(
                "SELECT {COLUMNS} WHERE organization = :organization {} LIMIT :rows OFFSET :offset",
                Range::sorted("name", "id", false)
            );
            let mut rows = connection.prepare_cached(&query)?;
            let of = named_params! {
                ":organization": organization, ":after": range.after(), ":rows": range.rows(), ":offset": range.offset,
            };
            let mut teams: Vec<Team> = rows.query_map(of, read_row)?.collect::<Result<_, _>>()?;
            let next_cursor = range.cut(&mut teams, |team| (team.name.as_str().into(), team.id.clone()));
            for team in &mut teams {
                team.workspace_roles = workspace_roles(connection, &team.id)?;
            }
            let Range { offset, limit, .. } = range;
            Ok(TeamPage { teams, total_count, offset, limit, next_cursor })
        })
    }

    /// Shows a team.
    pub fn show_team(&self, actor: &Actor, organization: &str, id: &str) -> Result<Team, Error> {
        actor.may(Operation::ReadOrganization, organization)?;
        self.store.read(|connection| find(connection, organization, id))
    }

    /// Updates a team's name and description.
    pub fn update_team(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        update: TeamUpdate,
    ) -> Result<Team, Error> {
        actor.may(Operation::Administer, organization)?;
        self.store.write(|transaction| {
            let team = find(transaction, organization, id)?;
            let name = update.name.unwrap_or(team.name);
            let description = update.description.unwrap_or(team.description);
            check_name("name", &name)?;
            check_description(&description)?;
            transaction
                .execute(
                    "UPDATE team SET name = ?2, description = ?3, updated_at = ?4, updated_by = ?5 WHERE id = ?1",
                    params![id, name, description, self.now().unix(), actor.id],
                )
                .map_err(taken)?;
            find(transaction, organization, id)
        })
    }

    /// Changes a team's roles. A Workspace Owner may change those in that workspace only.
    pub fn set_team_roles(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        roles: &UserRoles,
    ) -> Result<Team, Error> {
        actor.may(Operation::ReadOrganization, organization)?;
        self.store.write(|transaction| {
            let before = find(transaction, organization, id)?;
            let (role, workspaces) = (before.organization_role, &before.workspace_roles);
            let role = roles.may_be_given(actor, organization, role, workspaces)?;
            if let Some(wanted) = &roles.workspace_roles {
                workspace_grants::set(transaction, organization, Holder::Team(id), wanted)?;
            }
            transaction.execute(
                "UPDATE team SET role = coalesce(?2, role), updated_at = ?3, updated_by = ?4 WHERE id = ?1",
                params![id, role.map(OrganizationRole::as_str), self.now().unix(), actor.id],
            )?;
            find(transaction, organization, id)
        })
    }

    /// Deletes a team. Its members keep their accounts and lose the team's roles.
    pub fn delete_team(&self, actor: &Actor, organization: &str, id: &str) -> Result<(), Error> {
        actor.may(Operation::Administer, organization)?;
        self.store.write(|transaction| {
            find(transaction, organization, id)?;
            for table in ["team_member", "team_role"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE team = ?1"), [id])?;
            }
            transaction.execute("DELETE FROM team WHERE id = ?1", [id])?;
            Ok(())
        })
    }
}
