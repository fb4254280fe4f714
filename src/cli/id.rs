//! Ids in arguments. An id becomes part of a path, so an invalid one is rejected before any call: it could turn one
//! call into another.

use super::failure::Failure;
use crate::api::id::{TokenId, is_plain};
use crate::protocol::id::is_id;

/// Parses the id of a token that may be given by id or name. Returns none for a name.
pub(super) fn token(text: &str) -> Result<Option<TokenId>, Failure> {
    if !text.starts_with(TokenId::PREFIX) && !is_plain(text) {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| Failure::Usage(format!("{text:?}: {error}")))
}

/// Checks the name or id of a role; both have the form of an id, but a name can have spaces.
pub(super) fn role(text: &str) -> Result<String, String> {
    let words = !text.split(' ').any(str::is_empty) && is_id(&text.replace(' ', "_"));
    if words { Ok(text.to_owned()) } else { Err("this is no name and no id of a role".into()) }
}

/// Rejects a path whose parts are not ids and words. This is the last check, independent of the path's origin.
pub(super) fn check_path(path: &str) -> Result<(), Failure> {
    let place = path.split_once('?').map_or(path, |(place, _)| place);
    if place.strip_prefix('/').is_some_and(|parts| parts.split('/').all(is_id)) {
        return Ok(());
    }
    Err(Failure::Usage(format!("{place:?} is no path that can be called; check the ids")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_id_becomes_no_part_of_a_path() {
        assert!(token("oncall").is_ok_and(|id| id.is_none()) && token("tok_a").is_ok_and(|id| id.is_some()));
        assert!(token("c0123456789abcdefghijklmn").is_ok_and(|id| id.is_some()));
        assert!(token("tok_a/rotate").is_err() && role("x/versions").is_err() && role("DAG_RUNNER").is_ok());
        assert!(role("night shift").is_ok() && role(" night").is_err() && role("night  shift").is_err());
        for good in ["/tokens", "/tokens/tok_a/rotate", "/roles?limit=1000&scopeType=DAG"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        for bad in
            ["/users/../tokens/tok_a", "/users//x", "/users/", "users", "/a/%2e%2e", "/a b", "/users/.?x"]
        {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }
}
