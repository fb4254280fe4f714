//! Unit tests of the facts that a denial states.

use super::*;

#[test]
fn a_denied_token_says_what_it_was_as_far_as_it_was_looked_at() {
    let mut world = World::new();
    world.uri = "/api/v2/nothing";
    let decision = world.decide_with(Some(world.token().as_bytes()));
    let found = decision.facts();
    assert_eq!((found.token.unwrap().as_str(), found.generation), ("tok_a", Some(2)));
    assert_eq!(found.role.unwrap().to_string(), "DEPLOYMENT_ADMIN@1");
    assert_eq!(found.deployment.unwrap().as_str(), "dep_a");
    // The method of a request without a token is the only fact that its denial states.
    for (method, mutating) in [("GET", false), ("HEAD", false), ("POST", true), ("BREW", true)] {
        world.method = method;
        let decision = world.decide_with(None);
        let found = decision.facts();
        assert_eq!((found.token, found.deployment, found.mutating), (None, None, mutating), "{method}");
    }
}

#[test]
fn a_denial_for_what_was_found_after_the_steps_keeps_what_they_found() {
    let mut world = World::new();
    for (uri, allowed) in [("/api/v2/dags/etl", true), ("/api/v2/nothing", false)] {
        world.uri = uri;
        let decision = world.decide_with(Some(world.token().as_bytes()));
        assert_eq!(decision.allowed(), allowed);
        if let Decision::Allowed(allowed) = decision.clone() {
            let limited = allowed.limited(7);
            assert_eq!((limited.reason(), limited.retry_after), (Reason::RateLimited, Some(7)));
            assert_eq!(limited.facts().token.unwrap().as_str(), "tok_a");
        }
        let unrecorded = decision.unrecorded();
        assert_eq!(unrecorded.reason(), Reason::AuditUnavailable, "{uri}");
        assert_eq!(unrecorded.facts().token.unwrap().as_str(), "tok_a");
    }
}
