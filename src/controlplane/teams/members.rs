//! Who is in a team, and what that gives them.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use super::find;
use crate::controlplane::ControlPlane;
use crate::controlplane::authorization::{Actor, Operation, OrganizationRole, WorkspaceRole};
use crate::controlplane::error::Error;

/// Users who are to be in a team.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewMembers {
    /// Their ids.
    pub member_ids: Vec<String>,
}

/// A member of a team.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TeamMember {
    /// The user.
    pub user_id: String,
    /// Who it is.
    pub email: String,
}

fn members(connection: &Connection, team: &str) -> Result<Vec<TeamMember>, Error> {
    let mut rows = connection.prepare_cached(
        "SELECT user.id, email FROM team_member JOIN user ON user.id = team_member.user WHERE team = ?1 ORDER BY email",
    )?;
    let rows = rows.query_map([team], |row| Ok(TeamMember { user_id: row.get(0)?, email: row.get(1)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What a user has through teams.
pub(in crate::controlplane) struct Inherited {
    /// The highest role in the organization.
    pub(in crate::controlplane) organization: Option<OrganizationRole>,
    /// Every role in workspaces.
    pub(in crate::controlplane) workspaces: Vec<(String, WorkspaceRole)>,
}

/// The roles a user has through teams.
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

/// Takes a user who is deleted out of every team.
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
    ) -> Result<Vec<TeamMember>, Error> {
        actor.may(Operation::Administer, organization)?;
        self.store.read(|connection| {
            find(connection, organization, team)?;
            members(connection, team)
        })
    }

    /// Adds users to a team; who is in it already stays in it.
    pub fn add_team_members(
        &self,
        actor: &Actor,
        organization: &str,
        team: &str,
        new: &NewMembers,
    ) -> Result<Vec<TeamMember>, Error> {
        actor.may(Operation::Administer, organization)?;
        self.store.write(|transaction| {
            find(transaction, organization, team)?;
            for user in &new.member_ids {
                let query = "SELECT 1 FROM user WHERE id = ?1 AND organization = ?2 AND deleted_at IS NULL";
                let known = transaction.query_row(query, [user, organization], |_| Ok(())).optional()?;
                known.ok_or(Error::NotFound("user"))?;
                transaction.execute("INSERT OR IGNORE INTO team_member VALUES (?1, ?2)", [team, user])?;
            }
            members(transaction, team)
        })
    }

    /// Takes a user out of a team.
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
