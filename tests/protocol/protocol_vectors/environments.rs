//! environments.json and encryption_keys.json: environment variables for one node, and the key that they are encrypted
//! to.

use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use halligan::protocol::environment::key::{DecryptionKey, sign_encryption_key, verify_encryption_key};
use halligan::protocol::environment::signed::{
    EnvironmentClaims, EnvironmentError, SignedEnvironment, sign_environment,
};
use halligan::protocol::id::NodeId;
use halligan::protocol::jws::{JwsError, Typ, sign};
use halligan::protocol::key::SigningKey;
use rand_core::{TryCryptoRng, TryRng};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Vectors, base64, bytes, changed, keyset, payload, public_key, read, replaced, text};
use crate::world::{DATA_PLANE, DEPLOYMENT, ISSUER, T0, World};

/// Random generator that returns the same bytes in each run, because the samples must not change.
struct Steady(u8);

impl TryRng for Steady {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(7)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(7)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
        Ok(())
    }
}

impl TryCryptoRng for Steady {}

/// Returns the private key with these 32 bytes.
fn private(bytes: &[u8]) -> DecryptionKey {
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20];
    let body = STANDARD.encode([&head[..], bytes].concat());
    DecryptionKey::from_pem(&format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"))
        .unwrap()
}

fn open(common: &Value, case: &Value) -> String {
    let (data_plane, node) = (read(common, "data_plane"), read(common, "node"));
    let opened = SignedEnvironment::verify(text(case, "environment"), &keyset(common), &data_plane, &node)
        .and_then(|signed| signed.open(&private(&bytes(common, "private"))));
    let answer = match opened {
        Ok(variables) => {
            let pairs: Vec<_> = variables.iter().map(|(name, value)| json!([name, **value])).collect();
            if json!(pairs) == case["variables"] { "ok" } else { "other variables" }
        }
        Err(EnvironmentError::Issuer(_)) => "issuer",
        Err(EnvironmentError::Audience(_)) => "audience",
        Err(EnvironmentError::Node(_)) => "node",
        Err(EnvironmentError::Sealed) => "sealed",
        Err(EnvironmentError::Digest) => "digest",
        Err(EnvironmentError::Text | EnvironmentError::Variable { .. }) => "text",
        Err(EnvironmentError::Jws(JwsError::KeyUnknown)) => "key_unknown",
        Err(EnvironmentError::Jws(JwsError::SignatureInvalid)) => "signature_invalid",
        Err(EnvironmentError::Jws(_)) => "malformed",
    };
    answer.into()
}

#[test]
fn environments() {
    let world = World::new();
    let seed = [0x42; 32];
    let key = private(&seed);
    let mut vectors = Vectors::new(
        "environments.json",
        "Which variables has the environment `environment` for `node` of `data_plane`, whose private key is `private`? The keyset is \
         believed. A version that the node holds plays no part.",
        open,
    )
    .with("keyset", json!(world.keyset))
    .with("data_plane", json!(DATA_PLANE))
    .with("node", json!("nod_a"))
    .with("private", json!(base64(seed)));
    let of = EnvironmentClaims {
        issuer: ISSUER.into(),
        data_plane: DATA_PLANE.parse().unwrap(),
        deployment: DEPLOYMENT.parse().unwrap(),
        node: "nod_a".parse().unwrap(),
        version: 7,
        iat: T0,
    };
    let signed = |of: &EnvironmentClaims, pairs: &[(&str, &str)], to: &DecryptionKey, signer: &SigningKey| {
        let variables: Vec<_> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Zeroizing::new((*value).to_owned())))
            .collect();
        sign_environment(of, &variables, &[5; 32], (to.public(), signer), &mut Steady(0)).unwrap()
    };
    let mut case = |name: &str, environment: String, variables: Value, expected: &str, why: &str| {
        vectors.case(name, json!({ "environment": environment, "variables": variables }), expected, why);
    };
    let some = [("A", "1"), ("B_2", "two\nlines = \"quoted\" é"), ("_C", "")];
    let (replica, all) = (&world.replica, json!(some));
    let good = signed(&of, &some, &key, replica);
    let claims = payload(&good);
    let resigned = |claims: &str| sign(Typ::Environment, claims.as_bytes(), replica);
    case("as it was made", good.clone(), all.clone(), "ok", "");
    case("of a deployment without variables", signed(&of, &[], &key, replica), json!([]), "ok", "");
    let last = EnvironmentClaims { version: (1 << 53) - 1, ..of.clone() };
    case("the last version there is", signed(&last, &some, &key, replica), all.clone(), "ok", "");
    case(
        "another encapsulated key and ciphertext of the same variables",
        sign_environment(
            &of,
            &[("A".to_owned(), Zeroizing::new("1".to_owned()))],
            &[5; 32],
            (key.public(), replica),
            &mut Steady(99),
        )
        .unwrap(),
        json!([["A", "1"]]),
        "ok",
        "encryption is randomized",
    );
    let other = EnvironmentClaims { node: "nod_b".parse().unwrap(), ..of.clone() };
    case(
        "for another node",
        signed(&other, &some, &key, replica),
        all.clone(),
        "node",
        "node is not the node",
    );
    let other = EnvironmentClaims { data_plane: "dpl_b".parse().unwrap(), ..of.clone() };
    case(
        "for another data plane",
        signed(&other, &some, &key, replica),
        all.clone(),
        "audience",
        "aud is not the data plane",
    );
    case(
        "to the key of another node",
        signed(&of, &some, &private(&[0x43; 32]), replica),
        all.clone(),
        "sealed",
        "the node's key opens what was encrypted to it alone",
    );
    for (name, from, to) in [
        ("the ciphertext of another version", r#""version":7"#, r#""version":8"#),
        ("the ciphertext of another deployment", r#""sub":"dep_a""#, r#""sub":"dep_b""#),
    ] {
        let text = resigned(&replaced(&claims, from, to));
        case(name, text, all.clone(), "sealed", "the associated data is of this place and version");
    }
    let digest = claims.split(r#""digest":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
    let wrong = resigned(&replaced(&claims, &digest, &changed(&digest, 9)));
    case("another digest", wrong, all.clone(), "digest", "digest is the SHA-256 of the plaintext");
    for (name, pairs, why) in [
        ("a reserved name", [("PATH", "/tmp"), ("Q", "")], "no variable has this name"),
        ("names out of order", [("B", "1"), ("A", "2")], "names are in the order of their bytes"),
        ("a name twice", [("A", "1"), ("A", "2")], "each name stands once"),
        ("a name that none can have", [("1A", "1"), ("A", "2")], "a name does not begin with a digit"),
    ] {
        case(name, signed(&of, &pairs, &key, replica), json!(pairs), "text", why);
    }
    case(
        "signed with a token key",
        signed(&of, &some, &key, &world.token),
        all.clone(),
        "key_unknown",
        "only replica keys sign it",
    );
    case(
        "a bit of the signature changed",
        changed(&good, 10),
        all.clone(),
        "signature_invalid",
        "the signature does not hold",
    );
    for (name, text, why) in [
        (
            "an unknown claim",
            resigned(&replaced(&claims, "{", r#"{"x":1,"#)),
            "the claims are a closed object",
        ),
        (
            "version 0",
            resigned(&replaced(&claims, r#""version":7"#, r#""version":0"#)),
            "versions begin at 1",
        ),
        ("a head", sign(Typ::ReplicaHead, claims.as_bytes(), replica), "typ is of another kind"),
        (
            "without ciphertext",
            resigned(&replaced(&claims, r#""ciphertext""#, r#""text""#)),
            "a claim is missing",
        ),
    ] {
        case(name, text, all.clone(), "malformed", why);
    }
    vectors.hold();
}

fn name_key(common: &Value, case: &Value) -> String {
    let node: NodeId = read(common, "node");
    let answer = match verify_encryption_key(text(case, "statement"), &node, &public_key(common, "key")) {
        Ok(key) if key.jwk().x == text(case, "x") => "ok",
        Ok(_) => "another key",
        Err(JwsError::KeyUnknown) => "key_unknown",
        Err(JwsError::SignatureInvalid) => "signature_invalid",
        Err(_) => "malformed",
    };
    answer.into()
}

#[test]
fn encryption_keys() {
    let own = SigningKey::from_seed(&[21; 32]);
    let mut vectors = Vectors::new(
        "encryption_keys.json",
        "Which X25519 key does `node`, whose key is `key`, name in `statement`? `x` is that of its JWK.",
        name_key,
    )
    .with("node", json!("nod_a"))
    .with("key", json!(own.public().jwk()));
    let named = private(&[0x42; 32]).public().clone();
    let x = named.jwk().x;
    let mut case = |name: &str, statement: String, expected: &str, why: &str| {
        vectors.case(name, json!({ "statement": statement, "x": x }), expected, why);
    };
    let good = sign_encryption_key(&"nod_a".parse().unwrap(), &named, T0, &own);
    let claims = payload(&good);
    let signed = |claims: &str| sign(Typ::EncryptionKey, claims.as_bytes(), &own);
    case("as a node makes it", good.clone(), "ok", "");
    case(
        "an unknown member of the JWK",
        signed(&replaced(&claims, r#""kty""#, r#""use":"enc","kty""#)),
        "ok",
        "a JWK is open",
    );
    case(
        "signed with another key",
        sign_encryption_key(&"nod_a".parse().unwrap(), &named, T0, &SigningKey::from_seed(&[22; 32])),
        "key_unknown",
        "the node signs it",
    );
    case(
        "a bit of the signature changed",
        changed(&good, 10),
        "signature_invalid",
        "the signature does not hold",
    );
    for (name, claims, why) in [
        ("of another node", replaced(&claims, "nod_a", "nod_b"), "iss is the node"),
        ("an unknown claim", replaced(&claims, "{", r#"{"x":1,"#), "the claims are a closed object"),
        ("a key of the other curve", replaced(&claims, "X25519", "Ed25519"), "crv is X25519"),
        ("a key of 31 bytes", replaced(&claims, &x, &base64([9; 31])), "x is 32 bytes"),
        ("a point of small order", replaced(&claims, &x, &base64([0; 32])), "its secret is known to all"),
    ] {
        case(name, signed(&claims), "malformed", why);
    }
    vectors.hold();
}
