//! Lists of tokens: their conditions, order and pages.

use serde::{Deserialize, Serialize};

use super::{Token, TokenScope};
use crate::api::page::{Extent, Sort, SortField};
use crate::protocol::token::TokenKind;

/// Page of tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct TokenPage {
    /// Tokens of the page.
    pub tokens: Vec<Token>,
    /// Extent of the page.
    #[serde(flatten)]
    pub extent: Extent,
}

/// Conditions that a token must meet. An absent condition matches every token.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::IntoParams))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "control", into_params(parameter_in = Query))]
pub struct TokenFilter {
    /// Kind of object that its main role is on.
    pub scope: Option<TokenScope>,
    /// Kind of token.
    pub kind: Option<TokenKind>,
    /// Id of the organization, workspace or deployment that it belongs to.
    pub entity_id: Option<String>,
    /// Id of a deployment that it has a role on, or on whose Dags: its own tokens, and those assigned to it.
    pub deployment_id: Option<String>,
    /// Id of the workspace that it or its deployment belongs to, or in which it has a role.
    pub workspace_id: Option<String>,
    /// Id of a Dag that it has a role on, of the deployment if `deploymentId` is given.
    pub dag_id: Option<String>,
    /// Tags of Dags, on one of which it has a role, of the deployment if `deploymentId` is given.
    #[serde(default)]
    pub dag_tags: Vec<String>,
    /// If true, the organization's own tokens alone. Those who may assign tokens to some deployment see all of them, but of
    /// those that they may not read only id, name, scope, kind and dates.
    #[serde(default)]
    pub include_only_organization_tokens: bool,
    /// Id of the user or token that created it.
    pub created_by: Option<String>,
    /// Text in its name or description, without regard to case.
    pub search: Option<String>,
    /// Order of the list, the first key first: `FIELD:asc` or `FIELD:desc` with one of `createdAt`, `description`, `endAt`,
    /// `name`, `tokenStartAt`, `updatedAt`. By default the oldest comes first. With several keys, use `offset`.
    #[serde(default)]
    #[cfg_attr(feature = "control", param(inline, value_type = Vec<TokenSort>))]
    pub sorts: Vec<Sort<TokenField>>,
}

/// Field that a list of tokens can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenField {
    /// Time of creation.
    CreatedAt,
    /// Description.
    Description,
    /// Time of expiry. Tokens that never expire are the greatest.
    EndAt,
    /// Name.
    Name,
    /// Time from which it is valid.
    TokenStartAt,
    /// Time of the last change.
    UpdatedAt,
}

impl SortField for TokenField {
    const FIELDS: &[(&'static str, Self)] = &[
        ("createdAt", Self::CreatedAt),
        ("description", Self::Description),
        ("endAt", Self::EndAt),
        ("name", Self::Name),
        ("tokenStartAt", Self::TokenStartAt),
        ("updatedAt", Self::UpdatedAt),
    ];
}

/// Schema of a key of the order of a list of tokens.
#[cfg(feature = "control")]
pub struct TokenSort;

#[cfg(feature = "control")]
impl utoipa::PartialSchema for TokenSort {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        crate::api::page::sort_schema::<TokenField>()
    }
}

#[cfg(feature = "control")]
impl utoipa::ToSchema for TokenSort {}
