#![allow(clippy::unwrap_used)]

mod clock;

use std::sync::atomic::Ordering;

use super::*;
use crate::api::audit_log::EntryFilter;
use crate::api::page::Page;
use crate::controlplane::access::audit_log::Attempt;
use crate::controlplane::feed::Held;
use crate::controlplane::replica::publish;
use crate::controlplane::store::table_size::count_events;
use crate::controlplane::test_world::World;
use crate::protocol::bundle::Change;
use crate::protocol::record::{Record, RecordKind};

const WEEK: Duration = Duration::from_hours(7 * 24);
const MINUTE: Duration = Duration::from_mins(1);

impl World {
    /// Inserts `count` events of the node from number `first` on; every fourth is an allowed request.
    fn events(&self, first: i64, count: i64) {
        self.events_of(0, first, count, 200);
    }

    /// Does the same on a branch of its log, with lines of `length` bytes.
    fn events_of(&self, branch: u64, first: i64, count: i64, length: usize) {
        self.events_of_node("nod_a", branch, first, count, length);
    }

    fn events_of_node(&self, node: &str, branch: u64, first: i64, count: i64, length: usize) {
        let now = self.clock.load(Ordering::Relaxed);
        self.write(&format!(
            "WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {first} + {count} - 1)
             INSERT INTO event (node, branch, sequence, hash, time, kind, decision, token, line, received_at)
             SELECT '{node}', {branch}, i, 'h{branch}-' || i, {now}, 'decision', iif(i % 4, 'deny', 'allow'), NULL,
                 printf('%.*c', {length}, 'x'), {now} FROM n;
             INSERT OR REPLACE INTO node_log VALUES ('{node}', {branch}, {first} + {count} - 1, 'h')",
        ));
        let rows = usize::try_from(count).unwrap();
        let counted =
            self.control.store.note(|transaction| Ok(count_events(transaction, rows, length * rows)?));
        counted.unwrap();
    }

    fn refuse(&self, address: &str, target: &str, body: &str) {
        let attempt = Attempt {
            address: Some(address.parse().unwrap()),
            call: "POST /tokens",
            target: Some(target),
            request: Some(body),
        };
        let line = self.control.begin(&self.owner, &attempt).unwrap();
        self.control.finish(line, 403, Some("forbidden"), None).unwrap();
    }

    fn log(&self) -> Vec<crate::api::audit_log::Entry> {
        let page = Page { offset: 0, limit: 1000, cursor: None };
        let organization = &self.owner.organization;
        let listed = self.control.list_audit_log(&self.owner, organization, &EntryFilter::default(), page);
        let mut entries = listed.unwrap().entries;
        // Without the line of the organization's creation.
        entries.retain(|entry| entry.call == "POST /tokens");
        entries
    }

    /// Prunes after a week of running, so that the clock is trusted however far it was moved.
    fn prune(&self, retention: &Retention) {
        self.prune_after(WEEK, retention);
    }

    fn prune_after(&self, ran: Duration, retention: &Retention) {
        self.control.prune(retention, ran, &|| false).unwrap();
    }

    /// Prunes until the number that `query` counts first changes, and returns by how much.
    fn prune_once(&self, retention: &Retention, query: &str) -> i64 {
        let before = self.count(query);
        self.control.prune(retention, WEEK, &|| self.count(query) != before).unwrap();
        before - self.count(query)
    }

    fn sizes_are_right(&self) {
        for (table, bytes) in
            [("event", "octet_length(line) + 500"), ("audit_log", "coalesce(octet_length(request), 0) + 300")]
        {
            let counted = format!("SELECT rows * 1000000 + bytes FROM table_size WHERE name = '{table}'");
            let is = format!("SELECT count(*) * 1000000 + coalesce(sum({bytes}), 0) FROM {table}");
            assert_eq!(self.count(&counted), self.count(&is), "{table}");
        }
    }
}

#[test]
fn events_are_bounded_in_days_and_in_bytes_and_denials_go_before_uses() {
    let world = World::new();
    world.events(1, 1000);
    world.later(400 * DAY);
    world.events(1001, 9000);
    world.sizes_are_right();
    world.later(DAY);
    let retention = Retention::default();
    world.prune(&retention);
    assert_eq!(world.count("SELECT min(sequence) FROM event"), 1001, "the oldest are too old");
    world.sizes_are_right();

    let limit = world.control.bytes_of("event").unwrap() - 1_000_000;
    world.prune(&Retention { event_max_bytes: limit, ..retention });
    assert!(world.control.bytes_of("event").unwrap() <= limit);
    assert_eq!(world.count("SELECT count(*) FROM event WHERE decision = 'allow'"), 2250, "no use went");
    world.prune(&Retention { event_max_bytes: 1, ..retention });
    assert_eq!(world.count("SELECT min(sequence) FROM event"), 6001, "the newest stay to be recognised");
    assert_eq!(world.count("SELECT count(*) FROM event"), RECENT_EVENTS);
    world.sizes_are_right();
}

#[test]
fn a_refused_call_keeps_no_body_and_is_counted_when_it_repeats() {
    let world = World::new();
    let body = format!("{:?}", "x".repeat(60_000));
    for _ in 0..50 {
        world.refuse("192.0.2.1", "tok_a", &body);
    }
    let log = world.log();
    assert_eq!((log.len(), log[0].repeated, log[0].request.is_none()), (1, 49, true));
    // Another target or address makes another line. After an hour, the count starts again.
    world.refuse("192.0.2.1", "tok_b", &body);
    world.refuse("2001:db8::1", "tok_a", &body);
    world.later(3601);
    world.refuse("192.0.2.1", "tok_a", &body);
    assert_eq!(world.log().len(), 4);
    // Each successful call has a line of its own, with its body.
    for _ in 0..3 {
        let done = Attempt { address: None, call: "POST /tokens", target: None, request: Some("{}") };
        let line = world.control.begin(&world.owner, &done).unwrap();
        world.control.finish(line, 201, None, Some("tok_c")).unwrap();
    }
    let log = world.log();
    assert_eq!(log.iter().filter(|entry| entry.request.is_some()).count(), 3);
    world.sizes_are_right();

    for number in 0..5000 {
        world.refuse("192.0.2.1", &format!("tok_{number}"), "{}");
    }
    let retention = Retention { audit_log_max_bytes: 500_000, ..Retention::default() };
    world.prune(&retention);
    assert!(world.control.bytes_of("audit_log").unwrap() <= 500_000);
    let done = "SELECT count(*) FROM audit_log WHERE status = 201";
    assert_eq!(world.count(done), 3, "refusals push out nothing that was done");
    world.later(1101 * DAY);
    world.prune(&retention);
    assert_eq!(world.log().len(), 0);
    world.sizes_are_right();
}

#[test]
fn removals_are_forgotten_and_a_node_that_is_behind_gets_a_snapshot() {
    let world = World::new();
    let record = |number: i64| Record::new(RecordKind::DagTags, format!("dep_{number}"), "{}".to_owned());
    let change = |changes: Vec<Change>| {
        world.control.store.write(|transaction| publish::change(transaction, "dpl_a", changes)).unwrap();
    };
    let remove = |number: i64| Change::Remove { kind: RecordKind::DagTags, key: format!("dep_{number}") };
    change((0..100).map(record).map(Change::Put).collect());
    change((0..50).map(remove).collect());
    let base = |version| {
        let answer = world.control.feed("dpl_a", Held { version, keyset: 1 }).unwrap();
        let plain = zstd::decode_all(&*answer.read(0, 1 << 20).unwrap()).unwrap();
        let text = String::from_utf8_lossy(&plain).into_owned();
        text.split_once("\"base\":").unwrap().1.split_once('}').unwrap().0.parse::<u64>().unwrap()
    };
    let retention = Retention::default();
    world.prune(&retention);
    world.later(DAY);
    change(vec![remove(50)]);
    world.prune(&retention);
    assert_eq!(world.count("SELECT count(*) FROM change"), 100, "nothing is old enough");
    assert_eq!((base(1), base(2), base(3)), (1, 2, 3));

    // Thirty days after the removals of version 2: those are deleted, and those of version 3 are not.
    world.later(29 * DAY + 60);
    world.prune(&retention);
    assert_eq!(world.count("SELECT count(*) FROM change"), 50);
    assert_eq!((base(1), base(2), base(3)), (0, 2, 3), "a host that is further behind gets a snapshot");

    // Beyond the byte limit, the oldest removals are deleted until the rest fits.
    change((51..91).map(remove).collect());
    change((91..100).map(remove).collect());
    world.later(3600);
    world.prune(&Retention { change_max_bytes: 5000, ..retention });
    assert_eq!(world.count("SELECT count(*) FROM change"), 9);
    assert_eq!((base(3), base(4), base(5)), (0, 4, 5));
    assert_eq!(world.count("SELECT version FROM oldest_delta"), 4);
}

#[test]
fn a_round_that_is_told_to_stop_ends_after_the_transaction_that_is_under_way() {
    let world = World::new();
    let batch = i64::try_from(BATCH).unwrap();
    let (events, denials) =
        ("SELECT count(*) FROM event", "SELECT count(*) FROM event WHERE decision = 'deny'");
    world.events(1, RECENT_EVENTS + 10 * batch);
    let small = Retention { event_max_bytes: 1, ..Retention::default() };
    assert_eq!(world.prune_once(&small, denials), batch, "beyond its bytes");
    world.later(401 * DAY);
    assert_eq!(world.prune_once(&Retention::default(), events), batch, "by age");
    world.control.prune(&small, WEEK, &|| true).unwrap();
    assert_eq!(world.count(events), RECENT_EVENTS + 8 * batch, "nothing is begun");

    let change = |changes: Vec<Change>| {
        world.control.store.write(|transaction| publish::change(transaction, "dpl_a", changes)).unwrap();
    };
    let key = |number: i64| format!("dep_{number}");
    let put = |number| Change::Put(Record::new(RecordKind::DagTags, key(number), "{}".to_owned()));
    let remove = |number| Change::Remove { kind: RecordKind::DagTags, key: key(number) };
    change((0..3 * batch).map(put).collect());
    change((0..3 * batch).map(remove).collect());
    let (changes, marks) = ("SELECT count(*) FROM change", "SELECT count(*) FROM version_mark");
    let retention = Retention { change_max_bytes: 1, ..Retention::default() };
    world.control.prune(&retention, WEEK, &|| world.count(events) == RECENT_EVENTS).unwrap();
    assert_eq!(world.count(marks), 0, "no data plane is begun");
    assert_eq!(world.prune_once(&retention, changes), batch);
    world.later(3601);
    world.prune(&retention);
    assert_eq!(world.count(changes), 0, "what was left over goes later");
}

#[test]
fn lines_that_are_too_long_are_not_kept_to_be_recognised() {
    let world = World::new();
    world.events(1, 100);
    world.events_of(0, 101, 10, 1 << 20);
    world.events(111, 100);
    let retention = Retention { event_max_bytes: 1 << 20, ..Retention::default() };
    world.prune(&retention);
    assert!(world.control.bytes_of("event").unwrap() <= retention.event_max_bytes);
    assert_eq!(world.count("SELECT count(*) FROM event"), 200, "no other line went");
    world.sizes_are_right();
}

#[test]
fn a_log_that_began_anew_does_not_keep_the_events_of_the_one_before() {
    let world = World::new();
    world.events(1, 10_000);
    world.later(401 * DAY);
    world.events_of(1, 1, 10, 200);
    world.prune(&Retention::default());
    assert_eq!(world.count("SELECT count(*) FROM event"), 10, "by age");
    world.events_of(2, 1, 10, 200);
    world.prune(&Retention { event_max_bytes: 1, ..Retention::default() });
    assert_eq!(world.count("SELECT min(branch) FROM event"), 2, "beyond its bytes");
    world.sizes_are_right();
}

#[test]
fn a_node_that_floods_displaces_its_own_events_before_those_of_others() {
    let world = World::new();
    world.events(1, 8000);
    world.write("UPDATE event SET decision = 'allow'");
    let own = world.control.bytes_of("event").unwrap();
    world.later(60);
    // Another node, with six times as many uses, which came later.
    world.write(
        "INSERT INTO node (id, data_plane, name, key, created_at, kid) VALUES ('nod_b', 'dpl_a', 'b', '{}', 0, 'k')",
    );
    world.events_of_node("nod_b", 0, 1, 48_000, 200);
    world.write("UPDATE event SET decision = 'allow'");
    let limit = 3 * own;
    world.prune(&Retention { event_max_bytes: limit, ..Retention::default() });
    let of = |node: &str| world.count(&format!("SELECT count(*) FROM event WHERE node = '{node}'"));
    assert_eq!(of("nod_a"), 8000, "it was not the largest");
    assert!((13_000..=13_600).contains(&of("nod_b")), "{}", of("nod_b"));
    assert_eq!(
        world.count("SELECT max(sequence) FROM event WHERE node = 'nod_b'"),
        48_000,
        "the oldest went"
    );
    world.sizes_are_right();

    // When both have the same, both lose.
    world.prune(&Retention { event_max_bytes: own + own / 2, ..Retention::default() });
    let (a, b) = (of("nod_a"), of("nod_b"));
    assert!(a.abs_diff(b) <= 500 && a < 6000, "{a} and {b}");
    world.prune(&Retention { event_max_bytes: 1, ..Retention::default() });
    assert_eq!((of("nod_a"), of("nod_b")), (RECENT_EVENTS, RECENT_EVENTS));
    world.sizes_are_right();
}
