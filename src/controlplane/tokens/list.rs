//! Listing and showing tokens.

use serde::Serialize;

use super::{COLUMNS, Token, find, read_row};
use crate::controlplane::ControlPlane;
use crate::controlplane::authorization::{Actor, Operation};
use crate::controlplane::error::Error;

/// A page of tokens.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenPage {
    /// The tokens.
    pub tokens: Vec<Token>,
    /// How many there are in all.
    pub total_count: u64,
    /// How many were skipped.
    pub offset: u64,
    /// How many fit on the page.
    pub limit: u64,
}

impl ControlPlane {
    /// Lists tokens, oldest first.
    pub fn list_tokens(
        &self,
        actor: &Actor,
        organization: &str,
        offset: u64,
        limit: u64,
    ) -> Result<TokenPage, Error> {
        actor.may(Operation::ReadOrganization, organization)?;
        if limit == 0 || limit > 1000 {
            return Err(Error::invalid("limit", "use 1 to 1000"));
        }
        let mut tokens: Vec<Token> = self.store.read(|connection| {
            let query = format!(
                "SELECT {COLUMNS} FROM token WHERE organization = ?1 AND deleted_at IS NULL ORDER BY created_at, id"
            );
            let mut rows = connection.prepare_cached(&query)?;
            Ok(rows.query_map([organization], read_row)?.collect::<Result<_, _>>()?)
        })?;
        tokens.retain(|token| token.seen_by(actor, organization).is_ok());
        let total_count = tokens.len() as u64;
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let page = usize::try_from(limit).unwrap_or(usize::MAX);
        let tokens = tokens.into_iter().skip(skip).take(page).collect();
        Ok(TokenPage { tokens, total_count, offset, limit })
    }

    /// Shows a token.
    pub fn show_token(&self, actor: &Actor, organization: &str, id: &str) -> Result<Token, Error> {
        actor.may(Operation::ReadOrganization, organization)?;
        let token = self.store.read(|connection| find(connection, organization, id))?;
        token.seen_by(actor, organization)?;
        Ok(token)
    }
}
