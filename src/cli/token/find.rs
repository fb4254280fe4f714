//! Finds a token by its id or name.

use crate::api::id::TokenId;
use crate::api::token::{Token, TokenPage, TokenScope};
use crate::cli::control::Control;
use crate::cli::failure::Failure;
use crate::cli::id;

/// Finds a token by its id or name.
pub(super) async fn resolve(control: &Control, token: &str) -> Result<Token, Failure> {
    resolve_on(control, token, None).await
}

/// Finds a token by id, or by name among those that have a role on the deployment.
pub(super) async fn resolve_on(
    control: &Control,
    token: &str,
    deployment: Option<&str>,
) -> Result<Token, Failure> {
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
pub(super) async fn resolve_among(
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
pub(super) async fn resolve_in(control: &Control, token: &str, scope: TokenScope) -> Result<Token, Failure> {
    let organization = (scope == TokenScope::Organization).then(|| "true".to_owned());
    by_name(control, token, "/tokens", &[("includeOnlyOrganizationTokens", organization)]).await
}

/// Finds the only token of this name in a list, among those that meet the conditions of a query.
pub(super) async fn by_name(
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
pub(super) async fn id_of(control: &Control, token: &str) -> Result<TokenId, Failure> {
    match id::token(token)? {
        Some(id) => Ok(id),
        None => Ok(resolve(control, token).await?.id),
    }
}
