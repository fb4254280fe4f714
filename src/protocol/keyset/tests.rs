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
        iss: None,
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

/// Roots 1 in version 1; roots 2 from version 2 on; roots 3 from version 4 on.
fn rotated() -> Vec<String> {
    vec![
        sign_keyset(&body(1, &[1], 1), &[&key(1)]),
        sign_keyset(&body(2, &[2], 1), &[&key(1), &key(2)]),
        sign_keyset(&body(3, &[2], 1), &[&key(2)]),
        sign_keyset(&body(4, &[3], 1), &[&key(2), &key(3)]),
        sign_keyset(&body(5, &[3], 1), &[&key(3)]),
    ]
}

#[test]
fn a_chain_begins_at_the_earliest_keyset_that_the_pinned_roots_prove() {
    let chain = rotated();
    for (pinned, start) in [(1, 0), (2, 1), (3, 3)] {
        let (first, place) = Keyset::verify_earliest(&chain, &roots(&[pinned], 1)).unwrap();
        assert_eq!((first.version(), place), (start as u64 + 1, start), "pinned root {pinned}");
        assert_eq!(Keyset::verify_chain(&chain, &roots(&[pinned], 1)).unwrap().version(), 5);
    }
    assert!(matches!(
        Keyset::verify_chain(&chain, &roots(&[9], 1)),
        Err(KeysetError::Threshold { valid: 0, .. })
    ));
    assert!(Keyset::verify_chain(&chain, &roots(&[2, 3], 2)).is_ok(), "version 4 has both signatures");
    // Once begun, nothing is skipped: neither a gap, nor what a retired root signs later.
    let gap = [&chain[1], &chain[3]];
    assert!(Keyset::verify_chain(&gap, &roots(&[2], 1)).is_err());
    let retired = sign_keyset(&body(6, &[1], 1), &[&key(1)]);
    let behind: Vec<_> = chain.iter().chain([&retired]).collect();
    assert!(Keyset::verify_chain(&behind, &roots(&[3], 1)).is_err());
    assert!(Keyset::verify_chain(&behind, &roots(&[1], 1)).is_err());
}

#[test]
fn a_version_is_1_to_2_to_the_53() {
    use crate::protocol::version::MAX_VERSION;
    let pinned = roots(&[1], 1);
    let signed = |version| sign_keyset(&body(version, &[1], 1), &[&key(1)]);
    for version in [1, 2, MAX_VERSION - 1, MAX_VERSION] {
        assert_eq!(Keyset::verify_first(&signed(version), &pinned).unwrap().version(), version);
    }
    for version in [0, MAX_VERSION + 1, 1 << 62, 1 << 63, u64::MAX] {
        assert!(
            matches!(Keyset::verify_first(&signed(version), &pinned), Err(KeysetError::Malformed(_))),
            "{version}"
        );
    }
}
