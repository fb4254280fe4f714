//! Sessions: decided like the token that signed in, for as long as they last, and only for the deployment's own pages.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::protocol::token::verify;

const HOURS: Durations = Durations { max: 8 * 3600, idle: 3600 };

impl World {
    /// Session of this world's token, as if it had signed in before the world was changed.
    fn session(&self) -> Option<Session> {
        let snapshot = self.snapshot();
        let token = verify(self.token().as_bytes(), &snapshot.proved.as_ref().unwrap().keyset).ok()?;
        let ages = Durations { max: 1 << 40, idle: 1 << 40 };
        (token.kind() == TokenKind::DirectAccess).then(|| {
            Session::begin("ses_a".parse().unwrap(), &token, (T0.plus(1 << 40), None), (T0, T0), ages)
        })
    }

    fn decide_session(&self, session: &Session, initiator: Initiator) -> Decision {
        let credential = Some(Credential::Session(session, initiator));
        decide_introspected(credential, None, &self.facts(), &self.snapshot(), self.now)
    }

    fn sign_in(&self) -> (Decision, Option<Session>) {
        let facts = RequestFacts { method: "POST", uri: "/.halligan/sign-in", ..self.facts() };
        let wanted = ("ses_a".parse().unwrap(), HOURS);
        sign_in(self.token().as_bytes(), None, wanted, &facts, &self.snapshot(), self.now)
    }
}

#[test]
fn a_session_is_decided_like_its_token() {
    let mut compared = 0;
    for (index, (expected, bend)) in CAUSES.iter().enumerate() {
        let mut world = World::new();
        bend(&mut world);
        let Some(session) = world.session() else { continue };
        // A session ends with its token. The sign-in page is what helps then.
        let over = world.now.effective() >= session.ends();
        let expected = if over { Reason::TokenMissing } else { *expected };
        let decision = world.decide_session(&session, Initiator::SameOrigin);
        assert_eq!(decision.reason(), expected, "row {index}");
        assert_eq!(decision.facts().session, Some(session.id()), "row {index}");
        compared += 1;
    }
    assert!(compared > 30, "{compared}");
}

#[test]
fn a_session_says_what_its_token_says() {
    let world = World::new();
    let by_token = world.decide_with(Some(world.token().as_bytes()));
    let by_session = world.decide_session(&world.session().unwrap(), Initiator::SameOrigin);
    assert_eq!(by_session.facts().session.unwrap().as_str(), "ses_a");
    let without = Facts { session: None, ..by_session.facts() };
    assert_eq!(format!("{without:?}"), format!("{:?}", by_token.facts()));
    assert!(granted(&by_token).is_some());
    assert_eq!(granted(&by_session), granted(&by_token));
}

/// Each row changes a world after the sign-in, and names the reason that the next request gets.
#[test]
fn what_ends_a_token_ends_its_session_at_the_next_click() {
    let rows: &[(Reason, Bend)] = &[
        (Reason::Ok, |_| {}),
        (Reason::TokenRevoked, |w| w.record.revoked_at = Some(T0)),
        (Reason::TokenRevoked, |w| w.local.revoked = [("tok_a".parse().unwrap(), T0)].into()),
        (Reason::TokenRotated, |w| w.record.generation = 3),
        (Reason::TokenUnknown, |w| w.record.id = "tok_b".parse().unwrap()),
        (Reason::TokenExpired, |w| w.record.expires_at = T0.plus(60)),
        (Reason::GlassSealed, |w| w.keep(GlassMode::Sealed)),
        (Reason::ReplicaStale, |w| w.staleness.default = 59),
        (Reason::SourceNotAllowed, |w| w.record.sources = vec!["10.0.0.0/8".into()]),
        (Reason::RoleMismatch, |w| w.record.role = role("DAG_VIEWER").1),
        (Reason::WrongDeployment, |w| w.target = Target::Id("dep_b")),
        (Reason::ClockUntrusted, |w| w.now.floor = T0.plus(3500)),
        // The session itself.
        (Reason::TokenMissing, |w| w.local.ended_sessions.add(&"ses_a".parse().unwrap(), T0, T0)),
        (Reason::TokenMissing, |w| w.local.ended_sessions.add_all_until(w.now.wall)),
        (Reason::Ok, |w| w.local.ended_sessions.add_all_until(w.now.wall.plus(-1))),
        (Reason::TokenMissing, |w| w.now.wall = T0.plus(60 + 3600)),
        (Reason::Ok, |w| w.now.wall = T0.plus(60 + 3599)),
        // A clock that was set back revives nothing.
        (Reason::TokenMissing, |w| w.now.floor = T0.plus(60 + 3600)),
    ];
    for (index, (reason, bend)) in rows.iter().enumerate() {
        let mut world = World::new();
        let session = world.sign_in().1.unwrap();
        bend(&mut world);
        let decision = world.decide_session(&session, Initiator::SameOrigin);
        assert_eq!(decision.reason(), *reason, "row {index}");
    }
}

#[test]
fn a_session_keeps_nothing_that_no_decision_reads() {
    let mut world = World::new();
    world.claims.permissions = vec!["workspaceId:wsp_a".into(); 50];
    assert_eq!(world.sign_in().1.unwrap().claims().permissions, Vec::<String>::new());
}

#[test]
fn a_session_ends_with_its_token_at_the_latest() {
    let mut world = World::new();
    assert_eq!(world.sign_in().1.unwrap().ends(), world.now.wall.plus(HOURS.max));
    world.claims.exp = Some(T0.plus(100));
    assert_eq!(world.sign_in().1.unwrap().until(), T0.plus(100));
    world.claims.exp = Some(T0.plus(86_400));
    world.record.expires_at = T0.plus(200);
    let session = world.sign_in().1.unwrap();
    assert_eq!((session.ends(), session.until()), (T0.plus(200), T0.plus(200)));
    assert_eq!(session.renewed(T0.plus(150), HOURS), None, "nothing renews it beyond");
}

#[test]
fn use_counts_the_idle_time_anew_and_the_whole_time_goes_on() {
    let session = World::new().sign_in().1.unwrap();
    let begun = session.begun();
    assert_eq!(
        session.renewed(begun.plus(HOURS.idle / 20), HOURS),
        None,
        "a page sends many requests at once"
    );
    let mut used = session.clone();
    for hours in 1..=7 {
        used = used.renewed(begun.plus(hours * 3600 - 1), HOURS).unwrap();
        assert_eq!(used.until(), begun.plus((hours + 1) * 3600 - 1));
    }
    used = used.renewed(begun.plus(8 * 3600 - 200), HOURS).unwrap_or(used);
    assert!(used.until() <= begun.plus(HOURS.max) && used.ends() == session.ends());
    // A limit that was lowered since holds for this session too.
    let shorter = Durations { max: 3600, idle: 3600 };
    assert_eq!(session.renewed(begun.plus(1800), shorter), None);
}

#[test]
fn a_sign_in_is_decided_like_a_request_except_for_its_route() {
    for (index, (expected, bend)) in CAUSES.iter().enumerate() {
        let mut world = World::new();
        bend(&mut world);
        if matches!(expected, Reason::PathInvalid | Reason::RouteUnknown | Reason::PermissionDenied) {
            continue;
        }
        // Without a readable role record the role opens no route; what it was is known nevertheless.
        let unreadable =
            *expected == Reason::RoleMismatch && world.claims.role.as_ref() == Some(&world.record.role);
        let expected = if unreadable { Reason::Ok } else { *expected };
        let (decision, session) = world.sign_in();
        assert_eq!(decision.reason(), expected, "row {index}");
        assert_eq!(session.is_some(), expected == Reason::Ok, "row {index}");
        assert_eq!(decision.facts().path, Some("/.halligan/sign-in"));
    }
    let mut sealed = World::new();
    sealed.keep(GlassMode::Sealed);
    assert_eq!(sealed.sign_in().0.reason(), Reason::GlassSealed);
}

#[test]
fn a_session_opens_for_pages_of_its_own_origin_and_for_people() {
    use Initiator::{Elsewhere, Navigation, SameOrigin};
    let mut world = World::new();
    let session = world.session().unwrap();
    for (method, uri, initiator, reason) in [
        ("GET", "/api/v2/dags/etl", SameOrigin, Reason::Ok),
        ("GET", "/api/v2/dags/etl", Navigation, Reason::Ok),
        ("HEAD", "/api/v2/dags/etl", Navigation, Reason::Ok),
        ("GET", "/api/v2/dags/etl", Elsewhere, Reason::CrossSite),
        ("POST", "/api/v2/dags/etl/dagRuns", SameOrigin, Reason::Ok),
        ("POST", "/api/v2/dags/etl/dagRuns", Navigation, Reason::CrossSite),
        ("POST", "/api/v2/dags/etl/dagRuns", Elsewhere, Reason::CrossSite),
        ("PATCH", "/api/v2/dags/etl", Navigation, Reason::CrossSite),
        ("DELETE", "/api/v2/dags/etl", Elsewhere, Reason::CrossSite),
        ("OPTIONS", "/api/v2/dags/etl", Navigation, Reason::CrossSite),
        ("get", "/api/v2/dags/etl", Navigation, Reason::CrossSite),
    ] {
        (world.method, world.uri) = (method, uri);
        let decision = world.decide_session(&session, initiator);
        assert_eq!(decision.reason(), reason, "{method} {uri} {initiator:?}");
        assert_eq!(decision.facts().path, Some(uri), "{method} {initiator:?}");
    }
    // A token is no cookie: no browser sends it by itself.
    (world.method, world.uri) = ("POST", "/api/v2/dags/etl/dagRuns");
    assert_eq!(world.reason(), Reason::Ok);
}
