//! Organizations, users, workspaces, data planes and deployments.

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ControlPlane;
use super::authorization::{Actor, Operation, OrganizationRole};
use super::error::Error;
use super::publish;
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::jws::{Typ, sign};
use crate::protocol::record::{DEFAULT_ROUTES, DeploymentRecord, Record, RecordKind};
use crate::protocol::role::{RoleScope, built_in};
use crate::protocol::time::Time;
use crate::protocol::token::Claims;

/// What bootstrap made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// The organization.
    pub organization_id: String,
    /// Its first owner.
    pub user_id: String,
    /// That owner's token: shown this once.
    pub token: Zeroizing<String>,
}

/// A named thing of an organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Time,
}

/// A deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its workspace.
    pub workspace_id: String,
    /// The data plane it lives on.
    pub data_plane_id: String,
    /// The host names it is reached by.
    pub hosts: Vec<String>,
}

/// What a new deployment needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDeployment {
    /// Its name.
    pub name: String,
    /// Its workspace.
    pub workspace_id: String,
    /// The data plane it lives on.
    pub data_plane_id: String,
    /// The host names it is reached by.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// What a new user needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewUser {
    /// Who it is.
    pub email: String,
    /// The role in the organization.
    pub organization_role: OrganizationRole,
}

/// A user that was just made, with the token shown this once.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedUser {
    /// The id.
    pub id: String,
    /// Who it is.
    pub email: String,
    /// The role in the organization.
    pub organization_role: OrganizationRole,
    /// The token.
    pub token: Zeroizing<String>,
}

/// The tables whose rows are a name in an organization.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Workspaces.
    Workspace,
    /// Data planes.
    DataPlane,
}

impl Kind {
    const fn table(self) -> (&'static str, &'static str) {
        match self {
            Self::Workspace => ("workspace", "wsp_"),
            Self::DataPlane => ("data_plane", "dpl_"),
        }
    }
}

/// Checks a name people give: one line, 1 to 100 characters.
pub(super) fn check_name(field: &'static str, name: &str) -> Result<(), Error> {
    if name.trim() == name && (1..=100).contains(&name.chars().count()) && !name.chars().any(char::is_control)
    {
        Ok(())
    } else {
        Err(Error::invalid(field, "use 1 to 100 characters without spaces around them"))
    }
}

/// A UNIQUE constraint that did not hold is the caller's doing.
pub(super) fn taken(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            Error::Conflict { code: "name_taken", detail: "something of this name is there already".into() }
        }
        _ => error.into(),
    }
}

impl ControlPlane {
    /// Makes an organization and its first owner, and shows that owner's token once.
    pub fn bootstrap(&self, organization: &str, email: &str) -> Result<Bootstrap, Error> {
        check_name("organization", organization)?;
        let (organization_id, now) = (self.new_id("org_"), self.now());
        let user = NewUser { email: email.into(), organization_role: OrganizationRole::OrganizationOwner };
        self.store.write(|transaction| {
            let row = params![organization_id, organization, now.unix()];
            transaction.execute("INSERT INTO organization VALUES (?1, ?2, ?3)", row)?;
            Ok(())
        })?;
        let user = self.insert_user(&organization_id, user)?;
        Ok(Bootstrap { organization_id, user_id: user.id, token: user.token })
    }

    /// Makes a user, and shows the token once.
    pub fn create_user(
        &self,
        actor: &Actor,
        organization: &str,
        user: NewUser,
    ) -> Result<CreatedUser, Error> {
        actor.may(Operation::Administer, organization)?;
        self.insert_user(organization, user)
    }

    fn insert_user(&self, organization: &str, user: NewUser) -> Result<CreatedUser, Error> {
        check_name("email", &user.email)?;
        let (id, now) = (self.new_id("usr_"), self.now());
        self.store.write(|transaction| {
            let row = params![id, organization, user.email, user.organization_role.as_str(), 1, now.unix()];
            transaction
                .execute("INSERT INTO user VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL)", row)
                .map_err(taken)?;
            Ok(())
        })?;
        let token = self.mint_user(&id, now)?;
        Ok(CreatedUser { id, email: user.email, organization_role: user.organization_role, token })
    }

    fn mint_user(&self, id: &str, now: Time) -> Result<Zeroizing<String>, Error> {
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: id.parse().map_err(|_| Error::NotFound("user"))?,
            aud: self.issuer.clone(),
            iat: now,
            nbf: now,
            exp: Some(now.plus(365 * 86_400)),
            generation: 1,
            role: None,
        };
        let payload = serde_json::to_vec(&claims).map_err(std::io::Error::from)?;
        Ok(Zeroizing::new(sign(Typ::User, &payload, &self.signing.token)))
    }

    /// Makes a workspace or a data plane.
    pub fn create_named(
        &self,
        actor: &Actor,
        kind: Kind,
        organization: &str,
        name: &str,
    ) -> Result<Named, Error> {
        actor.may(Operation::Administer, organization)?;
        check_name("name", name)?;
        let named = Named { id: self.new_id(kind.table().1), name: name.into(), created_at: self.now() };
        self.store.write(|transaction| {
            let row = params![named.id, organization, name, named.created_at.unix()];
            match kind {
                Kind::Workspace => {
                    transaction
                        .execute("INSERT INTO workspace VALUES (?1, ?2, ?3, ?4)", row)
                        .map_err(taken)?;
                }
                Kind::DataPlane => {
                    transaction
                        .execute(
                            "INSERT INTO data_plane VALUES (?1, ?2, ?3, ?4, 0, 0, ?5)",
                            params![
                                named.id,
                                organization,
                                name,
                                named.created_at.unix(),
                                ReplicaDigest::empty().to_bytes().as_slice()
                            ],
                        )
                        .map_err(taken)?;
                    let roles = built_in()
                        .into_iter()
                        .filter(|role| matches!(role.scope, RoleScope::Deployment | RoleScope::Dag));
                    let records: Vec<Record> = roles
                        .map(|role| {
                            Record::new(
                                RecordKind::Role,
                                format!("{}@{}", role.name, role.version),
                                role.to_body(),
                            )
                        })
                        .collect();
                    publish::put(transaction, &named.id, &records)?;
                }
            }
            Ok(())
        })?;
        Ok(named)
    }

    /// Lists workspaces or data planes.
    pub fn list_named(&self, actor: &Actor, kind: Kind, organization: &str) -> Result<Vec<Named>, Error> {
        actor.may(Operation::Read, organization)?;
        self.store.read(|connection| {
            let table = kind.table().0;
            let mut rows = connection.prepare_cached(&format!(
                "SELECT id, name, created_at FROM {table} WHERE organization = ?1 ORDER BY name"
            ))?;
            let rows = rows.query_map([organization], |row| {
                Ok(Named { id: row.get(0)?, name: row.get(1)?, created_at: Time::from_unix(row.get(2)?) })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Makes a deployment and tells its data plane.
    pub fn create_deployment(
        &self,
        actor: &Actor,
        organization: &str,
        new: NewDeployment,
    ) -> Result<Deployment, Error> {
        actor.may(Operation::Administer, organization)?;
        check_name("name", &new.name)?;
        let hosts: Vec<String> = new.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        if let Some(bad) =
            hosts.iter().find(|host| host.is_empty() || host.len() > 253 || host.contains([':', '/', ' ']))
        {
            return Err(Error::invalid(
                "hosts",
                format!("{bad:?} is no host name; leave scheme and port out"),
            ));
        }
        let id = self.new_id("dep_");
        let record = DeploymentRecord {
            id: id.parse().map_err(|_| Error::NotFound("deployment"))?,
            workspace: new.workspace_id.clone(),
            name: new.name.clone(),
            hosts: hosts.clone(),
            routes: DEFAULT_ROUTES.into(),
        };
        self.store.write(|transaction| {
            for (table, what, id) in [
                ("workspace", "workspace", &new.workspace_id),
                ("data_plane", "data plane", &new.data_plane_id),
            ] {
                transaction
                    .query_row(
                        &format!("SELECT 1 FROM {table} WHERE id = ?1 AND organization = ?2"),
                        [id, organization],
                        |_| Ok(()),
                    )
                    .optional()?
                    .ok_or(Error::NotFound(what))?;
            }
            let hosts = serde_json::to_string(&hosts).map_err(std::io::Error::from)?;
            let row = params![
                id,
                organization,
                new.workspace_id,
                new.data_plane_id,
                new.name,
                hosts,
                self.now().unix()
            ];
            transaction
                .execute("INSERT INTO deployment VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", row)
                .map_err(taken)?;
            publish::put(
                transaction,
                &new.data_plane_id,
                &[Record::of(RecordKind::Deployment, id.as_str(), &record)],
            )
        })?;
        Ok(Deployment {
            id,
            name: new.name,
            workspace_id: new.workspace_id,
            data_plane_id: new.data_plane_id,
            hosts,
        })
    }

    /// Lists deployments.
    pub fn list_deployments(&self, actor: &Actor, organization: &str) -> Result<Vec<Deployment>, Error> {
        actor.may(Operation::Read, organization)?;
        self.store.read(|connection| {
            let mut rows = connection.prepare_cached(
                "SELECT id, name, workspace, data_plane, hosts FROM deployment WHERE organization = ?1 ORDER BY name",
            )?;
            let rows = rows.query_map([organization], |row| {
                Ok(Deployment {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    workspace_id: row.get(2)?,
                    data_plane_id: row.get(3)?,
                    hosts: serde_json::from_str(&row.get::<_, String>(4)?).unwrap_or_default(),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}
