//! Compact JWS: a header, a line feed, a payload. Both are encoded and signed, so that any header comes with a signature
//! that holds.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use halligan::protocol::jws::{JwsError, Typ, Unverified};
use serde_json::Value;

use super::WORLD;

const MAX: usize = 4096;

/// What is read has one spelling and one meaning: a JSON object of `alg`, `typ` and `kid`, all of them known, and it holds as
/// the kind it says, under the key it says, and as nothing else.
pub fn check(data: &[u8]) -> bool {
    canonical(data);
    let (header, payload) = data.split_at(data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len()));
    let payload = payload.get(1..).unwrap_or_default();
    let key = &WORLD.token;
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    // The library signs no header but its own.
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

/// Whatever is taken apart is put together again, byte for byte.
fn canonical(text: &[u8]) {
    if Unverified::parse(text, MAX).is_ok() {
        let parts: Vec<&[u8]> = text.split(|&byte| byte == b'.').collect();
        for part in [parts[0], parts[2]] {
            let decoded = URL_SAFE_NO_PAD.decode(part).unwrap();
            assert_eq!(URL_SAFE_NO_PAD.encode(decoded).as_bytes(), part);
        }
    }
}
