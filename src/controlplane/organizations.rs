//! Organizations, and the names that people give to the objects in them.

use rusqlite::params;
use serde::Serialize;
use zeroize::Zeroizing;

use super::ControlPlane;
use super::audit_log;
use super::authorization::{Actor, Operation, OrganizationRole};
use super::error::Error;
use super::users::NewUser;
use crate::platform::text::is_unseen;
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

/// Object with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// Id of the object.
    pub id: String,
    /// Name of the object.
    pub name: String,
    /// Time of creation.
    pub created_at: Time,
}

impl Named {
    /// Reads id, name and time of creation from a row that begins with these columns.
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get(0)?, name: row.get(1)?, created_at: Time::from_unix(row.get(2)?) })
    }
}

/// Schema of a name that people give to an object. The pattern rejects control characters and the most frequent format
/// characters; `check_name` rejects at least those.
#[derive(utoipa::ToSchema)]
#[schema(
    pattern = r"^[^ \u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]([^\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]{0,98}[^ \u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff])?$"
)]
pub struct Name(pub String);

/// Checks a name: one line of 1 to 100 visible characters, without a space at either end. Invisible characters would
/// make two names look alike, and a character that reverses the direction of text would mislead readers.
pub(super) fn check_name(field: &'static str, name: &str) -> Result<(), Error> {
    let spaced = name.starts_with(' ') || name.ends_with(' ');
    if !spaced && (1..=100).contains(&name.chars().count()) && !name.contains(is_unseen) {
        Ok(())
    } else {
        Err(Error::invalid(field, "use 1 to 100 visible characters without spaces around them"))
    }
}

/// Checks a description: at most 500 characters.
pub(super) fn check_description(description: &str) -> Result<(), Error> {
    if description.chars().count() > 500 {
        return Err(Error::invalid("description", "use at most 500 characters"));
    }
    Ok(())
}

/// Turns a violated UNIQUE constraint into a conflict, because the caller chose a name that is in use.
pub(super) fn taken(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            Error::Conflict { code: "name_taken", detail: "something of this name is there already".into() }
        }
        _ => error.into(),
    }
}

impl ControlPlane {
    /// Creates an organization and its first owner. The result shows the owner's token once.
    pub fn bootstrap(&self, organization: &str, email: &str) -> Result<Bootstrap, Error> {
        check_name("organization", organization)?;
        check_name("email", email)?;
        let (organization_id, now) = (self.new_id("org_"), self.now());
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
