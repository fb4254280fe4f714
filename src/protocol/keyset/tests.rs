#![allow(clippy::unwrap_used)]
use super::*;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn roots(seeds: &[u8], threshold: u32) -> RootSet {
    RootSet::new(seeds.iter().map(|&seed| key(seed).public().clone()).collect(), threshold).unwrap()
}

fn body(version: u64, seeds: &[u8], threshold: u32) -> KeysetBody {
    KeysetBody {
        version,
        iat: Time::from_unix(0),
        exp: Time::from_unix(100),
        keys: vec![
            KeysetKey { key_use: KeyUse::Token, jwk: key(100).public().jwk() },
            KeysetKey { key_use: KeyUse::Replica, jwk: key(101).public().jwk() },
        ],
        roots: seeds.iter().map(|&seed| key(seed).public().jwk()).collect(),
        threshold,
    }
}

#[test]
fn a_key_signs_only_what_its_use_says() {
    let keyset = Keyset::verify_first(&sign_keyset(&body(1, &[1], 1), &[&key(1)]), &roots(&[1], 1)).unwrap();
    let (token, replica) = (key(100), key(101));
    assert!(keyset.token_key(token.public().kid().as_str()).is_some());
    assert!(keyset.token_key(replica.public().kid().as_str()).is_none());
    assert!(keyset.replica_key(replica.public().kid().as_str()).is_some());
    assert!(keyset.replica_key(token.public().kid().as_str()).is_none());
}

#[test]
fn a_threshold_counts_different_roots() {
    let pinned = roots(&[1, 2, 3], 2);
    let signed = |by: &[&SigningKey]| sign_keyset(&body(1, &[1, 2, 3], 2), by);
    assert!(Keyset::verify_first(&signed(&[&key(1), &key(3)]), &pinned).is_ok());
    for short in [signed(&[&key(1)]), signed(&[&key(1), &key(1)]), signed(&[&key(1), &key(9)]), signed(&[])] {
        assert!(
            matches!(Keyset::verify_first(&short, &pinned), Err(KeysetError::Threshold { .. })),
            "{short}"
        );
    }
    // One that names a root twice, as nobody here would write it.
    let mut twice: serde_json::Value = serde_json::from_str(&signed(&[&key(1)])).unwrap();
    let again = twice["signatures"][0].clone();
    twice["signatures"].as_array_mut().unwrap().push(again);
    assert!(matches!(
        Keyset::verify_first(&twice.to_string(), &pinned),
        Err(KeysetError::Threshold { valid: 1, .. })
    ));
    let mut first = UnverifiedKeyset::parse(&signed(&[&key(1)])).unwrap();
    assert!(first.signed_by(key(1).public()) && !first.signed_by(key(2).public()));
    first.sign(&key(2));
    first.sign(&key(2));
    assert_eq!(first.claimed_signers().len(), 2);
    assert!(Keyset::verify_first(&first.to_line(), &pinned).is_ok());
}

#[test]
fn roots_rotate_only_with_the_consent_of_old_and_new() {
    let pinned = roots(&[1], 1);
    let first = sign_keyset(&body(1, &[1], 1), &[&key(1)]);
    let keyset = Keyset::verify_first(&first, &pinned).unwrap();
    let next = body(2, &[2], 1);
    let both = sign_keyset(&next, &[&key(1), &key(2)]);
    assert_eq!(Keyset::verify_chain(&[&first, &both], &pinned).unwrap().version(), 2);
    for alone in [key(1), key(2)] {
        let text = sign_keyset(&next, &[&alone]);
        assert!(matches!(keyset.verify_next(&text), Err(KeysetError::Threshold { .. })));
    }
    for wrong in [1, 3] {
        let text = sign_keyset(&body(wrong, &[1], 1), &[&key(1)]);
        assert_eq!(keyset.verify_next(&text).unwrap_err(), KeysetError::Version { have: 1, got: wrong });
    }
}

#[test]
fn thresholds_nobody_can_reach_are_refused() {
    for (seeds, threshold) in [(&[1_u8][..], 0), (&[1], 2), (&[], 1), (&[1, 1], 2)] {
        let text = sign_keyset(&body(1, seeds, threshold), &[&key(1)]);
        assert!(matches!(Keyset::verify_first(&text, &roots(&[1], 1)), Err(KeysetError::Unreachable { .. })));
    }
}
