//! The sample vectors of docs/protocol.md (tests/vectors/*.json): another implementation can run them, and this one does.
//! With HALLIGAN_WRITE_VECTORS set they are written anew; a change in them is a change of the protocol.

#![allow(clippy::unwrap_used)]

mod world;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use halligan::protocol::digest::ReplicaDigest;
use halligan::protocol::head::{HeadError, SignedHead};
use halligan::protocol::jws::{JwsError, Typ, sign};
use halligan::protocol::key::{PublicKey, SigningKey};
use halligan::protocol::keyset::{KeyUse, Keyset, KeysetBody, KeysetError, KeysetKey, RootSet, sign_keyset};
use halligan::protocol::record::{Record, RecordKind};
use halligan::protocol::token::{TokenError, verify};
use serde_json::{Value, json};
use world::{T0, World};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

/// Compares a file with what this build would write.
fn hold(name: &str, vectors: &Value) {
    let text = format!("{vectors:#}\n");
    if std::env::var_os("HALLIGAN_WRITE_VECTORS").is_some() {
        std::fs::write(file(name), &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file(name)).unwrap(), text, "{name}");
}

#[test]
fn tokens() {
    let world = World::new();
    let good = world.value(0);
    let claims = URL_SAFE_NO_PAD.decode(good.split('.').nth(1).unwrap()).unwrap();
    let headed = |header: &str| {
        let rest = good.split_once('.').unwrap().1;
        format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))
    };
    let kid = world.token.public().kid().to_string();
    let mut flipped = good.clone().into_bytes();
    let at = flipped.len() - 10;
    flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
    let without_role =
        br#"{"iss":"https://control.example","sub":"tok_a","aud":"dep_a","iat":1,"nbf":1,"exp":2,"gen":1}"#;
    let cases = [
        ("as it was made", good.clone(), "ok"),
        ("a bit of the signature changed", String::from_utf8(flipped).unwrap(), "signature_invalid"),
        (
            "signed by another key",
            sign(Typ::DirectAccess, &claims, &SigningKey::from_seed(&[9; 32])),
            "key_unknown",
        ),
        ("signed by the key for heads", sign(Typ::DirectAccess, &claims, &world.replica), "key_unknown"),
        ("signed as a head", sign(Typ::ReplicaHead, &claims, &world.token), "malformed"),
        (
            "a direct-access token without a role",
            sign(Typ::DirectAccess, without_role, &world.token),
            "malformed",
        ),
        (
            "alg none",
            headed(&format!(r#"{{"alg":"none","typ":"direct-access+jwt","kid":"{kid}"}}"#)),
            "malformed",
        ),
        (
            "a member of the header that means something",
            headed(&format!(
                r#"{{"alg":"EdDSA","typ":"direct-access+jwt","kid":"{kid}","crit":["b64"],"b64":false}}"#
            )),
            "malformed",
        ),
        ("padding", format!("{good}="), "malformed"),
        ("longer than 4096 bytes", "a".repeat(4097), "too_large"),
    ];
    for (name, input, expected) in &cases {
        let got = match verify(input.as_bytes(), &world.keyset()) {
            Ok(_) => "ok",
            Err(TokenError::Malformed) => "malformed",
            Err(TokenError::TooLarge) => "too_large",
            Err(TokenError::KeyUnknown) => "key_unknown",
            Err(TokenError::SignatureInvalid) => "signature_invalid",
        };
        assert_eq!(got, *expected, "{name}");
    }
    let cases: Vec<_> = cases
        .iter()
        .map(|(name, input, expected)| json!({ "name": name, "token": input, "expected": expected }))
        .collect();
    hold("tokens.json", &json!({ "keyset": world.keyset, "cases": cases }));
}

#[test]
fn digests() {
    let sets: [(&str, Vec<Record>); 4] = [
        ("no record", vec![]),
        ("one record", vec![Record::new(RecordKind::Token, "tok_a", r#"{"a":1}"#)]),
        (
            "the same, with another space in its body",
            vec![Record::new(RecordKind::Token, "tok_a", r#"{"a": 1}"#)],
        ),
        ("a role, a deployment and two tokens", World::records(2)),
    ];
    let cases: Vec<_> = sets
        .iter()
        .map(|(name, records)| {
            let digest: ReplicaDigest = records.iter().collect();
            let listed: Vec<_> = records
                .iter()
                .map(|record| json!({ "kind": record.kind.as_str(), "key": &*record.key, "body": &*record.body }))
                .collect();
            let lanes: Vec<u16> =
                digest.to_bytes().as_chunks::<2>().0.iter().map(|lane| u16::from_le_bytes(*lane)).collect();
            json!({
                "name": name, "records": listed, "first_lanes": lanes[..8],
                "checksum": URL_SAFE_NO_PAD.encode(digest.checksum()),
            })
        })
        .collect();
    hold("digests.json", &json!({ "cases": cases }));
}

#[test]
fn heads() {
    let world = World::new();
    let records = World::records(2);
    let good = world.head(7, &records, T0);
    let claims = URL_SAFE_NO_PAD.decode(good.split('.').nth(1).unwrap()).unwrap();
    let elsewhere = String::from_utf8(claims.clone()).unwrap().replace("dpl_a", "dpl_b");
    let cases = [
        ("as it was made", good.clone(), "ok"),
        ("for another data plane", sign(Typ::ReplicaHead, elsewhere.as_bytes(), &world.replica), "audience"),
        ("signed by the key for tokens", sign(Typ::ReplicaHead, &claims, &world.token), "key_unknown"),
        ("signed as a token", sign(Typ::DirectAccess, &claims, &world.replica), "malformed"),
    ];
    for (name, input, expected) in &cases {
        let got = match SignedHead::verify(input, &world.keyset(), &World::data_plane()) {
            Ok(_) => "ok",
            Err(HeadError::Audience(_)) => "audience",
            Err(HeadError::Jws(JwsError::KeyUnknown)) => "key_unknown",
            Err(HeadError::Jws(_)) => "malformed",
        };
        assert_eq!(got, *expected, "{name}");
    }
    let cases: Vec<_> = cases
        .iter()
        .map(|(name, input, expected)| json!({ "name": name, "head": input, "expected": expected }))
        .collect();
    hold("heads.json", &json!({ "keyset": world.keyset, "data_plane": "dpl_a", "cases": cases }));
}

#[test]
fn keyset_chains() {
    let key = |seed: u8| SigningKey::from_seed(&[seed; 32]);
    let body = |version: u64, roots: &[u8], threshold: u32| KeysetBody {
        version,
        iat: T0,
        exp: T0.plus(86_400),
        keys: vec![
            KeysetKey { key_use: KeyUse::Token, jwk: key(100).public().jwk() },
            KeysetKey { key_use: KeyUse::Replica, jwk: key(101).public().jwk() },
        ],
        roots: roots.iter().map(|&seed| key(seed).public().jwk()).collect(),
        threshold,
    };
    let first = sign_keyset(&body(1, &[1], 1), &[&key(1)]);
    let rotated = |by: &[u8]| {
        let keys: Vec<_> = by.iter().map(|&seed| key(seed)).collect();
        sign_keyset(&body(2, &[2, 3], 2), &keys.iter().collect::<Vec<_>>())
    };
    let third = sign_keyset(&body(3, &[2, 3], 2), &[&key(2), &key(3)]);
    let cases = [
        ("the first keyset, signed by the pinned root", vec![first.clone()], "ok"),
        ("signed by a stranger", vec![sign_keyset(&body(1, &[1], 1), &[&key(9)])], "threshold"),
        (
            "roots rotated with the consent of old and new",
            vec![first.clone(), rotated(&[1, 2, 3]), third.clone()],
            "ok",
        ),
        ("without the consent of the old", vec![first.clone(), rotated(&[2, 3])], "threshold"),
        ("with the consent of one of two new", vec![first.clone(), rotated(&[1, 2])], "threshold"),
        ("a version left out", vec![first.clone(), sign_keyset(&body(3, &[1], 1), &[&key(1)])], "version"),
        ("a threshold nobody can reach", vec![sign_keyset(&body(1, &[1], 2), &[&key(1)])], "unreachable"),
    ];
    let pinned = RootSet::new(vec![key(1).public().clone()], 1).unwrap();
    for (name, chain, expected) in &cases {
        let got = match Keyset::verify_chain(chain, &pinned) {
            Ok(_) => "ok",
            Err(KeysetError::Threshold { .. }) => "threshold",
            Err(KeysetError::Version { .. }) => "version",
            Err(KeysetError::Unreachable { .. }) => "unreachable",
            Err(_) => "malformed",
        };
        assert_eq!(got, *expected, "{name}");
    }
    let cases: Vec<_> = cases
        .iter()
        .map(|(name, chain, expected)| json!({ "name": name, "chain": chain, "expected": expected }))
        .collect();
    let roots: Vec<_> = pinned.keys().iter().map(PublicKey::jwk).collect();
    hold("keysets.json", &json!({ "pinned": roots, "threshold": 1, "cases": cases }));
}
