//! Updates name and description of a token.

use rusqlite::params;

use super::{Deed, find};
use crate::api::token::{Token, TokenUpdate};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::precondition::IfMatch;
use crate::controlplane::error::Error;
use crate::controlplane::names::{check_description, check_name};

impl ControlPlane {
    /// Updates the name and description of a token.
    pub fn update_token(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        update: &TokenUpdate,
        seen: &IfMatch,
    ) -> Result<Token, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        self.store.write(|transaction| {
            let token = find(transaction, organization, id)?;
            token.changed_by(transaction, actor, organization, Deed::Update)?;
            token.check_unchanged(transaction, actor, organization, seen)?;
            if let Some(name) = &update.name {
                check_name("name", name)?;
            }
            if let Some(description) = &update.description {
                check_description(description)?;
            }
            transaction.execute(
                "UPDATE token SET name = coalesce(?2, name), description = coalesce(?3, description), updated_at = ?4, updated_by = ?5
                 WHERE id = ?1 AND deleted_at IS NULL",
                params![id, update.name, update.description, self.now().unix(), actor.id],
            )?;
            find(transaction, organization, id)?.shown(transaction, |_| true)
        })
    }
}
