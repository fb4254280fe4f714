//! Unit tests of signed objects.

#![allow(clippy::unwrap_used)]

use super::*;

fn key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

fn verify(text: &str, typ: Typ) -> Result<Verified, JwsError> {
    Unverified::parse(text.as_bytes(), 4096)?.verify(typ, key().public())
}

fn with_header(header: &str) -> String {
    let input = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode("{}"));
    let signature = key().sign(input.as_bytes());
    format!("{input}.{}", BASE64URL.encode(signature))
}

#[test]
fn what_was_signed_is_what_is_read() {
    let text = sign(Typ::ReplicaHead, br#"{"a":1}"#, &key());
    assert_eq!(verify(&text, Typ::ReplicaHead).unwrap().payload(), br#"{"a":1}"#);
}

#[test]
fn no_kind_passes_for_another() {
    for signed in Typ::ALL {
        for asked in Typ::ALL.into_iter().filter(|&asked| asked != signed) {
            assert_eq!(verify(&sign(signed, b"{}", &key()), asked).unwrap_err(), JwsError::WrongType(asked));
        }
    }
}

#[test]
fn headers_that_mean_something_else_are_refused() {
    let kid = key().public().kid().to_string();
    let good = format!(r#"{{"alg":"Ed25519","typ":"user+jwt","kid":"{kid}"}}"#);
    assert!(verify(&with_header(&good), Typ::User).is_ok());
    for (header, error) in [
        (format!(r#"{{"alg":"none","typ":"user+jwt","kid":"{kid}"}}"#), JwsError::WrongAlgorithm),
        (format!(r#"{{"alg":"HS256","typ":"user+jwt","kid":"{kid}"}}"#), JwsError::WrongAlgorithm),
        (format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#), JwsError::Malformed("unknown typ")),
        (
            format!(r#"{{"alg":"EdDSA","typ":"user+jwt","kid":"{kid}","crit":["b64"],"b64":false}}"#),
            JwsError::Malformed("header is not alg, typ and kid"),
        ),
        (
            format!(r#"{{"alg":"EdDSA","alg":"none","typ":"user+jwt","kid":"{kid}"}}"#),
            JwsError::Malformed("header is not alg, typ and kid"),
        ),
        (format!(r#"["EdDSA","user+jwt","{kid}"]"#), JwsError::Malformed("header is not alg, typ and kid")),
        (r#"{"alg":"EdDSA","typ":"user+jwt"}"#.into(), JwsError::Malformed("header is not alg, typ and kid")),
    ] {
        assert_eq!(verify(&with_header(&header), Typ::User).unwrap_err(), error, "{header}");
    }
}

#[test]
fn a_header_is_512_bytes_and_not_one_more() {
    let kid = key().public().kid().to_string();
    let header = |length: usize| {
        let bare = format!(r#"{{"alg":"EdDSA","typ":"user+jwt","kid":"{kid}"}}"#);
        format!("{}{bare}", " ".repeat(length - bare.len()))
    };
    assert!(verify(&with_header(&header(512)), Typ::User).is_ok());
    for length in [513, 514, 515, 600] {
        let refused = verify(&with_header(&header(length)), Typ::User).unwrap_err();
        assert_eq!(refused, JwsError::Malformed("header too long"), "{length}");
    }
}

#[test]
fn claims_are_an_object_in_utf8() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Claims {
        sub: String,
    }
    let claims = |payload: &[u8]| verify(&sign(Typ::User, payload, &key()), Typ::User)?.claims();
    assert_eq!(claims(br#" {"sub":"a"}"#), Ok(Claims { sub: "a".into() }));
    assert!(matches!(claims(br#"["a"]"#), Err(JwsError::Claims(_))), "not their values in a row");
    assert!(matches!(claims(b"{\"sub\":\"a\",\"x\":\"\xff\"}"), Err(JwsError::Claims(_))));
}

#[test]
fn one_value_has_one_spelling() {
    let text = sign(Typ::User, b"{}", &key());
    for other in [format!("{text}="), format!("{text}."), format!(" {text}"), text.replace('.', "..")] {
        assert!(verify(&other, Typ::User).is_err(), "{other}");
    }
    // The last character of a 64-byte value carries four spare bits, which must be zero.
    let mut bytes = text.into_bytes();
    let last = bytes.len() - 1;
    bytes[last] += 1;
    assert!(matches!(Unverified::parse(&bytes, 4096).err(), Some(JwsError::Malformed(_))));
}
