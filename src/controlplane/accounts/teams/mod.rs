//! Teams: groups of users with common roles. A member has the team's roles as well as their own; the higher one counts.

mod members;

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use serde_json::Value;

pub(in crate::controlplane) use members::{inherited, leave_all};

use crate::api::id::{OrganizationId, TeamId};
use crate::api::page::{NamedField, Page, Sort};
use crate::api::team::{NewTeam, Team, TeamFilter, TeamPage, TeamUpdate};
use crate::api::user::{UserRoles, WorkspaceGrant};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation, OrganizationRole, WorkspaceRole};
use crate::controlplane::access::deployment_grants;
use crate::controlplane::access::workspace_grants::{self, Holder};
use crate::controlplane::calls::page::check_sorted;
use crate::controlplane::calls::subjects::subject;
use crate::controlplane::error::Error;
use crate::controlplane::names::{check_description, check_name, name_conflict};
use crate::protocol::time::Time;

/// Team as it is stored, without its roles in workspaces.
struct Stored {
    id: String,
    name: String,
    description: String,
    organization: String,
    organization_role: OrganizationRole,
    members_count: u64,
    created_at: Time,
    created_by: String,
    updated_at: Time,
    updated_by: String,
}

const COLUMNS: &str = "id, name, description, role, created_at, created_by, updated_at, updated_by,
                       (SELECT count(*) FROM team_member WHERE team = team.id), organization FROM team";

fn read_row(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let role: String = row.get(3)?;
    Ok(Stored {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        organization_role: OrganizationRole::parse(&role).ok_or(rusqlite::Error::InvalidQuery)?,
        organization: row.get(9)?,
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
    found.ok_or(Error::NotFound("team"))?.shown(connection)
}

/// Returns the name in SQL of a field that teams can be sorted by.
const fn column(field: NamedField) -> &'static str {
    match field {
        NamedField::CreatedAt => "created_at",
        NamedField::Name => "name",
        NamedField::UpdatedAt => "updated_at",
    }
}

impl Stored {
    /// Returns the value of a field, for a cursor.
    fn key(&self, field: NamedField) -> Value {
        match field {
            NamedField::CreatedAt => self.created_at.unix().into(),
            NamedField::Name => self.name.as_str().into(),
            NamedField::UpdatedAt => self.updated_at.unix().into(),
        }
    }

    fn shown(self, connection: &Connection) -> Result<Team, Error> {
        let workspace_roles = workspace_roles(connection, &self.id)?;
        let grants = deployment_grants::held_by(connection, Holder::Team(&self.id))?;
        let (deployment_roles, dag_roles) = deployment_grants::shown(connection, &grants)?;
        Ok(Team {
            id: TeamId::known(self.id),
            name: self.name,
            description: self.description,
            organization_id: OrganizationId::known(self.organization),
            organization_role: self.organization_role,
            is_idp_managed: false,
            // The role in the organization is one of them.
            roles_count: (1 + workspace_roles.len() + grants.len()) as u64,
            workspace_roles,
            deployment_roles,
            dag_roles,
            members_count: self.members_count,
            created_at: self.created_at.into(),
            created_by: subject(connection, &self.created_by)?,
            updated_at: self.updated_at.into(),
            updated_by: subject(connection, &self.updated_by)?,
        })
    }
}

impl ControlPlane {
    /// Creates a team.
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
                .map_err(name_conflict)?;
            workspace_grants::set(transaction, organization, Holder::Team(&id), &new.workspace_roles)?;
            members::add(transaction, organization, &id, &new.member_ids)?;
            find(transaction, organization, &id)
        })
    }

    /// Lists teams, by name unless the filter says otherwise.
    pub fn list_teams(
        &self,
        actor: &Actor,
        organization: &str,
        filter: &TeamFilter,
        page: Page,
    ) -> Result<TeamPage, Error> {
        actor.may(Operation::ReadOrganization, organization)?;
        let by_name = [Sort { field: NamedField::Name, descending: false }];
        let order = if filter.sorts.is_empty() { &by_name[..] } else { &filter.sorts };
        let range = check_sorted(page, "teams", order)?;
        let names = (!filter.names.is_empty()).then(|| Value::from(filter.names.clone()).to_string());
        let of = named_params! {
            ":organization": organization, ":names": names, ":workspace": filter.workspace_id, ":after": range.after(),
        };
        let condition = "organization = :organization
            AND (:names IS NULL OR name IN (SELECT value FROM json_each(:names)))
            AND (:workspace IS NULL OR EXISTS (SELECT 1 FROM team_role WHERE team = team.id AND workspace = :workspace))";
        self.store.read(|connection| {
            let count = format!("SELECT count(*) FROM team WHERE {condition} AND (:after IS NULL OR TRUE)");
            let total_count = connection.prepare_cached(&count)?.query_row(of, |row| row.get(0))?;
            let sorted = range.sorted_by(order, column, "id");
            let (rows, offset) = (range.rows(), range.offset);
            let query = format!("SELECT {COLUMNS} WHERE {condition} {sorted} LIMIT {rows} OFFSET {offset}");
            let mut rows = connection.prepare(&query)?;
            let mut found: Vec<Stored> = rows.query_map(of, read_row)?.collect::<Result<_, _>>()?;
            let extent =
                range.extent(total_count, &mut found, |team| (team.key(order[0].field), team.id.clone()));
            let teams = found.into_iter().map(|team| team.shown(connection)).collect::<Result<_, _>>()?;
            Ok(TeamPage { teams, extent })
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
                .map_err(name_conflict)?;
            find(transaction, organization, id)
        })
    }

    /// Changes a team's roles. A Workspace Owner may change those in that workspace only, and who manages a deployment's teams
    /// those on it.
    pub fn set_team_roles(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        roles: &UserRoles,
    ) -> Result<Team, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        self.store.write(|transaction| {
            let before = find(transaction, organization, id)?;
            let (role, workspaces) = (before.organization_role, &before.workspace_roles);
            let (holder, had) =
                (Holder::Team(id), deployment_grants::held_by(transaction, Holder::Team(id))?);
            let on = deployment_grants::wanted(transaction, actor, organization, holder, &had, roles)?;
            let role = roles.may_be_given(actor, organization, role, workspaces, on.judged)?;
            if let Some(grants) = &on.grants {
                deployment_grants::set(transaction, holder, grants)?;
            }
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
            deployment_grants::set(transaction, Holder::Team(id), &[])?;
            transaction.execute("DELETE FROM team WHERE id = ?1", [id])?;
            Ok(())
        })
    }
}
