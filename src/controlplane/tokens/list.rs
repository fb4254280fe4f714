//! Lists and shows tokens.

use rusqlite::{Connection, ToSql};
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

/// Selects what a caller without [`Operation::ReadOrganizationTokens`] may see: [`super::Grant::seen_by`] for every role of
/// every token. Each part begins at an index.
const VISIBLE: &str = "
    SELECT id FROM token WHERE deleted_at IS NULL AND type = 'WORKSPACE'
        AND workspace IN (SELECT value FROM json_each(:workspaces))
    UNION ALL SELECT id FROM token WHERE deleted_at IS NULL AND type = 'DEPLOYMENT'
        AND workspace IN (SELECT value FROM json_each(:around))
    UNION ALL SELECT id FROM token WHERE deleted_at IS NULL AND type = 'DEPLOYMENT'
        AND entity IN (SELECT value FROM json_each(:deployments))
    UNION ALL SELECT token FROM deployment JOIN token_role ON deployment.id = token_role.deployment
        WHERE deployment.workspace IN (SELECT value FROM json_each(:around))
            OR deployment.id IN (SELECT value FROM json_each(:deployments))
    UNION ALL SELECT token FROM token_workspace_role WHERE workspace IN (SELECT value FROM json_each(:workspaces))";

/// Conditions of a list, with their parameters. Only those in use are in the query, so that SQLite finds their index.
struct Conditions {
    text: String,
    parameters: Vec<(&'static str, Box<dyn ToSql>)>,
    /// True if the table `token_count` has the number of tokens that meet them.
    counted: bool,
    /// True if a subquery selects the tokens. Then SQLite must begin there, not at an index of the whole organization.
    of_set: bool,
}

impl Conditions {
    fn new(organization: &str) -> Self {
        let organization: Box<dyn ToSql> = Box::new(organization.to_owned());
        Self {
            text: String::new(),
            parameters: vec![(":organization", organization)],
            counted: true,
            of_set: false,
        }
    }

    /// Adds a condition on the scope or the kind.
    fn add_counted(&mut self, condition: &str, name: &'static str, value: Option<impl ToSql + 'static>) {
        if let Some(value) = value {
            self.text.extend([" AND ", condition]);
            self.parameters.push((name, Box::new(value)));
        }
    }

    /// Adds another condition.
    fn add(&mut self, condition: &str, name: &'static str, value: Option<impl ToSql + 'static>) {
        self.counted &= value.is_none();
        self.add_counted(condition, name, value);
    }

    /// Adds a subquery for the ids of tokens.
    fn add_set(&mut self, subquery: &str, name: &'static str, value: Option<impl ToSql + 'static>) {
        self.of_set |= value.is_some();
        self.add(&format!("id IN ({subquery})"), name, value);
    }

    /// Leaves out what the caller may not see.
    fn add_visible(&mut self, actor: &Actor, organization: &str) {
        let in_workspace = |operation| {
            where_allowed(actor.workspaces.keys(), |id| {
                actor.may(operation, Scope::workspace(organization, id)).is_ok()
            })
        };
        let deployments = where_allowed(actor.deployments.keys(), |id| {
            let scope = Scope { organization, workspace: None, deployment: Some(id) };
            actor.may(Operation::ReadDeploymentTokens, scope).is_ok()
        });
        self.add_set(VISIBLE, ":workspaces", Some(in_workspace(Operation::ReadWorkspaceTokens)));
        self.parameters.push((":around", Box::new(in_workspace(Operation::ReadDeploymentTokens))));
        self.parameters.push((":deployments", Box::new(deployments)));
    }

    /// Returns the query for the length of the whole list, independent of the page's start.
    fn count_query(&self) -> String {
        if self.counted {
            format!(
                "SELECT coalesce(sum(count), 0) FROM token_count WHERE organization = :organization{}",
                self.text
            )
        } else {
            format!("SELECT count(*) FROM token WHERE {}", self.of_tokens())
        }
    }

    fn count(&self, connection: &Connection) -> Result<u64, Error> {
        let mut query = connection.prepare_cached(&self.count_query())?;
        Ok(query.query_row(&*self.bound(), |row| row.get(0))?)
    }

    /// Returns the query of a page. Its parameters are those of the conditions, and `:after`.
    fn page(&self, range: &Range, order: &[Sort<TokenField>]) -> String {
        let sorted = range.sorted_by(order, column, "id");
        let (conditions, rows, offset) = (self.of_tokens(), range.rows(), range.offset);
        format!("SELECT {COLUMNS} FROM token WHERE {conditions} {sorted} LIMIT {rows} OFFSET {offset}")
    }

    fn of_tokens(&self) -> String {
        // The sign keeps SQLite from an index that begins with the organization.
        let sign = if self.of_set { "+" } else { "" };
        format!("{sign}organization = :organization AND deleted_at IS NULL{}", self.text)
    }

    fn bound(&self) -> Vec<(&str, &dyn ToSql)> {
        self.parameters.iter().map(|(name, value)| (*name, &**value)).collect()
    }
}

/// Returns the conditions of a filter.
fn filtered(
    organization: &str,
    filter: &TokenFilter,
    searches_descriptions: bool,
) -> Result<Conditions, Error> {
    let mut conditions = Conditions::new(organization);
    let only_organization = filter.include_only_organization_tokens;
    conditions.add_counted("type = :type", ":type", filter.scope.map(TokenScope::as_str));
    conditions.add_counted("type = :only", ":only", only_organization.then_some("ORGANIZATION"));
    conditions.add_counted("kind = :kind", ":kind", filter.kind.as_ref().map(written).transpose()?);
    conditions.add("entity = :entity", ":entity", filter.entity_id.clone());
    conditions.add_set(
        "SELECT id FROM token WHERE deleted_at IS NULL AND workspace = :workspace
            UNION ALL SELECT token FROM token_workspace_role WHERE workspace = :workspace",
        ":workspace",
        filter.workspace_id.clone(),
    );
    conditions.add("created_by = :creator", ":creator", filter.created_by.clone());
    conditions.add_set(
        "SELECT id FROM token WHERE deleted_at IS NULL AND entity = :deployment AND type = 'DEPLOYMENT'
            UNION ALL SELECT token FROM token_role WHERE deployment = :deployment",
        ":deployment",
        filter.deployment_id.clone(),
    );
    let within = if filter.deployment_id.is_some() { " AND deployment = :deployment" } else { "" };
    conditions.add(
        &format!("EXISTS (SELECT 1 FROM token_role WHERE token = token.id AND entity_type = 'DAG' AND entity = :dag{within})"),
        ":dag",
        filter.dag_id.clone(),
    );
    conditions.add(
        &format!(
            "EXISTS (SELECT 1 FROM token_role WHERE token = token.id AND entity_type = 'DAG_TAG'
                AND entity IN (SELECT value FROM json_each(:tags)){within})"
        ),
        ":tags",
        (!filter.dag_tags.is_empty()).then(|| Value::from(filter.dag_tags.clone()).to_string()),
    );
    let search = if searches_descriptions {
        "(name LIKE :search ESCAPE '\\' OR description LIKE :search ESCAPE '\\')"
    } else {
        "name LIKE :search ESCAPE '\\'"
    };
    conditions.add(search, ":search", filter.search.as_deref().map(containing));
    Ok(conditions)
}

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
        let only_organization = filter.include_only_organization_tokens;
        let reads = actor.may(Operation::ReadOrganizationTokens, organization).is_ok();
        let mut conditions = filtered(organization, filter, reads || !only_organization)?;
        let sees_all = reads || (only_organization && assigns(actor, organization));
        if !sees_all {
            conditions.add_visible(actor, organization);
        }
        self.store.read(|connection| {
            let total_count = conditions.count(connection)?;
            let mut bound = conditions.bound();
            let after = range.after();
            bound.push((":after", &after));
            let mut rows = connection.prepare(&conditions.page(&range, order))?;
            let mut found = rows.query_map(&*bound, read_row)?.collect::<Result<Vec<Stored>, _>>()?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rusqlite::StatementStatus;

    use super::*;
    use crate::controlplane::test_world::World;
    use crate::protocol::token::TokenKind;

    /// Makes the tokens with these numbers. Those below 60 belong to deployment `dep_a` in workspace `wsp_a`.
    fn grow(world: &World, from: u32, to: u32) {
        let organization = &world.owner.organization;
        world.write(&format!(
            "INSERT INTO token (id, organization, name, description, type, kind, entity, role, generation, short, start_at, end_at,
                created_at, created_by, updated_at, updated_by, workspace)
             WITH RECURSIVE n (i) AS (VALUES ({from}) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {to})
             SELECT printf('tok_%07d', i), '{organization}', 'token ' || (i * 7919 % 100003), '', 'DEPLOYMENT',
                CASE i % 3 WHEN 0 THEN 'DIRECT_ACCESS' ELSE 'STANDARD' END, CASE WHEN i < 60 THEN 'dep_a' ELSE 'dep_b' END, 'DEPLOYMENT_ADMIN', 1,
                'short', i % 100, CASE i % 4 WHEN 0 THEN NULL ELSE i END, i, CASE WHEN i < 60 THEN 'usr_a' ELSE 'usr_b' END, i * 31 % 1009, 'usr_b',
                CASE WHEN i < 60 THEN 'wsp_a' ELSE 'wsp_b' END FROM n"
        ));
    }

    fn sorted(field: TokenField, descending: bool) -> TokenFilter {
        TokenFilter { sorts: vec![Sort { field, descending }], ..serde_json::from_str("{}").unwrap() }
    }

    /// Returns the steps of SQLite's machine for the count and for a page.
    fn steps(
        world: &World,
        conditions: &Conditions,
        order: &[Sort<TokenField>],
        after: Option<Value>,
    ) -> i32 {
        let page = Page { offset: 0, limit: 20, cursor: None };
        let mut range = check_sorted(page, "tokens", order).unwrap();
        if let Some(key) = after {
            range.start_after(key, "tok_0000030");
        }
        let read = |connection: &Connection| {
            let mut bound = conditions.bound();
            let after = range.after();
            bound.push((":after", &after));
            let mut statement = connection.prepare(&conditions.page(&range, order)).unwrap();
            let rows = statement.query_map(&*bound, |_| Ok(())).unwrap().count();
            assert_eq!(rows, 21);
            let count = conditions.count_query();
            let mut counting = connection.prepare(&count).unwrap();
            let _: u64 = counting.query_row(&*conditions.bound(), |row| row.get(0)).unwrap();
            Ok(statement.get_status(StatementStatus::VmStep) + counting.get_status(StatementStatus::VmStep))
        };
        world.control.store.read(read).unwrap()
    }

    #[test]
    fn a_page_takes_as_many_steps_among_many_tokens_as_among_few() {
        use TokenField::{CreatedAt, EndAt, Name, TokenStartAt, UpdatedAt};
        let world = World::new();
        let organization = &world.owner.organization;
        let mut lists: Vec<(String, TokenFilter, Option<Value>, bool)> = Vec::new();
        for field in [CreatedAt, EndAt, Name, TokenStartAt, UpdatedAt] {
            for descending in [false, true] {
                lists.push((format!("{field:?} {descending}"), sorted(field, descending), None, false));
            }
        }
        let oldest = || sorted(CreatedAt, false);
        lists.push(("after a cursor".into(), oldest(), Some(30.into()), false));
        let of = |what: &str, filter| (what.to_owned(), filter, None, false);
        lists.push(of("an entity", TokenFilter { entity_id: Some("dep_a".into()), ..oldest() }));
        lists.push(of("a deployment", TokenFilter { deployment_id: Some("dep_a".into()), ..oldest() }));
        lists.push(of("a workspace", TokenFilter { workspace_id: Some("wsp_a".into()), ..oldest() }));
        lists.push(of("a creator", TokenFilter { created_by: Some("usr_a".into()), ..oldest() }));
        lists.push(of("a kind", TokenFilter { kind: Some(TokenKind::DirectAccess), ..oldest() }));
        lists.push(("what a workspace's owner sees".into(), oldest(), None, true));
        let measured = || -> Vec<i32> {
            let each = lists.iter().map(|(_, filter, after, limited)| {
                let mut conditions = filtered(organization, filter, true).unwrap();
                if *limited {
                    conditions.add_set(VISIBLE, ":workspaces", Some("[\"wsp_a\"]"));
                    conditions.parameters.push((":around", Box::new("[\"wsp_a\"]")));
                    conditions.parameters.push((":deployments", Box::new("[]")));
                }
                steps(&world, &conditions, &filter.sorts, after.clone())
            });
            each.collect()
        };
        grow(&world, 0, 300);
        let few = measured();
        grow(&world, 300, 6000);
        for (((name, ..), few), many) in lists.iter().zip(few).zip(measured()) {
            assert!(many < few * 3 / 2, "{name}: {few} steps among 300, {many} among 6000");
        }
    }

    #[test]
    fn the_count_that_is_kept_is_the_number_of_tokens() {
        let world = World::new();
        let organization = &world.owner.organization;
        grow(&world, 0, 90);
        world.write(
            "UPDATE token SET deleted_at = 1 WHERE created_at % 5 = 0;
             UPDATE token SET deleted_at = 2 WHERE created_at % 10 = 0;
             DELETE FROM token WHERE created_at % 7 = 0;
             UPDATE token SET name = name || '!' WHERE created_at % 2 = 0;",
        );
        let mut all = 0;
        for kind in [None, Some(TokenKind::DirectAccess), Some(TokenKind::Standard)] {
            for scope in [None, Some(TokenScope::Deployment), Some(TokenScope::Workspace)] {
                let filter = TokenFilter { scope, kind, ..sorted(TokenField::Name, false) };
                let conditions = filtered(organization, &filter, true).unwrap();
                assert!(conditions.counted);
                let count =
                    |conditions: &Conditions| world.control.store.read(|c| conditions.count(c)).unwrap();
                let kept = count(&conditions);
                assert_eq!(kept, count(&Conditions { counted: false, ..conditions }), "{kind:?} {scope:?}");
                all += kept;
            }
        }
        assert!(all > 100, "{all}");
    }
}
