//! Updating what a token is called.

use rusqlite::params;
use serde::Deserialize;

use super::{Token, find};
use crate::controlplane::ControlPlane;
use crate::controlplane::authorization::Actor;
use crate::controlplane::error::Error;
use crate::controlplane::organizations::check_name;

/// What of a token can be updated.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenUpdate {
    /// The new name.
    pub name: Option<String>,
    /// The new description.
    pub description: Option<String>,
}

impl ControlPlane {
    /// Updates name and description.
    pub fn update_token(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        update: &TokenUpdate,
    ) -> Result<Token, Error> {
        let token = self.show_token(actor, organization, id)?;
        token.managed_by(actor, organization)?;
        if let Some(name) = &update.name {
            check_name("name", name)?;
        }
        self.store.write(|transaction| {
            transaction.execute(
                "UPDATE token SET name = coalesce(?2, name), description = coalesce(?3, description), updated_at = ?4, updated_by = ?5
                 WHERE id = ?1 AND deleted_at IS NULL",
                params![id, update.name, update.description, self.now().unix(), actor.id],
            )?;
            find(transaction, organization, id)
        })
    }
}
