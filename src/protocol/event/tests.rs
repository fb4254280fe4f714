//! Unit tests of drafts and their lines.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn line(sequence: u64, draft: &Draft<'_>) -> String {
    let (mut json, mut line) = (Vec::new(), String::new());
    draft.write(&mut json);
    place(sequence, GENESIS, std::str::from_utf8(&json).unwrap(), &mut line);
    line
}

#[test]
fn a_placed_draft_is_the_line_of_an_event() {
    let (node, token) = (NodeId::new("nod_a").unwrap(), TokenId::new("tok_a").unwrap());
    let session = SessionId::new("ses_a").unwrap();
    let (role, deployment) = ("DAG_VIEWER@1".parse().unwrap(), DeploymentId::new("dep_a").unwrap());
    let time = Time::from_unix(1_800_000_000);
    let bare = Draft::new(EventKind::Decision, "evt_1-1", time, &node, Connectivity::Offline);
    let draft = Draft {
        decision: Some("allow"),
        reason: Some("ok"),
        token: Some(&token),
        generation: Some(2),
        session: Some(&session),
        role: Some(&role),
        deployment: Some(&deployment),
        method: Some("GET"),
        route: Some("/api/v2/dags/{dag_id}"),
        path: Some("/api/v2/dags/\"odd\""),
        permission: Some("deployment.airflow.dag.get"),
        client: Some([192, 0, 2, 7].into()),
        glass: Some("always"),
        operator: Some("uid 0"),
        because: Some("drill"),
        until: Some(time),
        ..bare
    };
    let full = line(7, &draft);
    let event: Event = serde_json::from_str(&full).unwrap();
    assert_eq!((event.sequence, event.prev.as_str()), (7, GENESIS));
    assert_eq!(event.path.as_deref(), Some("/api/v2/dags/\"odd\""));
    assert_eq!(serde_json::to_string(&event).unwrap(), full, "both write a line in the same way");
    let bare = line(8, &bare);
    let event: Event = serde_json::from_str(&bare).unwrap();
    assert_eq!(serde_json::to_string(&event).unwrap(), bare);
}

#[test]
fn every_event_id_fits() {
    assert_eq!(&*EventId::new(1_800_000_000, 7), "evt_1800000000-7");
    assert_eq!(&*EventId::new(u64::MAX, u64::MAX), format!("evt_{0}-{0}", u64::MAX));
}

proptest! {
    #[test]
    fn whatever_a_client_sends_its_line_is_one_event(
        [method, route, path, operator, because] in any::<[String; 5]>(),
        client in any::<Option<IpAddr>>(),
        kind in 0_usize..5,
        connectivity in 0_usize..3,
    ) {
        let kinds = [
            EventKind::Decision,
            EventKind::GlassBroken,
            EventKind::GlassSealed,
            EventKind::Revocation,
            EventKind::ClockAccepted,
        ];
        let connectivities = [Connectivity::Connecting, Connectivity::Online, Connectivity::Offline];
        let node = NodeId::new("nod_a").unwrap();
        let time = Time::from_unix(1_800_000_000);
        let draft = Draft {
            method: Some(&method),
            route: Some(&route),
            path: Some(&path),
            client,
            operator: Some(&operator),
            because: Some(&because),
            ..Draft::new(kinds[kind], "evt_1-1", time, &node, connectivities[connectivity])
        };
        let line = line(1, &draft);
        prop_assert!(!line.contains('\n'));
        let event: Event = serde_json::from_str(&line).unwrap();
        prop_assert_eq!((event.kind, event.connectivity), (draft.kind, draft.connectivity));
        let told = (event.method.as_ref(), event.path.as_ref(), event.operator.as_ref(), event.because.as_ref());
        prop_assert_eq!(told, (Some(&method), Some(&path), Some(&operator), Some(&because)));
        prop_assert_eq!((event.route.as_deref(), event.client), (Some(&*route), client));
        prop_assert_eq!(serde_json::to_string(&event).unwrap(), line);
    }
}
