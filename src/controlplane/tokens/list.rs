//! Listing and showing tokens.

use rusqlite::params;
use serde::Serialize;

use super::grants::besides;
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
        self.page_of_tokens(actor, organization, None, offset, limit)
    }

    /// One page of the tokens the caller may see; with `deployment`, of those that have a role on it.
    pub(super) fn page_of_tokens(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: Option<&str>,
        offset: u64,
        limit: u64,
    ) -> Result<TokenPage, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        if limit == 0 || limit > 1000 {
            return Err(Error::invalid("limit", "use 1 to 1000"));
        }
        self.store.read(|connection| {
            let query = format!(
                "SELECT {COLUMNS} FROM token WHERE organization = ?1 AND deleted_at IS NULL AND (?2 IS NULL
                     OR (type = 'DEPLOYMENT' AND entity = ?2)
                     OR EXISTS (SELECT 1 FROM token_role WHERE token = token.id AND deployment = ?2))
                 ORDER BY created_at, id"
            );
            let mut rows = connection.prepare_cached(&query)?;
            let found = rows.query_map(params![organization, deployment], read_row)?;
            let mut tokens: Vec<Token> = found.collect::<Result<_, _>>()?;
            for token in &mut tokens {
                token.grants.extend(besides(connection, &token.id)?);
            }
            tokens
                .retain(|token| token.grants.iter().any(|grant| grant.seen_by(actor, organization).is_ok()));
            let total_count = tokens.len() as u64;
            let skip = usize::try_from(offset).unwrap_or(usize::MAX);
            let page = usize::try_from(limit).unwrap_or(usize::MAX);
            let page = tokens.into_iter().skip(skip).take(page);
            let tokens = page.map(|token| token.shown_to(connection, actor, organization));
            Ok(TokenPage { tokens: tokens.collect::<Result<_, _>>()?, total_count, offset, limit })
        })
    }

    /// Shows a token.
    pub fn show_token(&self, actor: &Actor, organization: &str, id: &str) -> Result<Token, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        self.store
            .read(|connection| find(connection, organization, id)?.shown_to(connection, actor, organization))
    }
}
