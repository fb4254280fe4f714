// Keys, nodes and records for the examples in the doc comments of `src/protocol` and `src/dataplane/decide`. An example
// includes this file in a hidden module, so that it shows its subject and not the making of keys.

use halligan::protocol::digest::ReplicaDigest;
use halligan::protocol::glass::GlassMode;
use halligan::protocol::head::{Head, SignedHead, sign_head};
use halligan::protocol::key::SigningKey;
use halligan::protocol::keyset::{KeyUse, Keyset, KeysetBody, KeysetKey, RootSet, sign_keyset};
use halligan::protocol::record::{DeploymentRecord, NodeRecord, Record, RecordKind};
use halligan::protocol::role::{RoleBody, RoleDigest, built_in};
use halligan::protocol::signer::Signers;
use halligan::protocol::time::Time;
use halligan::protocol::token::{Claims, RoleClaim, TokenKind, TokenRecord, mint};

/// Time at which everything here was signed.
pub const NOW: Time = Time::from_unix(1_800_000_000);

const ISSUER: &str = "https://control.example";

/// Returns the key of a name. Equal names have equal keys.
pub fn key(name: &str) -> SigningKey {
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    SigningKey::from_seed(&seed)
}

/// Returns a keyset that `key("root")` signed, with the keys `key("token")` and `key("replica")`.
pub fn keyset() -> Keyset {
    let [root, token, replica] = ["root", "token", "replica"].map(key);
    let entry = |key_use, key: &SigningKey| KeysetKey { key_use, jwk: key.public().jwk() };
    let body = KeysetBody {
        iss: Some(ISSUER.into()),
        version: 1,
        iat: NOW,
        exp: NOW.plus(86_400),
        keys: vec![entry(KeyUse::Token, &token), entry(KeyUse::Replica, &replica)],
        roots: vec![root.public().jwk()],
        threshold: 1,
    };
    let pinned = RootSet::new(vec![root.public().clone()], 1).unwrap();
    Keyset::verify_first(&sign_keyset(&body, &[&root]), &pinned).unwrap()
}

/// Returns the nodes `nod_eu1` with the key `key("eu1")`, and `nod_eu2` with `key("eu2")`, which was retired at [`NOW`].
pub fn signers() -> Signers {
    let node = |id: &str, key: &SigningKey, retired_at| NodeRecord {
        id: id.parse().unwrap(),
        name: id.into(),
        key: key.public().jwk(),
        retired_at,
    };
    [node("nod_eu1", &key("eu1"), None), node("nod_eu2", &key("eu2"), Some(NOW))].iter().collect()
}

fn role() -> (RoleBody, RoleClaim) {
    let role = built_in().remove(0);
    let claim = RoleClaim { id: role.reference().unwrap(), digest: RoleDigest::compute(&role.to_body()) };
    (role, claim)
}

/// Returns the record of token `tok_etl`: an administrator of deployment `dep_sales` for a day.
pub fn token_record() -> TokenRecord {
    TokenRecord {
        id: "tok_etl".parse().unwrap(),
        deployment: "dep_sales".parse().unwrap(),
        generation: 1,
        role: role().1,
        dag_roles: Vec::new(),
        not_before: NOW,
        expires_at: NOW.plus(86_400),
        sources: Vec::new(),
        rate_limit_per_minute: None,
        revoked_at: None,
    }
}

/// Returns the value of that token.
pub fn token() -> String {
    let claims = Claims {
        iss: ISSUER.into(),
        sub: "tok_etl".parse().unwrap(),
        aud: "dep_sales".into(),
        iat: NOW,
        nbf: NOW,
        exp: Some(NOW.plus(86_400)),
        generation: 1,
        role: Some(role().1),
        permissions: Vec::new(),
    };
    mint(TokenKind::DirectAccess, &claims, &key("token")).to_string()
}

/// Returns version 1 of a replica: its role, its deployment and its token.
pub fn records() -> Vec<Record> {
    let (role, claim) = role();
    let deployment = DeploymentRecord {
        id: "dep_sales".parse().unwrap(),
        workspace: "wsp_a".into(),
        name: "Sales".into(),
        hosts: vec!["sales.example".into()],
        routes: "airflow-v2".into(),
        glass: GlassMode::Always,
    };
    vec![
        Record::new(RecordKind::Role, claim.id.to_string(), role.to_body()),
        Record::from_value(RecordKind::Deployment, "dep_sales", &deployment),
        Record::from_value(RecordKind::Token, "tok_etl", &token_record()),
    ]
}

/// Returns the verified head of a version whose replica has these records. It was signed `version` minutes after [`NOW`].
pub fn head(version: u64, records: &[Record]) -> SignedHead {
    let iat = NOW.plus(60 * i64::try_from(version).unwrap());
    let head = Head {
        iss: ISSUER.into(),
        aud: "dpl_eu".parse().unwrap(),
        version,
        digest: records.iter().collect::<ReplicaDigest>().checksum(),
        count: records.len() as u64,
        iat,
        exp: iat.plus(900),
        keyset: 1,
    };
    SignedHead::verify(&sign_head(&head, &key("replica")), &keyset(), &head.aud).unwrap()
}
