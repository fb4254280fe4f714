//! Compact JWS. The input is a header, a line feed and a payload. Both are encoded and signed, so that every header has
//! a valid signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use halligan::protocol::jws::{JwsError, Typ, Unverified};
use serde_json::Value;

use super::WORLD;

const MAX: usize = 4096;

/// Checks that a parsed JWS has only one spelling and one meaning. Its header is a JSON object of known `alg`, `typ`
/// and `kid`, and it verifies only as the type and under the key that the header states.
pub fn check(data: &[u8]) -> bool {
    canonical(data);
    let (header, payload) = data.split_at(data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len()));
    let payload = payload.get(1..).unwrap_or_default();
    let key = &WORLD.token;
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    // The library signs only headers of its own, so the signature is made here.
    let signature = SigningKey::from_bytes(&[2; 32]).sign(input.as_bytes()).to_bytes();
    let text = format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature));
    let read = || Unverified::parse(text.as_bytes(), MAX);
    let Ok(unverified) = read() else { return false };
    canonical(text.as_bytes());
    let Ok(Value::Object(members)) = serde_json::from_slice(header) else {
        panic!("a header that is no object")
    };
    assert_eq!(members.len(), 3, "a member more or less than alg, typ and kid");
    assert!(["EdDSA", "Ed25519"].iter().any(|alg| members["alg"] == **alg), "{members:?}");
    assert_eq!(members["typ"], unverified.typ().as_str());
    assert_eq!(members["kid"], unverified.kid());
    let (said, ours) = (unverified.typ(), unverified.kid() == key.public().kid().as_str());
    for typ in Typ::ALL {
        match read().unwrap().verify(typ, key.public()) {
            Ok(verified) => {
                assert!(typ == said && ours, "it passes for another");
                assert_eq!((verified.typ(), verified.payload()), (typ, payload));
            }
            Err(JwsError::WrongType(_)) => assert_ne!(typ, said),
            Err(JwsError::KeyUnknown) => assert!(!ours),
            Err(error) => panic!("{error}"),
        }
        assert!(read().unwrap().verify(typ, WORLD.replica.public()).is_err(), "another key");
    }
    ours
}

/// Checks that a parsed JWS has the only base64url encoding of its header and signature.
fn canonical(text: &[u8]) {
    if Unverified::parse(text, MAX).is_ok() {
        let parts: Vec<&[u8]> = text.split(|&byte| byte == b'.').collect();
        for part in [parts[0], parts[2]] {
            let decoded = URL_SAFE_NO_PAD.decode(part).unwrap();
            assert_eq!(URL_SAFE_NO_PAD.encode(decoded).as_bytes(), part);
        }
    }
}
