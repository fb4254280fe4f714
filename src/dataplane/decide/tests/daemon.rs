//! Calls to the daemon itself: decided like requests, by routes of the daemon's own.

#![allow(clippy::unwrap_used)]

use super::*;

/// A deploy of `dep_a` with a token that may make it.
fn deploy() -> World {
    World { target: Target::Daemon("dep_a"), method: "PUT", uri: "/v1/deploys/dep_a", ..World::new() }
}

#[test]
fn a_deploy_is_allowed_by_its_permission_and_recorded_as_a_change() {
    let world = deploy();
    let decision = world.decide_with(Some(world.token().as_bytes()));
    let found = decision.facts();
    assert!(decision.allowed() && found.mutating);
    assert_eq!(&**found.route.unwrap(), "/v1/deploys/{deployment_id}");
    assert_eq!(found.permission.unwrap().as_str(), "deployment.deploys.create");
    assert_eq!(found.path, Some("/v1/deploys/dep_a"));
}

#[test]
fn a_deploy_is_denied_for_each_reason_that_denies_a_request() {
    let denied: &[(Reason, Bend)] = &[
        (Reason::WrongDeployment, |w| w.target = Target::Daemon("dep_b")),
        (Reason::WrongDeployment, |w| w.target = Target::Daemon("dep_a/x")),
        (Reason::TokenRevoked, |w| w.record.revoked_at = Some(T0)),
        (Reason::TokenExpired, |w| w.now.wall = T0.plus(86_400)),
        (Reason::GlassSealed, |w| w.keep(GlassMode::Sealed)),
        (Reason::SourceNotAllowed, |w| w.record.sources = vec!["192.0.2.0/24".parse().unwrap()]),
        (Reason::NeedsControlPlane, |w| (w.kind, w.claims.aud) = (TokenKind::Standard, ISSUER.into())),
        (Reason::PermissionDenied, |w| {
            let (record, claim) = role("DEPLOYMENT_ACCESSOR");
            w.records.push(record);
            (w.record.role, w.claims.role) = (claim.clone(), Some(claim));
        }),
    ];
    for (index, (reason, bend)) in denied.iter().enumerate() {
        let mut world = deploy();
        bend(&mut world);
        assert_eq!(world.reason(), *reason, "row {index}");
    }
}

#[test]
fn the_daemons_routes_and_a_deployments_are_apart() {
    let mut world = deploy();
    world.method = "GET";
    assert_eq!(world.reason(), Reason::RouteUnknown);
    world = deploy();
    world.uri = "/api/v2/dags/etl";
    assert_eq!(world.reason(), Reason::RouteUnknown);
    world = deploy();
    world.target = Target::Id("dep_a");
    assert_eq!(world.reason(), Reason::RouteUnknown, "a deployment has no such path");
}
