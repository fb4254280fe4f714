//! Updates name and description of a token.

use rusqlite::params;
use serde::Deserialize;

use super::{Deed, Token, find};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::precondition::IfMatch;
use crate::controlplane::error::Error;
use crate::controlplane::names::{Name, check_description, check_name};

/// Changes to a token. Absent members keep their values.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenUpdate {
    /// New name of the token.
    #[schema(value_type = Option<Name>)]
    pub name: Option<String>,
    /// New description of the token.
    #[schema(max_length = 500)]
    pub description: Option<String>,
}

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
