//! A revocation on a host, with the real programs: it is in force before the command returns, and a crash right after does
//! not lose it. And without them: nothing on the disk is believed for being there.

#![allow(clippy::unwrap_used)]

#[path = "world/nodes.rs"]
mod nodes;
mod rig;
mod world;

use std::path::Path;
use std::sync::Arc;

use halligan::dataplane::alarm::AlarmKind;
use halligan::dataplane::decide::Reason;
use halligan::dataplane::live::Live;
use halligan::dataplane::revocation::{Revocations, Taken};
use halligan::dataplane::snapshot::{Replica, Snapshot, Staleness};
use halligan::protocol::head::SignedHead;
use halligan::protocol::record::Record;
use halligan::protocol::revocation::{Revocation, sign_revocation};
use halligan::protocol::time::Time;
use nodes::{key, order, prover, reason, record};
use rig::Rig;
use serde_json::Value;
use world::{T0, World};

#[test]
fn a_revocation_outlives_a_crash_right_after_it() {
    let mut rig = Rig::start();
    let tokens = [0, 1, 2].map(|number| rig.direct_access_token(&format!("t{number}"), &rig.deployment));
    rig.synced();
    rig.kill_control();
    for (id, value) in &tokens {
        assert_eq!(rig.authorize(value, "GET", "/api/v2/dags").status, 200);
        let done = rig.json(&["revoke", id, "--reason", "laptop lost"]);
        rig.kill_daemon();
        assert_eq!((&done["new"], &done["known"]), (&true.into(), &true.into()));
        rig.start_daemon();
        let denied = rig.authorize(value, "GET", "/api/v2/dags");
        assert_eq!((denied.status, denied.reason()), (401, "token_revoked"));
    }
    // A second time is no second revocation; one of a token nobody knows is a warning.
    let (id, _) = &tokens[0];
    assert_eq!(rig.json(&["revoke", id, "--reason", "again"])["new"], false);
    let unknown = rig.cli(&["revoke", "tok_nobody", "--reason", "typo"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("holds no token tok_nobody"));
    let listed = rig.json(&["revoke", "--list"]);
    let listed: Vec<&Value> = listed.as_array().unwrap().iter().collect();
    assert_eq!(listed.len(), 4);
    assert_eq!(listed[0]["reason"], "laptop lost", "the first reason stays");
    assert!(listed[0]["operator"].as_str().unwrap().starts_with("uid "));

    // Each is an event, with who and why, and the log is whole.
    let log = String::from_utf8(rig.cli(&["audit", "tail", "-n", "1000", "--json"]).stdout).unwrap();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let revocations: Vec<_> = events.iter().filter(|event| event["kind"] == "revocation").collect();
    assert_eq!(revocations.len(), 4);
    assert!(revocations.iter().all(|event| event["operator"].is_string() && event["because"].is_string()));
    assert_eq!(rig.json(&["audit", "verify"])["fault"], Value::Null);

    for (arguments, code) in [
        (&["revoke", "tok_a"][..], 64),
        (&["revoke", "tok_a", "--reason", ""], 65),
        (&["revoke", "tok/a", "--reason", "x"], 65),
    ] {
        let refused = rig.cli_command().args(arguments).output().unwrap();
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {refused:?}");
    }
}

/// Two tokens, and these nodes.
fn replica(nodes: &[Record]) -> Replica {
    let records: Vec<Record> = World::records(2).into_iter().chain(nodes.iter().cloned()).collect();
    let (world, keyset) = (World::new(), World::new().keyset());
    let head = SignedHead::verify(&world.head(1, &records, T0), &keyset, &World::data_plane()).unwrap();
    Replica { keyset, head, records, takeaways: vec![] }
}

fn live(nodes: &[Record]) -> Arc<Live> {
    Arc::new(Live::new(Snapshot::build(replica(nodes), Staleness::default(), None), T0, T0))
}

fn open(directory: &Path, live: &Arc<Live>) -> Revocations {
    Revocations::open(&directory.join("revocations.db"), Arc::clone(live), prover("nod_a", 51)).unwrap()
}

/// A revocation of token `token` that says to come from `node`, signed with the key of `seed`.
fn signed(node: &str, seed: u8, token: usize, iat: Time) -> String {
    let revocation = Revocation {
        iss: node.parse().unwrap(),
        sub: World::token_record(token).id,
        iat,
        jti: format!("{node}-{token}"),
        operator: "uid 0".into(),
        reason: "drill".into(),
    };
    sign_revocation(&revocation, &key(seed))
}

#[test]
fn what_a_newer_build_has_written_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let (path, live) = (directory.path().join("revocations.db"), live(&[]));
    drop(open(directory.path(), &live));
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let refused = Revocations::open(&path, live, prover("nod_a", 51)).err().unwrap();
    assert!(refused.to_string().contains("the revocations' database has schema 9"), "{refused}");
}

#[test]
fn what_another_node_signed_counts_and_nothing_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let live = live(&[record("nod_b", 52, None), record("nod_c", 53, Some(T0))]);
    let revocations = open(directory.path(), &live);
    let hostile = [
        signed("nod_b", 59, 0, T0), // a key nobody has
        signed("nod_b", 53, 0, T0), // another node's key
        signed("nod_c", 53, 0, T0), // a node that was retired
        World::new().value(0),      // something else that is signed
        "x".repeat(100_000),
        String::new(),
    ];
    let taken = revocations.take(hostile.iter().map(String::as_str), T0).unwrap();
    assert_eq!(taken, Taken { new: 0, known: 0, refused: hostile.len() as u64 });
    assert_eq!(reason(&live, 0), Reason::Ok);
    assert_eq!(live.alarms.count(AlarmKind::Refused), 1);

    let good = [signed("nod_b", 52, 0, T0), signed("nod_c", 53, 1, T0.plus(-1))];
    for expected in [Taken { new: 2, known: 0, refused: 0 }, Taken { new: 0, known: 2, refused: 0 }] {
        assert_eq!(revocations.take(good.iter().map(String::as_str), T0).unwrap(), expected);
        assert_eq!((reason(&live, 0), reason(&live, 1)), (Reason::TokenRevoked, Reason::TokenRevoked));
    }
}

#[test]
fn a_revocation_is_proved_anew_at_every_start() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = [record("nod_b", 52, None)];
    let revocations = open(directory.path(), &live(&nodes));
    revocations.revoke(order(0), T0).unwrap();
    revocations.take([signed("nod_b", 52, 1, T0).as_str()], T0).unwrap();
    drop(revocations);
    let again = live(&nodes);
    let revocations = open(directory.path(), &again);
    assert_eq!((reason(&again, 0), reason(&again, 1)), (Reason::TokenRevoked, Reason::TokenRevoked));
    assert_eq!(revocations.list().unwrap().len(), 2);
    drop(revocations);
    // What someone wrote onto the disk is not believed.
    let connection = rusqlite::Connection::open(directory.path().join("revocations.db")).unwrap();
    let forged = signed("nod_b", 59, 1, T0);
    connection.execute("UPDATE revocation SET text = ?1 WHERE node = 'nod_b'", [forged]).unwrap();
    let again = live(&nodes);
    let revocations = open(directory.path(), &again);
    assert_eq!((reason(&again, 0), reason(&again, 1)), (Reason::TokenRevoked, Reason::Ok));
    assert_eq!(revocations.list().unwrap().len(), 1);
}

#[test]
fn what_was_revoked_is_in_force_with_the_replica_that_can_prove_it() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = [record("nod_b", 52, None)];
    open(directory.path(), &live(&nodes)).take([signed("nod_b", 52, 1, T0).as_str()], T0).unwrap();
    // The replica was lost: nothing is known of the node that signed. Then it comes back.
    let bare = Arc::new(Live::new(Snapshot::absent(), T0, T0));
    let _revocations = open(directory.path(), &bare);
    bare.replace(|previous| Snapshot::build(replica(&nodes), Staleness::default(), Some(previous)));
    assert_eq!((reason(&bare, 0), reason(&bare, 1)), (Reason::Ok, Reason::TokenRevoked));
}

#[test]
fn a_node_retired_later_does_not_take_back_what_it_took_away() {
    let directory = tempfile::tempdir().unwrap();
    let live = live(&[record("nod_b", 52, None)]);
    let revocations = open(directory.path(), &live);
    revocations.take([signed("nod_b", 52, 1, T0.plus(20)).as_str()], T0).unwrap();
    drop(revocations);
    let retired = [record("nod_b", 52, Some(T0.plus(10)))];
    live.replace(|previous| Snapshot::build(replica(&retired), Staleness::default(), Some(previous)));
    assert_eq!(reason(&live, 1), Reason::TokenRevoked);
    let again = self::live(&retired);
    let revocations = open(directory.path(), &again);
    assert_eq!(reason(&again, 1), Reason::TokenRevoked);
    let taken = revocations.take([signed("nod_b", 52, 0, T0.plus(20)).as_str()], T0).unwrap();
    assert_eq!(taken.refused, 1, "but it takes nothing more away");
}

#[test]
fn no_node_fills_the_others_disks() {
    let directory = tempfile::tempdir().unwrap();
    let live = live(&[record("nod_b", 52, None)]);
    let revocations = open(directory.path(), &live);
    let connection = rusqlite::Connection::open(directory.path().join("revocations.db")).unwrap();
    connection
        .execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             INSERT INTO revocation (node, token, text, taken_at) SELECT 'nod_b', i, i, 0 FROM n",
            [halligan::dataplane::revocation::MAX_OF_NODE],
        )
        .unwrap();
    let taken = revocations.take([signed("nod_b", 52, 0, T0).as_str()], T0).unwrap();
    assert_eq!(taken, Taken { new: 0, known: 0, refused: 1 });
    // The node's own operator is not kept from anything by that.
    assert!(revocations.revoke(order(0), T0).unwrap().1);
}
