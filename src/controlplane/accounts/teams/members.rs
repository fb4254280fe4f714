//! Members of teams, and the roles that they get from them.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::find;
use crate::api::id::UserId;
use crate::api::page::Page;
use crate::api::team::{NewMembers, TeamMember, TeamMemberPage};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation, OrganizationRole, WorkspaceRole};
use crate::controlplane::calls::page::unsorted;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;

fn read_row(row: &Row<'_>) -> rusqlite::Result<TeamMember> {
    let email: String = row.get(1)?;
    Ok(TeamMember {
        user_id: UserId::known(row.get(0)?),
        username: email.clone(),
        full_name: email.clone(),
        email,
        avatar_url: String::new(),
    })
}

/// Returns a page of the members, by email address.
fn page_of(connection: &Connection, team: &str, page: Page) -> Result<TeamMemberPage, Error> {
    let email = |member: &TeamMember| member.email.clone();
    let (team_members, extent) = unsorted(page, "members", members(connection, team)?, email)?;
    Ok(TeamMemberPage { team_members, extent })
}

fn members(connection: &Connection, team: &str) -> Result<Vec<TeamMember>, Error> {
    let mut rows = connection.prepare_cached(
        "SELECT user.id, email FROM team_member JOIN user ON user.id = team_member.user WHERE team = ?1 ORDER BY email",
    )?;
    let rows = rows.query_map([team], read_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds users of the organization to a team.
pub(super) fn add(
    transaction: &Transaction<'_>,
    organization: &str,
    team: &str,
    users: &[String],
) -> Result<(), Error> {
    for user in users {
        let query = "SELECT 1 FROM user WHERE id = ?1 AND organization = ?2 AND deleted_at IS NULL";
        let known = transaction.query_row(query, [user, organization], |_| Ok(())).optional()?;
        known.ok_or(Error::NoSuch { field: "memberIds", what: "user" })?;
        transaction.execute("INSERT OR IGNORE INTO team_member VALUES (?1, ?2)", [team, user])?;
    }
    Ok(())
}

/// Roles that a user has through teams.
pub(in crate::controlplane) struct Inherited {
    /// Highest role in the organization.
    pub(in crate::controlplane) organization: Option<OrganizationRole>,
    /// All roles in workspaces, by workspace id.
    pub(in crate::controlplane) workspaces: Vec<(String, WorkspaceRole)>,
}

/// Returns the roles that a user has through teams.
pub(in crate::controlplane) fn inherited(connection: &Connection, user: &str) -> Result<Inherited, Error> {
    let mut rows = connection.prepare_cached(
        "SELECT role FROM team JOIN team_member ON team_member.team = team.id WHERE user = ?1",
    )?;
    let mut inherited = Inherited { organization: None, workspaces: Vec::new() };
    for role in rows.query_map([user], |row| row.get::<_, String>(0))? {
        inherited.organization = inherited.organization.max(OrganizationRole::parse(&role?));
    }
    let mut rows = connection.prepare_cached(
        "SELECT workspace, role FROM team_role JOIN team_member ON team_member.team = team_role.team WHERE user = ?1",
    )?;
    for row in rows.query_map([user], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))? {
        let (workspace, role) = row?;
        inherited.workspaces.extend(WorkspaceRole::parse(&role).map(|role| (workspace, role)));
    }
    Ok(inherited)
}

/// Removes a deleted user from every team.
pub(in crate::controlplane) fn leave_all(transaction: &Transaction<'_>, user: &str) -> Result<(), Error> {
    transaction.execute("DELETE FROM team_member WHERE user = ?1", [user])?;
    Ok(())
}

impl ControlPlane {
    /// Lists the members of a team.
    pub fn list_team_members(
        &self,
        actor: &Actor,
        organization: &str,
        team: &str,
        page: Page,
    ) -> Result<TeamMemberPage, Error> {
        actor.may(Operation::Administer, organization)?;
        self.store.read(|connection| {
            find(connection, organization, team)?;
            page_of(connection, team, page)
        })
    }

    /// Adds users to a team. Users who are members already stay members.
    pub fn add_team_members(
        &self,
        actor: &Actor,
        organization: &str,
        team: &str,
        new: &NewMembers,
    ) -> Result<TeamMemberPage, Error> {
        actor.may(Operation::Administer, organization)?;
        self.store.write(|transaction| {
            find(transaction, organization, team)?;
            add(transaction, organization, team, &new.member_ids)?;
            page_of(transaction, team, Page { offset: 0, limit: 1000, cursor: None })
        })
    }

    /// Removes a user from a team.
    pub fn remove_team_member(
        &self,
        actor: &Actor,
        organization: &str,
        team: &str,
        user: &str,
    ) -> Result<(), Error> {
        actor.may(Operation::Administer, organization)?;
        self.store.write(|transaction| {
            find(transaction, organization, team)?;
            let removed = transaction
                .execute("DELETE FROM team_member WHERE team = ?1 AND user = ?2", params![team, user])?;
            if removed == 0 { Err(Error::NotFound("member")) } else { Ok(()) }
        })
    }
}
