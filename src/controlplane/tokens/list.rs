//! Lists and shows tokens.

use rusqlite::named_params;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::grants::besides;
use super::{COLUMNS, Token, TokenType, find, read_row, written};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation, Scope};
use crate::controlplane::calls::page::{Page, Range, containing};
use crate::controlplane::error::Error;
use crate::protocol::time::Time;
use crate::protocol::token::TokenKind;

/// Page of tokens.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenPage {
    /// Tokens of the page.
    pub tokens: Vec<Token>,
    /// Number of tokens on all pages.
    pub total_count: u64,
    /// Number of tokens skipped.
    pub offset: u64,
    /// Maximum number of tokens on the page.
    pub limit: u64,
    /// Cursor of the next page, or none on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Conditions that a token must meet. An absent condition matches every token.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct TokenFilter {
    /// Kind of object that its main role is on.
    #[serde(rename = "type")]
    pub token_type: Option<TokenType>,
    /// Kind of token.
    pub kind: Option<TokenKind>,
    /// Id of the organization, workspace or deployment that it belongs to.
    pub entity_id: Option<String>,
    /// Id of a deployment that it has a role on, or on whose Dags: its own tokens, and those assigned to it.
    pub deployment_id: Option<String>,
    /// Id of the workspace that it or its deployment belongs to.
    pub workspace_id: Option<String>,
    /// Id of the user or token that created it.
    pub created_by: Option<String>,
    /// Text in its name or description, without regard to case.
    pub search: Option<String>,
    /// Order of the list; oldest first by default.
    #[serde(default)]
    #[param(inline)]
    pub sorts: TokenSort,
}

/// Order of a list of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
pub enum TokenSort {
    /// By creation, oldest first.
    #[default]
    #[serde(rename = "createdAt:asc")]
    Oldest,
    /// By creation, newest first.
    #[serde(rename = "createdAt:desc")]
    Newest,
    /// By name, ascending.
    #[serde(rename = "name:asc")]
    Name,
    /// By name, descending.
    #[serde(rename = "name:desc")]
    NameBackwards,
    /// By the last change, newest first.
    #[serde(rename = "updatedAt:desc")]
    Changed,
    /// By expiry, soonest first; tokens that never expire come last.
    #[serde(rename = "endAt:asc")]
    Expiring,
}

impl TokenSort {
    /// Returns the name of the list in this order, the sort key in SQL, and true for a descending order.
    const fn order(self) -> (&'static str, &'static str, bool) {
        match self {
            Self::Oldest => ("tokens createdAt:asc", "created_at", false),
            Self::Newest => ("tokens createdAt:desc", "created_at", true),
            Self::Name => ("tokens name:asc", "name", false),
            Self::NameBackwards => ("tokens name:desc", "name", true),
            Self::Changed => ("tokens updatedAt:desc", "updated_at", true),
            Self::Expiring => ("tokens endAt:asc", "coalesce(end_at, 9223372036854775807)", false),
        }
    }

    /// Returns the sort key of `token`.
    fn key(self, token: &Token) -> Value {
        match self {
            Self::Oldest | Self::Newest => token.created_at.unix().into(),
            Self::Name | Self::NameBackwards => token.name.as_str().into(),
            Self::Changed => token.updated_at.unix().into(),
            Self::Expiring => token.end_at.map_or(i64::MAX, Time::unix).into(),
        }
    }
}

/// Condition of the list: [`super::Grant::seen_by`] for every role of every token, and the filter.
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

/// Returns those of `ids` that `allowed` accepts, as a JSON list.
fn where_allowed<'a>(ids: impl Iterator<Item = &'a String>, allowed: impl Fn(&str) -> bool) -> String {
    Value::from(ids.filter(|id| allowed(id)).cloned().collect::<Vec<_>>()).to_string()
}

impl ControlPlane {
    /// Lists the tokens that the caller may see.
    pub fn list_tokens(
        &self,
        actor: &Actor,
        organization: &str,
        filter: &TokenFilter,
        page: Page,
    ) -> Result<TokenPage, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        let (list, key, descending) = filter.sorts.order();
        let range = page.check(list)?;
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
            ":search": search, ":after": range.after(),
        };
        self.store.read(|connection| {
            // Counts the whole list, independent of the page's start.
            let count = format!("SELECT count(*) {WHERE} AND (:after IS NULL OR TRUE)");
            let total_count = connection.prepare_cached(&count)?.query_row(parameters, |row| row.get(0))?;
            let query = format!(
                "SELECT {COLUMNS} {WHERE} {} LIMIT {} OFFSET {}",
                Range::sorted(key, "id", descending),
                range.rows(),
                range.offset
            );
            let mut rows = connection.prepare(&query)?;
            let mut found = rows.query_map(parameters, read_row)?.collect::<Result<Vec<Token>, _>>()?;
            let next_cursor = range.cut(&mut found, |token| (filter.sorts.key(token), token.id.clone()));
            let mut tokens = Vec::new();
            for mut token in found {
                token.grants.extend(besides(connection, &token.id)?);
                tokens.push(token.shown_to(connection, actor, organization)?);
            }
            let Range { offset, limit, .. } = range;
            Ok(TokenPage { tokens, total_count, offset, limit, next_cursor })
        })
    }

    /// Shows a token.
    pub fn show_token(&self, actor: &Actor, organization: &str, id: &str) -> Result<Token, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        self.store
            .read(|connection| find(connection, organization, id)?.shown_to(connection, actor, organization))
    }
}
