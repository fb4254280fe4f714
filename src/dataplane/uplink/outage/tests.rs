#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::dataplane::audit::AuditLog;
use crate::dataplane::decide::snapshot::Snapshot;
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::connection::{Outcome, Progress};
use crate::dataplane::node::credential::Nonces;
use crate::dataplane::node::identity::Identity;
use crate::dataplane::uplink::reconcile::Reconciler;
use crate::platform::clock::Clock;
use crate::protocol::event::Draft;
use crate::protocol::id::NodeId;
use crate::protocol::key::SigningKey;

const FRESH: Option<Time> = Some(Time::from_unix(i64::MAX));

/// Host with its log and its outages.
struct Host {
    directory: tempfile::TempDir,
    node: NodeId,
    live: Arc<Live>,
    audit: AuditLog,
    outages: Arc<Outages>,
    runtime: tokio::runtime::Runtime,
    progress: Progress,
}

impl Host {
    fn new() -> Self {
        Self::started_in(tempfile::tempdir().unwrap())
    }

    fn started_in(directory: tempfile::TempDir) -> Self {
        let clock: Clock = Arc::new(|| Time::from_unix(1));
        let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), clock()));
        let key = Arc::new(SigningKey::from_seed(&[1; 32]));
        let identity = Identity {
            node_id: "nod_a".parse().unwrap(),
            data_plane_id: "dpl_a".parse().unwrap(),
            issuer: "https://control.example".into(),
        };
        let path = directory.path().join("audit.db");
        let node = identity.node_id.clone();
        let audit = AuditLog::open(&path, node.clone(), Arc::clone(&key), Arc::clone(&clock), 100).unwrap();
        let nonces = Nonces::new(&mut rand_core::UnwrapErr(getrandom::SysRng));
        let prover = Arc::new(Prover { identity, key, nonces });
        let outages = Arc::clone(&Reconciler::open(directory.path(), prover, &live, &clock).unwrap().outages);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let progress = Progress::new(Time::from_unix(1));
        Self { directory, node, live, audit, outages, runtime, progress }
    }

    /// Records an allowed request.
    fn record(&self, connectivity: Connectivity) {
        let (id, token) = (self.audit.next_id(), "tok_aaaaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap());
        let mut draft = Draft::new(EventKind::Decision, &id, Time::from_unix(1), &self.node, connectivity);
        (draft.decision, draft.token) = (Some("allow"), Some(&token));
        self.runtime.block_on(self.audit.record_durably(&draft)).unwrap();
    }

    fn comes(&mut self, outcome: Outcome, at: i64) {
        let now = Time::from_unix(at);
        self.progress = self.progress.after(outcome, now, FRESH).0;
        let error = (outcome != Outcome::Renewed).then(|| "silent".to_owned());
        self.live.record_attempt(self.progress, error, now, Duration::ZERO);
        self.outages.observe(now).unwrap();
    }
}

impl Host {
    /// Two polls that get no answer: the first one may be a lost packet.
    fn is_not_answered(&mut self, at: i64) {
        self.comes(Outcome::Unreachable, at);
        self.comes(Outcome::Unreachable, at + 1);
    }
}

/// A silent control plane is noticed up to a minute later. Requests allowed in that minute may have been decided by an
/// old state, so they belong to the outage.
#[test]
fn an_outage_begins_in_the_log_where_the_last_answer_arrived() {
    let mut host = Host::new();
    host.record(Connectivity::Online);
    host.comes(Outcome::Renewed, 5);
    host.comes(Outcome::Renewed, 10);
    for at in 11..70 {
        if at % 20 == 0 {
            host.record(Connectivity::Online);
        }
        host.outages.observe(Time::from_unix(at)).unwrap();
    }
    host.comes(Outcome::Unreachable, 70);
    host.record(Connectivity::Offline);
    host.comes(Outcome::Unreachable, 71);
    let statement = host.outages.to_report(Time::from_unix(80)).unwrap().unwrap();
    assert_eq!(statement.last_contact_at, Some(Time::from_unix(10)));
    assert_eq!(statement.began_at, Time::from_unix(71));
    assert_eq!((statement.first_sequence, statement.last_sequence), (2, 5), "all but what came before");
}

/// An operator reads the report while the control plane is away, on a disk that may be failing.
#[test]
fn a_report_names_the_events_that_cannot_be_read_and_tells_of_all_others() {
    let mut host = Host::new();
    host.comes(Outcome::Renewed, 5);
    for at in 6..70 {
        host.outages.observe(Time::from_unix(at)).unwrap();
    }
    host.comes(Outcome::Unreachable, 70);
    for _ in 0..6 {
        host.record(Connectivity::Offline);
    }
    host.comes(Outcome::Unreachable, 71);
    let report = || {
        let report = host.outages.list(1, Time::from_unix(80)).unwrap().remove(0);
        let faults: Vec<String> = report.log_faults.into_iter().map(|fault| fault.what).collect();
        (report.tokens.iter().map(|token| token.count).sum::<u64>(), faults)
    };
    assert_eq!(report(), (6, vec![]));
    let log = Connection::open(host.directory.path().join("audit.db")).unwrap();
    let damage = |first: i64| {
        log.execute("UPDATE block SET lines = x'00' WHERE first = ?1", [first]).unwrap();
    };
    let told = |first: u64, last: u64| {
        format!("events {first} to {last} cannot be read; what they record is not in this report")
    };
    damage(3);
    assert_eq!(report(), (5, vec![told(3, 3)]));
    damage(1);
    damage(2);
    assert_eq!(report(), (3, vec![told(1, 3)]));
    damage(6);
    assert_eq!(report(), (2, vec![told(1, 3), told(6, 6)]), "the end of the log, too");
}

#[test]
fn an_outage_that_ended_by_a_clock_ahead_hides_no_later_one() {
    for ahead in [3, 1_200, 365 * 86_400] {
        let mut host = Host::new();
        let noted = |host: &Host, now: i64| -> Vec<i64> {
            let reports = host.outages.list(9, Time::from_unix(now)).unwrap();
            reports.into_iter().map(|report| report.began_at.unix()).collect()
        };
        host.comes(Outcome::Renewed, 1_000 + ahead);
        host.is_not_answered(1_001 + ahead);
        host.comes(Outcome::Renewed, 1_010);
        host.is_not_answered(1_020);
        assert_eq!(noted(&host, 1_022), [1_021, 1_002 + ahead], "{ahead}");
        host.comes(Outcome::Renewed, 1_030);
        host.is_not_answered(1_040);
        assert_eq!(noted(&host, 1_042), [1_041, 1_021, 1_002 + ahead], "{ahead}");
        // The end that was stated last is one that an older state must not reopen.
        for now in [1_045, 1_046, 1_047].map(Time::from_unix) {
            let statement = host.outages.to_report(now).unwrap().unwrap();
            host.outages.reported(&statement, now).unwrap();
        }
        host.outages.observe(Time::from_unix(1_048)).unwrap();
        assert_eq!(noted(&host, 1_048).len(), 3, "{ahead}");
    }
}

#[test]
fn outages_that_are_gone_from_the_database_are_missed() {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(MIGRATIONS[0]).unwrap();
    check_complete(&connection).unwrap();
    let add = |number: u64| {
        let row = "INSERT INTO outage (id, began_at, cause, first_sequence, last_sequence, alarms) VALUES (?1, 0, '', 1, 0, '[]')";
        connection.execute(row, [format!("out_{number}")]).unwrap();
    };
    (0..3).for_each(add);
    check_complete(&connection).unwrap();
    connection.execute("DELETE FROM outage WHERE number = 2", []).unwrap();
    assert!(matches!(check_complete(&connection), Err(OutageError::Lost { held: 2, made: 3 })));
    connection.execute("DELETE FROM outage", []).unwrap();
    assert!(matches!(check_complete(&connection), Err(OutageError::Lost { held: 0, made: 3 })));
    // The oldest of many are not kept.
    (3..REMEMBERED + 3).for_each(add);
    check_complete(&connection).unwrap();
    connection.execute("DELETE FROM outage WHERE number = 4", []).unwrap();
    assert!(matches!(check_complete(&connection), Err(OutageError::Lost { .. })));
}

#[test]
fn alarms_of_an_outage_are_in_its_report_after_a_restart() {
    let mut host = Host::new();
    let alarms = |host: &Host, now: i64| -> Vec<(String, u64)> {
        let now = Time::from_unix(now);
        let statement = host.outages.to_report(now).unwrap().unwrap();
        let shown = host.outages.show(&statement.id, now).unwrap();
        assert_eq!(shown.alarms.len(), statement.alarms.len());
        statement.alarms.into_iter().map(|alarm| (alarm.what, alarm.times)).collect()
    };
    host.comes(Outcome::Renewed, 5);
    host.live.alarms.raise(AlarmKind::Clock, "before the outage", Time::from_unix(6));
    host.is_not_answered(10);
    host.live.alarms.raise(AlarmKind::Clock, "accepted", Time::from_unix(12));
    host.comes(Outcome::Unreachable, 13);
    let mut expected = vec![("accepted".to_owned(), 1)];
    assert_eq!(alarms(&host, 14), expected);
    for restart in 0..3 {
        let Host { directory, .. } = host;
        host = Host::started_in(directory);
        assert_eq!(alarms(&host, 20), expected, "{restart}");
        host.is_not_answered(20 + restart);
        assert_eq!(alarms(&host, 23), expected, "{restart}");
        for _ in 0..2 {
            host.live.alarms.raise(AlarmKind::Refused, "again", Time::from_unix(24));
            host.comes(Outcome::Unreachable, 24 + restart);
        }
        expected.push(("again".to_owned(), 2));
        assert_eq!(alarms(&host, 25), expected, "{restart}");
    }
    host.comes(Outcome::Renewed, 30);
    assert_eq!(alarms(&host, 30), expected);
    // The next outage has none of them.
    let statement = host.outages.to_report(Time::from_unix(30)).unwrap().unwrap();
    host.outages.reported(&statement, Time::from_unix(30)).unwrap();
    host.is_not_answered(50);
    assert_eq!(alarms(&host, 60), []);
}
