//! keysets.json: chains of keysets that start from pinned roots.

use halligan::protocol::jws::{Typ, sign};
use halligan::protocol::key::SigningKey;
use halligan::protocol::keyset::{KeyUse, Keyset, KeysetBody, KeysetError, KeysetKey, sign_keyset};
use serde_json::{Value, json};

use super::{Vectors, base64, header, pinned, raw_jws, read, replaced};
use crate::world::T0;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn body(version: u64, roots: &[u8], threshold: u32) -> KeysetBody {
    KeysetBody {
        iss: None,
        version,
        iat: T0,
        exp: T0.plus(86_400),
        keys: vec![
            KeysetKey { key_use: KeyUse::Token, jwk: key(100).public().jwk() },
            KeysetKey { key_use: KeyUse::Replica, jwk: key(101).public().jwk() },
        ],
        roots: roots.iter().map(|&seed| key(seed).public().jwk()).collect(),
        threshold,
    }
}

fn signed(body: &KeysetBody, by: &[u8]) -> String {
    let keys: Vec<_> = by.iter().map(|&seed| key(seed)).collect();
    sign_keyset(body, &keys.iter().collect::<Vec<_>>())
}

/// Returns a keyset with any payload, signed by root 1 with the header `header`.
fn raw(payload: &str, header: &str) -> String {
    let jws = raw_jws(header.as_bytes(), &base64(payload), &key(1));
    let parts: Vec<&str> = jws.split('.').collect();
    json!({ "payload": parts[1], "signatures": [{ "protected": parts[0], "signature": parts[2] }] })
        .to_string()
}

fn answer(common: &Value, case: &Value) -> String {
    let answer = match Keyset::verify_chain(&read::<Vec<String>>(case, "chain"), &pinned(common)) {
        Ok(_) => "ok",
        Err(KeysetError::Threshold { .. }) => "threshold",
        Err(KeysetError::Version { .. }) => "version",
        Err(KeysetError::Unreachable { .. }) => "unreachable",
        Err(KeysetError::Key(_)) => "key",
        Err(_) => "malformed",
    };
    answer.into()
}

#[test]
fn keyset_chains() {
    let mut vectors = Vectors::new(
        "keysets.json",
        "Is the last keyset of `chain` believed by a host that pins `threshold` of the roots `pinned`?",
        answer,
    )
    .with("pinned", json!([key(1).public().jwk()]))
    .with("threshold", json!(1));
    let mut case = |name: &str, chain: Vec<String>, expected: &str, why: &str| {
        vectors.case(name, json!({ "chain": chain }), expected, why);
    };
    let first = signed(&body(1, &[1], 1), &[1]);
    let rotated = |by: &[u8]| signed(&body(2, &[2, 3], 2), by);
    let third = signed(&body(3, &[2, 3], 2), &[2, 3]);
    case("the first keyset, signed by the pinned root", vec![first.clone()], "ok", "");
    case(
        "a second one, signed by the same root",
        vec![first.clone(), signed(&body(2, &[1], 1), &[1])],
        "ok",
        "",
    );
    case(
        "roots rotated with the consent of old and new",
        vec![first.clone(), rotated(&[1, 2, 3]), third.clone()],
        "ok",
        "",
    );
    case(
        "a signature of a stranger beside that of the root",
        vec![signed(&body(1, &[1], 1), &[9, 1])],
        "ok",
        "a signature that does not count is ignored",
    );
    case("white space between the members", vec![first.replace(',', ", ")], "ok", "");
    case(
        "a second signature whose header makes no sense",
        vec![{
            let mut keyset: Value = serde_json::from_str(&first).unwrap();
            let more = json!({ "protected": "AAAA", "signature": "AAAA" });
            keyset["signatures"].as_array_mut().unwrap().insert(0, more);
            keyset.to_string()
        }],
        "ok",
        "a signature that does not count is ignored",
    );

    case(
        "a keyset of roots before the pinned ones, and what follows it",
        vec![
            signed(&body(1, &[9], 1), &[9]),
            signed(&body(2, &[1], 1), &[9, 1]),
            signed(&body(3, &[1], 1), &[1]),
        ],
        "ok",
        "a chain begins at the earliest keyset that the pinned roots signed",
    );
    case(
        "an issuer",
        vec![signed(&KeysetBody { iss: Some("https://control.example".into()), ..body(1, &[1], 1) }, &[1])],
        "ok",
        "",
    );

    let few = "fewer different roots than the threshold signed it";
    case("signed by a stranger", vec![signed(&body(1, &[1], 1), &[9])], "threshold", few);
    case("signed by nobody", vec![signed(&body(1, &[1], 1), &[])], "threshold", few);
    case("without the consent of the old", vec![first.clone(), rotated(&[2, 3])], "threshold", few);
    case("with the consent of one of two new", vec![first.clone(), rotated(&[1, 2])], "threshold", few);
    case(
        "one root that signed twice",
        vec![first.clone(), {
            let mut keyset: Value = serde_json::from_str(&rotated(&[1, 2])).unwrap();
            let again = keyset["signatures"][1].clone();
            keyset["signatures"].as_array_mut().unwrap().push(again);
            keyset.to_string()
        }],
        "threshold",
        "different roots count, not signatures",
    );
    case(
        "the old root alone signs after the rotation",
        vec![first.clone(), rotated(&[1, 2, 3]), signed(&body(3, &[2, 3], 2), &[1])],
        "threshold",
        few,
    );
    let payload = serde_json::to_string(&body(1, &[1], 1)).unwrap();
    case(
        "signed as a head",
        vec![raw(&payload, &header("replica-head+jwt", &key(1)))],
        "threshold",
        "typ names another kind of object: the signature does not count",
    );
    case(
        "a member in the header of its one signature",
        vec![raw(&payload, &replaced(&header("keyset+jwt", &key(1)), "}", r#","x":1}"#))],
        "threshold",
        "the header has exactly alg, typ and kid: the signature does not count",
    );

    case(
        "a retired root alone, behind what it handed over to",
        vec![first.clone(), rotated(&[1, 2, 3]), third, signed(&body(900, &[1], 1), &[1])],
        "threshold",
        few,
    );
    let last = (1_u64 << 53) - 1;
    case("the last version there is", vec![signed(&body(last, &[1], 1), &[1])], "ok", "");
    for version in [0, last + 1, 1 << 63] {
        let name = format!("version {version}");
        case(&name, vec![signed(&body(version, &[1], 1), &[1])], "malformed", "a version is 1 to 2^53 - 1");
    }

    let one_higher = "the version is exactly one higher";
    case("a version left out", vec![first.clone(), signed(&body(3, &[1], 1), &[1])], "version", one_higher);
    case(
        "the same version again, with another payload",
        vec![first.clone(), signed(&KeysetBody { exp: T0, ..body(1, &[1], 1) }, &[1])],
        "version",
        one_higher,
    );
    case(
        "a version that falls",
        vec![first.clone(), signed(&body(2, &[1], 1), &[1]), signed(&body(1, &[1], 1), &[1])],
        "version",
        one_higher,
    );

    let unreachable = "the threshold is from 1 to the number of different roots";
    case("a threshold nobody can reach", vec![signed(&body(1, &[1], 2), &[1])], "unreachable", unreachable);
    case("a threshold of zero", vec![signed(&body(1, &[1], 0), &[1])], "unreachable", unreachable);
    case("no roots", vec![signed(&body(1, &[], 1), &[1])], "unreachable", unreachable);
    case(
        "a root listed twice",
        vec![signed(&body(1, &[1, 1], 1), &[1])],
        "unreachable",
        "the roots are all different",
    );

    let usual = header("keyset+jwt", &key(1));
    let x = key(100).public().jwk().x;
    let refused = "a key that is refused refuses the keyset";
    for (name, from, to, expected, why) in [
        (
            "a key with another kid than its thumbprint",
            key(100).public().kid().to_string(),
            "x".to_owned(),
            "key",
            refused,
        ),
        ("a key of another curve", "Ed25519".into(), "Ed448".into(), "key", refused),
        ("a key of small order", x.clone(), base64([0; 32]), "key", refused),
        (
            "a key that is no canonical encoding",
            x.clone(),
            base64({
                let mut bytes = [0xff; 32];
                bytes[0] = 0xee;
                bytes[31] = 0x7f;
                bytes
            }),
            "key",
            refused,
        ),
        ("a key of 31 bytes", x, base64([1; 31]), "key", refused),
        (
            "a key for another use",
            r#""use":"token""#.into(),
            r#""use":"signing""#.into(),
            "malformed",
            "use is token or replica",
        ),
        ("an unknown member", "{".into(), r#"{"x":1,"#.into(), "malformed", "the payload is a closed object"),
        (
            "no threshold",
            r#","threshold":1"#.into(),
            String::new(),
            "malformed",
            "a required member is missing",
        ),
        (
            "version as a text",
            r#""version":1"#.into(),
            r#""version":"1""#.into(),
            "malformed",
            "a member is not of its type",
        ),
        (
            "version twice",
            r#""version":1"#.into(),
            r#""version":1,"version":1"#.into(),
            "malformed",
            "a member stands twice",
        ),
    ] {
        case(name, vec![raw(&replaced(&payload, &from, &to), &usual)], expected, why);
    }
    case(
        "an unknown member in a jwk",
        vec![raw(&replaced(&payload, r#""kty""#, r#""use":"sig","kty""#), &usual)],
        "ok",
        "a JWK is an open object",
    );
    case(
        "an unprotected header",
        vec![replaced(&first, r#"{"protected""#, r#"{"header":{"x":1},"protected""#)],
        "malformed",
        "each signature is a closed object",
    );
    case(
        "an unknown member beside the payload",
        vec![replaced(&first, "{", r#"{"x":1,"#)],
        "malformed",
        "general JSON form is a closed object",
    );
    case(
        "a compact JWS",
        vec![sign(Typ::Keyset, payload.as_bytes(), &key(1))],
        "malformed",
        "a keyset is in general JSON form",
    );
    case(
        "longer than 65536 bytes",
        vec![replaced(&first, "{", &format!("{{{}", " ".repeat(65_536)))],
        "malformed",
        "a keyset is at most 65536 bytes",
    );
    case("no keyset", vec![], "malformed", "a chain has a first keyset");
    vectors.hold();
}
