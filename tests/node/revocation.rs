//! Revocation on a host. With the real programs: it is in force before the command returns, and survives a crash right
//! after. Without them: a row on disk is not trusted without its signature.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;

use crate::nodes::{key, order, prover, reason, record};
use crate::rig::Rig;
use crate::world::{T0, World};
use halligan::dataplane::audit::AuditLog;
use halligan::dataplane::decide::Reason;
use halligan::dataplane::decide::snapshot::{Replica, Snapshot, Staleness};
use halligan::dataplane::node::alarm::AlarmKind;
use halligan::dataplane::node::state::Live;
use halligan::dataplane::revocations::{ReceivedCounts, Revocations};
use halligan::dataplane::uplink::reconcile::{Reconciler, Round};
use halligan::platform::clock::Clock;
use halligan::protocol::head::SignedHead;
use halligan::protocol::reconciliation::{Outcome, RevocationAnswer};
use halligan::protocol::record::Record;
use halligan::protocol::revocation::{Revocation, sign_revocation};
use halligan::protocol::time::Time;
use serde_json::Value;

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
    // A repeated revocation adds nothing; one of an unknown token gives a warning.
    let (id, _) = &tokens[0];
    assert_eq!(rig.json(&["revoke", id, "--reason", "again"])["new"], false);
    let unknown = rig.cli(&["revoke", "tok_nobody", "--reason", "typo"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("holds no token tok_nobody"));
    let listed = rig.json(&["revoke", "--list"]);
    let listed: Vec<&Value> = listed.as_array().unwrap().iter().collect();
    assert_eq!(listed.len(), 4);
    assert_eq!(listed[0]["reason"], "laptop lost", "the first reason stays");
    assert!(listed[0]["operator"].as_str().unwrap().starts_with("uid "));

    // Each revocation is an event with its author and reason, and the log is intact.
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

/// Returns a replica of two tokens and these nodes.
fn replica(nodes: &[Record]) -> Replica {
    let records: Vec<Record> = World::records(2).into_iter().chain(nodes.iter().cloned()).collect();
    let (world, keyset) = (World::new(), World::new().keyset());
    let head = SignedHead::verify(&world.head(1, &records, T0), &keyset, &World::data_plane()).unwrap();
    Replica { keyset, head, records, losses: vec![], retirements: vec![] }
}

fn live(nodes: &[Record]) -> Arc<Live> {
    Arc::new(Live::new(Snapshot::build(replica(nodes), Staleness::default(), None), T0, T0))
}

fn open(directory: &Path, live: &Arc<Live>) -> Revocations {
    Revocations::open(&directory.join("revocations.db"), Arc::clone(live), prover("nod_a", 51)).unwrap()
}

/// Returns a revocation of token `token` that names `node` and is signed with the key of `seed`.
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
        signed("nod_b", 59, 0, T0), // a key of no node
        signed("nod_b", 53, 0, T0), // another node's key
        signed("nod_c", 53, 0, T0), // a retired node
        World::new().value(0),      // another signed object
        "x".repeat(100_000),
        String::new(),
    ];
    let taken = revocations.receive(hostile.iter().map(String::as_str), T0).unwrap();
    assert_eq!(taken, ReceivedCounts { new: 0, known: 0, refused: hostile.len() as u64 });
    assert_eq!(reason(&live, 0), Reason::Ok);
    assert_eq!(live.alarms.count(AlarmKind::Refused), 1);

    let good = [signed("nod_b", 52, 0, T0), signed("nod_c", 53, 1, T0.plus(-1))];
    for expected in
        [ReceivedCounts { new: 2, known: 0, refused: 0 }, ReceivedCounts { new: 0, known: 2, refused: 0 }]
    {
        assert_eq!(revocations.receive(good.iter().map(String::as_str), T0).unwrap(), expected);
        assert_eq!((reason(&live, 0), reason(&live, 1)), (Reason::TokenRevoked, Reason::TokenRevoked));
    }
}

fn database(directory: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(directory.join("revocations.db")).unwrap()
}

#[test]
fn a_revocation_that_was_proved_once_is_never_judged_again() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = [record("nod_b", 52, None)];
    let revocations = open(directory.path(), &live(&nodes));
    revocations.revoke(&order(0), T0).unwrap();
    revocations.receive([signed("nod_b", 52, 1, T0).as_str()], T0).unwrap();
    drop(revocations);
    // The replica names the node that signed, has it as retired, does not name it, or has another key for it; or there
    // is no replica. A row of an older build has no key, which must not change the result.
    let replicas = [
        Some(vec![record("nod_b", 52, None)]),
        Some(vec![record("nod_b", 52, Some(T0.plus(-10)))]),
        Some(vec![]),
        Some(vec![record("nod_b", 57, None)]),
        None,
    ];
    for (number, nodes) in replicas.iter().chain(&replicas[..3]).enumerate() {
        if number == replicas.len() {
            database(directory.path()).execute("UPDATE revocation SET key = NULL", []).unwrap();
        }
        let live = nodes
            .as_ref()
            .map_or_else(|| Arc::new(Live::new(Snapshot::absent(), T0, T0)), |nodes| live(nodes));
        let revocations = open(directory.path(), &live);
        assert!(live.damage().is_empty(), "{number}: {:?}", live.damage());
        if nodes.is_none() {
            live.replace(|previous| Snapshot::build(replica(&[]), Staleness::default(), Some(previous)));
        }
        assert_eq!(
            (reason(&live, 0), reason(&live, 1)),
            (Reason::TokenRevoked, Reason::TokenRevoked),
            "{number}"
        );
        assert_eq!(revocations.list().unwrap().len(), 2);
    }
}

#[test]
fn what_nobody_else_can_prove_any_more_is_signed_anew_by_a_node_that_holds_it() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = [record("nod_a", 51, None), record("nod_b", 52, None)];
    let revocations = open(directory.path(), &live(&nodes));
    revocations.receive([signed("nod_b", 52, 1, T0).as_str()], T0).unwrap();
    revocations.vouch(T0).unwrap();
    assert_eq!(revocations.after(0, 10).unwrap().len(), 1, "the replica names who signed");
    drop(revocations);
    // The control plane was restored from a backup made before nod_b enrolled.
    let forgetful = live(&[record("nod_a", 51, None), record("nod_c", 53, None)]);
    let revocations = open(directory.path(), &forgetful);
    for _ in 0..2 {
        revocations.vouch(T0).unwrap();
        assert_eq!(revocations.unanswered(0, 10).unwrap().len(), 2);
    }
    // Another node, which never had a record of nod_b, accepts it.
    let (elsewhere, other) =
        (tempfile::tempdir().unwrap(), live(&[record("nod_a", 51, None), record("nod_c", 53, None)]));
    let path = elsewhere.path().join("revocations.db");
    let theirs = Revocations::open(&path, Arc::clone(&other), prover("nod_c", 53)).unwrap();
    let told = revocations.after(0, 10).unwrap();
    let taken = theirs.receive(told.iter().map(|held| held.text.as_str()), T0).unwrap();
    assert_eq!((taken.new, taken.refused), (1, 1));
    assert_eq!(reason(&other, 1), Reason::TokenRevoked);
}

#[test]
fn answers_that_could_not_be_compared_with_the_replica_are_compared_in_the_next_round() {
    let (directory, nodes) = (tempfile::tempdir().unwrap(), [record("nod_a", 51, None)]);
    let live = live(&nodes);
    drop(open(directory.path(), &live));
    let clock: Clock = Arc::new(|| T0);
    let (log, key) = (directory.path().join("audit.db"), Arc::new(key(51)));
    let _log = AuditLog::open(&log, "nod_a".parse().unwrap(), key, Arc::clone(&clock), 10).unwrap();
    let reconciler = Reconciler::open(directory.path(), prover("nod_a", 51), &live, &clock).unwrap();
    let (held, _) = reconciler.revocations.revoke(&order(0), T0).unwrap();
    let answer = RevocationAnswer { node: held.node_id, token: held.token_id, outcome: Outcome::Revoked };
    reconciler.revocations.answered(&[answer]).unwrap();
    assert!(reconciler.revocations.unanswered(0, 10).unwrap().is_empty());
    // The replica has the token as active, and the database cannot delete the answer for now.
    database(directory.path()).execute_batch("ALTER TABLE revocation RENAME TO moved").unwrap();
    assert!(Round::default().next(&reconciler, T0).is_err());
    database(directory.path()).execute_batch("ALTER TABLE moved RENAME TO revocation").unwrap();
    assert!(Round::default().next(&reconciler, T0).unwrap().is_some(), "it is told again");
}

/// Returns a database with the node's own revocation of token 0 and another node's of token 1, modified by the
/// statement `change`.
fn changed(change: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let revocations = open(directory.path(), &live(&[record("nod_b", 52, None)]));
    revocations.revoke(&order(0), T0).unwrap();
    revocations.receive([signed("nod_b", 52, 1, T0).as_str()], T0).unwrap();
    drop(revocations);
    database(directory.path()).execute_batch(change).unwrap();
    directory
}

#[test]
fn a_damaged_row_is_in_force_alarmed_and_told_to_nobody() {
    let forged = signed("nod_b", 59, 1, T0);
    for change in [
        "UPDATE revocation SET text = substr(text, 1, 60) || number",
        "UPDATE revocation SET text = '' WHERE number = 2",
        "UPDATE revocation SET text = number || 'A' || substr(text, 3)",
        "UPDATE revocation SET text = CAST(x'fffe' AS TEXT) || number",
        &format!("UPDATE revocation SET text = '{forged}' WHERE node = 'nod_b'"),
        "UPDATE revocation SET key = 'x'",
        "UPDATE revocation SET token = 'tok_other' || number",
        "UPDATE revocation SET token = '/'|| number",
        "UPDATE revocation SET node = '' WHERE node = 'nod_b'",
        "UPDATE revocation SET taken_at = -1, text = 'x' || number",
    ] {
        let directory = changed(change);
        let live = live(&[record("nod_b", 52, None)]);
        let revocations = open(directory.path(), &live);
        let reasons = (reason(&live, 0), reason(&live, 1));
        assert_eq!(reasons, (Reason::TokenRevoked, Reason::TokenRevoked), "{change}");
        revocations.alarm(T0);
        let damage = live.damage();
        assert!(
            !damage.is_empty() && live.alarms.count(AlarmKind::Damaged) == damage.len() as u64,
            "{change}"
        );
        assert_eq!(revocations.after(0, 10).unwrap().len(), 2 - damage.len(), "{change}");
        // An operator repairs the rows permanently by signing them again.
        for token in 0..2 {
            revocations.revoke(&order(token), T0).unwrap();
        }
        assert!(live.damage().is_empty(), "{change}: {:?}", live.damage());
        drop(revocations);
        let again = self::live(&[]);
        let revocations = open(directory.path(), &again);
        assert!(again.damage().is_empty(), "{change}: {:?}", again.damage());
        assert_eq!((reason(&again, 0), reason(&again, 1)), (Reason::TokenRevoked, Reason::TokenRevoked));
        assert!(revocations.after(0, 10).unwrap().len() >= 2, "{change}");
    }
}

#[test]
fn what_is_lost_of_them_stops_the_start() {
    for (change, what) in [
        ("DELETE FROM revocation WHERE node = 'nod_b'", "holds 1 revoked tokens, and this host had 2"),
        ("DELETE FROM revocation", "holds 0 revoked tokens, and this host had 2"),
        ("UPDATE revocation SET token = 'tok_x', text = 'x' WHERE node = 'nod_b'", "holds 2 revoked tokens"),
        (
            "UPDATE revocation SET token = '/', text = 'x' WHERE node = 'nod_b'",
            "row 2 of the revocations' database",
        ),
        (
            "DROP TABLE revocation",
            "it lacks the table revocation, though this host had one; put the file back",
        ),
        ("DELETE FROM sqlite_sequence; DELETE FROM log; DELETE FROM revocation; VACUUM", "this host had 2"),
    ] {
        let directory = changed(change);
        let path = directory.path().join("revocations.db");
        let live = live(&[record("nod_b", 52, None)]);
        let refused = Revocations::open(&path, Arc::clone(&live), prover("nod_a", 51)).err();
        let refused = refused.expect(change).to_string();
        assert!(refused.contains(what), "{change}: {refused}");
    }
    for (content, what) in
        [(None, "is missing"), (Some(&b""[..]), "is empty"), (Some(b"garbage, and more of it"), "")]
    {
        let directory = changed("");
        let path = directory.path().join("revocations.db");
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(directory.path().join(format!("revocations.db{suffix}")));
        }
        std::fs::remove_file(&path).unwrap();
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let refused = Revocations::open(&path, live(&[]), prover("nod_a", 51)).err().unwrap().to_string();
        assert!(refused.contains(what), "{refused}");
    }
}

#[test]
fn a_node_retired_later_does_not_take_back_what_it_took_away() {
    let directory = tempfile::tempdir().unwrap();
    let live = live(&[record("nod_b", 52, None)]);
    let revocations = open(directory.path(), &live);
    revocations.receive([signed("nod_b", 52, 1, T0.plus(20)).as_str()], T0).unwrap();
    drop(revocations);
    let retired = [record("nod_b", 52, Some(T0.plus(10)))];
    live.replace(|previous| Snapshot::build(replica(&retired), Staleness::default(), Some(previous)));
    assert_eq!(reason(&live, 1), Reason::TokenRevoked);
    let again = self::live(&retired);
    let revocations = open(directory.path(), &again);
    assert_eq!(reason(&again, 1), Reason::TokenRevoked);
    let taken = revocations.receive([signed("nod_b", 52, 0, T0.plus(20)).as_str()], T0).unwrap();
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
            [halligan::dataplane::revocations::MAX_OF_NODE],
        )
        .unwrap();
    let taken = revocations.receive([signed("nod_b", 52, 0, T0).as_str()], T0).unwrap();
    assert_eq!(taken, ReceivedCounts { new: 0, known: 0, refused: 1 });
    // The node's own operator can still revoke tokens.
    assert!(revocations.revoke(&order(0), T0).unwrap().1);
}
