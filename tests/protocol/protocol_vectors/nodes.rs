//! revocations.json and proofs.json: objects that nodes sign.

use halligan::dataplane::peers::{PeerRefusal, authenticate};
use halligan::protocol::jws::{JwsError, Typ, sign};
use halligan::protocol::key::SigningKey;
use halligan::protocol::record::NodeRecord;
use halligan::protocol::revocation::{RevocationError, SignedRevocation};
use halligan::protocol::signer::Signers;
use halligan::protocol::time::Time;
use serde_json::{Value, json};

use super::{Vectors, changed, read, replaced, text, time};
use crate::world::T0;

pub(super) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

/// Returns node a, node b that was retired a minute after T0, and node c with the key of node a.
pub(super) fn nodes() -> Vec<NodeRecord> {
    let node = |id: &str, seed, retired_at: Option<Time>| NodeRecord {
        id: id.parse().unwrap(),
        name: id.into(),
        key: key(seed).public().jwk(),
        retired_at,
    };
    vec![node("nod_a", 21, None), node("nod_b", 22, Some(T0.plus(60))), node("nod_c", 21, None)]
}

/// Returns the keys of the nodes in the common members of a file.
pub(super) fn signers(common: &Value) -> Signers {
    read::<Vec<NodeRecord>>(common, "nodes").iter().collect()
}

fn admit(common: &Value, case: &Value) -> String {
    let answer = match SignedRevocation::admit(text(case, "revocation"), &signers(common)) {
        Ok(_) => "ok",
        Err(RevocationError::Issuer(_)) => "issuer",
        Err(RevocationError::Retired { .. }) => "retired",
        Err(RevocationError::Reason) => "reason",
        Err(RevocationError::Jws(JwsError::KeyUnknown)) => "key_unknown",
        Err(RevocationError::Jws(JwsError::SignatureInvalid)) => "signature_invalid",
        Err(RevocationError::Jws(JwsError::TooLarge(_))) => "too_large",
        Err(_) => "malformed",
    };
    answer.into()
}

fn prove(common: &Value, case: &Value) -> String {
    let proof = text(case, "proof").as_bytes();
    let answer = match authenticate(proof, &signers(common), text(common, "audience"), time(common, "now")) {
        Ok(_) => "ok",
        Err(PeerRefusal::Audience(_)) => "audience",
        Err(PeerRefusal::Time) => "time",
        Err(PeerRefusal::Retired(_)) => "retired",
        Err(PeerRefusal::Issuer(_)) => "issuer",
        Err(PeerRefusal::Proof(JwsError::KeyUnknown)) => "key_unknown",
        Err(PeerRefusal::Proof(JwsError::SignatureInvalid)) => "signature_invalid",
        Err(_) => "malformed",
    };
    answer.into()
}

#[test]
fn revocations() {
    let mut vectors = Vectors::new(
        "revocations.json",
        "Is `revocation` admitted by whoever holds the node records `nodes`, and holds no revocation yet?",
        admit,
    )
    .with("nodes", json!(nodes()));
    let mut case = |name: &str, text: String, expected: &str, why: &str| {
        vectors.case(name, json!({ "revocation": text }), expected, why);
    };
    let claims = r#"{"iss":"nod_a","sub":"tok_a","iat":1800000000,"jti":"r-1","operator":"ann (uid 1000)","reason":"laptop stolen"}"#;
    let signed = |claims: &str, seed| sign(Typ::LocalRevocation, claims.as_bytes(), &key(seed));
    let of_b =
        |iat: i64| signed(&replaced(&replaced(claims, "nod_a", "nod_b"), "1800000000", &iat.to_string()), 22);
    let good = signed(claims, 21);
    case("as a node made it", good.clone(), "ok", "");
    case(
        "by the other node with the same key",
        signed(&replaced(claims, "nod_a", "nod_c"), 21),
        "ok",
        "iss says which of two nodes with one key",
    );
    case("signed the second before its node was retired", of_b(T0.unix() + 59), "ok", "");
    case(
        "a reason of 500 characters of four bytes",
        signed(&replaced(claims, "laptop stolen", &"🔥".repeat(500)), 21),
        "ok",
        "",
    );
    case(
        "an operator of no character",
        signed(&replaced(claims, "ann (uid 1000)", ""), 21),
        "ok",
        "an operator is any text",
    );
    case(
        "signed the second its node was retired",
        of_b(T0.unix() + 60),
        "retired",
        "iat is not before retiredAt",
    );
    case("the key of another node", signed(claims, 22), "issuer", "the key is not that of iss");
    case(
        "a node nobody knows",
        signed(&replaced(claims, "nod_a", "nod_x"), 21),
        "issuer",
        "iss has no record",
    );
    case("the key of nobody", signed(claims, 23), "key_unknown", "its kid is the key of no node");
    case(
        "a bit of the signature changed",
        changed(&good, 10),
        "signature_invalid",
        "the signature does not hold",
    );
    case(
        "signed as a checkpoint",
        sign(Typ::AuditCheckpoint, claims.as_bytes(), &key(21)),
        "malformed",
        "typ names another kind of object",
    );
    case(
        "an unknown claim",
        signed(&replaced(claims, "{", r#"{"until":1,"#), 21),
        "malformed",
        "the claims are a closed object",
    );
    case(
        "a claim twice",
        signed(&replaced(claims, "{", r#"{"sub":"tok_b","#), 21),
        "malformed",
        "a claim stands twice",
    );
    case(
        "no jti",
        signed(&replaced(claims, r#""jti":"r-1","#, ""), 21),
        "malformed",
        "a required claim is missing",
    );
    case(
        "iat with a fraction",
        signed(&replaced(claims, "1800000000", "1800000000.5"), 21),
        "malformed",
        "a claim is not of its type",
    );
    let reason = "a reason has 1 to 500 characters, not white space alone, and no control character";
    case("no reason", signed(&replaced(claims, "laptop stolen", ""), 21), "reason", reason);
    case(
        "a reason of spaces",
        signed(&replaced(claims, "laptop stolen", "  \u{2003}"), 21),
        "reason",
        reason,
    );
    case(
        "a reason of 501 characters",
        signed(&replaced(claims, "laptop stolen", &"a".repeat(501)), 21),
        "reason",
        reason,
    );
    case("a reason of two lines", signed(&replaced(claims, "laptop stolen", r"a\nb"), 21), "reason", reason);
    case(
        "a reason with an escape character",
        signed(&replaced(claims, "laptop stolen", r"a\u001b[2J"), 21),
        "reason",
        reason,
    );
    case(
        "a reason with a C1 control character",
        signed(&replaced(claims, "laptop stolen", "a\u{85}b"), 21),
        "reason",
        reason,
    );
    case(
        "longer than 8192 bytes",
        signed(&replaced(claims, "ann (uid 1000)", &"a".repeat(6100)), 21),
        "too_large",
        "a revocation is at most 8192 bytes",
    );
    vectors.hold();
}

#[test]
fn proofs() {
    let mut vectors = Vectors::new(
        "proofs.json",
        "Does `proof` prove a node to `audience` at `now`? The receiver holds the node records `nodes`, and has seen no proof before.",
        prove,
    )
    .with("nodes", json!(nodes()))
    .with("audience", json!("aud_x"))
    .with("now", json!(T0.unix()));
    let mut case = |name: &str, proof: String, expected: &str, why: &str| {
        vectors.case(name, json!({ "proof": proof }), expected, why);
    };
    let claims =
        r#"{"iss":"nod_a","sub":"nod_a","aud":"aud_x","iat":1800000000,"exp":1800000300,"jti":"p-1"}"#;
    let signed = |claims: &str, seed| sign(Typ::NodeAuth, claims.as_bytes(), &key(seed));
    let times = |iat: i64, exp: i64| {
        let claims = replaced(claims, "1800000000", &(T0.unix() + iat).to_string());
        signed(&replaced(&claims, "1800000300", &(T0.unix() + exp).to_string()), 21)
    };
    case("as a node makes it", signed(claims, 21), "ok", "");
    case(
        "an unknown claim",
        signed(&replaced(claims, "{", r#"{"x":1,"#), 21),
        "ok",
        "the claims are an open object",
    );
    case("299 s from the future", times(299, 599), "ok", "the clocks may be less than 300 s apart");
    case("about to end", times(-299, 1), "ok", "the clocks may be less than 300 s apart");
    case("300 s from the future", times(300, 600), "time", "iat is less than 300 s ahead");
    case("ends now", times(-300, 0), "time", "exp is ahead: there is no leeway on it");
    case("ended 299 s ago", times(-599, -299), "time", "exp is ahead: there is no leeway on it");
    case("good for 301 s", times(0, 301), "time", "exp is at most 300 s after iat");
    case("of no length", times(0, 0), "time", "exp is after iat");
    case("exp before iat", times(10, 9), "time", "exp is after iat");
    case(
        "for another",
        signed(&replaced(claims, "aud_x", "aud_y"), 21),
        "audience",
        "aud is not the receiver",
    );
    case(
        "iss and sub differ",
        signed(&replaced(claims, r#""sub":"nod_a""#, r#""sub":"nod_c""#), 21),
        "issuer",
        "iss and sub are both the node",
    );
    case(
        "a node that was retired",
        signed(&claims.replace("nod_a", "nod_b"), 22),
        "retired",
        "a retired node proves nothing",
    );
    case("the key of another node", signed(claims, 22), "issuer", "the key is not that of iss");
    case("the key of nobody", signed(claims, 23), "key_unknown", "its kid is the key of no node");
    case(
        "a bit of the signature changed",
        changed(&signed(claims, 21), 10),
        "signature_invalid",
        "the signature does not hold",
    );
    case(
        "signed as a revocation",
        sign(Typ::LocalRevocation, claims.as_bytes(), &key(21)),
        "malformed",
        "typ names another kind of object",
    );
    case(
        "no jti",
        signed(&replaced(claims, r#","jti":"p-1""#, ""), 21),
        "malformed",
        "a required claim is missing",
    );
    case("an empty jti", signed(&replaced(claims, "p-1", ""), 21), "malformed", "jti is not empty");
    let instance = |length: usize| {
        let named = format!(r#""p-1","instance":"{}""#, "i".repeat(length));
        signed(&replaced(claims, r#""p-1""#, &named), 21)
    };
    case("an instance of 64 bytes", instance(64), "ok", "instance is at most 64 bytes");
    case("an instance of 65 bytes", instance(65), "malformed", "instance is at most 64 bytes");
    case(
        "longer than 2048 bytes",
        signed(&replaced(claims, "p-1", &"a".repeat(1500)), 21),
        "malformed",
        "a proof is at most 2048 bytes",
    );
    vectors.hold();
}
