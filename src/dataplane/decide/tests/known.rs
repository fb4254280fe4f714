//! Decisions that verify no signature: the same answers, and only for tokens whose signature was verified before.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn a_known_token_gets_the_same_decision_without_a_verification() {
    let mut compared = 0;
    for (index, (_, bend)) in CAUSES.iter().enumerate() {
        let mut world = World::new();
        bend(&mut world);
        let (facts, snapshot, value) = (world.facts(), world.snapshot(), world.token());
        let credential = Some(Credential::Token(value.as_bytes()));
        assert!(decide_known(credential, &facts, &snapshot, world.now).is_none(), "row {index}");
        let verified = decide_introspected(credential, None, &facts, &snapshot, world.now);
        match decide_known(credential, &facts, &snapshot, world.now) {
            Some(known) => assert_eq!(format!("{known:?}"), format!("{verified:?}"), "row {index}"),
            // Only tokens with a valid signature are remembered.
            None => assert!(verified.facts().token.is_none() && !verified.allowed(), "row {index}"),
        }
        compared += usize::from(verified.facts().token.is_some());
    }
    assert!(compared > 30, "{compared}");
}

#[test]
fn a_forged_token_stays_unknown_and_no_token_is_decided_at_once() {
    let world = World::new();
    let (snapshot, facts) = (world.snapshot(), world.facts());
    let forged = mint(world.kind, &world.claims, &key(9)).to_string();
    let forged = format!(
        "{}{}",
        forged.rsplit_once('.').unwrap().0,
        &world.token()[world.token().rfind('.').unwrap()..]
    );
    for bytes in [forged.as_bytes(), b"a.b.c"] {
        let credential = Some(Credential::Token(bytes));
        for _ in 0..2 {
            assert!(decide_known(credential, &facts, &snapshot, world.now).is_none());
            assert!(!decide_introspected(credential, None, &facts, &snapshot, world.now).allowed());
        }
    }
    for nothing in [None, Some(Credential::Token(b""))] {
        let decision = decide_known(nothing, &facts, &snapshot, world.now).unwrap();
        assert_eq!(decision.reason(), Reason::TokenMissing);
    }
}
