//! Defines roles: named, versioned sets of permissions. A version never changes: tokens carry the digest of its body.

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

/// Reasons to reject a role reference, a digest or a role's body.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RoleError {
    /// The text is not `NAME@VERSION`.
    #[error("a role is written NAME@VERSION, such as DEPLOYMENT_ADMIN@1")]
    Reference,
    /// The text is not 32 bytes in base64url.
    #[error("a role digest is 32 bytes of base64url")]
    Digest,
    /// The body of a role record can't be parsed; this is the parser's sentence.
    #[error("not a role: {0}")]
    Body(String),
}

/// Name and version of a role, written `DAG_VIEWER@1`. The copy is inline and allocates nothing.
///
/// ```
/// use halligan::protocol::role::RoleRef;
///
/// let role: RoleRef = "DAG_VIEWER@1".parse().unwrap();
/// assert_eq!((role.name(), role.version()), ("DAG_VIEWER", 1));
/// assert!("DAG_VIEWER@01".parse::<RoleRef>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleRef {
    name: ArrayString<MAX_ID>,
    version: u32,
}

impl RoleRef {
    /// Validates a name and a version. The version must be at least 1.
    ///
    /// ```
    /// use halligan::protocol::role::{RoleError, RoleRef};
    ///
    /// assert_eq!(RoleRef::new("DAG_VIEWER", 1)?.to_string(), "DAG_VIEWER@1");
    /// assert_eq!(RoleRef::new("DAG_VIEWER", 0), Err(RoleError::Reference));
    /// assert_eq!(RoleRef::new("dag viewer", 1), Err(RoleError::Reference));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(name: &str, version: u32) -> Result<Self, RoleError> {
        let name = checked(name).filter(|_| version > 0).ok_or(RoleError::Reference)?;
        Ok(Self { name, version })
    }

    /// Returns the name of the role.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the version, from 1.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns the reference as text, without an allocation.
    #[must_use]
    pub fn text(&self) -> ArrayString<{ MAX_ID + "@4294967295".len() }> {
        let mut text = ArrayString::new();
        for part in [&*self.name, "@", itoa::Buffer::new().format(self.version)] {
            // The capacity holds a name and a version of 32 bits, so this never fails.
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
        // A sign or a leading zero would give one version several spellings.
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

/// SHA-256 of the body of a role record, byte for byte. JSON carries it in base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RoleDigest([u8; 32]);

impl RoleDigest {
    /// Computes the digest of a body.
    ///
    /// ```
    /// use halligan::protocol::role::{RoleBody, RoleDigest};
    ///
    /// let body = r#"{"name":"RUNNER","version":1,"scope":"DEPLOYMENT","permissions":["deployment.get"]}"#;
    /// let spaced = body.replace(',', ", ");
    /// // Both texts are the same role. Their digests differ, because the bytes count.
    /// assert_eq!(RoleBody::parse(body)?, RoleBody::parse(&spaced)?);
    /// assert_ne!(RoleDigest::compute(body), RoleDigest::compute(&spaced));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn compute(body: &str) -> Self {
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

/// Kind of object on which a role is assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RoleScope {
    /// An organization, with its workspaces and deployments.
    Organization,
    /// A workspace, with its deployments.
    Workspace,
    /// One deployment, with its Dags.
    Deployment,
    /// One Dag of a deployment, or all Dags with one tag.
    Dag,
}

/// Body of a `role` record: one version of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleBody {
    /// Name of the role, such as `DEPLOYMENT_ADMIN`.
    pub name: String,
    /// Version of the role, from 1.
    pub version: u32,
    /// Kind of object on which the role is assigned.
    pub scope: RoleScope,
    /// Permissions that the role grants.
    pub permissions: PermissionSet,
}

impl RoleBody {
    /// Parses the body of a role record. Returns [`RoleError::Body`] if it is not a role.
    ///
    /// ```
    /// use halligan::protocol::role::{RoleBody, RoleError};
    ///
    /// let body = r#"{"name":"RUNNER","version":1,"scope":"DEPLOYMENT","permissions":["deployment.get"]}"#;
    /// let role = RoleBody::parse(body)?;
    /// assert!(role.permissions.contains("deployment.get".parse()?));
    /// assert_eq!(role.to_body(), body);
    ///
    /// // One permission that this build does not know makes the role unreadable.
    /// let newer = RoleBody::parse(&body.replace("deployment.get", "deployment.teleport"));
    /// assert!(matches!(newer, Err(RoleError::Body(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse(body: &str) -> Result<Self, RoleError> {
        object(body.as_bytes()).map_err(|error| RoleError::Body(error.to_string()))
    }

    /// Serializes the role. The control plane does this once for each version; its bytes are then carried unchanged.
    #[must_use]
    #[expect(clippy::expect_used, reason = "strings, a number and a list of strings always serialize")]
    pub fn to_body(&self) -> String {
        serde_json::to_string(self).expect("a role serializes")
    }

    /// Returns name and version as a reference. Fails if they are invalid.
    ///
    /// ```
    /// use halligan::protocol::role::{RoleBody, RoleError, built_in};
    ///
    /// let role = built_in().remove(0);
    /// assert_eq!(role.reference()?.to_string(), format!("{}@{}", role.name, role.version));
    /// let unnumbered = RoleBody { version: 0, ..role };
    /// assert_eq!(unnumbered.reference(), Err(RoleError::Reference));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reference(&self) -> Result<RoleRef, RoleError> {
        RoleRef::new(&self.name, self.version)
    }
}

/// Prefixes that are reserved for built-in roles, present and future. A custom role must not have such a name, because a
/// data plane finds roles by name.
pub const RESERVED: [&str; 4] = ["ORGANIZATION_", "WORKSPACE_", "DEPLOYMENT_", "DAG_"];

/// Returns true if `name` begins with a reserved prefix, in upper or lower case.
///
/// ```
/// use halligan::protocol::role::is_reserved;
///
/// assert!(is_reserved("DAG_RUNNER") && is_reserved("dag_runner"));
/// assert!(!is_reserved("runner"));
/// ```
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    RESERVED.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns the built-in roles for deployments and Dags. `DEPLOYMENT_ACCESSOR` grants nothing: it is for tokens whose
/// access consists of their Dag roles.
///
/// ```
/// use halligan::protocol::role::built_in;
///
/// let roles = built_in();
/// let accessor = roles.iter().find(|role| role.name == "DEPLOYMENT_ACCESSOR").unwrap();
/// assert_eq!(accessor.permissions.iter().count(), 0);
/// ```
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
            .map(|role| format!("{} {}", role.reference().unwrap(), RoleDigest::compute(&role.to_body())))
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
            assert_eq!(RoleDigest::compute(&body), RoleDigest::compute(&body).to_string().parse().unwrap());
        }
        let widened =
            r#"{"name":"X","version":1,"scope":"DAG","permissions":[],"inherits":"DEPLOYMENT_ADMIN"}"#;
        assert!(RoleBody::parse(widened).is_err());
    }
}
