//! Versions of deployment and Dag roles, which tokens refer to and data planes receive.

use rusqlite::{Connection, OptionalExtension, Row};

use crate::controlplane::error::Error;
use crate::controlplane::store::columns::json;
use crate::protocol::record::{Record, RecordKind};
use crate::protocol::role::{RoleBody, RoleDigest, RoleScope, built_in};
use crate::protocol::token::RoleClaim;

/// Version of a role on deployments or Dags, with the bytes that are published.
#[derive(Clone, Debug)]
pub(in crate::controlplane) struct RoleVersion {
    /// Key under which grants store it: a built-in role's name, or a custom role's id.
    pub(in crate::controlplane) key: String,
    /// Name for people. The name in the body has `_` in place of spaces.
    pub(in crate::controlplane) name: String,
    pub(in crate::controlplane) body: RoleBody,
    /// Workspaces in which it can be held; empty for all.
    pub(in crate::controlplane) workspaces: Vec<String>,
    text: String,
}

const QUERY: &str = "SELECT role.id, role_version.body, role.workspaces, role_version.name FROM role JOIN role_version ON role_version.role = role.id";

fn read_row(row: &Row<'_>) -> rusqlite::Result<RoleVersion> {
    let text: String = row.get(1)?;
    Ok(RoleVersion {
        key: row.get(0)?,
        name: row.get(3)?,
        body: json(row, 1)?,
        workspaces: json(row, 2)?,
        text,
    })
}

impl RoleVersion {
    fn built_in(body: RoleBody) -> Self {
        let (key, name) = (body.name.clone(), body.name.clone());
        Self { key, name, text: body.to_body(), body, workspaces: Vec::new() }
    }

    /// Returns the newest version of a role by name or id, if it is held on objects of kind `scope`.
    pub(in crate::controlplane) fn newest(
        connection: &Connection,
        organization: &str,
        role: &str,
        scope: RoleScope,
    ) -> Result<Option<Self>, Error> {
        let known = built_in().into_iter().filter(|body| body.name == role).max_by_key(|body| body.version);
        let found = match known {
            Some(body) => Some(Self::built_in(body)),
            None => connection
                .prepare_cached(&format!(
                    "{QUERY} AND role_version.version = role.version
                     WHERE role.organization = ?1 AND (role.id = ?2 OR role.name = ?2) AND deleted_at IS NULL"
                ))?
                .query_row([organization, role], read_row)
                .optional()?,
        };
        Ok(found.filter(|found| found.body.scope == scope))
    }

    /// Returns a version of the role stored as `key`; without a number the newest. Versions of deleted roles are found
    /// as well.
    pub(in crate::controlplane) fn find_version(
        connection: &Connection,
        key: &str,
        version: Option<u32>,
    ) -> Result<Self, Error> {
        let known = built_in()
            .into_iter()
            .filter(|body| body.name == key && version.is_none_or(|version| body.version == version))
            .max_by_key(|body| body.version);
        if let Some(body) = known {
            return Ok(Self::built_in(body));
        }
        let query =
            format!("{QUERY} AND role_version.version = coalesce(?2, role.version) WHERE role.id = ?1");
        let found = connection.prepare_cached(&query)?.query_row((key, version), read_row).optional()?;
        found.ok_or(Error::NotFound("role"))
    }

    /// Returns the claim that a token carries.
    pub(in crate::controlplane) fn claim(&self) -> Result<RoleClaim, Error> {
        let id = self.body.reference().map_err(|_| Error::NotFound("role"))?;
        Ok(RoleClaim { id, digest: self.digest() })
    }

    /// Returns the digest of its bytes.
    pub(in crate::controlplane) fn digest(&self) -> RoleDigest {
        RoleDigest::compute(&self.text)
    }

    /// Returns the record that data planes receive.
    pub(in crate::controlplane) fn record(&self) -> Record {
        let key = format!("{}@{}", self.body.name, self.body.version);
        Record::new(RecordKind::Role, key, self.text.as_str())
    }

    /// Returns true if it can be held on a deployment of `workspace`.
    pub(in crate::controlplane) fn fits(&self, workspace: &str) -> bool {
        self.workspaces.is_empty() || self.workspaces.iter().any(|allowed| allowed == workspace)
    }
}
