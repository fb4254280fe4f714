//! `halligan token`: creates, lists, changes, rotates and deletes API tokens.

mod access;
pub(super) mod deployment;
mod request;
pub(super) mod scoped;

use super::control::{Control, Done};
use super::failure::Failure;
use super::id;
use super::output::{Column, Output, confirm, confirm_name, line, note};
use crate::api::id::{DeploymentId, TokenId, WorkspaceId};
use crate::api::token::{EntityType, NewToken, NewTokenRole, Token, TokenPage, TokenScope, TokenUpdate};
use crate::protocol::permission::PermissionSet;
use crate::protocol::token::TokenKind;
use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Create a token and show its value, once.
    #[command(after_help = "Examples:
  halligan token create -n oncall --deployment-id dep_… --direct-access -e 30
  halligan token create -n etl --deployment-id dep_… --direct-access -e 30 -r DEPLOYMENT_ACCESSOR --dag-tag finance=DAG_AUTHOR
  TOKEN=$(halligan token create -n ci --workspace-id wsp_… -r WORKSPACE_AUTHOR -c)")]
    Create(Create),
    /// List tokens.
    List(List),
    /// Show a token.
    Show(Which),
    /// Change a token's name or description.
    Update(Update),
    /// Give a token a new value, shown once. The old value stops.
    Rotate {
        #[command(flatten)]
        token: Which,
        /// Don't ask.
        #[arg(long, short, visible_alias = "yes")]
        force: bool,
        /// Print the value alone, for scripts.
        #[arg(long, short)]
        clean_output: bool,
    },
    /// Delete a token for good.
    Delete {
        #[command(flatten)]
        token: Which,
        /// Don't ask.
        #[arg(long, short, visible_alias = "yes")]
        force: bool,
    },
    /// Show and change which roles a token has.
    #[command(subcommand)]
    Access(access::Verb),
    /// Approve, reject and collect tokens that need a second owner.
    #[command(subcommand)]
    Request(request::Verb),
}

#[derive(Args, Debug)]
pub(super) struct Create {
    /// Its name.
    #[arg(long, short)]
    name: String,
    /// What it is for.
    #[arg(long, short, default_value = "")]
    description: String,
    /// A token for this deployment.
    #[arg(long, value_name = "ID", conflicts_with = "workspace_id")]
    deployment_id: Option<DeploymentId>,
    /// A token for this workspace. Without this and --deployment-id, it is one for the organization.
    #[arg(long, value_name = "ID")]
    workspace_id: Option<WorkspaceId>,
    /// Its role there; a deployment token's is DEPLOYMENT_ADMIN unless another is named.
    #[arg(long, short)]
    role: Option<String>,
    /// A role on a Dag of the deployment, as ID=ROLE; can be repeated.
    #[arg(long, value_name = "ID=ROLE", value_parser = on_dag, requires = "deployment_id")]
    dag: Vec<NewTokenRole>,
    /// A role on every Dag with a tag, as TAG=ROLE; can be repeated.
    #[arg(long, value_name = "TAG=ROLE", value_parser = on_dag_tag, requires = "deployment_id")]
    dag_tag: Vec<NewTokenRole>,
    /// Days until it expires, 1 to 3650. A direct-access token must expire.
    #[arg(long, short, value_name = "DAYS")]
    expiration: Option<i64>,
    /// Let it open the deployment also while the control plane is down. Its roles can never be changed.
    #[arg(long)]
    direct_access: bool,
    /// A network the direct-access token may be used from, such as 10.0.0.0/8; can be repeated, and never be changed.
    #[arg(long, value_name = "CIDR", requires = "direct_access")]
    source: Vec<String>,
    /// How often the direct-access token may be used in a minute on each host. It can never be changed.
    #[arg(long, value_name = "USES", requires = "direct_access")]
    rate_limit: Option<u32>,
    /// Print the value alone, for scripts.
    #[arg(long, short)]
    clean_output: bool,
}

fn on_dag(text: &str) -> Result<NewTokenRole, String> {
    on(EntityType::Dag, text)
}

fn on_dag_tag(text: &str) -> Result<NewTokenRole, String> {
    on(EntityType::DagTag, text)
}

fn on(entity_type: EntityType, text: &str) -> Result<NewTokenRole, String> {
    // A tag may contain an equals sign, a role cannot.
    let (entity, role) = text.rsplit_once('=').ok_or("put the role behind an equals sign")?;
    Ok(NewTokenRole { entity_type, entity_id: entity.into(), deployment_id: None, role: role.into() })
}

/// Which token.
#[derive(Args, Debug)]
pub(super) struct Which {
    /// The token's id or name.
    #[arg(required_unless_present = "name", conflicts_with = "name")]
    token: Option<String>,
    /// The token's name, in place of the first word.
    #[arg(long, short)]
    name: Option<String>,
}

impl Which {
    /// Returns the id or name. One of them is there.
    fn as_str(&self) -> &str {
        self.token.as_deref().or(self.name.as_deref()).unwrap_or_default()
    }
}

/// Which token, and what of it is to change.
#[derive(Args, Debug)]
// A verb of the same name has a group of its name.
#[group(id = "changes")]
pub(super) struct Update {
    /// The token's id or name.
    #[arg(required_unless_present = "name")]
    token: Option<String>,
    /// The new name; without the token as the first word, the name that the token has.
    #[arg(long, short)]
    name: Option<String>,
    /// The new name.
    #[arg(long, value_name = "NAME")]
    new_name: Option<String>,
    /// The new description.
    #[arg(long, short)]
    description: Option<String>,
}

impl Update {
    /// Returns the token's id or name, and what is to change.
    fn split(self) -> Result<(String, Changed), Failure> {
        let (token, name) = match (self.token, self.name, self.new_name) {
            (Some(_), Some(_), Some(_)) => {
                return Err(Failure::Usage("give the new name once: --name or --new-name".into()));
            }
            (Some(token), name, new_name) => (token, new_name.or(name)),
            (None, name, new_name) => (name.unwrap_or_default(), new_name),
        };
        Ok((token, Changed { name, description: self.description }))
    }
}

/// What of a token is to change.
#[derive(Debug)]
pub(super) struct Changed {
    name: Option<String>,
    description: Option<String>,
}

impl Changed {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.description.is_none()
    }

    fn body(self) -> TokenUpdate {
        TokenUpdate { name: self.name, description: self.description }
    }
}

/// Which tokens to list.
#[derive(Args, Debug)]
pub(super) struct List {
    /// Of this scope.
    #[arg(long, visible_alias = "type", value_parser = ["organization", "workspace", "deployment"])]
    scope: Option<String>,
    /// Of this kind.
    #[arg(long, value_parser = ["standard", "direct-access"])]
    kind: Option<String>,
    /// With a role on this deployment: its own, and those assigned to it.
    #[arg(long, value_name = "ID")]
    deployment_id: Option<DeploymentId>,
    /// Of this workspace and its deployments.
    #[arg(long, value_name = "ID")]
    workspace_id: Option<WorkspaceId>,
    /// Made by this user or token.
    #[arg(long, value_name = "ID")]
    created_by: Option<String>,
    /// With this in the name or description.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// In this order.
    #[arg(long, default_value = "createdAt:asc", value_parser = ["createdAt:asc", "createdAt:desc", "name:asc", "name:desc", "updatedAt:desc", "endAt:asc"])]
    sort: String,
    /// How many to skip.
    #[arg(long, default_value_t = 0)]
    offset: u64,
    /// Go on behind the page before, also while others create tokens.
    #[arg(long, value_name = "CURSOR", conflicts_with = "offset")]
    cursor: Option<String>,
    /// How many to show, up to 1000.
    #[arg(long, default_value_t = 100)]
    limit: u64,
}

const LIST: [Column; 7] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("KIND", "kind"),
    ("ROLES", "roles"),
    ("EXPIRES", "endAt"),
    ("ROTATED", "lastRotatedAt"),
    ("ENDS IN", "shortToken"),
];

const ONE: [Column; 18] = [
    ("id", "id"),
    ("name", "name"),
    ("description", "description"),
    ("scope", "scope"),
    ("kind", "kind"),
    ("roles", "roles"),
    ("from", "sources"),
    ("uses a minute", "rateLimitPerMinute"),
    ("valid from", "startAt"),
    ("expires", "endAt"),
    ("created", "createdAt"),
    ("by", "createdBy"),
    ("changed", "updatedAt"),
    ("by", "updatedBy"),
    ("rotated", "lastRotatedAt"),
    ("last used", "lastUsedAt"),
    ("used on", "lastUsedOn"),
    ("ends in", "shortToken"),
];

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::Create(new) => create(new, control, output).await?,
        Verb::List(list) => {
            let word = |word: Option<String>| word.map(|word| word.to_uppercase().replace('-', "_"));
            let query = [
                ("scope", word(list.scope)),
                ("kind", word(list.kind)),
                ("deploymentId", list.deployment_id.map(|id| id.to_string())),
                ("workspaceId", list.workspace_id.map(|id| id.to_string())),
                ("createdBy", list.created_by),
                ("search", list.search),
                ("sorts", Some(list.sort)),
                ("offset", Some(list.offset.to_string())),
                ("cursor", list.cursor),
                ("limit", Some(list.limit.to_string())),
            ];
            output.page(&control.list::<TokenPage>("/tokens", &query).await?, "tokens", &LIST);
        }
        Verb::Show(token) => {
            let token = resolve(control, token.as_str()).await?;
            output.one(&token, &ONE);
            if !output.json {
                explain(&token);
            }
        }
        Verb::Update(update) => {
            let (token, changed) = update.split()?;
            if changed.is_empty() {
                return Err(Failure::Usage("say what to change: --new-name or --description".into()));
            }
            let path = format!("/tokens/{}", id_of(control, &token).await?);
            output.one(&control.post::<Token>(&path, &changed.body()).await?, &ONE);
        }
        Verb::Rotate { token, force, clean_output } => {
            rotate(control, &resolve(control, token.as_str()).await?, force, clean_output, output).await?;
        }
        Verb::Delete { token, force } => {
            delete(control, &resolve(control, token.as_str()).await?, force, output).await?;
        }
        Verb::Access(verb) => access::run(verb, control, output).await?,
        Verb::Request(verb) => request::run(verb, control, output).await?,
    }
    Ok(())
}

async fn create(new: Create, control: &Control, output: Output) -> Result<(), Failure> {
    let clean = new.clean_output;
    value_or_request(control.post_or_request("/tokens", &body(new)).await?, clean, output)
}

/// Prints a token with its value, or the request that another owner has to approve first.
fn value_or_request(done: Done<Token>, clean: bool, output: Output) -> Result<(), Failure> {
    match done {
        Done::Now(made) => with_value(&made, clean, output),
        Done::Requested(request) => {
            let id = &request.id;
            let detail = format!(
                "another Organization Owner has to approve this: halligan token request approve {id}; then collect it: halligan token request collect {id}"
            );
            if clean {
                // A script that waits for a value must not continue without one.
                return Err(Failure::Pending(detail));
            }
            output.one(&request, &request::ONE);
            output.say(&detail);
            Ok(())
        }
    }
}

fn body(create: Create) -> NewToken {
    let (scope, entity_id) = match (create.deployment_id, create.workspace_id) {
        (Some(id), _) => (TokenScope::Deployment, Some(id.to_string())),
        (None, Some(id)) => (TokenScope::Workspace, Some(id.to_string())),
        (None, None) => (TokenScope::Organization, None),
    };
    NewToken {
        name: create.name,
        description: create.description,
        scope,
        kind: if create.direct_access { TokenKind::DirectAccess } else { TokenKind::Standard },
        entity_id,
        role: create.role,
        roles: create.dag.into_iter().chain(create.dag_tag).collect(),
        token_expiry_period_in_days: create.expiration,
        sources: create.source,
        rate_limit_per_minute: create.rate_limit,
    }
}

async fn rotate(
    control: &Control,
    token: &Token,
    force: bool,
    clean: bool,
    output: Output,
) -> Result<(), Failure> {
    let Token { id, name, .. } = token;
    confirm(&format!("The present value of {name} ({id}) stops; that"), force)?;
    value_or_request(control.order_or_request(&format!("/tokens/{id}/rotate")).await?, clean, output)
}

async fn delete(control: &Control, token: &Token, force: bool, output: Output) -> Result<(), Failure> {
    let Token { id, name, .. } = token;
    confirm_name(&format!("Deleting {name} ({id})"), &last_use(token), name, force)?;
    control.delete(&format!("/tokens/{id}")).await?;
    output.say(&format!("deleted {name} ({id})"));
    Ok(())
}

/// Describes the last use of a token, so that whoever deletes it knows what stops working.
fn last_use(token: &Token) -> String {
    let when = token.last_used_at.map(|at| at.time().rfc3339());
    match (when, &token.last_used_on) {
        (Some(when), Some(on)) => format!("It was last used at {when}, on {on}."),
        (Some(when), None) => format!("It was last used at {when}."),
        (None, _) => "As far as is known, it was never used.".into(),
    }
}

/// Finds a token by its id or name.
async fn resolve(control: &Control, token: &str) -> Result<Token, Failure> {
    resolve_on(control, token, None).await
}

/// Finds a token by id, or by name among those that have a role on the deployment.
async fn resolve_on(control: &Control, token: &str, deployment: Option<&str>) -> Result<Token, Failure> {
    if let Some(id) = id::token(token)? {
        return control.get(&format!("/tokens/{id}")).await;
    }
    let path = match deployment {
        Some(deployment) => format!("/deployments/{deployment}/tokens"),
        None => "/tokens".to_owned(),
    };
    by_name(control, token, &path, &[]).await
}

/// Finds a token by id, or by name among those that meet the conditions of a query.
async fn resolve_among(
    control: &Control,
    token: &str,
    conditions: &[(&'static str, Option<String>)],
) -> Result<Token, Failure> {
    if let Some(id) = id::token(token)? {
        return control.get(&format!("/tokens/{id}")).await;
    }
    by_name(control, token, "/tokens", conditions).await
}

/// Finds a token of the organization or of a workspace by name, to assign it.
async fn resolve_in(control: &Control, token: &str, scope: TokenScope) -> Result<Token, Failure> {
    let organization = (scope == TokenScope::Organization).then(|| "true".to_owned());
    by_name(control, token, "/tokens", &[("includeOnlyOrganizationTokens", organization)]).await
}

/// Finds the only token of this name in a list, among those that meet the conditions of a query.
async fn by_name(
    control: &Control,
    token: &str,
    path: &str,
    conditions: &[(&'static str, Option<String>)],
) -> Result<Token, Failure> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let mut query = vec![("limit", Some("1000".to_owned())), ("cursor", cursor)];
        query.extend_from_slice(conditions);
        let page: TokenPage = control.list(path, &query).await?;
        found.extend(page.tokens.into_iter().filter(|known| known.name == token));
        cursor = page.extent.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Failure::Usage(format!(
            "there is no token named {token:?}; `halligan token list` shows those there are"
        ))),
        _ => {
            let ids: Vec<&str> = found.iter().map(|token| &*token.id).collect();
            Err(Failure::Usage(format!("{token:?} names {}; use an id", ids.join(" and "))))
        }
    }
}

/// Returns the id of a token given by id or name.
async fn id_of(control: &Control, token: &str) -> Result<TokenId, Failure> {
    match id::token(token)? {
        Some(id) => Ok(id),
        None => Ok(resolve(control, token).await?.id),
    }
}

/// Prints which roles of a token are not at their newest version.
fn explain(token: &Token) {
    for role in &token.roles {
        let (Some(newest), Some(version)) = (&role.newest, role.role_version) else { continue };
        let (added, removed) = (newest.added, newest.removed);
        let count = |permissions: PermissionSet| {
            format!("{} permission{}", permissions.len(), if permissions.len() == 1 { "" } else { "s" })
        };
        line(&format!(
            "\nThis token stays with {}@{version}; the newest version, {}, adds {} and takes away {}.",
            role.role,
            newest.version,
            count(added),
            count(removed)
        ));
        for (sign, permissions) in [('+', added), ('-', removed)] {
            for permission in permissions.iter() {
                line(&format!("  {sign} {permission}"));
            }
        }
    }
}

/// Prints a token with its value, which is shown only this once.
fn with_value(made: &Token, clean: bool, output: Output) -> Result<(), Failure> {
    let Some(value) = &made.token else {
        return Err(Failure::Lacks { what: "the control plane".into(), member: "token".into() });
    };
    if clean {
        line(value);
        return Ok(());
    }
    output.one(made, &ONE);
    if !output.json {
        line(&format!("\n{}\n", **value));
        note("This is the token. It is shown this once; keep it in a vault.");
    }
    Ok(())
}
