//! Organizations.

use rusqlite::params;
use serde::Serialize;
use zeroize::Zeroizing;

use super::users::NewUser;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::audit_log;
use crate::controlplane::access::authorization::{Actor, Operation, OrganizationRole};
use crate::controlplane::error::Error;
use crate::controlplane::names::{Named, check_name};

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
            transaction
                .execute("INSERT INTO organization (id, name, created_at) VALUES (?1, ?2, ?3)", row)?;
            let user = self.insert_user(transaction, &organization_id, &owner)?;
            // The actor is whoever has the keys, since there is no user yet.
            let who = ("halligan-control", "halligan-control init");
            audit_log::done(transaction, &organization_id, who, "init", &organization_id, now)?;
            Ok(user)
        })?;
        Ok(Bootstrap { organization_id, user_id: user.user.id, token: user.token })
    }

    /// Returns true if there is an organization.
    pub fn bootstrapped(&self) -> Result<bool, Error> {
        self.store.read(|connection| {
            Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM organization)", [], |row| row.get(0))?)
        })
    }

    /// Lists the caller's organization, as the only item.
    pub fn list_organizations(&self, actor: &Actor) -> Result<Vec<Named>, Error> {
        Ok(vec![self.show_organization(actor, &actor.organization)?])
    }

    /// Shows an organization.
    pub fn show_organization(&self, actor: &Actor, id: &str) -> Result<Named, Error> {
        actor.may(Operation::SeeOrganization, id)?;
        self.store.read(|connection| {
            let query = "SELECT id, name, created_at FROM organization WHERE id = ?1";
            Ok(connection.query_row(query, [id], Named::read)?)
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
    use crate::protocol::time::Time;

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
