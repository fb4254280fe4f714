//! Identifiers of the objects of the control plane, a type for each kind of object.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::protocol::id::is_id;

/// Returns true if `text` has the form of the ids that the control plane gives today: `c`, then 24 lower-case letters or
/// digits.
///
/// ```
/// use halligan::api::id::is_plain;
///
/// assert!(is_plain("cm3x2q9vk0001l408h7c2b5d9"));
/// assert!(!is_plain("tok_a") && !is_plain("C0123456789abcdefghijklmn"));
/// ```
#[must_use]
pub fn is_plain(text: &str) -> bool {
    text.len() == 25
        && text.starts_with('c')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Error for a text that is not an id of an object of this kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no id of {noun}; those begin with {prefix}, or are the letter c and 24 small letters or digits"
)]
pub struct WrongKind {
    noun: &'static str,
    prefix: &'static str,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal, $noun:literal;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "control", schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$"))]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Prefix of the ids that earlier versions gave.
            pub const PREFIX: &str = $prefix;

            /// Returns the id of an object that is known to exist, such as one from the database.
            #[must_use]
            pub const fn known(id: String) -> Self {
                Self(id)
            }

            /// Returns true if `text` has the form of such an id.
            #[must_use]
            pub fn is_form(text: &str) -> bool {
                is_id(text) && (is_plain(text) || text.strip_prefix($prefix).is_some_and(|rest| !rest.is_empty()))
            }
        }

        impl FromStr for $name {
            type Err = WrongKind;

            fn from_str(text: &str) -> Result<Self, WrongKind> {
                if Self::is_form(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(WrongKind { noun: $noun, prefix: $prefix })
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        /// Accepts any identifier: a newer control plane may give ids of another form. None can leave its part of a path.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                if is_id(&text) {
                    return Ok(Self(text));
                }
                Err(serde::de::Error::custom(concat!("expected the id of ", $noun)))
            }
        }
    )* };
}

ids! {
    /// Id of an organization.
    OrganizationId, "org_", "an organization";
    /// Id of a workspace.
    WorkspaceId, "wsp_", "a workspace";
    /// Id of a deployment.
    DeploymentId, "dep_", "a deployment";
    /// Id of a data plane.
    DataPlaneId, "dpl_", "a data plane";
    /// Id of a node.
    NodeId, "nod_", "a node";
    /// Id of a user.
    UserId, "usr_", "a user";
    /// Id of a team.
    TeamId, "tea_", "a team";
    /// Id of a custom role.
    RoleId, "rol_", "a role";
    /// Id of an API token.
    TokenId, "tok_", "a token";
    /// Id of a request for a second owner's approval.
    RequestId, "req_", "a request";
    /// Id of a deploy.
    DeployId, "dpy_", "a deploy";
    /// Id of an outage.
    OutageId, "out_", "an outage";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_id_becomes_no_part_of_a_path() {
        for good in ["usr_a", "usr_0123456789abcdefghjkmnpqrs", "c0123456789abcdefghijklmn"] {
            assert!(good.parse::<UserId>().is_ok(), "{good}");
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
            "c0123456789abcdefghijklm",
            "C0123456789abcdefghijklmn",
            ".",
            "..",
        ] {
            assert!(bad.parse::<UserId>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<UserId>("\"a/b\"").is_err());
    }
}
