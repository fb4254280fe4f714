//! heads.json: heads for a data plane, and texts that are none.

use halligan::protocol::head::{HeadError, SignedHead};
use halligan::protocol::jws::{JwsError, Typ, sign};
use serde_json::{Value, json};

use super::{Vectors, base64, changed, keyset, payload, read, replaced, text};
use crate::world::{T0, World};

fn answer(common: &Value, case: &Value) -> String {
    let data_plane = read(common, "data_plane");
    let answer = match SignedHead::verify(text(case, "head"), &keyset(common), &data_plane) {
        Ok(_) => "ok",
        Err(HeadError::Audience(_)) => "audience",
        Err(HeadError::Issuer { .. }) => "issuer",
        Err(HeadError::Jws(JwsError::KeyUnknown)) => "key_unknown",
        Err(HeadError::Jws(JwsError::SignatureInvalid)) => "signature_invalid",
        Err(_) => "malformed",
    };
    answer.into()
}

#[test]
fn heads() {
    let world = World::new();
    let mut vectors = Vectors::new(
        "heads.json",
        "Is `head` a head for `data_plane`, signed with a `replica` key of `keyset`? No clock, and nothing that is held, plays a part.",
        answer,
    )
    .with("keyset", json!(world.keyset))
    .with("data_plane", json!("dpl_a"));
    let good = world.head(7, &World::records(2), T0);
    let claims = payload(&good);
    let signed = |claims: &str| sign(Typ::ReplicaHead, claims.as_bytes(), &world.replica);
    let mut case = |name: &str, head: String, expected: &str, why: &str| {
        vectors.case(name, json!({ "head": head }), expected, why);
    };
    case("as it was made", good.clone(), "ok", "");
    case(
        "an unknown claim",
        signed(&replaced(&claims, "{", r#"{"x":1,"#)),
        "ok",
        "the claims are an open object",
    );
    case(
        "a keyset above the newest",
        signed(&replaced(&claims, r#""keyset":1"#, r#""keyset":2"#)),
        "ok",
        "compared when the head is taken, not before",
    );
    case(
        "for another data plane",
        signed(&replaced(&claims, "dpl_a", "dpl_b")),
        "audience",
        "aud is not the data plane",
    );
    case(
        "the last version there is",
        signed(&replaced(&claims, r#""version":7"#, r#""version":9007199254740991"#)),
        "ok",
        "",
    );
    let unknown = "its kid is no replica key of the keyset";
    case(
        "signed by the key for tokens",
        sign(Typ::ReplicaHead, claims.as_bytes(), &world.token),
        "key_unknown",
        unknown,
    );
    case(
        "signed by the root key",
        sign(Typ::ReplicaHead, claims.as_bytes(), &world.root),
        "key_unknown",
        unknown,
    );
    case(
        "signed as a token",
        sign(Typ::DirectAccess, claims.as_bytes(), &world.replica),
        "malformed",
        "typ names another kind of object",
    );
    case(
        "a bit of the signature changed",
        changed(&good, 10),
        "signature_invalid",
        "the signature does not hold",
    );
    let claim = "a claim is not of its type";
    for (name, from, to, why) in [
        ("a version with a fraction", r#""version":7"#, r#""version":7.0"#, claim),
        ("a version below zero", r#""version":7"#, r#""version":-7"#, claim),
        ("version 0", r#""version":7"#, r#""version":0"#, "a version is 1 to 2^53 - 1"),
        ("version 2^53", r#""version":7"#, r#""version":9007199254740992"#, "a version is 1 to 2^53 - 1"),
        (
            "a count beyond 2^53 - 1",
            r#""count":4"#,
            r#""count":9007199254740992"#,
            "a count is 0 to 2^53 - 1",
        ),
        ("a version beyond 64 bits", r#""version":7"#, r#""version":18446744073709551616"#, claim),
        ("no version", r#""version":7,"#, "", "a required claim is missing"),
        ("a nonce that is a number", r#""version":7"#, r#""nonce":7,"version":7"#, claim),
        ("no exp", r#""exp":1800000900,"#, "", "a required claim is missing"),
        ("iat is null", r#""iat":1800000000"#, r#""iat":null"#, "a required claim is missing"),
        ("version twice", r#""version":7"#, r#""version":7,"version":7"#, "a claim stands twice"),
        ("aud is no identifier", "dpl_a", "dpl a", "an id has letters, digits, _ and - only"),
    ] {
        case(name, signed(&replaced(&claims, from, to)), "malformed", why);
    }
    case(
        "a digest of 31 bytes",
        signed(&{
            let at = claims.find(r#""digest":""#).unwrap() + 10;
            format!("{}{}{}", &claims[..at], base64([0; 31]), &claims[at + 43..])
        }),
        "malformed",
        "a hash has 32 bytes",
    );
    case(
        "longer than 4096 bytes",
        signed(&replaced(&claims, "{", &format!(r#"{{"x":"{}","#, "x".repeat(3000)))),
        "malformed",
        "a head is at most 4096 bytes",
    );
    vectors.hold();
}
