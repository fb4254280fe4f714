//! Lists and shows tokens.

use rusqlite::{Connection, named_params};
use serde_json::Value;

use super::grants::besides;
use super::{COLUMNS, Stored, find, read_row, written};
use crate::api::page::{Page, Sort};
use crate::api::token::{Token, TokenField, TokenFilter, TokenPage, TokenScope};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation, Scope};
use crate::controlplane::calls::page::{Range, check_sorted, containing};
use crate::controlplane::error::Error;
use crate::protocol::time::Time;

/// Returns the name in SQL of a field that tokens can be sorted by.
const fn column(field: TokenField) -> &'static str {
    match field {
        TokenField::CreatedAt => "created_at",
        TokenField::Description => "description",
        TokenField::EndAt => "coalesce(end_at, 9223372036854775807)",
        TokenField::Name => "name",
        TokenField::TokenStartAt => "start_at",
        TokenField::UpdatedAt => "updated_at",
    }
}

/// Returns the value of a field, for a cursor.
fn key(field: TokenField, token: &Stored) -> Value {
    match field {
        TokenField::CreatedAt => token.created_at.unix().into(),
        TokenField::Description => token.description.as_str().into(),
        TokenField::EndAt => token.end_at.map_or(i64::MAX, Time::unix).into(),
        TokenField::Name => token.name.as_str().into(),
        TokenField::TokenStartAt => token.start_at.unix().into(),
        TokenField::UpdatedAt => token.updated_at.unix().into(),
    }
}

/// Condition of the list: [`super::Grant::seen_by`] for every role of every token, and the filter.
const WHERE: &str = "FROM token WHERE organization = :organization AND deleted_at IS NULL
    AND (:all OR (type = 'WORKSPACE' AND workspace IN (SELECT value FROM json_each(:workspaces)))
        OR (type = 'DEPLOYMENT' AND workspace IN (SELECT value FROM json_each(:around)))
        OR (type = 'DEPLOYMENT' AND entity IN (SELECT value FROM json_each(:deployments)))
        OR EXISTS (SELECT 1 FROM token_role JOIN deployment ON deployment.id = token_role.deployment
            WHERE token = token.id AND (deployment.workspace IN (SELECT value FROM json_each(:around))
                OR deployment.id IN (SELECT value FROM json_each(:deployments))))
        OR EXISTS (SELECT 1 FROM token_workspace_role WHERE token = token.id
            AND workspace IN (SELECT value FROM json_each(:workspaces))))
    AND (:deployment IS NULL OR (type = 'DEPLOYMENT' AND entity = :deployment)
        OR EXISTS (SELECT 1 FROM token_role WHERE token = token.id AND deployment = :deployment))
    AND (:type IS NULL OR type = :type) AND (:kind IS NULL OR kind = :kind)
    AND (:entity IS NULL OR entity = :entity) AND (:workspace IS NULL OR workspace = :workspace
        OR EXISTS (SELECT 1 FROM token_workspace_role WHERE token = token.id AND workspace = :workspace))
    AND (:creator IS NULL OR created_by = :creator)
    AND (NOT :only_organization OR type = 'ORGANIZATION')
    AND (:dag IS NULL OR EXISTS (SELECT 1 FROM token_role WHERE token = token.id AND entity_type = 'DAG'
        AND entity = :dag AND (:deployment IS NULL OR deployment = :deployment)))
    AND (:tags IS NULL OR EXISTS (SELECT 1 FROM token_role WHERE token = token.id AND entity_type = 'DAG_TAG'
        AND entity IN (SELECT value FROM json_each(:tags)) AND (:deployment IS NULL OR deployment = :deployment)))
    AND (:search IS NULL OR name LIKE :search ESCAPE '\\' OR ((:reads OR NOT :only_organization) AND description LIKE :search ESCAPE '\\'))";

/// Returns those of `ids` that `allowed` accepts, as a JSON list.
fn where_allowed<'a>(ids: impl Iterator<Item = &'a String>, allowed: impl Fn(&str) -> bool) -> String {
    Value::from(ids.filter(|id| allowed(id)).cloned().collect::<Vec<_>>()).to_string()
}

/// Returns true if the caller may assign tokens to some deployment, and therefore needs to know which there are.
fn assigns(actor: &Actor, organization: &str) -> bool {
    let may = |scope| actor.may(Operation::AssignTokens, scope).is_ok();
    let on = |id| Scope { organization, workspace: None, deployment: Some(id) };
    actor.workspaces.keys().any(|id| may(Scope::workspace(organization, id)))
        || actor.deployments.keys().any(|id| may(on(id)))
}

impl Stored {
    /// Returns a token that the caller may assign, but not read: its id, name, scope, kind and times.
    fn named(self, connection: &Connection) -> Result<Token, Error> {
        let token = Self {
            description: String::new(),
            short_token: String::new(),
            last_used_at: None,
            last_used_on: None,
            last_rotated_at: None,
            sources: Vec::new(),
            rate_limit_per_minute: None,
            ..self
        };
        let shown = token.shown(connection, |_| false)?;
        Ok(Token { created_by: None, updated_by: None, ..shown })
    }
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
        let oldest = [Sort { field: TokenField::CreatedAt, descending: false }];
        let order = if filter.sorts.is_empty() { &oldest[..] } else { &filter.sorts };
        let range = check_sorted(page, "tokens", order)?;
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
        let only_organization = filter.include_only_organization_tokens;
        let reads = actor.may(Operation::ReadOrganizationTokens, organization).is_ok();
        let all = reads || (only_organization && assigns(actor, organization));
        let scope = filter.scope.map(TokenScope::as_str);
        let tags = (!filter.dag_tags.is_empty()).then(|| Value::from(filter.dag_tags.clone()).to_string());
        let kind = filter.kind.as_ref().map(written).transpose()?;
        let search = filter.search.as_deref().map(containing);
        let parameters = named_params! {
            ":organization": organization, ":all": all, ":workspaces": workspaces, ":around": around,
            ":deployments": deployments, ":type": scope, ":kind": kind, ":entity": filter.entity_id,
            ":deployment": filter.deployment_id, ":workspace": filter.workspace_id, ":creator": filter.created_by,
            ":search": search, ":after": range.after(), ":only_organization": only_organization,
            ":dag": filter.dag_id, ":tags": tags, ":reads": reads,
        };
        self.store.read(|connection| {
            // Counts the whole list, independent of the page's start.
            let count = format!("SELECT count(*) {WHERE} AND (:after IS NULL OR TRUE)");
            let total_count = connection.prepare_cached(&count)?.query_row(parameters, |row| row.get(0))?;
            let query = format!(
                "SELECT {COLUMNS} {WHERE} {} LIMIT {} OFFSET {}",
                Range::sorted_by(order, column, "id"),
                range.rows(),
                range.offset
            );
            let mut rows = connection.prepare(&query)?;
            let mut found = rows.query_map(parameters, read_row)?.collect::<Result<Vec<Stored>, _>>()?;
            let extent =
                range.extent(total_count, &mut found, |token| (key(order[0].field, token), token.id.clone()));
            let mut tokens = Vec::new();
            for mut token in found {
                token.grants.extend(besides(connection, &token.id)?);
                let visible = token.grants.iter().any(|grant| grant.seen_by(actor, organization).is_ok());
                tokens.push(if visible {
                    token.shown_to(connection, actor, organization)?
                } else {
                    token.named(connection)?
                });
            }
            Ok(TokenPage { tokens, extent })
        })
    }

    /// Shows a token.
    pub fn show_token(&self, actor: &Actor, organization: &str, id: &str) -> Result<Token, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        self.store
            .read(|connection| find(connection, organization, id)?.shown_to(connection, actor, organization))
    }
}
