//! The control plane's answer about a standard token (RFC 7662), as a decision uses it.

use serde::Deserialize;

use super::snapshot::Permissions;
use crate::protocol::id::{DeploymentId, TokenId};
use crate::protocol::json::object;
use crate::protocol::permission::PermissionSet;
use crate::protocol::time::Time;
use crate::protocol::token::{Claims, DagTarget};

/// Answer about a standard token for one deployment.
pub struct Introspection {
    about: Option<(TokenId, u32, DeploymentId)>,
    /// Issuer and audience, if the answer states them.
    between: (Option<String>, Option<String>),
    /// Beginning and end of the validity, if the answer states them.
    pub(in crate::dataplane) valid: (Option<Time>, Option<Time>),
    /// `None` if the token is not active.
    pub(in crate::dataplane) permissions: Option<Permissions>,
}

#[derive(Deserialize)]
struct Answer {
    active: bool,
    /// Read for its type alone, as `_iat` is: an answer with a member of another type is unreadable.
    #[serde(rename = "token_type")]
    _token_type: Option<String>,
    #[serde(rename = "iat")]
    _iat: Option<Time>,
    sub: Option<TokenId>,
    #[serde(rename = "gen")]
    generation: Option<u32>,
    iss: Option<String>,
    aud: Option<String>,
    nbf: Option<Time>,
    exp: Option<Time>,
    deployment: Option<DeploymentId>,
    permissions: Option<PermissionSet>,
    #[serde(default)]
    dags: Vec<OnDags>,
}

#[derive(Deserialize)]
struct OnDags {
    dag: Option<String>,
    tag: Option<String>,
    permissions: PermissionSet,
}

impl Introspection {
    /// Parses an answer. Returns `None` if it is invalid.
    ///
    /// ```
    /// use halligan::dataplane::decide::introspection::Introspection;
    ///
    /// assert!(Introspection::read(br#"{"active":false}"#).is_some());
    /// assert!(Introspection::read(br#"{"active":"yes"}"#).is_none());
    /// ```
    #[must_use]
    pub fn read(answer: &[u8]) -> Option<Self> {
        let answer: Answer = object(answer).ok()?;
        if !answer.active {
            return Some(Self { about: None, between: (None, None), valid: (None, None), permissions: None });
        }
        let about = (answer.sub?, answer.generation?, answer.deployment?);
        let target = |on: OnDags| Some((DagTarget::from_members(on.dag, on.tag)?, on.permissions));
        let dags = answer.dags.into_iter().map(target).collect::<Option<_>>()?;
        Some(Self {
            about: Some(about),
            between: (answer.iss, answer.aud),
            valid: (answer.nbf, answer.exp),
            permissions: Some(Permissions { deployment: answer.permissions?, dags }),
        })
    }

    /// Returns true if the answer is about this token value and deployment. An inactive token is inactive for all.
    pub(in crate::dataplane) fn concerns(&self, claims: &Claims, deployment: &DeploymentId) -> bool {
        let same = |said: &Option<String>, claim: &String| said.as_ref().is_none_or(|said| said == claim);
        let (iss, aud) = &self.between;
        same(iss, &claims.iss)
            && same(aud, &claims.aud)
            && self.about.as_ref().is_none_or(|(token, generation, on)| {
                *token == claims.sub && *generation == claims.generation && on == deployment
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_says_nothing() {
        for bad in [
            "",
            "[]",
            r#"{"active":"yes"}"#,
            r#"{"active":true}"#,
            r#"{"active":true,"sub":"tok_a","gen":1,"deployment":"dep_a"}"#,
            r#"{"active":true,"sub":"tok_a","gen":1,"deployment":"dep_a","permissions":["deployment.everything"]}"#,
        ] {
            assert!(Introspection::read(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
