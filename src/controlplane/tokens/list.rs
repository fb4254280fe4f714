//! Listing and showing tokens.

use rusqlite::named_params;
use serde::{Deserialize, Serialize};

use super::grants::besides;
use super::{COLUMNS, Token, TokenType, find, read_row, written};
use crate::controlplane::ControlPlane;
use crate::controlplane::authorization::{Actor, Operation, Scope};
use crate::controlplane::error::Error;
use crate::controlplane::page::{Page, containing};
use crate::protocol::token::TokenKind;

/// A page of tokens.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
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

/// Which tokens are asked for; what is left out does not matter.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct TokenFilter {
    /// Of this scope.
    #[serde(rename = "type")]
    pub token_type: Option<TokenType>,
    /// Of this kind.
    pub kind: Option<TokenKind>,
    /// Of this organization, workspace or deployment itself.
    pub entity_id: Option<String>,
    /// With a role on this deployment or on its Dags: its own, and those assigned to it.
    pub deployment_id: Option<String>,
    /// Of this workspace and its deployments.
    pub workspace_id: Option<String>,
    /// Made by this user or token.
    pub created_by: Option<String>,
    /// With this in the name or the description; case does not matter.
    pub search: Option<String>,
    /// In this order; oldest first unless it is named.
    #[serde(default)]
    #[param(inline)]
    pub sorts: TokenSort,
}

/// The order of a list of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
pub enum TokenSort {
    /// Oldest first.
    #[default]
    #[serde(rename = "createdAt:asc")]
    Oldest,
    /// Newest first.
    #[serde(rename = "createdAt:desc")]
    Newest,
    /// By name.
    #[serde(rename = "name:asc")]
    Name,
    /// By name, backwards.
    #[serde(rename = "name:desc")]
    NameBackwards,
    /// What changed last first.
    #[serde(rename = "updatedAt:desc")]
    Changed,
    /// What expires first first; what never does last.
    #[serde(rename = "endAt:asc")]
    Expiring,
}

impl TokenSort {
    const fn order(self) -> &'static str {
        match self {
            Self::Oldest => "created_at, id",
            Self::Newest => "created_at DESC, id DESC",
            Self::Name => "name, id",
            Self::NameBackwards => "name DESC, id DESC",
            Self::Changed => "updated_at DESC, id DESC",
            Self::Expiring => "end_at NULLS LAST, id",
        }
    }
}

/// What [`super::Grant::seen_by`] says of one role, said of every role of every token; then what was asked for.
const WHERE: &str = "FROM token WHERE organization = :organization AND deleted_at IS NULL
    AND (:all OR (type = 'WORKSPACE' AND workspace IN (SELECT value FROM json_each(:workspaces)))
        OR (type = 'DEPLOYMENT' AND workspace IN (SELECT value FROM json_each(:around)))
        OR (type = 'DEPLOYMENT' AND entity IN (SELECT value FROM json_each(:deployments)))
        OR EXISTS (SELECT 1 FROM token_role JOIN deployment ON deployment.id = token_role.deployment
            WHERE token = token.id AND (deployment.workspace IN (SELECT value FROM json_each(:around))
                OR deployment.id IN (SELECT value FROM json_each(:deployments)))))
    AND (:deployment IS NULL OR (type = 'DEPLOYMENT' AND entity = :deployment)
        OR EXISTS (SELECT 1 FROM token_role WHERE token = token.id AND deployment = :deployment))
    AND (:type IS NULL OR type = :type) AND (:kind IS NULL OR kind = :kind)
    AND (:entity IS NULL OR entity = :entity) AND (:workspace IS NULL OR workspace = :workspace)
    AND (:creator IS NULL OR created_by = :creator)
    AND (:search IS NULL OR name LIKE :search ESCAPE '\\' OR description LIKE :search ESCAPE '\\')";

/// Those of `ids` for which the caller may do something, as a JSON list.
fn where_allowed<'a>(ids: impl Iterator<Item = &'a String>, allowed: impl Fn(&str) -> bool) -> String {
    serde_json::Value::from(ids.filter(|id| allowed(id)).cloned().collect::<Vec<_>>()).to_string()
}

impl ControlPlane {
    /// Lists the tokens the caller may see.
    pub fn list_tokens(
        &self,
        actor: &Actor,
        organization: &str,
        filter: &TokenFilter,
        page: Page,
    ) -> Result<TokenPage, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        let Page { offset, limit } = page.check()?;
        let in_workspace = |operation| {
            where_allowed(actor.workspaces.keys(), |id| {
                actor.may(operation, Scope::workspace(organization, id)).is_ok()
            })
        };
        let deployments = where_allowed(actor.deployments.keys(), |id| {
            let scope = Scope { organization, workspace: None, deployment: Some(id) };
            actor.may(Operation::ReadDeploymentTokens, scope).is_ok()
        });
        let (workspaces, around) =
            (in_workspace(Operation::ReadWorkspaceTokens), in_workspace(Operation::ReadDeploymentTokens));
        let all = actor.may(Operation::ReadOrganizationTokens, organization).is_ok();
        let token_type = filter.token_type.as_ref().map(written).transpose()?;
        let kind = filter.kind.as_ref().map(written).transpose()?;
        let search = filter.search.as_deref().map(containing);
        let parameters = named_params! {
            ":organization": organization, ":all": all, ":workspaces": workspaces, ":around": around,
            ":deployments": deployments, ":type": token_type, ":kind": kind, ":entity": filter.entity_id,
            ":deployment": filter.deployment_id, ":workspace": filter.workspace_id, ":creator": filter.created_by,
            ":search": search,
        };
        self.store.read(|connection| {
            let count = format!("SELECT count(*) {WHERE}");
            let total_count = connection.prepare_cached(&count)?.query_row(parameters, |row| row.get(0))?;
            let query = format!(
                "SELECT {COLUMNS} {WHERE} ORDER BY {} LIMIT {limit} OFFSET {offset}",
                filter.sorts.order()
            );
            let mut rows = connection.prepare(&query)?;
            let mut tokens = Vec::new();
            for token in rows.query_map(parameters, read_row)? {
                let mut token = token?;
                token.grants.extend(besides(connection, &token.id)?);
                tokens.push(token.shown_to(connection, actor, organization)?);
            }
            Ok(TokenPage { tokens, total_count, offset, limit })
        })
    }

    /// Shows a token.
    pub fn show_token(&self, actor: &Actor, organization: &str, id: &str) -> Result<Token, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        self.store
            .read(|connection| find(connection, organization, id)?.shown_to(connection, actor, organization))
    }
}
