//! Tests of a valid log, and of every kind of fault.

#![allow(clippy::unwrap_used)]

mod read;
mod tampering;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::block::{Packer, unpack};
use super::{
    AuditError, AuditLog, AuditUnavailable, Fault, Retention, events, hash_at, readable, set_uploaded, verify,
};
use crate::dataplane::node::inventory::Inventory;
use crate::platform::clock::Clock;
use crate::protocol::event::{Checkpoint, Connectivity, Draft, Event, EventKind, line_hash};
use crate::protocol::id::NodeId;
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::SigningKey;
use crate::protocol::reconciliation::Position;
use crate::protocol::time::Time;

fn node() -> NodeId {
    NodeId::new("nod_a").unwrap()
}

fn key() -> Arc<SigningKey> {
    Arc::new(SigningKey::from_seed(&[7; 32]))
}

fn open(path: &Path) -> AuditLog {
    let clock: Clock = Arc::new(|| Time::from_unix(1_800_000_000));
    AuditLog::open(path, node(), key(), clock, 1000).unwrap()
}

fn record(log: &AuditLog) -> Result<(), AuditUnavailable> {
    let (node, id) = (node(), log.next_id());
    let time = Time::from_unix(1_800_000_000);
    let draft = Draft::new(EventKind::Decision, &id, time, &node, Connectivity::Offline);
    log.record(&draft, false).map(drop)
}

fn filled(directory: &tempfile::TempDir) -> PathBuf {
    let path = directory.path().join("audit.db");
    for _ in 0..3 {
        let log = open(&path);
        for _ in 0..4 {
            record(&log).unwrap();
        }
        log.close();
    }
    path
}

#[test]
fn a_log_written_over_three_starts_is_one_chain_and_wholly_covered() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(&directory);
    let report = verify(&path, &node(), key().public()).unwrap();
    assert_eq!((report.events, report.covered, report.fault), (12, 12, None));
    assert!(report.checkpoints >= 3);
    let ids: std::collections::HashSet<_> = events(&path, 0, 100)
        .unwrap()
        .iter()
        .map(|line| serde_json::from_str::<Event>(line).unwrap().id)
        .collect();
    assert_eq!(ids.len(), 12);
    assert_eq!(events(&path, -2, 100).unwrap().len(), 2);
    assert_eq!(events(&path, 5, 3).unwrap().len(), 3);
}

#[test]
fn a_log_cut_off_at_its_end_is_found_by_its_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(&directory);
    Connection::open(&path).unwrap().execute("DELETE FROM block WHERE last = 12", []).unwrap();
    let fault = verify(&path, &node(), key().public()).unwrap().fault.unwrap();
    assert_eq!(fault.sequence, 9);
}

#[test]
fn a_log_that_was_emptied_or_set_back_is_found_by_what_the_host_noted() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(&directory);
    let inventory = Inventory::new(directory.path());
    assert_eq!(inventory.events().unwrap(), 12, "noted when it was closed");
    let copy = directory.path().join("copy");
    std::fs::copy(&path, &copy).unwrap();
    let log = open(&path);
    record(&log).unwrap();
    log.close();
    std::fs::copy(&copy, &path).unwrap();
    let clock: Clock = Arc::new(|| Time::from_unix(1_800_000_000));
    let reopened = || AuditLog::open(&path, node(), key(), Arc::clone(&clock), 1000);
    let lost = |sequence: u64| match reopened() {
        Err(AuditError::Tampered(fault)) => {
            fault.sequence == sequence && fault.what.contains("had 13 events")
        }
        _ => false,
    };
    assert!(lost(13));
    run(&path, "DELETE FROM block; DELETE FROM checkpoint; DELETE FROM uploaded; DELETE FROM anchor");
    assert!(lost(1));
    // The next one is another log.
    inventory.forget("audit.db").unwrap();
    reopened().unwrap().close();
}

#[test]
fn another_nodes_checkpoints_do_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(&directory);
    let other = SigningKey::from_seed(&[8; 32]);
    assert!(verify(&path, &node(), other.public()).unwrap().fault.is_some());
}

#[test]
fn a_closed_log_takes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(&directory.path().join("audit.db"));
    log.close();
    assert!(record(&log).is_err());
}

/// Returns a log with three starts a minute apart, so that each has its checkpoints.
fn long(directory: &tempfile::TempDir) -> (PathBuf, Vec<String>) {
    let path = directory.path().join("audit.db");
    for minute in 0..6 {
        let time = Time::from_unix(1_800_000_000 + minute * 100);
        let clock: Clock = Arc::new(move || time);
        let log = AuditLog::open(&path, node(), key(), clock, 1000).unwrap();
        for _ in 0..3 {
            let (node, id) = (node(), log.next_id());
            let draft = Draft::new(EventKind::Decision, &id, time, &node, Connectivity::Offline);
            log.record(&draft, false).unwrap();
        }
        log.close();
    }
    let lines = events(&path, 0, 1000).unwrap();
    assert_eq!((lines.len(), faults(&path)), (18, None));
    (path, lines)
}

fn faults(path: &Path) -> Option<Fault> {
    verify(path, &node(), key().public()).unwrap().fault
}

fn run(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_missing_checkpoint_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = long(&directory);
    run(&path, "DELETE FROM checkpoint WHERE sequence = 9");
    let fault = faults(&path).unwrap();
    assert!(fault.sequence > 9 && fault.what.contains("is missing"), "{fault:?}");
    run(&path, "DELETE FROM checkpoint");
    assert_eq!(faults(&path).unwrap().sequence, 1, "no log is without one");
}

#[test]
fn a_missing_last_checkpoint_is_found_where_it_would_have_been_due() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = long(&directory);
    run(&path, "DELETE FROM checkpoint WHERE sequence > 15");
    assert_eq!(faults(&path).unwrap().sequence, 16);
}

#[test]
fn blocks_that_changed_places_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = long(&directory);
    run(
        &path,
        "UPDATE block SET lines = CASE first WHEN 4 THEN (SELECT lines FROM block WHERE first = 7)
            ELSE (SELECT lines FROM block WHERE first = 4) END WHERE first IN (4, 7)",
    );
    assert_eq!(faults(&path).unwrap().sequence, 4);
}

#[test]
fn a_log_without_its_beginning_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = long(&directory);
    run(&path, "DELETE FROM block WHERE last <= 6; DELETE FROM checkpoint WHERE sequence <= 6");
    assert!(faults(&path).is_some());
    // An ordinary checkpoint is no anchor for dropped events either.
    let text: String = Connection::open(&path)
        .unwrap()
        .query_row("SELECT text FROM checkpoint WHERE sequence = 9", [], |row| row.get(0))
        .unwrap();
    run(
        &path,
        &format!(
            "DELETE FROM block WHERE last <= 9; DELETE FROM checkpoint WHERE sequence <= 9;
             INSERT INTO anchor VALUES (1, '{text}')"
        ),
    );
    assert!(faults(&path).is_some());
}

#[test]
fn a_log_cut_back_to_a_checkpoint_is_found_by_what_is_known_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = long(&directory);
    run(&path, "DELETE FROM block WHERE first > 12; DELETE FROM checkpoint WHERE sequence > 12");
    let report = verify(&path, &node(), key().public()).unwrap();
    assert_eq!((report.events, report.fault), (12, None), "the database alone can't tell");
    run(
        &path,
        "CREATE TABLE IF NOT EXISTS uploaded (sequence INTEGER, hash TEXT); INSERT INTO uploaded (sequence, hash) VALUES (15, '')",
    );
    assert_eq!(faults(&path).unwrap().sequence, 13);
}

/// Signs the last checkpoint anew, with one thing changed.
fn resign_last(path: &Path, change: impl FnOnce(&mut Checkpoint)) {
    let connection = Connection::open(path).unwrap();
    let last = "SELECT text FROM checkpoint ORDER BY sequence DESC LIMIT 1";
    let text: String = connection.query_row(last, [], |row| row.get(0)).unwrap();
    let mut checkpoint = Checkpoint::verify(&text, key().public()).unwrap();
    change(&mut checkpoint);
    let text = sign(Typ::AuditCheckpoint, &serde_json::to_vec(&checkpoint).unwrap(), &key());
    connection.execute("UPDATE checkpoint SET text = ?1 WHERE sequence = 18", [text]).unwrap();
}

/// Changes the lines of the last block.
fn rewrite_last(path: &Path, change: impl FnOnce(String) -> String) {
    let connection = Connection::open(path).unwrap();
    let packed: Vec<u8> =
        connection.query_row("SELECT lines FROM block WHERE last = 18", [], |row| row.get(0)).unwrap();
    let lines = change(unpack(&packed).unwrap());
    let packed = Packer::default().pack(&lines).unwrap().to_vec();
    connection.execute("UPDATE block SET lines = ?1 WHERE last = 18", [packed]).unwrap();
}

#[test]
fn a_start_finds_at_the_end_of_a_log_what_its_verification_finds() {
    type Damage = fn(&Path);
    let other = || NodeId::new("nod_b").unwrap();
    let whole: Damage = |_| {};
    let cut: Damage = |path| {
        rewrite_last(path, |mut lines| {
            assert_eq!(lines.pop(), Some('\n'));
            lines
        });
    };
    for (what, damage, owner, good) in [
        ("nothing", whole, node(), true),
        ("another node's log", whole, other(), false),
        (
            "a checkpoint of another node",
            |path| resign_last(path, |last| last.iss = NodeId::new("nod_b").unwrap()),
            node(),
            false,
        ),
        (
            "an event of another node, signed with the same key",
            |path| {
                rewrite_last(path, |lines| {
                    let last = lines.trim_end().rfind('\n').map_or(0, |end| end + 1);
                    lines[..last].to_owned() + &lines[last..].replace("nod_a", "nod_b")
                });
                let hash = hash_at(path, 18).unwrap().unwrap();
                resign_last(path, |last| last.hash = hash);
            },
            node(),
            false,
        ),
        ("a last line without its line feed", cut, node(), false),
        (
            "a block that names another end",
            |path| run(path, "UPDATE block SET last = 19 WHERE last = 18"),
            node(),
            false,
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (path, _) = long(&directory);
        damage(&path);
        assert_eq!(verify(&path, &owner, key().public()).unwrap().fault.is_none(), good, "{what}");
        let clock: Clock = Arc::new(|| Time::from_unix(1_800_001_000));
        let opened = AuditLog::open(&path, owner, key(), clock, 1000);
        assert_eq!(opened.is_ok(), good, "{what}");
        if let Err(error) = opened {
            assert!(matches!(error, AuditError::Tampered(_)), "{what}: {error}");
        }
    }
}

#[test]
fn what_was_taken_in_above_is_dropped_and_the_rest_is_proved_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (path, lines) = long(&directory);
    let now = Time::from_unix(1_800_000_500);
    let retain = |retention: Retention| {
        let mut connection = Connection::open(&path).unwrap();
        retention.apply(&mut connection, &key(), now).unwrap()
    };
    let (days, tiny) =
        (Retention { seconds: Some(250), bytes: None }, Retention { seconds: None, bytes: Some(1) });
    // Retention drops only uploaded events, and none was uploaded.
    assert_eq!((retain(days).through, retain(tiny).through), (0, 0));
    assert!(retain(tiny).stuck);
    let arrived = Position { sequence: 14, hash: hash_at(&path, 14).unwrap().unwrap() };
    set_uploaded(&path, &arrived).unwrap();
    assert_eq!(retain(days).through, 9, "what is old");
    let report = verify(&path, &node(), key().public()).unwrap();
    assert_eq!((report.dropped, report.events, report.fault), (9, 18, None));
    assert_eq!(events(&path, 0, 100).unwrap(), lines[9..]);
    assert_eq!(events(&path, 12, 2).unwrap(), lines[12..14]);
    let pass = retain(tiny);
    assert_eq!((pass.through, pass.stuck), (12, true), "what is too much, and was taken in above");
    assert_eq!((faults(&path), events(&path, 0, 100).unwrap().len()), (None, 6));
    // The log continues at its place.
    let log = open(&path);
    record(&log).unwrap();
    log.close();
    let report = verify(&path, &node(), key().public()).unwrap();
    assert_eq!((report.dropped, report.events, report.covered, report.fault), (12, 19, 19, None));
    run(&path, "DELETE FROM anchor");
    assert!(faults(&path).is_some(), "without the node's word it is a cut");
}
