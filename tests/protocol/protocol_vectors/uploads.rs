//! uploads.json: the judgement of a control plane about events that a node sends.

use std::path::Path;
use std::sync::Arc;

use halligan::controlplane::ControlPlane;
use halligan::controlplane::signing::Signing;
use halligan::controlplane::store::Store;
use halligan::protocol::event::line_hash;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::log::lines;
use super::{Vectors, read, replaced};
use crate::world::{ISSUER, T0};

/// Returns a control plane with the node `nod_a`, and the id of its data plane.
fn control(directory: &Path) -> (ControlPlane, String) {
    let mut random = StdRng::seed_from_u64(1);
    Signing::create(directory, T0, &mut random).unwrap();
    let store = Store::open(&directory.join("control.db")).unwrap();
    let signing = Signing::load(directory).unwrap();
    let plane = ControlPlane::new(store, signing, ISSUER.into(), Arc::new(|| T0), Box::new(random));
    let made = plane.bootstrap("Acme", "owner@acme.example").unwrap();
    let owner = plane.authenticate(made.token.as_bytes()).unwrap();
    let data_plane = plane.create_data_plane(&owner, &made.organization_id, "eu").unwrap().id;
    let data_plane = String::from(data_plane);
    Connection::open(directory.join("control.db"))
        .unwrap()
        .execute(
            "INSERT INTO node (id, data_plane, name, key, created_at, kid) VALUES ('nod_a', ?1, 'a', '{}', 0, 'x')",
            params![data_plane],
        )
        .unwrap();
    (plane, data_plane)
}

/// Returns the sequence of the log after the bodies of a case, and its faults.
fn answer(_: &Value, case: &Value) -> String {
    let directory = tempfile::tempdir().unwrap();
    let (plane, data_plane) = control(directory.path());
    let mut at = 0;
    for body in case["bodies"].as_array().unwrap() {
        let lines: Vec<String> = read(body, "lines");
        let lines = lines.iter().map(String::as_str);
        at = plane.take_events(&data_plane, "nod_a", read(body, "oldest"), lines).unwrap().sequence;
    }
    let database = Connection::open(directory.path().join("control.db")).unwrap();
    let mut faults =
        database.prepare("SELECT kind, sequence FROM log_fault ORDER BY branch, sequence, kind").unwrap();
    let faults = faults
        .query_map([], |row| Ok(format!(", {} at {}", row.get::<_, String>(0)?, row.get::<_, u64>(1)?)))
        .unwrap();
    format!("at {at}{}", faults.collect::<Result<String, _>>().unwrap())
}

#[test]
fn uploads() {
    let mut vectors = Vectors::new(
        "uploads.json",
        "What a control plane judges of `bodies`, which the node `nod_a` sends one after the other: the sequence of the answer to the \
         last one, then each fault of the log with the sequence at which it shows, by branch.",
        answer,
    );
    let mut case = |name: &str, bodies: Vec<(u64, Vec<String>)>, expected: &str, why: &str| {
        let listed = bodies.iter().map(|(oldest, lines)| json!({ "oldest": oldest, "lines": lines }));
        let input = json!({ "bodies": listed.collect::<Vec<_>>() });
        vectors.case(name, input, expected, why);
    };
    let (log, other) = (lines(4, T0), lines(4, T0.plus(1000)));
    let part = |from: usize, to: usize| log[from - 1..to].to_vec();
    case("in their order", vec![(1, part(1, 2)), (1, part(3, 4))], "at 4", "each event follows the last one");
    case("sent twice", vec![(1, part(1, 3)), (1, part(1, 3))], "at 3", "a line that has arrived is skipped");
    case("overlapping", vec![(1, part(1, 3)), (1, part(2, 4))], "at 4", "a line that has arrived is skipped");
    case("nothing", vec![(1, vec![])], "at 0", "no event has arrived");
    case(
        "events left out that the node still has",
        vec![(1, part(1, 1)), (1, part(3, 4))],
        "at 1",
        "the node goes on from the answer: nothing is taken behind a gap that it can fill",
    );
    case(
        "events that the node no longer has",
        vec![(1, part(1, 1)), (3, part(3, 4))],
        "at 4, gap at 3",
        "oldest is beyond the next event: the events between are lost",
    );
    case(
        "a log without its beginning",
        vec![(3, part(3, 4))],
        "at 4, gap at 3",
        "oldest is beyond the first event",
    );
    case(
        "a log that begins anew",
        vec![(1, part(1, 3)), (1, other[..2].to_vec())],
        "at 2, restart at 1",
        "sequence 1 with a prev of zero bytes, though events have arrived",
    );
    let forked = replaced(&log[2], "1800000003", "1800000009");
    case(
        "another event in the place of one that has arrived",
        vec![(1, part(1, 3)), (1, vec![forked])],
        "at 3, fork at 3",
        "its prev is an event that has arrived, but not the last",
    );
    case(
        "an event of another log",
        vec![(1, part(1, 3)), (1, vec![other[3].clone()])],
        "at 0",
        "its prev is no event that has arrived, and the node holds the events before it: they are asked for",
    );
    case(
        "another log, from its beginning",
        vec![(1, part(1, 3)), (1, vec![other[3].clone()]), (1, other.clone())],
        "at 4, restart at 1",
        "sequence 1 with a prev of zero bytes, though events have arrived",
    );
    case(
        "an event of another log whose beginning is lost",
        vec![(1, part(1, 3)), (4, vec![other[3].clone()])],
        "at 4, broken at 4",
        "its prev is no event that has arrived, and the node no longer holds the events before it",
    );
    let shared = [(1, part(1, 2)), (1, other[..2].to_vec())];
    let with = |more: Vec<(u64, Vec<String>)>| shared.iter().cloned().chain(more).collect::<Vec<_>>();
    case(
        "the log before goes on beside the one that began anew",
        with(vec![(1, part(3, 3))]),
        "at 3, restart at 1",
        "its prev is the last event of another branch: two hosts may share the identity",
    );
    case(
        "events that were missing arrive later",
        vec![(1, part(1, 1)), (4, part(4, 4)), (2, part(2, 2))],
        "at 4, gap at 4",
        "its prev has arrived and nothing stands in its place; the end of the log stays",
    );
    let unreadable = "it is no JSON object with the members of an event, or of another node";
    case("no JSON", vec![(1, vec!["x".into()])], "at 1, unreadable at 1", unreadable);
    case("an array", vec![(1, vec!["[1]".into()])], "at 1, unreadable at 1", unreadable);
    case(
        "an event of another node",
        vec![(1, vec![replaced(&log[0], "nod_a", "nod_b")])],
        "at 1, unreadable at 1",
        unreadable,
    );
    case(
        "an event of sequence 0",
        vec![(1, vec![replaced(&log[0], r#""sequence":1"#, r#""sequence":0"#)])],
        "at 1, unreadable at 1",
        "sequences are from 1",
    );
    case(
        "an event after an unreadable one",
        vec![(1, vec!["x".into(), replaced(&log[1], &line_hash(&log[0]), &line_hash("x"))])],
        "at 2, unreadable at 1",
        "an unreadable line is the last from then on, and the next one follows it by its hash",
    );
    let newer =
        replaced(&replaced(&log[0], r#""decision","#, r#""fire-drill","#), r#","kind""#, r#","x":1,"kind""#);
    case(
        "an event of a newer node",
        vec![(1, vec![newer])],
        "at 1",
        "the control plane reads an event as an open object, of any kind",
    );
    vectors.hold();
}
