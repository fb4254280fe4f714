//! Unit tests of signed environments.

#![allow(clippy::unwrap_used)]

use getrandom::SysRng;
use proptest::prelude::*;
use rand_core::UnwrapErr;

use super::*;
use crate::protocol::keyset::{KeyUse, KeysetBody, KeysetKey, RootSet, sign_keyset};

const NOW: Time = Time::from_unix(1_800_000_000);

fn seed(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn keyset() -> Keyset {
    let root = seed(1);
    let listed = |key_use, key: &SigningKey| KeysetKey { key_use, jwk: key.public().jwk() };
    let body = KeysetBody {
        iss: Some("https://control.example".into()),
        version: 1,
        iat: NOW,
        exp: NOW.plus(1000),
        keys: vec![listed(KeyUse::Token, &seed(2)), listed(KeyUse::Replica, &seed(3))],
        roots: vec![root.public().jwk()],
        threshold: 1,
    };
    let pinned = RootSet::new(vec![root.public().clone()], 1).unwrap();
    Keyset::verify_first(&sign_keyset(&body, &[&root]), &pinned).unwrap()
}

fn of(node: &str) -> EnvironmentClaims {
    EnvironmentClaims {
        issuer: "https://control.example".into(),
        data_plane: "dpl_a".parse().unwrap(),
        deployment: "dep_a".parse().unwrap(),
        node: node.parse().unwrap(),
        version: 7,
        iat: NOW,
    }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<Variable> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Zeroizing::new((*value).to_owned()))).collect()
}

fn key() -> DecryptionKey {
    DecryptionKey::generate(&mut UnwrapErr(SysRng))
}

fn signed(of: &EnvironmentClaims, variables: &[Variable], to: &DecryptionKey, signer: &SigningKey) -> String {
    sign_environment(of, variables, &[5; 32], (to.public(), signer), &mut UnwrapErr(SysRng)).unwrap()
}

fn verify(text: &str) -> Result<SignedEnvironment, EnvironmentError> {
    SignedEnvironment::verify(text, &keyset(), &"dpl_a".parse().unwrap(), &"nod_a".parse().unwrap())
}

#[test]
fn a_node_reads_its_own_environment_and_no_other_nodes() {
    let (key, stranger, wanted) = (key(), key(), variables(&[("A", "1=2"), ("B", ""), ("C", "s3cret\n\"")]));
    let text = signed(&of("nod_a"), &wanted, &key, &seed(3));
    let read = verify(&text).unwrap();
    assert_eq!((read.claims(), read.as_str()), (&of("nod_a"), &*text));
    assert_eq!(read.open(&key).unwrap(), wanted);
    assert_eq!(read.open(&stranger).unwrap_err(), EnvironmentError::Sealed);
    assert!(!format!("{read:?}").contains("s3cret"));
    // The digest is the same for another node, and blind to guesses of what is in it.
    let other = signed(&of("nod_a"), &wanted, &stranger, &seed(3));
    assert_eq!(verify(&other).unwrap().digest(), read.digest());
    assert_ne!(read.digest()[..], Sha256::digest(&encode(&wanted, &[0; 32])[32..])[..]);
    assert_eq!(
        verify(&signed(&of("nod_b"), &wanted, &key, &seed(3))).unwrap_err(),
        EnvironmentError::Node("nod_b".parse().unwrap())
    );
    let elsewhere = EnvironmentClaims { data_plane: "dpl_b".parse().unwrap(), ..of("nod_a") };
    assert!(matches!(
        verify(&signed(&elsewhere, &wanted, &key, &seed(3))),
        Err(EnvironmentError::Audience(_))
    ));
    let impostor = EnvironmentClaims { issuer: "https://other.example".into(), ..of("nod_a") };
    assert!(matches!(verify(&signed(&impostor, &wanted, &key, &seed(3))), Err(EnvironmentError::Issuer(_))));
    // Only a replica key signs it.
    for signer in [seed(2), seed(4)] {
        assert_eq!(
            verify(&signed(&of("nod_a"), &wanted, &key, &signer)).unwrap_err(),
            JwsError::KeyUnknown.into()
        );
    }
}

#[test]
fn the_ciphertext_of_one_place_or_version_is_none_of_another() {
    let key = key();
    let text = signed(&of("nod_a"), &variables(&[("A", "1")]), &key, &seed(3));
    let payload = BASE64URL.decode(text.split('.').nth(1).unwrap()).unwrap();
    let claims: Claims = serde_json::from_slice(&payload).unwrap();
    let resigned = |change: &dyn Fn(&mut Claims)| {
        let mut claims = claims.clone();
        change(&mut claims);
        verify(&jws::sign(Typ::Environment, &serde_json::to_vec(&claims).unwrap(), &seed(3)))
            .unwrap()
            .open(&key)
    };
    assert!(resigned(&|_| {}).is_ok());
    assert_eq!(resigned(&|claims| claims.version = 8).unwrap_err(), EnvironmentError::Sealed);
    assert_eq!(
        resigned(&|claims| claims.sub = "dep_b".parse().unwrap()).unwrap_err(),
        EnvironmentError::Sealed
    );
    assert_eq!(resigned(&|claims| claims.digest[0] ^= 1).unwrap_err(), EnvironmentError::Digest);
    assert_eq!(resigned(&|claims| claims.enc[0] ^= 1).unwrap_err(), EnvironmentError::Sealed);
    let unknown = String::from_utf8(payload).unwrap().replace("{\"iss\"", "{\"new\":1,\"iss\"");
    assert!(matches!(
        verify(&jws::sign(Typ::Environment, unknown.as_bytes(), &seed(3))),
        Err(EnvironmentError::Jws(_))
    ));
}

#[test]
fn what_is_no_environment_is_refused() {
    let key = key();
    let open = |pairs: &[(&str, &str)]| {
        verify(&signed(&of("nod_a"), &variables(pairs), &key, &seed(3))).unwrap().open(&key)
    };
    assert_eq!(open(&[]).unwrap(), []);
    assert!(matches!(
        open(&[("PATH", "x")]),
        Err(EnvironmentError::Variable { number: 1, fault: VariableFault::Reserved })
    ));
    assert!(matches!(
        open(&[("A", "x"), ("A-B", "x")]),
        Err(EnvironmentError::Variable { number: 2, fault: VariableFault::Name })
    ));
    assert_eq!(open(&[("B", "1"), ("A", "1")]).unwrap_err(), EnvironmentError::Text);
    assert_eq!(open(&[("A", "1"), ("A", "2")]).unwrap_err(), EnvironmentError::Text);
    assert!(open(&[("A", "1\0B=2")]).is_ok(), "two entries are two variables");
    let many: Vec<_> =
        (0..=MAX_VARIABLES).map(|number| (format!("V{number:03}"), Zeroizing::default())).collect();
    let text = signed(&of("nod_a"), &many, &key, &seed(3));
    assert_eq!(verify(&text).unwrap().open(&key).unwrap_err(), EnvironmentError::Text);
    let long = vec![b'x'; MAX_TEXT + 1];
    for text in [&[0; 31][..], &[0; 33], b"\x000000000000000000000000000000000A=1", &long] {
        assert!(decode(text).is_err());
    }
}

#[test]
fn the_largest_environment_fits() {
    let value = "\u{1}".repeat(52_000);
    let wanted: Vec<Variable> =
        (0..5).map(|number| (format!("V{number}"), Zeroizing::new(value.clone()))).collect();
    let key = key();
    let text = signed(&of("nod_a"), &wanted, &key, &seed(3));
    assert!(text.len() < MAX_ENVIRONMENT);
    assert_eq!(verify(&text).unwrap().open(&key).unwrap(), wanted);
}

proptest! {
    #[test]
    fn no_environment_with_a_flipped_bit_is_believed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let key = key();
        let text = signed(&of("nod_a"), &variables(&[("A", "1")]), &key, &seed(3));
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(text) = String::from_utf8(bytes) {
            prop_assert!(verify(&text).is_err());
        }
    }

    #[test]
    fn variables_are_decoded_as_they_were_encoded(pairs in prop::collection::btree_map("[A-Z]{1,8}", "\\PC{0,20}", 0..8)) {
        let wanted: Vec<Variable> = pairs
            .into_iter()
            .filter(|(name, value)| check_variable_name(name).is_ok() && check_variable_value(value).is_ok())
            .map(|(name, value)| (name, Zeroizing::new(value)))
            .collect();
        prop_assert_eq!(decode(&encode(&wanted, &[3; 32])).unwrap(), wanted);
    }
}
