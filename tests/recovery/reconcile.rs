//! Reconciliation after an outage: both sides hold every use and every revocation exactly once, late ones included.
//! Tested with the real programs, killed on the way, and without them, with everything sent twice.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::rig::node::Node;
use crate::rig::{Rig, free_port, head_of_request, until};
use halligan::controlplane::ControlPlane;
use halligan::controlplane::signing::Signing;
use halligan::controlplane::store::Store;
use halligan::protocol::event::{Connectivity, Draft, EventKind, GENESIS, line_hash, place};
use halligan::protocol::time::Time;
use serde_json::Value;

fn control_json(rig: &Rig, port: u16, arguments: &[&str]) -> Value {
    let output = rig
        .cli_command()
        .env("HALLIGAN_URL", format!("http://127.0.0.1:{port}"))
        .args(arguments)
        .arg("--json")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

fn use_of(rig: &Rig, token: &str, method: &str) -> u16 {
    rig.authorize(token, method, "/api/v2/dags/etl/dagRuns").status
}

/// Returns the number of rows that a query of the control plane's database counts.
fn count(rig: &Rig, query: &str) -> u64 {
    let connection = rusqlite::Connection::open(rig.path("control/control.db")).unwrap();
    connection.query_row(query, [], |row| row.get(0)).unwrap()
}

fn closed(rig: &Rig, port: u16) -> Option<Value> {
    let listed = control_json(rig, port, &["outage", "list", "--control-plane"]);
    listed.as_array().unwrap().iter().find(|outage| outage["state"] == "closed").cloned()
}

/// Faults of a connection when the node sends a report over it.
#[derive(Clone, Copy)]
enum Deaf {
    /// The connection breaks.
    Breaks,
    /// The connection stays open without an answer.
    Hangs,
}

/// Starts a proxy to the control plane on `there` that forwards polls but no reports.
fn deaf_line(here: u16, there: u16, deaf: Deaf) {
    let listener = TcpListener::bind(("127.0.0.1", here)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut near = stream.unwrap();
            std::thread::spawn(move || {
                let mut head = head_of_request(&mut near);
                if !head.starts_with(b"GET ") {
                    if let Deaf::Hangs = deaf {
                        let _ = std::io::copy(&mut near, &mut std::io::sink());
                    }
                    return;
                }
                // The proxy sends one answer per connection, so that no report follows a poll on it.
                head.truncate(head.len() - 2);
                head.extend_from_slice(b"Connection: close\r\n\r\n");
                let mut far = TcpStream::connect(("127.0.0.1", there)).unwrap();
                far.write_all(&head).unwrap();
                let _ = std::io::copy(&mut far, &mut near);
            });
        }
    });
}

/// Revokes a token at the control plane while a node with a pending report is cut off, then connects the node through a
/// proxy that drops reports. Returns the time for which the node still accepts the token.
fn learns_over(deaf: Deaf) -> Duration {
    let mut rig = Rig::start();
    let (id, token) = rig.direct_access_token("revoked above", &rig.deployment);
    rig.synced();
    let own = rig.control_port;
    rig.kill_control();
    until("the node knows of the outage", || {
        rig.json(&["outage", "list"]).as_array().is_some_and(|list| list.len() == 1)
    });
    assert_eq!(use_of(&rig, &token, "POST"), 200, "something to tell");
    let other = free_port();
    rig.start_control(other);
    control_json(&rig, other, &["token", "delete", &id, "--force"]);
    deaf_line(own, other, deaf);
    let back = Instant::now();
    until("the node knows of the revocation", || use_of(&rig, &token, "GET") == 401);
    back.elapsed()
}

#[test]
fn a_node_that_cant_tell_what_it_knows_learns_what_it_does_not() {
    learns_over(Deaf::Breaks);
}

#[test]
fn a_control_plane_slow_to_listen_delays_no_revocation() {
    // Half a second is expected, and the rest allows for a slow machine. An unanswered call times out after ten
    // seconds.
    assert!(learns_over(Deaf::Hangs) < Duration::from_secs(8));
}

#[test]
fn an_outage_is_reconciled_once_though_everything_is_killed_on_the_way() {
    let mut rig = Rig::start();
    let (late_id, late) = rig.direct_access_token("revoked above", &rig.deployment);
    let (local_id, local) = rig.direct_access_token("revoked on the host", &rig.deployment);
    let (good_id, good) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    assert_eq!(use_of(&rig, &good, "GET"), 200, "a use before the outage");
    let own = rig.control_port;

    rig.kill_control();
    until("the node knows of the outage", || {
        rig.json(&["outage", "list"]).as_array().is_some_and(|list| list.len() == 1)
    });
    let cut_at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let cut_at = i64::try_from(cut_at.as_secs()).unwrap();
    for _ in 0..5 {
        assert_eq!(use_of(&rig, &good, "POST"), 200);
        assert_eq!(use_of(&rig, &late, "GET"), 200);
    }
    // The control plane runs at an address that the node does not know while an operator revokes one token there.
    let other = free_port();
    rig.start_control(other);
    control_json(&rig, other, &["token", "delete", &late_id, "--force"]);
    rig.kill_control();
    // Recorded times are whole seconds, so the later event needs a later second.
    std::thread::sleep(Duration::from_millis(1100));
    for _ in 0..3 {
        assert_eq!(use_of(&rig, &late, "GET"), 200, "the node can't know");
    }
    rig.json(&["revoke", &local_id, "--reason", "laptop lost"]);
    assert_eq!(use_of(&rig, &local, "GET"), 401);
    let open = rig.json(&["outage", "show"]);
    assert_eq!((&open["state"], &open["uses"]), (&"open".into(), &13.into()), "{open}");

    // The daemon is killed with a pending report; both programs are killed repeatedly during reconciliation.
    rig.kill_daemon();
    rig.start_daemon();
    for round in 0..3 {
        rig.start_control(own);
        std::thread::sleep(Duration::from_millis(40 * round));
        rig.kill_control();
        rig.kill_daemon();
        rig.start_daemon();
    }
    rig.start_control(own);
    until("the outage is closed", || closed(&rig, own).is_some());
    until("the node knows that it is", || rig.json(&["outage", "show"])["state"] == "closed");

    // The control plane returned and went down several times, so there may be one report or several. Together they
    // contain each use once.
    let listed = control_json(&rig, own, &["outage", "list", "--control-plane"]);
    let reports: Vec<Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|outage| {
            control_json(&rig, own, &["outage", "show", outage["id"].as_str().unwrap(), "--control-plane"])
        })
        .collect();
    let sum = |member: &str| reports.iter().map(|report| report[member].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("uses"), 13, "{reports:#?}");
    assert_eq!(sum("lateUseCount"), 3, "{reports:#?}");
    assert!(reports.iter().all(|report| report["logFaults"].as_array().unwrap().is_empty()));
    let told = reports.iter().find(|report| report["uses"] == 13).unwrap();
    assert_eq!(told["lateUses"][0]["tokenId"], *late_id);
    assert_eq!(told["lateUses"][0]["ended"], "revoked");
    let tokens = told["tokens"].as_array().unwrap();
    let named = tokens.iter().find(|token| token["tokenId"] == *good_id).unwrap();
    assert_eq!((&named["count"], &named["name"]), (&5.into(), &"good".into()));
    let shown = control_json(&rig, own, &["token", "show", &good_id]);
    assert_eq!(shown["lastUsedOn"], rig.deployment, "{shown}");
    let used_at = shown["lastUsedAt"].as_str().and_then(Time::parse_rfc3339);
    assert!(used_at.is_some_and(|at| at.unix() >= cut_at), "a use in the outage: {shown}");
    let merged = told["revocations"].as_array().unwrap();
    assert_eq!(merged.len(), 1);
    assert_eq!(merged[0]["tokenId"], *local_id);
    assert_eq!((&merged[0]["reason"], &merged[0]["outcome"]), (&"laptop lost".into(), &"revoked".into()));
    let kinds: Vec<&str> =
        told["timeline"].as_array().unwrap().iter().map(|moment| moment["kind"].as_str().unwrap()).collect();
    for kind in ["outage", "use", "late-use", "revocation"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }

    // Both sides hold the union of the revocations.
    rig.synced();
    assert_eq!(use_of(&rig, &late, "GET"), 401);
    assert_eq!(use_of(&rig, &local, "GET"), 401);
    let rotated = rig.cli_command().args(["token", "rotate", &local_id, "--force"]).output().unwrap();
    assert_eq!(rotated.status.code(), Some(65), "a rotation brings nothing back: {rotated:?}");
    assert_eq!(rig.json(&["revoke", "--list"])[0]["answer"], "revoked");

    // The control plane has every event of the node once, in order.
    let verified = rig.json(&["audit", "verify"]);
    assert_eq!(verified["fault"], Value::Null);
    until("all events have arrived", || {
        count(&rig, "SELECT count(*) FROM event")
            == rig.json(&["audit", "verify"])["events"].as_u64().unwrap()
    });
    assert_eq!(count(&rig, "SELECT count(*) - count(DISTINCT json_extract(line, '$.id')) FROM event"), 0);
    assert_eq!(count(&rig, "SELECT max(branch) FROM event"), 0);
    assert_eq!(count(&rig, "SELECT sum(uses) FROM token_use"), 14, "thirteen, and one before the outage");

    // The report is also available as a page for people.
    let page = rig.path("outage.html");
    let id = told["id"].as_str().unwrap();
    rig.cli(&["outage", "show", id, "--control-plane", "--html", page.to_str().unwrap()]);
    assert!(std::fs::read_to_string(page).unwrap().contains("was used after it had been revoked"));
    let text = String::from_utf8(rig.cli(&["outage", "show", id, "--control-plane"]).stdout).unwrap();
    assert!(text.contains("late uses     3"), "{text}");
}

#[test]
fn a_control_plane_restored_from_an_old_backup_gets_what_it_lacks() {
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    for _ in 0..3 {
        assert_eq!(use_of(&rig, &token, "POST"), 200);
    }
    until("they have arrived", || count(&rig, "SELECT count(*) FROM event") == 3);
    rig.kill_control();
    let backup = rig.back_up_control();
    rig.start_control(rig.control_port);
    for _ in 0..4 {
        assert_eq!(use_of(&rig, &token, "POST"), 200);
    }
    until("they have arrived, too", || count(&rig, "SELECT count(*) FROM event") == 7);
    rig.kill_control();
    rig.restore_control(&backup);
    rig.start_control(rig.control_port);
    assert_eq!(use_of(&rig, &token, "POST"), 200);
    until("the node sends again what is lacking", || count(&rig, "SELECT count(*) FROM event") == 8);
    assert_eq!(count(&rig, "SELECT count(*) FROM log_fault"), 0);
    assert_eq!(count(&rig, "SELECT sum(uses) FROM token_use"), 8);
}

/// The control plane is restored from a backup that is older than a host's revocation.
#[test]
fn a_restored_control_plane_learns_anew_of_revocations_it_had_taken() {
    let mut rig = Rig::start();
    let (id, token) = rig.direct_access_token("revoked on the host", &rig.deployment);
    rig.synced();
    rig.kill_control();
    let backup = rig.back_up_control();
    rig.start_control(rig.control_port);
    rig.json(&["revoke", &id, "--reason", "laptop lost"]);
    let revoked = |rig: &Rig| count(rig, "SELECT count(*) FROM local_revocation");
    until("the control plane takes the revocation", || revoked(&rig) == 1);
    rig.synced();
    let version = rig.json(&["status"])["replica"]["version"].as_u64().unwrap();
    rig.kill_control();
    rig.restore_control(&backup);
    rig.recover_above(version);
    assert_eq!(revoked(&rig), 0, "the backup is older");
    rig.start_control(rig.control_port);
    until("the control plane is told again", || revoked(&rig) == 1);
    // The control plane distributes the revocation: a host that starts with an empty disk has no proof of its own.
    let fresh = Node::start(&rig, "fresh");
    fresh.synced(&rig);
    assert_eq!(fresh.authorize(&rig, &token).reason(), "token_revoked");
}

/// A control plane without a network, and its enrolled node.
struct Above {
    control: ControlPlane,
    data_plane: String,
    node: String,
    directory: tempfile::TempDir,
}

const T0: Time = Time::from_unix(1_800_000_000);

impl Above {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
        Signing::create(directory.path(), T0, &mut rng).unwrap();
        let signing = Signing::load(directory.path()).unwrap();
        let path = directory.path().join("control.db");
        let issuer = "https://control.example".to_owned();
        let store = Store::open(&path).unwrap();
        let control = ControlPlane::new(store, signing, issuer, Arc::new(|| T0), Box::new(rng));
        let owner = control.bootstrap("Acme", "owner@acme.example").unwrap();
        let actor = control.authenticate(owner.token.as_bytes()).unwrap();
        let plane = control.create_data_plane(&actor, &owner.organization_id, "eu").unwrap();
        let (data_plane, node) = (String::from(plane.id), "nod_a".to_owned());
        let connection = rusqlite::Connection::open(path).unwrap();
        connection
            .execute(
                "INSERT INTO node (id, data_plane, name, key, created_at) VALUES (?1, ?2, 'a', '{}', 0)",
                [&node, &data_plane],
            )
            .unwrap();
        Self { control, data_plane, node, directory }
    }

    fn take(&self, oldest: u64, lines: &[String]) -> u64 {
        let lines = lines.iter().map(String::as_str);
        self.control.take_events(&self.data_plane, &self.node, oldest, lines).unwrap().sequence
    }

    fn rows(&self, query: &str) -> Vec<String> {
        let connection = rusqlite::Connection::open(self.directory.path().join("control.db")).unwrap();
        let mut statement = connection.prepare(query).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    fn faults(&self) -> Vec<String> {
        self.rows("SELECT sequence || ' ' || kind FROM log_fault ORDER BY branch, sequence")
    }

    fn events(&self) -> usize {
        self.rows("SELECT hash FROM event").len()
    }
}

/// Returns log lines of the node: `length` events after sequence `after` with hash `prev`. Their ids contain `of`.
fn log(of: &str, after: u64, prev: &str, length: u64) -> Vec<String> {
    let node = "nod_a".parse().unwrap();
    let mut prev = prev.to_owned();
    let mut lines = Vec::new();
    for sequence in after + 1..=after + length {
        let id = format!("{of}-{sequence}");
        let draft = Draft::new(EventKind::Decision, &id, T0, &node, Connectivity::Offline);
        let mut line = String::new();
        let mut json = Vec::new();
        draft.write(&mut json);
        place(sequence, &prev, std::str::from_utf8(&json).unwrap(), &mut line);
        prev = line_hash(&line);
        lines.push(line);
    }
    lines
}

#[test]
fn what_arrives_twice_or_late_counts_once() {
    let above = Above::new();
    let lines = log("a", 0, GENESIS, 10);
    assert_eq!(above.take(1, &lines[..4]), 4);
    assert_eq!(above.take(1, &lines[..4]), 4, "an answer that was lost");
    assert_eq!(above.take(1, &lines[2..7]), 7, "overlapping");
    assert_eq!(above.take(1, &lines[..2]), 7, "delayed on the way");
    assert_eq!(above.take(1, &lines), 10);
    assert_eq!((above.events(), above.faults().len()), (10, 0));
}

#[test]
fn a_gap_is_asked_for_and_written_down_where_it_stays() {
    let above = Above::new();
    let lines = log("a", 0, GENESIS, 10);
    above.take(1, &lines[..3]);
    assert_eq!(above.take(1, &lines[6..]), 3, "the node still has what is missing");
    assert_eq!((above.events(), above.faults().len()), (3, 0));
    assert_eq!(above.take(7, &lines[6..]), 10, "it no longer has");
    assert_eq!((above.events(), above.faults()), (7, vec!["7 gap".to_owned()]));
    // A later copy of the missing events must not remove the recorded gap.
    above.take(1, &lines[3..6]);
    assert_eq!(above.faults()[0], "7 gap");
}

#[test]
fn a_log_that_splits_or_begins_anew_is_kept_beside_the_other() {
    let above = Above::new();
    let lines = log("a", 0, GENESIS, 6);
    above.take(1, &lines);
    // The host is restored from a snapshot, so that its log has other events after event 4.
    let fork = log("b", 4, &line_hash(&lines[3]), 3);
    assert_eq!(above.take(1, &fork), 7);
    assert_eq!(above.faults(), ["5 fork"]);
    // After the loss of a disk the log begins again at sequence 1.
    let anew = log("c", 0, GENESIS, 2);
    assert_eq!(above.take(1, &anew), 2);
    assert_eq!(above.faults(), ["5 fork", "1 restart"]);
    assert_eq!(above.events(), 11, "nothing that arrived was overwritten");
    // Delayed copies of the old log have no effect.
    assert_eq!(above.take(1, &lines), 2);
    assert_eq!((above.events(), above.faults().len()), (11, 2));
}

#[test]
fn a_log_that_began_anew_reaches_a_control_plane_that_was_restored_from_before() {
    // Each number is the last sequence of the new log that the lost control plane had received.
    for told in [5, 12, 14] {
        let above = Above::new();
        above.take(1, &log("a", 0, GENESIS, 12));
        let anew = log("c", 0, GENESIS, 20);
        let mut from = told;
        for _ in 0..3 {
            from = usize::try_from(above.take(1, &anew[from..])).unwrap();
        }
        assert_eq!((from, above.events()), (20, 32), "after {told} events");
        assert_eq!(above.faults(), ["1 restart"]);
    }
    // The node dropped its oldest events, so it sends those that it still has.
    let above = Above::new();
    above.take(1, &log("a", 0, GENESIS, 12));
    let anew = log("c", 0, GENESIS, 20);
    assert_eq!(above.take(8, &anew[9..]), 0);
    assert_eq!(above.take(8, &anew[7..]), 20);
    assert_eq!((above.events(), above.faults()), (25, vec!["8 broken".to_owned()]));
}

#[test]
fn an_event_that_skips_numbers_is_judged_whatever_it_is_chained_to() {
    let lines = log("a", 0, GENESIS, 10);
    // The event's `prev` is the hash of a stored event, whose sequence is not the one before its own.
    for (sequence, position, fault) in [(60, 10, None), (12, 10, None), (7, 7, Some("7 broken"))] {
        let above = Above::new();
        above.take(1, &lines);
        let skips = log("b", sequence - 1, &line_hash(&lines[2]), 1);
        assert_eq!(above.take(if fault.is_some() { sequence } else { 1 }, &skips), position, "{sequence}");
        assert_eq!(above.faults(), Vec::from_iter(fault.map(str::to_owned)), "{sequence}");
    }
    let above = Above::new();
    above.take(1, &lines);
    assert_eq!(above.take(60, &log("b", 59, &line_hash(&lines[2]), 1)), 60, "the node has no other");
    assert_eq!(above.faults(), ["60 gap"]);
}

#[test]
fn two_hosts_with_one_identity_both_have_all_their_events_taken() {
    let above = Above::new();
    let common = log("a", 0, GENESIS, 4);
    above.take(1, &common);
    let (one, other) = (log("b", 4, &line_hash(&common[3]), 9), log("c", 4, &line_hash(&common[3]), 6));
    for part in [0..3, 3..6] {
        let last = 4 + part.end as u64;
        assert_eq!(above.take(1, &one[part.clone()]), last);
        assert_eq!(above.take(1, &other[part]), last);
    }
    assert_eq!(above.take(1, &one[6..]), 13);
    assert_eq!((above.events(), above.faults()), (19, vec!["5 fork".to_owned()]));
}

#[test]
fn what_is_no_event_of_the_node_is_a_fault_and_stops_nothing() {
    let above = Above::new();
    let mut lines = log("a", 0, GENESIS, 4);
    lines[1] = "garbage".into();
    lines.push(log("x", 4, "nowhere", 1).remove(0).replace("nod_a", "nod_b"));
    above.take(1, &lines);
    assert_eq!(above.faults(), ["2 unreadable", "3 broken", "5 unreadable"]);
    assert_eq!(above.events(), 5);
}
