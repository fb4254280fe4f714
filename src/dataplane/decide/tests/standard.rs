//! Standard tokens: the replica's facts count first, then the control plane's answer, and no other answer.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::dataplane::decide::introspection::Introspection;

const ALLOWS: &str = r#"{"active":true,"sub":"tok_a","gen":2,"deployment":"dep_a","permissions":["deployment.airflow.dag.get"],
    "dags":[{"dag":"etl","permissions":["deployment.airflow.dag.update"]}]}"#;

fn standard() -> World {
    let mut world = World::new();
    world.kind = TokenKind::Standard;
    (world.claims.aud, world.claims.role) = (world.claims.iss.clone(), None);
    world
}

fn reason(world: &World, said: &str) -> Reason {
    decision(world, said).reason()
}

fn decision(world: &World, said: &str) -> Decision {
    let introspection = Introspection::read(said.as_bytes());
    let token = world.token();
    let facts =
        RequestFacts { deployment: world.target, method: world.method, uri: world.uri, client: world.client };
    decide_introspected(
        Some(Credential::Token(token.as_bytes())),
        introspection.as_ref(),
        &facts,
        &world.snapshot(),
        world.now,
    )
}

#[test]
fn what_the_control_plane_says_is_what_a_standard_token_may_do() {
    let mut world = standard();
    assert_eq!(reason(&world, ALLOWS), Reason::Ok);
    let only = |name: &str| [name.parse().unwrap()].into_iter().collect();
    let (deployment, dags) = (only("deployment.airflow.dag.get"), only("deployment.airflow.dag.update"));
    assert_eq!(granted(&decision(&world, ALLOWS)), Some(Granted { deployment, dags }));
    world.method = "PATCH";
    assert_eq!(reason(&world, ALLOWS), Reason::Ok);
    world.uri = "/api/v2/dags/other";
    assert_eq!(reason(&world, ALLOWS), Reason::PermissionDenied);
    world.uri = "/api/v2/nothing";
    assert_eq!(reason(&world, ALLOWS), Reason::RouteUnknown);
    assert_eq!(reason(&standard(), r#"{"active":false}"#), Reason::TokenRevoked);
}

#[test]
fn what_is_said_of_another_value_token_or_deployment_says_nothing() {
    for (from, to) in [(r#""gen":2"#, r#""gen":1"#), ("tok_a", "tok_b"), ("dep_a", "dep_b")] {
        assert_eq!(reason(&standard(), &ALLOWS.replace(from, to)), Reason::NeedsControlPlane, "{to}");
    }
    assert_eq!(reason(&standard(), ""), Reason::NeedsControlPlane);
}

#[test]
fn a_standard_token_is_for_its_control_plane_and_the_answer_says_the_same_of_it() {
    let mut elsewhere = standard();
    elsewhere.claims.aud = "dep_a".into();
    assert_eq!(reason(&elsewhere, ALLOWS), Reason::TokenUnknown, "it is for a deployment");
    let world = standard();
    let (iss, now) = (world.claims.iss.clone(), world.now.wall);
    let with = |more: String| ALLOWS.replacen('{', &format!("{{{more},"), 1);
    for (more, expected) in [
        (format!(r#""iss":"{iss}","aud":"{iss}""#), Reason::Ok),
        (r#""iss":"https://other.example""#.to_owned(), Reason::NeedsControlPlane),
        (r#""aud":"dep_a""#.to_owned(), Reason::NeedsControlPlane),
        (format!(r#""exp":{}"#, now.unix()), Reason::TokenExpired),
        (format!(r#""exp":{}"#, now.unix() + 1), Reason::Ok),
        (format!(r#""nbf":{}"#, now.unix()), Reason::Ok),
        (format!(r#""nbf":{}"#, now.unix() + 1), Reason::TokenNotYetValid),
    ] {
        assert_eq!(reason(&world, &with(more.clone())), expected, "{more}");
    }
}

#[test]
fn a_standard_token_is_valid_from_the_second_of_its_start_to_the_second_before_its_end() {
    for (start, end, expected) in
        [(60, 61, Reason::Ok), (0, 60, Reason::TokenExpired), (61, 90, Reason::TokenNotYetValid)]
    {
        let mut world = standard();
        (world.claims.nbf, world.claims.exp) = (T0.plus(start), Some(T0.plus(end)));
        assert_eq!(reason(&world, ALLOWS), expected, "from {start} to {end}");
    }
}

#[test]
fn what_this_node_knows_counts_whatever_is_said() {
    let mut expired = standard();
    expired.now.wall = expired.claims.exp.unwrap();
    assert_eq!(reason(&expired, ALLOWS), Reason::TokenExpired);
    let mut revoked = standard();
    revoked.local.revoked = [(revoked.claims.sub.clone(), revoked.now.wall)].into();
    assert_eq!(reason(&revoked, ALLOWS), Reason::TokenRevoked);
    let mut elsewhere = standard();
    elsewhere.target = Target::Id("dep_z");
    assert_eq!(reason(&elsewhere, ALLOWS), Reason::WrongDeployment);
}

#[test]
fn nothing_that_is_said_gives_a_direct_access_token_anything() {
    let mut revoked = World::new();
    revoked.record.revoked_at = Some(revoked.now.wall);
    assert_eq!(reason(&revoked, ALLOWS), Reason::TokenRevoked);
}

/// Session of a standard token, with the control plane's answer.
fn session(world: &World, said: &str) -> Result<Session, Reason> {
    let introspection = Introspection::read(said.as_bytes());
    let durations = Durations { max: 8 * 3600, idle: 3600 };
    let wanted = ("ses_a".parse().unwrap(), durations);
    let facts = RequestFacts {
        deployment: world.target,
        method: "POST",
        uri: "/.halligan/sign-in",
        client: world.client,
    };
    let token = world.token();
    let snapshot = world.snapshot();
    let (decision, session) =
        sign_in(token.as_bytes(), introspection.as_ref(), wanted, &facts, &snapshot, world.now);
    session.ok_or(decision.reason())
}

fn by_session(world: &World, session: &Session, said: &str, initiator: Initiator) -> Reason {
    let introspection = Introspection::read(said.as_bytes());
    let facts =
        RequestFacts { deployment: world.target, method: world.method, uri: world.uri, client: world.client };
    let credential = Some(Credential::Session(session, initiator));
    decide_introspected(credential, introspection.as_ref(), &facts, &world.snapshot(), world.now).reason()
}

#[test]
fn a_standard_token_signs_in_while_the_control_plane_says_so() {
    let mut world = standard();
    let begun = session(&world, ALLOWS).unwrap();
    assert_eq!(begun.standard_on().map(DeploymentId::as_str), Some("dep_a"));
    assert_eq!(by_session(&world, &begun, ALLOWS, Initiator::SameOrigin), Reason::Ok);
    assert_eq!(by_session(&world, &begun, "", Initiator::SameOrigin), Reason::NeedsControlPlane);
    let inactive = r#"{"active":false}"#;
    assert_eq!(by_session(&world, &begun, inactive, Initiator::SameOrigin), Reason::TokenRevoked);
    assert_eq!(by_session(&world, &begun, ALLOWS, Initiator::Elsewhere), Reason::CrossSite);
    assert_eq!(session(&world, "").unwrap_err(), Reason::NeedsControlPlane);
    assert_eq!(session(&world, inactive).unwrap_err(), Reason::TokenRevoked);
    // It is for the deployment where it began, even if the token opens others.
    let elsewhere = ALLOWS.replace("dep_a", "dep_b");
    world.target = Target::Id("dep_b");
    assert_eq!(reason(&world, &elsewhere), Reason::Ok);
    assert_eq!(by_session(&world, &begun, &elsewhere, Initiator::SameOrigin), Reason::WrongDeployment);
    (world.target, world.uri) = (Target::Id("dep_a"), "/api/v2/dags/other");
    world.method = "PATCH";
    assert_eq!(by_session(&world, &begun, ALLOWS, Initiator::SameOrigin), Reason::PermissionDenied);
}

#[test]
fn what_this_node_knows_ends_the_session_of_a_standard_token() {
    let begun = session(&standard(), ALLOWS).unwrap();
    let rows: [(Reason, Bend); 4] = [
        (Reason::TokenMissing, |w| w.now.wall = T0.plus(60 + 3600)),
        (Reason::TokenMissing, |w| w.local.ended_sessions.add(&"ses_a".parse().unwrap(), T0, T0)),
        (Reason::TokenRevoked, |w| w.local.revoked = [("tok_a".parse().unwrap(), T0)].into()),
        (Reason::ClockUntrusted, |w| w.now.floor = T0.plus(3500)),
    ];
    for (index, (expected, bend)) in rows.into_iter().enumerate() {
        let mut world = standard();
        bend(&mut world);
        assert_eq!(by_session(&world, &begun, ALLOWS, Initiator::SameOrigin), expected, "row {index}");
    }
    // It ends with the token, by the control plane's word too.
    let sooner = ALLOWS.replacen('{', &format!("{{\"exp\":{},", T0.plus(100).unix()), 1);
    assert_eq!(session(&standard(), &sooner).unwrap().ends(), T0.plus(100));
}
