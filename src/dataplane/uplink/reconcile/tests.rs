//! Tests of the calls of a round, with an audit log that is damaged.

#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};

use rusqlite::Connection;

use super::*;
use crate::dataplane::audit::{AuditLog, hash_at, set_uploaded};
use crate::dataplane::decide::snapshot::Snapshot;
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::connection::{Outcome, Progress};
use crate::dataplane::node::credential::Nonces;
use crate::dataplane::node::identity::Identity;
use crate::dataplane::uplink::client::Patience;
use crate::platform::logging::captured;
use crate::protocol::event::{Draft, EventKind, line_hash};
use crate::protocol::key::SigningKey;
use crate::protocol::reconciliation::Position;
use crate::protocol::time::Time;

const T: Time = Time::from_unix(1_800_000_000);

fn identity() -> Identity {
    Identity {
        node_id: "nod_a".parse().unwrap(),
        data_plane_id: "dpl_a".parse().unwrap(),
        issuer: "https://control.example".into(),
    }
}

fn key() -> Arc<SigningKey> {
    Arc::new(SigningKey::from_seed(&[1; 32]))
}

/// Writes a log of `events` events, each a block of its own. Few of them fit on a page. Returns its path.
fn log(directory: &Path, kind: EventKind, events: usize) -> PathBuf {
    let clock: Clock = Arc::new(|| T);
    let (node, path) = (identity().node_id, directory.join(AUDIT));
    let audit = AuditLog::open(&path, node.clone(), key(), clock, 100).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for number in 0..events {
        let id = audit.next_id();
        let path: String = (0..70).map(|part| line_hash(&format!("{number} {part}"))).collect();
        let draft = Draft { path: Some(&path), ..Draft::new(kind, &id, T, &node, Connectivity::Online) };
        runtime.block_on(audit.record_durably(&draft)).unwrap();
    }
    audit.close();
    let connection = Connection::open(&path).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    path
}

/// Returns the state of a node whose log holds `events` decisions.
fn node(directory: &Path, events: usize) -> Arc<Reconciler> {
    log(directory, EventKind::Decision, events);
    let clock: Clock = Arc::new(|| T);
    let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), T));
    let nonces = Nonces::new(&mut rand_core::UnwrapErr(getrandom::SysRng));
    let prover = Arc::new(Prover { identity: identity(), key: key(), nonces });
    Reconciler::open(directory, prover, &live, &clock).unwrap()
}

/// Damages each page of a log in turn, and calls `check` with its number. Without event `last`, or a page at which a table begins,
/// a start takes the log for lost and moves it aside: such pages are left out.
fn damage_each_page(path: &Path, last: u64, mut check: impl FnMut(usize)) {
    let roots: Vec<usize> = Connection::open(path)
        .unwrap()
        .prepare("SELECT rootpage FROM sqlite_schema WHERE rootpage > 0")
        .and_then(|mut roots| roots.query_map([], |row| row.get(0))?.collect())
        .unwrap();
    let whole = std::fs::read(path).unwrap();
    for page in (2..=whole.len() / 16_384).filter(|page| !roots.contains(page)) {
        let mut bytes = whole.clone();
        bytes[(page - 1) * 16_384..(page - 1) * 16_384 + 64].fill(0xff);
        std::fs::write(path, bytes).unwrap();
        if matches!(hash_at(path, last), Ok(Some(_))) {
            check(page);
        }
    }
}

/// Plays a round with a control plane that takes all in. Returns the path of each call, without what all have in common, and
/// the numbers of its events.
fn told(reconciler: &Reconciler) -> Vec<(String, Vec<u64>)> {
    let (mut round, mut calls) = (Round::default(), Vec::new());
    while let Some(call) = round.next(reconciler, T).unwrap() {
        let body = String::from_utf8(call.body.clone()).unwrap();
        let events = body.lines().map(|line| serde_json::from_str::<Event>(line).unwrap().sequence);
        calls.push((call.path.rsplit('/').next().unwrap().to_owned(), events.collect::<Vec<_>>()));
        let last = body.lines().last().unwrap();
        let sequence = *calls.last().unwrap().1.last().unwrap();
        let answer = serde_json::to_vec(&Position { sequence, hash: line_hash(last) }).unwrap();
        round.answered(reconciler, &call, &answer, T).unwrap();
    }
    calls
}

/// Serves one answer to every request, the one that is held at its time.
fn answering(answer: &Arc<Mutex<String>>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, answer) = (format!("http://{}", listener.local_addr().unwrap()), Arc::clone(answer));
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            // A request that is answered before all of it was read would end in a reset.
            let (mut read, mut part) = (Vec::new(), vec![0; 65_536]);
            let length = loop {
                let count = connection.read(&mut part).unwrap();
                read.extend_from_slice(&part[..count]);
                let text = String::from_utf8_lossy(&read).to_lowercase();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.split_once("content-length: ").unwrap().1;
                let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
                if count == 0 || body.len() >= length {
                    break length;
                }
            };
            assert!(length > 0);
            connection.write_all(answer.lock().unwrap().as_bytes()).unwrap();
        }
    });
    url
}

#[test]
fn a_control_plane_that_takes_nothing_is_logged_once_whoever_asks_it() {
    let directory = tempfile::tempdir().unwrap();
    let reconciler = node(directory.path(), 2);
    let refused = "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let answer = Arc::new(Mutex::new(refused.to_owned()));
    let urls = vec![answering(&answer)];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let log = captured(|| {
        let upstream =
            Arc::new(Upstream::new(urls, None, directory.path().into(), Patience::default()).unwrap());
        runtime.block_on(async {
            for _ in 0..5 {
                reconciler.send_first(&upstream).await.unwrap();
            }
            // A node that is in sync sends by itself.
            let renewed = Progress::new(T).after(Outcome::Renewed, T, None).0;
            reconciler.live.record_attempt(renewed, None, T, Duration::ZERO);
            assert_eq!(reconciler.live.connectivity(), Connectivity::Online);
            let run = Arc::clone(&reconciler).run(Arc::clone(&upstream), Traces::default());
            drop(tokio::time::timeout(LOOK * 3, run).await);
            let hash = hash_at(&reconciler.audit_path, 2).unwrap().unwrap();
            let body = serde_json::to_string(&Position { sequence: 2, hash }).unwrap();
            *answer.lock().unwrap() = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            reconciler.send_first(&upstream).await.unwrap();
        });
    });
    assert_eq!(log.matches("reconciliation waits").count(), 2, "its begin and its end: {log}");
    assert!(log.contains("WARN reconciliation waits") && log.contains("no longer: reconciliation"), "{log}");
}

#[test]
fn a_control_plane_that_sends_a_node_back_in_every_round_is_logged_once() {
    let directory = tempfile::tempdir().unwrap();
    let reconciler = node(directory.path(), 6);
    let back = || {
        let hash = hash_at(&reconciler.audit_path, 6).unwrap().unwrap();
        set_uploaded(&reconciler.audit_path, &Position { sequence: 5, hash }).unwrap();
        let mut round = Round::default();
        let call = round.next(&reconciler, T).unwrap().unwrap();
        let hash = hash_at(&reconciler.audit_path, 3).unwrap().unwrap();
        let position = serde_json::to_vec(&Position { sequence: 3, hash }).unwrap();
        round.answered(&reconciler, &call, &position, T).unwrap();
    };
    let log = captured(|| (0..5).for_each(|_| back()));
    assert_eq!(log.matches("they are sent again").count(), 1, "{log}");
}

#[test]
fn a_block_that_cannot_be_read_keeps_no_later_use_from_the_control_plane() {
    let directory = tempfile::tempdir().unwrap();
    let reconciler = node(directory.path(), 6);
    let damaged = "UPDATE block SET lines = x'00' WHERE first IN (3, 4)";
    assert_eq!(Connection::open(&reconciler.audit_path).unwrap().execute(damaged, []).unwrap(), 2);
    assert_eq!(
        told(&reconciler),
        [("events?oldest=1".to_owned(), vec![1, 2]), ("events?oldest=5".to_owned(), vec![5, 6])],
        "it says that it no longer has what is missing"
    );
    let alarms = reconciler.live.alarms.latest();
    assert_eq!(alarms.len(), 1, "the loss is named");
    assert!(alarms[0].what.contains("events 3 to 4 "), "{}", alarms[0].what);
}

#[test]
fn a_log_of_which_nothing_more_can_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let reconciler = node(directory.path(), 6);
    Connection::open(&reconciler.audit_path)
        .unwrap()
        .execute("UPDATE block SET lines = x'00' WHERE first > 2", [])
        .unwrap();
    assert_eq!(told(&reconciler), [("events?oldest=1".to_owned(), vec![1, 2])]);
    let alarms = reconciler.live.alarms.latest();
    assert_eq!(alarms.len(), 1);
    assert!(alarms[0].what.contains(" from 3 on "), "{}", alarms[0].what);
    for _ in 0..5 {
        assert!(told(&reconciler).is_empty());
    }
    assert_eq!(reconciler.live.alarms.count(AlarmKind::Damaged), 1, "it is not named in each round");
}

#[test]
fn a_control_plane_may_send_a_node_back_to_an_event_that_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let reconciler = node(directory.path(), 6);
    let connection = Connection::open(&reconciler.audit_path).unwrap();
    connection.execute("UPDATE block SET lines = x'00' WHERE first = 3", []).unwrap();
    let hash = hash_at(&reconciler.audit_path, 5).unwrap().unwrap();
    set_uploaded(&reconciler.audit_path, &Position { sequence: 5, hash }).unwrap();
    let mut round = Round::default();
    let call = round.next(&reconciler, T).unwrap().unwrap();
    let back = Position { sequence: 3, hash: "of a backup".into() };
    round.answered(&reconciler, &call, &serde_json::to_vec(&back).unwrap(), T).unwrap();
    assert_eq!(told(&reconciler), [("events?oldest=1".to_owned(), vec![4, 5, 6])]);
}

#[test]
fn a_damaged_page_keeps_no_other_event_from_the_control_plane() {
    let directory = tempfile::tempdir().unwrap();
    let reconciler = node(directory.path(), 60);
    let mut lost = Vec::new();
    damage_each_page(&reconciler.audit_path, 60, |page| {
        let raised = reconciler.live.alarms.count(AlarmKind::Damaged);
        let sent: Vec<u64> = told(&reconciler).into_iter().flat_map(|(_, events)| events).collect();
        let hidden: Vec<u64> = (1..=60).filter(|number| !sent.contains(number)).collect();
        let alarms = reconciler.live.alarms.count(AlarmKind::Damaged) - raised;
        assert_eq!(alarms, u64::from(!hidden.is_empty()), "page {page} hides {hidden:?}");
        assert!(hidden.len() < 12, "page {page} hides {hidden:?}");
        lost.extend(hidden);
    });
    assert!(lost.contains(&1) && lost.len() > 40, "{lost:?}");
}

#[test]
fn a_damaged_page_hides_no_other_revocation_of_which_a_log_tells() {
    let directory = tempfile::tempdir().unwrap();
    let path = log(directory.path(), EventKind::Revocation, 60);
    let told =
        || -> Vec<u64> { revocations_told(&path).unwrap().iter().map(|event| event.sequence).collect() };
    assert_eq!(told(), (1..=60).collect::<Vec<_>>());
    let mut lost = Vec::new();
    damage_each_page(&path, 60, |page| {
        let told = told();
        let hidden: Vec<u64> = (1..=60).filter(|number| !told.contains(number)).collect();
        assert!(hidden.len() < 12, "page {page} hides {hidden:?}");
        lost.extend(hidden);
    });
    assert!(lost.contains(&1) && lost.len() > 40, "{lost:?}");
}

#[test]
fn a_block_that_cannot_be_read_hides_no_later_revocation_and_dropped_events_repeat_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = log(directory.path(), EventKind::Revocation, 6);
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("DELETE FROM block WHERE first <= 2; UPDATE block SET lines = x'00' WHERE first = 4")
        .unwrap();
    let told: Vec<u64> = revocations_told(&path).unwrap().iter().map(|event| event.sequence).collect();
    assert_eq!(told, [3, 5, 6]);
}
