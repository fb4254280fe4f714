//! Heads of replicas.

use std::sync::LazyLock;

use halligan::protocol::head::{HeadError, SignedHead, sign_head};
use halligan::protocol::jws::{JwsError, Typ, sign};
use halligan::protocol::token::{TokenError, verify};

use super::world::{T0, World};
use super::{KEYSET, WORLD, object, survives};

/// All valid heads.
static SIGNED: LazyLock<Vec<String>> =
    LazyLock::new(|| (1..4).map(|version| WORLD.head(version, &World::records(2), T0)).collect());

/// Checks the bytes as they are: only a head that was signed is accepted, and it is kept byte for byte. Checks the
/// bytes as signed claims: reading keeps all accepted claims, and the head is for this data plane.
pub fn check(data: &[u8]) -> bool {
    let read = |text: &str| SignedHead::verify(text, &KEYSET, &World::data_plane());
    let genuine = std::str::from_utf8(data).is_ok_and(|text| match read(text) {
        Ok(head) => {
            assert_eq!(head.as_str(), text);
            assert!(SIGNED.iter().any(|signed| signed == text), "a head nobody signed is believed");
            assert_eq!(verify(data, &KEYSET).err(), Some(TokenError::Malformed), "a head passes for a token");
            true
        }
        Err(_) => false,
    });
    let text = sign(Typ::ReplicaHead, data, &WORLD.replica);
    let signed = match read(&text) {
        Ok(signed) => {
            let head = signed.head();
            assert_eq!(signed.as_str(), text);
            assert_eq!(head.aud, World::data_plane());
            assert!(object(data));
            survives(head);
            assert_eq!(read(&sign_head(head, &WORLD.replica)).unwrap().head(), head);
            true
        }
        Err(HeadError::Audience(other)) => {
            assert_ne!(other, World::data_plane());
            false
        }
        Err(error @ HeadError::Issuer { .. }) => panic!("the keyset names no issuer: {error}"),
        Err(HeadError::Jws(error)) => {
            assert!(matches!(error, JwsError::TooLarge(_) | JwsError::Claims(_)), "{error}");
            false
        }
    };
    for key in [&WORLD.token, &WORLD.root] {
        assert!(read(&sign(Typ::ReplicaHead, data, key)).is_err(), "another key signs for a head");
    }
    genuine || signed
}
