//! Arguments of the verbs that make, name and change tokens.

use clap::Args;

use crate::api::id::{DeploymentId, WorkspaceId};
use crate::api::token::{EntityType, NewToken, NewTokenRole, TokenScope, TokenUpdate};
use crate::cli::failure::Failure;
use crate::protocol::token::TokenKind;

#[derive(Args, Debug)]
pub(in crate::cli) struct Create {
    /// The name of the token.
    #[arg(long, short)]
    pub(super) name: String,
    /// The description of the token.
    #[arg(long, short, default_value = "")]
    pub(super) description: String,
    /// The deployment that the token is for.
    #[arg(long, value_name = "ID", conflicts_with = "workspace_id")]
    pub(super) deployment_id: Option<DeploymentId>,
    /// The workspace that the token is for. Without this and --deployment-id, the token is for the organization.
    #[arg(long, value_name = "ID")]
    pub(super) workspace_id: Option<WorkspaceId>,
    /// The role of the token there; by default DEPLOYMENT_ADMIN for a deployment's token.
    #[arg(long, short)]
    pub(super) role: Option<String>,
    /// A role on a Dag of the deployment, as ID=ROLE; can be repeated.
    #[arg(long, value_name = "ID=ROLE", value_parser = on_dag, requires = "deployment_id")]
    pub(super) dag: Vec<NewTokenRole>,
    /// A role on every Dag with a tag, as TAG=ROLE; can be repeated.
    #[arg(long, value_name = "TAG=ROLE", value_parser = on_dag_tag, requires = "deployment_id")]
    pub(super) dag_tag: Vec<NewTokenRole>,
    /// Days until it expires, 1 to 3650. A direct-access token must expire.
    #[arg(long, short, value_name = "DAYS")]
    pub(super) expiration: Option<i64>,
    /// Let the token open the deployment while the control plane is down as well. Its roles can never be changed.
    #[arg(long)]
    pub(super) direct_access: bool,
    /// A network from which the direct-access token may be used, such as 10.0.0.0/8; can be repeated. It can never be
    /// changed.
    #[arg(long, value_name = "CIDR", requires = "direct_access")]
    pub(super) source: Vec<String>,
    /// Maximum number of uses of the direct-access token in a minute on each host. It can never be changed.
    #[arg(long, value_name = "USES", requires = "direct_access")]
    pub(super) rate_limit: Option<u32>,
    /// Print the value alone, for scripts.
    #[arg(long, short)]
    pub(super) clean_output: bool,
}

impl Create {
    /// Returns the body of the call.
    pub(super) fn body(self) -> NewToken {
        let (scope, entity_id) = match (self.deployment_id, self.workspace_id) {
            (Some(id), _) => (TokenScope::Deployment, Some(id.to_string())),
            (None, Some(id)) => (TokenScope::Workspace, Some(id.to_string())),
            (None, None) => (TokenScope::Organization, None),
        };
        NewToken {
            name: self.name,
            description: self.description,
            scope,
            kind: if self.direct_access { TokenKind::DirectAccess } else { TokenKind::Standard },
            entity_id,
            role: self.role,
            roles: self.dag.into_iter().chain(self.dag_tag).collect(),
            token_expiry_period_in_days: self.expiration,
            sources: self.source,
            rate_limit_per_minute: self.rate_limit,
        }
    }
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

/// A token, by its id or name.
#[derive(Args, Debug)]
pub(in crate::cli) struct Which {
    /// The token's id or name.
    #[arg(required_unless_present = "name", conflicts_with = "name")]
    pub(super) token: Option<String>,
    /// The token's name, in place of the first word.
    #[arg(long, short)]
    pub(super) name: Option<String>,
}

impl Which {
    /// Returns the id or name. One of them is there.
    pub(super) fn as_str(&self) -> &str {
        self.token.as_deref().or(self.name.as_deref()).unwrap_or_default()
    }
}

/// A token, and its new name and description.
#[derive(Args, Debug)]
// A verb of the same name has a group of its name.
#[group(id = "changes")]
pub(in crate::cli) struct Update {
    /// The token's id or name.
    #[arg(required_unless_present = "name")]
    pub(super) token: Option<String>,
    /// The new name; without the token as the first word, the name that the token has.
    #[arg(long, short)]
    pub(super) name: Option<String>,
    /// The new name.
    #[arg(long, value_name = "NAME")]
    pub(super) new_name: Option<String>,
    /// The token's new description.
    #[arg(long, short)]
    pub(super) description: Option<String>,
}

impl Update {
    /// Returns the token's id or name, and its new name and description.
    pub(super) fn split(self) -> Result<(String, Changed), Failure> {
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

/// New name and description of a token.
#[derive(Debug)]
pub(in crate::cli) struct Changed {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
}

impl Changed {
    pub(super) fn is_empty(&self) -> bool {
        self.name.is_none() && self.description.is_none()
    }

    pub(super) fn body(self) -> TokenUpdate {
        TokenUpdate { name: self.name, description: self.description }
    }
}

/// Conditions and order of the list.
#[derive(Args, Debug)]
pub(in crate::cli) struct List {
    /// Only tokens of this scope.
    #[arg(long, visible_alias = "type", value_parser = ["organization", "workspace", "deployment"])]
    pub(super) scope: Option<String>,
    /// Only tokens of this kind.
    #[arg(long, value_parser = ["standard", "direct-access"])]
    pub(super) kind: Option<String>,
    /// Only tokens with a role on this deployment: its own, and those assigned to it.
    #[arg(long, value_name = "ID")]
    pub(super) deployment_id: Option<DeploymentId>,
    /// Only tokens of this workspace and of its deployments.
    #[arg(long, value_name = "ID")]
    pub(super) workspace_id: Option<WorkspaceId>,
    /// Only tokens that this user or token created.
    #[arg(long, value_name = "ID")]
    pub(super) created_by: Option<String>,
    /// Only tokens with this text in their name or description.
    #[arg(long, value_name = "TEXT")]
    pub(super) search: Option<String>,
    /// The order of the list.
    #[arg(long, default_value = "createdAt:asc", value_parser = ["createdAt:asc", "createdAt:desc", "name:asc", "name:desc", "updatedAt:desc", "endAt:asc"])]
    pub(super) sort: String,
    /// The number of tokens to skip.
    #[arg(long, default_value_t = 0)]
    pub(super) offset: u64,
    /// The cursor of the page before. The next page begins after it, also while others create tokens.
    #[arg(long, value_name = "CURSOR", conflicts_with = "offset")]
    pub(super) cursor: Option<String>,
    /// The number of tokens to show, up to 1000.
    #[arg(long, default_value_t = 100)]
    pub(super) limit: u64,
}
