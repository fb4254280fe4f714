//! Ids in arguments. An id becomes part of a path, so an invalid one is rejected before any call: it could turn one
//! call into another.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::failure::Failure;
use crate::protocol::id::is_id;

/// Kind of object that has ids.
pub(super) trait Kind {
    /// Prefix of the ids, with the underscore.
    const PREFIX: &str;
    /// Name of the object in errors.
    const NOUN: &str;
}

macro_rules! kinds {
    ($($name:ident, $prefix:literal, $noun:literal;)*) => { $(
        /// Ids of this kind.
        #[derive(Clone, Copy, Debug)]
        pub(super) enum $name {}

        impl Kind for $name {
            const PREFIX: &str = $prefix;
            const NOUN: &str = $noun;
        }
    )* };
}

kinds! {
    Organization, "org_", "an organization";
    Workspace, "wsp_", "a workspace";
    Deployment, "dep_", "a deployment";
    DataPlane, "dpl_", "a data plane";
    Node, "nod_", "a node";
    User, "usr_", "a user";
    Team, "tea_", "a team";
    Token, "tok_", "a token";
    Request, "req_", "a request";
    Outage, "out_", "an outage";
}

/// Id of an object of kind `K`.
#[derive(Debug)]
pub(super) struct Id<K>(String, PhantomData<K>);

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_id(text) && text.len() > K::PREFIX.len() && text.starts_with(K::PREFIX) {
            Ok(Self(text.to_owned(), PhantomData))
        } else {
            Err(format!("this is no id of {}; those begin with {}", K::NOUN, K::PREFIX))
        }
    }
}

impl<K> Deref for Id<K> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Parses the id of a token that may be given by id or name. Returns none for a name.
pub(super) fn token(text: &str) -> Result<Option<Id<Token>>, Failure> {
    if !text.starts_with(Token::PREFIX) {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| Failure::Usage(format!("{text:?}: {error}")))
}

/// Checks the name or id of a role; both have the form of an id.
pub(super) fn role(text: &str) -> Result<String, String> {
    if is_id(text) { Ok(text.to_owned()) } else { Err("this is no name and no id of a role".into()) }
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
        for good in ["usr_a", "usr_0123456789abcdefghjkmnpqrs"] {
            assert!(good.parse::<Id<User>>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "usr_",
            "tok_a",
            "../tokens/tok_a",
            "usr_a/../../tokens/tok_a",
            "usr_a/token",
            "usr_a?x",
            "usr_a#",
            "usr_%2e%2e",
            "usr_a ",
            "usr_a;",
            "usr_\u{e9}",
            ".",
            "..",
        ] {
            assert!(bad.parse::<Id<User>>().is_err(), "{bad}");
        }
        assert!(token("oncall").is_ok_and(|id| id.is_none()) && token("tok_a").is_ok_and(|id| id.is_some()));
        assert!(token("tok_a/rotate").is_err() && role("x/versions").is_err() && role("DAG_RUNNER").is_ok());
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
