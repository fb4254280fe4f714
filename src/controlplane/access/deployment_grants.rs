//! Roles of users and teams on deployments and on their Dags. Roles on deployments decide which calls of the control plane
//! a user may make; roles on Dags are only stored and shown.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::authorization::{Actor, Operation, Scope};
use super::roles::RoleVersion;
use super::workspace_grants::Holder;
use crate::api::role::{RoleOnDags, RoleOnDeployment};
use crate::api::token::EntityType;
use crate::api::user::UserRoles;
use crate::controlplane::error::Error;
use crate::controlplane::names::is_dag_name;
use crate::controlplane::store::Transaction;
use crate::controlplane::store::columns::word;
use crate::protocol::permission::PermissionSet;
use crate::protocol::role::RoleScope;

/// Maximum number of roles on deployments and Dags of one user or team.
const MAX_ROLES: usize = 200;

/// Role of a user or team on a deployment, or on Dags of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controlplane) struct DeploymentGrant {
    pub(in crate::controlplane) deployment: String,
    workspace: String,
    pub(in crate::controlplane) entity_type: EntityType,
    /// Id of the deployment or Dag, or the tag.
    pub(in crate::controlplane) entity: String,
    /// Name of a built-in role, or id of a custom one.
    role: String,
}

impl Holder<'_> {
    const fn table(self) -> &'static str {
        match self {
            Self::User(_) => "user_deployment_role",
            Self::Team(_) => "team_deployment_role",
        }
    }

    const fn id(&self) -> &str {
        match self {
            Self::User(id) | Self::Team(id) => id,
        }
    }

    /// Returns the operation of giving or removing the holder's roles on a deployment.
    const fn managing(self) -> Operation {
        match self {
            Self::User(_) => Operation::ManageDeploymentUsers,
            Self::Team(_) => Operation::ManageDeploymentTeams,
        }
    }
}

/// Returns the roles of `holder`.
pub(in crate::controlplane) fn held_by(
    connection: &Connection,
    holder: Holder<'_>,
) -> Result<Vec<DeploymentGrant>, Error> {
    let mut rows = connection.prepare_cached(&format!(
        "SELECT deployment, workspace, entity_type, entity, role FROM {} AS held
         JOIN deployment ON deployment.id = held.deployment
         WHERE holder = ?1 ORDER BY deployment, entity_type, entity",
        holder.table()
    ))?;
    let rows = rows.query_map([holder.id()], |row| {
        Ok(DeploymentGrant {
            deployment: row.get(0)?,
            workspace: row.get(1)?,
            entity_type: word(row, 2)?,
            entity: row.get(3)?,
            role: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns the roles of a user and of their teams, each once.
pub(in crate::controlplane) fn of_user_and_teams(
    connection: &Connection,
    user: &str,
) -> Result<Vec<DeploymentGrant>, Error> {
    let mut all = held_by(connection, Holder::User(user))?;
    let mut teams =
        connection.prepare_cached("SELECT team FROM team_member WHERE user = ?1 ORDER BY team")?;
    for team in teams.query_map([user], |row| row.get::<_, String>(0))? {
        for grant in held_by(connection, Holder::Team(&team?))? {
            if !all.contains(&grant) {
                all.push(grant);
            }
        }
    }
    Ok(all)
}

/// Returns roles as the API shows them: those on deployments, and those on Dags.
pub(in crate::controlplane) fn shown(
    connection: &Connection,
    grants: &[DeploymentGrant],
) -> Result<(Vec<RoleOnDeployment>, Vec<RoleOnDags>), Error> {
    let (mut deployments, mut dags) = (Vec::new(), Vec::new());
    for grant in grants {
        let (deployment_id, role) = (grant.deployment.clone(), grant.name(connection)?);
        let on = |kind| (grant.entity_type == kind).then(|| grant.entity.clone());
        let (dag_id, dag_tag) = (on(EntityType::Dag), on(EntityType::DagTag));
        if grant.entity_type == EntityType::Deployment {
            deployments.push(RoleOnDeployment { deployment_id, role });
        } else {
            dags.push(RoleOnDags { deployment_id, dag_id, dag_tag, role });
        }
    }
    Ok((deployments, dags))
}

/// Returns the permissions that a user has on deployments by roles there, their own and those of their teams.
pub(in crate::controlplane) fn permissions_of(
    connection: &Connection,
    user: &str,
) -> Result<BTreeMap<String, PermissionSet>, Error> {
    let mut rows = connection.prepare_cached(
        "SELECT deployment, role FROM user_deployment_role WHERE holder = ?1 AND entity_type = 'DEPLOYMENT'
         UNION ALL
         SELECT deployment, role FROM team_deployment_role JOIN team_member ON team_member.team = holder
         WHERE user = ?1 AND entity_type = 'DEPLOYMENT'",
    )?;
    let mut permissions: BTreeMap<String, PermissionSet> = BTreeMap::new();
    for row in rows.query_map([user], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))? {
        let (deployment, role) = row?;
        let more = RoleVersion::find_version(connection, &role, None)?.body.permissions;
        let all = permissions.entry(deployment).or_default();
        *all = all.union(more);
    }
    Ok(permissions)
}

impl DeploymentGrant {
    /// Finds a role and checks that it can be held there.
    fn new(
        connection: &Connection,
        organization: &str,
        deployment: &str,
        (entity_type, entity): (EntityType, &str),
        role: &str,
    ) -> Result<Self, Error> {
        let query = "SELECT workspace FROM deployment WHERE id = ?1 AND organization = ?2";
        let workspace: Option<String> =
            connection.query_row(query, [deployment, organization], |row| row.get(0)).optional()?;
        let (scope, field) = match entity_type {
            EntityType::Deployment => (RoleScope::Deployment, "deploymentRoles"),
            _ => (RoleScope::Dag, "dagRoles"),
        };
        let workspace = workspace.ok_or(Error::NoSuch { field, what: "deployment" })?;
        if !is_dag_name(entity) {
            return Err(Error::invalid(field, "a Dag's id or tag has 1 to 250 visible characters"));
        }
        let found = RoleVersion::newest(connection, organization, role, scope)?.ok_or_else(|| {
            let detail = format!("{role:?} is no role there; `halligan role list` shows those there are");
            Error::invalid(field, detail)
        })?;
        if !found.fits(&workspace) {
            return Err(Error::invalid(field, format!("{role} can't be held in workspace {workspace}")));
        }
        let (deployment, entity) = (deployment.to_owned(), entity.to_owned());
        Ok(Self { deployment, workspace, entity_type, entity, role: found.key })
    }

    /// Returns the name of the role.
    pub(in crate::controlplane) fn name(&self, connection: &Connection) -> Result<String, Error> {
        Ok(RoleVersion::find_version(connection, &self.role, None)?.name)
    }

    fn scope<'a>(&'a self, organization: &'a str) -> Scope<'a> {
        Scope { organization, workspace: Some(&self.workspace), deployment: Some(&self.deployment) }
    }

    fn same_place(&self, other: &Self) -> bool {
        (&self.deployment, self.entity_type, &self.entity)
            == (&other.deployment, other.entity_type, &other.entity)
    }

    fn may_be_set(&self, actor: &Actor, organization: &str, holder: Holder<'_>) -> Result<(), Error> {
        let operation = match self.entity_type {
            EntityType::Deployment => holder.managing(),
            _ => Operation::AssignDagRoles,
        };
        actor.may(operation, self.scope(organization))
    }

    /// Fails if the caller's own roles on the deployment allow less.
    fn within(&self, connection: &Connection, actor: &Actor, organization: &str) -> Result<(), Error> {
        let permissions = RoleVersion::find_version(connection, &self.role, None)?.body.permissions;
        if permissions.is_subset(actor.permissions_on(self.scope(organization))) {
            return Ok(());
        }
        Err(Error::role_exceeds_yours())
    }
}

/// Roles that a user or team is to have.
#[derive(Debug, Default)]
pub(in crate::controlplane) struct Wanted {
    /// All of them, or none if they stay as they are.
    pub(in crate::controlplane) grants: Option<Vec<DeploymentGrant>>,
    /// True if the caller's right to set some of them was checked.
    pub(in crate::controlplane) judged: bool,
}

/// Returns the roles that `holder` is to have instead of `before`. Checks that the caller may make the change. A call that
/// changes nothing needs the right to set the roles that it names, because its answer shows the others.
pub(in crate::controlplane) fn wanted(
    connection: &Connection,
    actor: &Actor,
    organization: &str,
    holder: Holder<'_>,
    before: &[DeploymentGrant],
    roles: &UserRoles,
) -> Result<Wanted, Error> {
    if roles.deployment_roles.is_none() && roles.dag_roles.is_none() {
        return Ok(Wanted::default());
    }
    let on_deployment = |grant: &&DeploymentGrant| grant.entity_type == EntityType::Deployment;
    let mut wanted: Vec<DeploymentGrant> = Vec::new();
    match &roles.deployment_roles {
        None => wanted.extend(before.iter().filter(on_deployment).cloned()),
        Some(new) => {
            for RoleOnDeployment { deployment_id, role } in new {
                let place = (EntityType::Deployment, deployment_id.as_str());
                wanted.push(DeploymentGrant::new(connection, organization, deployment_id, place, role)?);
            }
        }
    }
    match &roles.dag_roles {
        None => wanted.extend(before.iter().filter(|grant| !on_deployment(grant)).cloned()),
        Some(new) => {
            for RoleOnDags { deployment_id, dag_id, dag_tag, role } in new {
                let place = match (dag_id, dag_tag) {
                    (Some(dag), None) => (EntityType::Dag, dag.as_str()),
                    (None, Some(tag)) => (EntityType::DagTag, tag.as_str()),
                    _ => return Err(Error::invalid("dagRoles", "name either a dagId or a dagTag")),
                };
                wanted.push(DeploymentGrant::new(connection, organization, deployment_id, place, role)?);
            }
        }
    }
    if wanted.len() > MAX_ROLES {
        return Err(Error::invalid("deploymentRoles", format!("use at most {MAX_ROLES} roles")));
    }
    for (number, grant) in wanted.iter().enumerate() {
        if wanted[..number].iter().any(|other| other.same_place(grant)) {
            let field = if on_deployment(&grant) { "deploymentRoles" } else { "dagRoles" };
            return Err(Error::invalid(field, format!("{} has two roles; give it one", grant.entity)));
        }
    }
    let lost = before.iter().filter(|grant| !wanted.contains(grant));
    let won: Vec<_> = wanted.iter().filter(|grant| !before.contains(grant)).collect();
    let mut touched: Vec<_> = lost.chain(won.iter().copied()).collect();
    if touched.is_empty() {
        let named = |grant: &&DeploymentGrant| {
            if on_deployment(grant) { roles.deployment_roles.is_some() } else { roles.dag_roles.is_some() }
        };
        touched.extend(wanted.iter().filter(named));
    }
    for grant in &touched {
        grant.may_be_set(actor, organization, holder)?;
    }
    for grant in won {
        grant.within(connection, actor, organization)?;
    }
    let judged = !touched.is_empty();
    Ok(Wanted { grants: Some(wanted), judged })
}

/// Replaces the roles of `holder`.
pub(in crate::controlplane) fn set(
    transaction: &Transaction<'_>,
    holder: Holder<'_>,
    grants: &[DeploymentGrant],
) -> Result<(), Error> {
    let table = holder.table();
    transaction.execute(&format!("DELETE FROM {table} WHERE holder = ?1"), [holder.id()])?;
    let insert = format!("INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5)");
    let mut insert = transaction.prepare_cached(&insert)?;
    for grant in grants {
        let row =
            params![holder.id(), grant.deployment, grant.entity_type.as_str(), grant.entity, grant.role];
        insert.execute(row)?;
    }
    Ok(())
}

/// Deletes all roles on a deployment that is being deleted.
pub(in crate::controlplane) fn remove_deployment(
    transaction: &Transaction<'_>,
    deployment: &str,
) -> Result<(), Error> {
    for table in ["user_deployment_role", "team_deployment_role"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE deployment = ?1"), [deployment])?;
    }
    Ok(())
}
