//! Roles: named, versioned sets of permissions. A version never changes, and its digest says so.

use std::fmt;
use std::str::FromStr;

use arrayvec::ArrayString;
use base64::Engine as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::id::{MAX_ID, checked};
use super::json::object;
use super::jws::BASE64URL;
use super::permission::{self, PermissionSet};

/// A role reference or digest that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RoleError {
    /// Not `NAME@VERSION`.
    #[error("a role is written NAME@VERSION, such as DEPLOYMENT_ADMIN@1")]
    Reference,
    /// Not 32 bytes of base64url.
    #[error("a role digest is 32 bytes of base64url")]
    Digest,
    /// A role record's body that is not understood.
    #[error("not a role: {0}")]
    Body(String),
}

/// One version of a role, by name: `DAG_VIEWER@1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleRef {
    name: ArrayString<MAX_ID>,
    version: u32,
}

impl RoleRef {
    /// Version `version` of the role `name`.
    pub fn new(name: &str, version: u32) -> Result<Self, RoleError> {
        let name = checked(name).filter(|_| version > 0).ok_or(RoleError::Reference)?;
        Ok(Self { name, version })
    }

    /// The role's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version, from 1.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The reference as text.
    #[must_use]
    pub fn text(&self) -> ArrayString<{ MAX_ID + "@4294967295".len() }> {
        let mut text = ArrayString::new();
        for part in [&*self.name, "@", itoa::Buffer::new().format(self.version)] {
            // A name and a version of 32 bits fit.
            let _ = text.try_push_str(part);
        }
        text
    }
}

impl fmt::Display for RoleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for RoleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for RoleRef {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let (name, version) = text.split_once('@').ok_or(RoleError::Reference)?;
        // One spelling per version: no sign, no leading zero.
        if version.starts_with(['0', '+']) {
            return Err(RoleError::Reference);
        }
        Self::new(name, version.parse().map_err(|_| RoleError::Reference)?)
    }
}

impl Serialize for RoleRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RoleRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-256 of a role record's body, byte for byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RoleDigest([u8; 32]);

impl RoleDigest {
    /// The digest of the role whose record has this body.
    #[must_use]
    pub fn of(body: &str) -> Self {
        Self(Sha256::digest(body).into())
    }
}

impl fmt::Display for RoleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL.encode(self.0))
    }
}

impl fmt::Debug for RoleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for RoleDigest {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let bytes = BASE64URL.decode(text).map_err(|_| RoleError::Digest)?;
        Ok(Self(bytes.try_into().map_err(|_| RoleError::Digest)?))
    }
}

impl Serialize for RoleDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RoleDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a role is held on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RoleScope {
    /// An organization and all in it.
    Organization,
    /// A workspace and its deployments.
    Workspace,
    /// One deployment.
    Deployment,
    /// One Dag, or the Dags with one tag, of a deployment.
    Dag,
}

/// One version of a role: the body of a `role` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleBody {
    /// The role's name, such as `DEPLOYMENT_ADMIN`.
    pub name: String,
    /// The version, from 1.
    pub version: u32,
    /// What it is held on.
    pub scope: RoleScope,
    /// What it allows.
    pub permissions: PermissionSet,
}

impl RoleBody {
    /// Reads a role record's body.
    pub fn parse(body: &str) -> Result<Self, RoleError> {
        object(body.as_bytes()).map_err(|error| RoleError::Body(error.to_string()))
    }

    /// Writes the body. Done once, by the control plane; from then on the bytes are carried as they are.
    #[must_use]
    #[expect(clippy::expect_used, reason = "strings, a number and a list of strings always serialize")]
    pub fn to_body(&self) -> String {
        serde_json::to_string(self).expect("a role serializes")
    }

    /// The name and version as one.
    pub fn reference(&self) -> Result<RoleRef, RoleError> {
        RoleRef::new(&self.name, self.version)
    }
}

/// What the names of built-in roles begin with, those of later versions included. No custom role may have such a name: one
/// name can't stand for two roles on a data plane.
pub const RESERVED: [&str; 4] = ["ORGANIZATION_", "WORKSPACE_", "DEPLOYMENT_", "DAG_"];

/// Whether a name is kept for built-in roles.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    RESERVED.iter().any(|prefix| name.starts_with(prefix))
}

/// The roles every organization has on deployments and Dags. `DEPLOYMENT_ACCESSOR` allows nothing by itself: it is the
/// role of a token whose access is its Dag roles alone.
#[must_use]
pub fn built_in() -> Vec<RoleBody> {
    let role =
        |name: &str, scope, permissions| RoleBody { name: name.into(), version: 1, scope, permissions };
    vec![
        role("DEPLOYMENT_ADMIN", RoleScope::Deployment, permission::deployment_admin()),
        role("DEPLOYMENT_ACCESSOR", RoleScope::Deployment, PermissionSet::empty()),
        role("DAG_VIEWER", RoleScope::Dag, permission::dag_viewer()),
        role("DAG_AUTHOR", RoleScope::Dag, permission::dag_author()),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reference_has_one_spelling() {
        let role: RoleRef = "DAG_VIEWER@12".parse().unwrap();
        assert_eq!(
            (role.name(), role.version(), role.to_string().as_str()),
            ("DAG_VIEWER", 12, "DAG_VIEWER@12")
        );
        for bad in ["DAG_VIEWER", "@1", "A@0", "A@01", "A@+1", "A@-1", "A@1@1", "A B@1", "A@99999999999"] {
            assert!(bad.parse::<RoleRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_built_in_role_is_what_it_was_when_the_first_token_was_made_with_it() {
        // Tokens carry these digests. What a built-in role allows changes by a new version beside the old one only.
        let digests: Vec<String> = built_in()
            .iter()
            .map(|role| format!("{} {}", role.reference().unwrap(), RoleDigest::of(&role.to_body())))
            .collect();
        assert_eq!(
            digests,
            [
                "DEPLOYMENT_ADMIN@1 NoHI3VmYoooeY0Tk-4yGYPqF_AmU0a-Ys9wG43GD8V8",
                "DEPLOYMENT_ACCESSOR@1 wbef0c7pDqVkf487rV3qnghoOJQc3zbEPwf9L_o9BsM",
                "DAG_VIEWER@1 uVQXrQTtvfQq4QIlZpxklzzeGxfpB5HvMigvTl_0NKk",
                "DAG_AUTHOR@1 vpeMtK40w35P1wXZU5e_x5_bBV7r1HrKsvHsSf6O9-o",
            ]
        );
    }

    #[test]
    fn built_in_roles_survive_their_bodies() {
        for role in built_in() {
            let body = role.to_body();
            assert_eq!(RoleBody::parse(&body).unwrap(), role);
            assert_eq!(RoleDigest::of(&body), RoleDigest::of(&body).to_string().parse().unwrap());
        }
        let widened =
            r#"{"name":"X","version":1,"scope":"DAG","permissions":[],"inherits":"DEPLOYMENT_ADMIN"}"#;
        assert!(RoleBody::parse(widened).is_err());
    }
}
