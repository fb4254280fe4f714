//! Organizations.

use rusqlite::params;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::id::OrganizationId;
use crate::api::organization::{Organization, OrganizationFilter, OrganizationPage};
use crate::api::page::Page;
use crate::api::user::NewUser;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::audit_log;
use crate::controlplane::access::authorization::{Actor, Operation, OrganizationRole};
use crate::controlplane::calls::page::listed;
use crate::controlplane::calls::subjects::{PROGRAM, subject};
use crate::controlplane::error::Error;
use crate::controlplane::names::{check_name, sort_key};
use crate::protocol::time::Time;

/// Result of the first start.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// Id of the organization.
    pub organization_id: String,
    /// Id of its first owner.
    pub user_id: String,
    /// Token of the owner, shown only once.
    pub token: Zeroizing<String>,
}

impl ControlPlane {
    /// Creates an organization and its first owner. The result shows the owner's token once.
    pub fn bootstrap(&self, organization: &str, email: &str) -> Result<Bootstrap, Error> {
        check_name("organization", organization)?;
        check_name("email", email)?;
        let (organization_id, now) = (self.new_id(), self.now());
        let owner = NewUser {
            email: email.into(),
            organization_role: OrganizationRole::OrganizationOwner,
            workspace_roles: Vec::new(),
        };
        let user = self.store.write(|transaction| {
            let row = params![organization_id, organization, now.unix()];
            transaction.execute(
                "INSERT INTO organization (id, name, created_at, created_by, updated_at, updated_by)
                 VALUES (?1, ?2, ?3, 'halligan-control', ?3, 'halligan-control')",
                row,
            )?;
            let user = self.insert_user(transaction, &organization_id, &owner)?;
            // The actor is whoever has the keys, since there is no user yet.
            let who = ("halligan-control", "halligan-control init");
            audit_log::record_done(transaction, &organization_id, who, "init", &organization_id, now)?;
            Ok(user)
        })?;
        Ok(Bootstrap { organization_id, user_id: user.user.id.into(), token: user.token })
    }

    /// Returns true if there is an organization.
    pub fn bootstrapped(&self) -> Result<bool, Error> {
        self.store.read(|connection| {
            Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM organization)", [], |row| row.get(0))?)
        })
    }

    /// Lists the caller's organization, as the only item.
    pub fn list_organizations(
        &self,
        actor: &Actor,
        filter: &OrganizationFilter,
        page: Page,
    ) -> Result<OrganizationPage, Error> {
        let own = vec![self.show_organization(actor, &actor.organization)?];
        let (organizations, extent) = listed(
            page,
            "organizations",
            &filter.sorts,
            own,
            |item| item.name.clone(),
            |field, item| sort_key(field, &item.name, item.created_at, item.updated_at),
        )?;
        Ok(OrganizationPage { organizations, extent })
    }

    /// Shows an organization.
    pub fn show_organization(&self, actor: &Actor, id: &str) -> Result<Organization, Error> {
        actor.may(Operation::SeeOrganization, id)?;
        self.store.read(|connection| {
            let query =
                "SELECT name, created_at, created_by, updated_at, updated_by FROM organization WHERE id = ?1";
            let (name, created_at, created_by, updated_at, updated_by) =
                connection.query_row(query, [id], |row| {
                    let by = |index| row.get::<_, Option<String>>(index);
                    let created_at: i64 = row.get(1)?;
                    let updated_at: Option<i64> = row.get(3)?;
                    Ok((row.get(0)?, created_at, by(2)?, updated_at.unwrap_or(created_at), by(4)?))
                })?;
            Ok(Organization {
                id: OrganizationId::known(id.to_owned()),
                name,
                product: "HOSTED".into(),
                product_plans: Vec::new(),
                status: "ACTIVE".into(),
                created_at: Time::from_unix(created_at).into(),
                created_by: subject(connection, created_by.as_deref().unwrap_or(PROGRAM))?,
                updated_at: Time::from_unix(updated_at).into(),
                updated_by: subject(connection, updated_by.as_deref().unwrap_or(PROGRAM))?,
                is_scim_enabled: false,
                allow_enhanced_support_access: false,
                has_allowed_ip_address_ranges: false,
                is_blocked_enable_ai_features: false,
                should_enforce_dedicated_clusters: false,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    use super::*;
    use crate::controlplane::signing::Signing;
    use crate::controlplane::store::Store;

    #[test]
    fn an_organization_begins_with_an_owner_who_can_call() {
        let (directory, now) = (tempfile::tempdir().unwrap(), Time::from_unix(1_800_000_000));
        Signing::create(directory.path(), now, &mut UnwrapErr(SysRng)).unwrap();
        let control = ControlPlane::new(
            Store::in_memory().unwrap(),
            Signing::load(directory.path()).unwrap(),
            "https://control.example".into(),
            Arc::new(move || now),
            Box::new(UnwrapErr(SysRng)),
        );
        assert!(!control.bootstrapped().unwrap());
        let made = control.bootstrap("Acme", "owner@acme.example").unwrap();
        assert!(control.bootstrapped().unwrap());
        let owner = control.authenticate(made.token.as_bytes()).unwrap();
        assert_eq!((owner.id, owner.role), (made.user_id, Some(OrganizationRole::OrganizationOwner)));
        assert_eq!(owner.organization, made.organization_id);
    }
}
