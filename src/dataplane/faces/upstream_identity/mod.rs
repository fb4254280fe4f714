//! Upstream identity: a short-lived JWT with which a node vouches to Airflow for an allowed caller.
//!
//! Airflow 3 trusts every key of a configured JWK set (`[api_auth] trusted_jwks_url`). After its own decision the node
//! signs who called and with which Airflow role, with a key that has no other use. This JWT replaces the caller's token,
//! which never reaches the upstream. It is no credential for the node itself: it has another type and another key.

mod config;

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use hyper::header::HeaderValue;
use serde::Serialize;
use serde_json::json;

pub use config::{DeploymentIdentity, UpstreamIdentityConfig};

use crate::dataplane::decide::Allowed;
use crate::dataplane::decide::snapshot::Granted;
use crate::platform::clock::Clock;
use crate::protocol::id::{DeploymentId, TokenId};
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::{PublicKey, SigningKey};
use crate::protocol::time::Time;

/// Seconds for which an identity is reused. One is made for each token and minute.
const REUSED: i64 = 60;

/// Roles of Airflow's simple auth manager. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AirflowRole {
    /// Reads everything except connections, variables and the configuration.
    Viewer,
    /// Changes Dags and their runs and tasks.
    User,
    /// Changes everything else, and reads connections, variables and the configuration.
    Op,
}

impl AirflowRole {
    /// Returns the lowest role that permits everything in `granted`. The decision has already limited the request itself,
    /// since Airflow's roles are coarser.
    #[must_use]
    pub fn least(granted: Granted) -> Self {
        // On the deployment, creating a run also materializes an asset, which Airflow counts among assets, not Dags.
        let deployment = granted.deployment.iter().map(|permission| match permission.as_str() {
            "deployment.airflow.dagRun.create" | "deployment.airflow.dagRun.delete" => Self::Op,
            name => Self::needed(name),
        });
        let dags = granted.dags.iter().map(|permission| Self::needed(permission.as_str()));
        deployment.chain(dags).max().unwrap_or(Self::Viewer)
    }

    fn needed(permission: &str) -> Self {
        // Permissions of other products have no Airflow role.
        let Some(name) = permission.strip_prefix("deployment.airflow.") else { return Self::Viewer };
        let (object, verb) = name.split_once('.').unwrap_or((name, ""));
        match (object, verb) {
            ("connection" | "variable" | "configMenu" | "adminMenu", _) => Self::Op,
            (_, "get") => Self::Viewer,
            ("dag" | "dagRun" | "taskInstance" | "xcom", _) => Self::User,
            _ => Self::Op,
        }
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a TokenId,
    role: AirflowRole,
    aud: &'a str,
    iat: Time,
    nbf: Time,
    exp: Time,
}

/// Mints identities for upstreams.
pub struct UpstreamIdentity {
    key: SigningKey,
    /// Keys of Airflows, which the set also names.
    airflow_keys: Vec<PublicKey>,
    config: UpstreamIdentityConfig,
    clock: Clock,
    minted: Mutex<Minted>,
}

/// Identities of one minute. The mutex is std's: it is held for a lookup or an insertion, never across an await.
#[derive(Default)]
struct Minted {
    minute: i64,
    by_token: HashMap<(TokenId, DeploymentId), (AirflowRole, HeaderValue)>,
}

impl UpstreamIdentity {
    /// Returns a minter that signs with `key`.
    #[must_use]
    pub fn new(key: SigningKey, config: UpstreamIdentityConfig, clock: Clock) -> Self {
        Self { key, airflow_keys: Vec::new(), config, clock, minted: Mutex::default() }
    }

    /// Adds keys of Airflows to the JWK set.
    #[must_use]
    pub fn beside(mut self, airflow_keys: Vec<PublicKey>) -> Self {
        self.airflow_keys = airflow_keys;
        self
    }

    /// Returns the value of `Authorization` for an allowed request, or `None` if the deployment gets no identity.
    #[must_use]
    pub fn authorization(&self, allowed: &Allowed) -> Option<HeaderValue> {
        let (token, deployment) = (&allowed.token, &allowed.deployment);
        let audience = self.config.audience(deployment)?;
        let role = AirflowRole::least(allowed.granted);
        let now = (self.clock)();
        let minute = now.unix().div_euclid(REUSED);
        let key = (token.clone(), deployment.clone());
        {
            let mut minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
            if minted.minute != minute {
                *minted = Minted { minute, ..Minted::default() };
            } else if let Some((_, value)) = minted.by_token.get(&key).filter(|(of, _)| *of == role) {
                return Some(value.clone());
            }
        }
        let exp = now.plus(self.config.lifetime_seconds);
        let claims = Claims { sub: token, role, aud: audience, iat: now, nbf: now, exp };
        let jwt = sign(Typ::UpstreamIdentity, &serde_json::to_vec(&claims).ok()?, &self.key);
        let mut value = HeaderValue::try_from(format!("Bearer {jwt}")).ok()?;
        value.set_sensitive(true);
        let mut minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        minted.by_token.insert(key, (role, value.clone()));
        Some(value)
    }

    /// Returns the JWK set (RFC 7517): the public key that identities are signed with, then those of Airflows.
    #[must_use]
    pub fn jwks(&self) -> String {
        let keys = std::iter::once(self.key.public()).chain(&self.airflow_keys);
        json!({ "keys": keys.map(set_member).collect::<Vec<_>>() }).to_string()
    }

    /// Writes the JWK set for the upstream, readable by everybody. It is written beside its place first, so that no reader
    /// sees half of it.
    pub fn write_jwks(&self, path: &Path) -> std::io::Result<()> {
        let beside = path.with_extension("new");
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&beside)?;
        file.write_all(self.jwks().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    }
}

fn set_member(key: &PublicKey) -> serde_json::Value {
    let jwk = key.jwk();
    json!({ "kty": jwk.kty, "crv": jwk.crv, "x": jwk.x, "kid": jwk.kid, "use": "sig", "alg": "EdDSA" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::protocol::jws::Unverified;
    use crate::protocol::permission::{PermissionSet, dag_author, dag_viewer, deployment_admin};

    fn set(names: &[&str]) -> PermissionSet {
        names.iter().map(|name| format!("deployment.airflow.{name}").parse().unwrap()).collect()
    }

    fn least(deployment: PermissionSet, dags: PermissionSet) -> AirflowRole {
        AirflowRole::least(Granted { deployment, dags })
    }

    #[test]
    fn a_role_becomes_the_least_of_airflows_that_can_do_it() {
        let none = PermissionSet::empty();
        assert_eq!(least(none, dag_viewer()), AirflowRole::Viewer);
        assert_eq!(least(none, dag_author()), AirflowRole::User);
        assert_eq!(least(deployment_admin(), none), AirflowRole::Op);
        assert_eq!(least(none, none), AirflowRole::Viewer);
        for (name, role) in [
            ("dag.get", AirflowRole::Viewer),
            ("pool.get", AirflowRole::Viewer),
            ("dag.update", AirflowRole::User),
            ("taskInstance.update", AirflowRole::User),
            ("dagRun.create", AirflowRole::Op),
            ("variable.get", AirflowRole::Op),
            ("connection.get", AirflowRole::Op),
            ("backfill.create", AirflowRole::Op),
            ("pool.update", AirflowRole::Op),
        ] {
            assert_eq!(least(set(&[name]), none), role, "{name}");
        }
        let outside = std::iter::once("deployment.update".parse().unwrap()).collect();
        assert_eq!(least(outside, none), AirflowRole::Viewer);
    }

    fn allowed(deployment: &str) -> Allowed {
        let granted = Granted { deployment: PermissionSet::empty(), dags: dag_author() };
        Allowed::sample("tok_a".parse().unwrap(), deployment.parse().unwrap(), granted)
    }

    fn identity(text: &str) -> (UpstreamIdentity, Arc<AtomicI64>) {
        let time = Arc::new(AtomicI64::new(1_800_000_000));
        let read = Arc::clone(&time);
        let clock: Clock = Arc::new(move || Time::from_unix(read.load(Ordering::Relaxed)));
        let config = toml::from_str(text).unwrap();
        (UpstreamIdentity::new(SigningKey::from_seed(&[5; 32]), config, clock), time)
    }

    fn claims(identity: &UpstreamIdentity, value: &HeaderValue) -> serde_json::Value {
        let jwt = value.to_str().unwrap().strip_prefix("Bearer ").unwrap();
        let parsed = Unverified::parse(jwt.as_bytes(), 4096).unwrap();
        parsed.verify(Typ::UpstreamIdentity, identity.key.public()).unwrap().claims().unwrap()
    }

    #[test]
    fn who_was_let_in_is_vouched_for_once_a_minute() {
        let (identity, time) = identity("");
        let first = identity.authorization(&allowed("dep_a")).unwrap();
        let expected = json!({
            "sub": "tok_a", "role": "USER", "aud": "apache-airflow",
            "iat": 1_800_000_000, "nbf": 1_800_000_000, "exp": 1_800_000_120,
        });
        assert_eq!(claims(&identity, &first), expected);
        time.fetch_add(59, Ordering::Relaxed);
        assert_eq!(identity.authorization(&allowed("dep_a")).unwrap(), first, "the same minute");
        time.fetch_add(1, Ordering::Relaxed);
        let next = identity.authorization(&allowed("dep_a")).unwrap();
        assert_eq!(claims(&identity, &next)["iat"], 1_800_000_060);
        assert_eq!(identity.minted.lock().unwrap().by_token.len(), 1, "what is past is forgotten");
        assert!(!format!("{next:?}").contains('.'), "it is not for logs");
    }

    #[test]
    fn nobody_else_is_vouched_for() {
        let (identity, _) = identity("[deployments.dep_b]\naudience = \"b\"");
        assert!(identity.authorization(&allowed("dep_a")).is_none(), "another deployment");
        let value = identity.authorization(&allowed("dep_b")).unwrap();
        assert_eq!(claims(&identity, &value)["aud"], "b");
    }

    #[test]
    fn the_set_names_the_key_airflow_will_look_for() {
        let (identity, _) = identity("");
        let set: serde_json::Value = serde_json::from_str(&identity.jwks()).unwrap();
        let key = &set["keys"][0];
        assert_eq!((&key["alg"], &key["use"], &key["kty"]), (&json!("EdDSA"), &json!("sig"), &json!("OKP")));
        assert_eq!(key["kid"], identity.key.public().kid().as_str());
        assert!(key.get("d").is_none(), "the private half stays here");
    }

    #[test]
    fn the_set_names_the_keys_of_airflows_too_and_signs_with_none_of_them() {
        let other = SigningKey::from_seed(&[6; 32]);
        let identity = identity("").0.beside(vec![other.public().clone()]);
        let set: serde_json::Value = serde_json::from_str(&identity.jwks()).unwrap();
        assert_eq!(set["keys"][0]["kid"], identity.key.public().kid().as_str());
        assert_eq!(set["keys"][1]["kid"], other.public().kid().as_str());
        let value = identity.authorization(&allowed("dep_a")).unwrap();
        assert_eq!(claims(&identity, &value)["sub"], "tok_a");
    }
}
