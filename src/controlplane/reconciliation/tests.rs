#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::controlplane::error::Error;
use crate::controlplane::memory::uploads::Uploads;
use crate::controlplane::test_world::World;
use crate::protocol::event::{GENESIS, line_hash};

const TOKENS: &str = "
    INSERT INTO token (id, organization, name, description, type, kind, entity, role, generation, short, start_at,
            created_at, created_by, updated_at, updated_by, deleted_at, last_rotated_at)
        SELECT id, (SELECT organization FROM data_plane WHERE id = 'dpl_a'), id, '', 'DEPLOYMENT', 'DIRECT_ACCESS', 'dep_a', 'OP', 2,
            'abcd', 0, 0, 'u', 0, 'u', deleted_at, rotated_at
        FROM (SELECT 'tok_aaaaaaaaaaaaaaaaaaaaaaaaaa' AS id, 1800000100 AS deleted_at, NULL AS rotated_at UNION ALL
            SELECT 'tok_bbbbbbbbbbbbbbbbbbbbbbbbbb', NULL, 1800000050 UNION ALL
            SELECT 'tok_cccccccccccccccccccccccccc', NULL, NULL);
    INSERT INTO record (data_plane, kind, key, body) VALUES
        ('dpl_a', 'token', 'tok_aaaaaaaaaaaaaaaaaaaaaaaaaa', '{}'), ('dpl_a', 'token', 'tok_bbbbbbbbbbbbbbbbbbbbbbbbbb', '{}');
    INSERT INTO outage (node, id, data_plane, began_at, ended_at, statement, last_sequence, reported_at) VALUES
        ('nod_a', 'out_1', 'dpl_a', 1800000020, 1800000060, '{}', 100, 0),
        ('nod_a', 'out_2', 'dpl_a', 1800000090, 1800000140, '{}', 290, 0);";

/// Every row that an upload may write.
const WRITTEN: [&str; 8] = [
    "SELECT branch || ' ' || sequence || ' ' || hash || ' ' || kind || coalesce(token, '') || line FROM event ORDER BY 1",
    "SELECT branch || ' ' || sequence || ' ' || hash FROM node_log",
    "SELECT branch || ' ' || sequence || ' ' || kind || what FROM log_fault ORDER BY 1",
    "SELECT token || ' ' || first_at || ' ' || last_at || ' ' || uses FROM token_use ORDER BY 1",
    "SELECT event || ' ' || token FROM late_use ORDER BY 1",
    "SELECT id || coalesce(last_used_at, '') || coalesce(last_used_on, '') FROM token ORDER BY 1",
    "SELECT key || body FROM announcement ORDER BY 1",
    "SELECT name || ' ' || rows || ' ' || bytes FROM table_size WHERE name = 'event'
        UNION ALL SELECT id || coalesce(closed_at, 'open') FROM outage",
];

/// Log of the node: decisions about three tokens and none, in and between two outages, a line that is no event, and at last a
/// log that begins anew.
fn log() -> Vec<String> {
    let mut lines = Vec::new();
    let (mut prev, mut sequence) = (GENESIS.to_owned(), 0);
    for number in 1..=320_i64 {
        sequence += 1;
        if number == 301 {
            (prev, sequence) = (GENESIS.to_owned(), 1);
        }
        let token = [
            "tok_aaaaaaaaaaaaaaaaaaaaaaaaaa",
            "tok_bbbbbbbbbbbbbbbbbbbbbbbbbb",
            "tok_cccccccccccccccccccccccccc",
        ]
        .get(usize::try_from(number % 4).unwrap());
        let allowed = number % 5 != 0;
        let mut event = json!({
            "sequence": sequence, "prev": prev, "id": format!("evt_1-{number}"), "time": 1_800_000_000 + number / 2, "node": "nod_a",
            "kind": "decision", "decision": if allowed { "allow" } else { "deny" }, "reason": "ok",
            "connectivity": if (40..=120).contains(&number) || number > 170 { "offline" } else { "online" },
        });
        if let Some(token) = token {
            event["token"] = json!(token);
            event["generation"] = json!(1 + number % 2);
            event["deployment"] = json!(format!("dep_{}", number % 3));
        }
        let line = if number == 222 { "{}".to_owned() } else { event.to_string() };
        prev = line_hash(&line);
        lines.push(line);
    }
    lines
}

/// Returns what a control plane holds after calls of so many lines each. If others wait for its database, it stores a call in
/// several transactions.
fn held_after(awaited: bool, calls: impl IntoIterator<Item = usize>) -> Vec<Vec<String>> {
    let mut world = World::new();
    if awaited {
        world.control.store.keep_awaited();
    }
    world.write(TOKENS);
    world.control.announces = true;
    let log = log();
    let (mut rest, mut calls) = (log.as_slice(), calls.into_iter());
    while !rest.is_empty() {
        let (call, after) = rest.split_at(calls.next().unwrap().min(rest.len()));
        world.control.take_events("dpl_a", "nod_a", 1, call.iter().map(String::as_str)).unwrap();
        rest = after;
    }
    let control = &world.control;
    let rows = |query: &&str| {
        let read = control.store.read(|connection| {
            let mut statement = connection.prepare(query)?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        });
        read.unwrap()
    };
    // The organization's id is a random one.
    let plain = |row: String| row.replace(&world.owner.organization, "org");
    WRITTEN.iter().map(rows).map(|rows| rows.into_iter().map(plain).collect()).collect()
}

#[test]
fn events_leave_the_same_behind_however_they_are_divided_into_calls() {
    let one_by_one = held_after(false, std::iter::repeat(1));
    let lengths: Vec<usize> = one_by_one.iter().map(Vec::len).collect();
    assert_eq!(lengths[0], 320, "each event is stored");
    // Without any of these the test would show nothing.
    assert!(lengths.iter().all(|length| *length > 0), "{lengths:?}");
    let uses: Vec<&str> = one_by_one[3].iter().map(|row| &row[..30]).collect();
    assert_eq!(
        uses,
        ["tok_aaaaaaaaaaaaaaaaaaaaaaaaaa", "tok_bbbbbbbbbbbbbbbbbbbbbbbbbb"],
        "of this data plane"
    );
    assert_eq!(one_by_one[6].iter().filter(|row| row.starts_with("first-use/")).count(), 6);
    for calls in [vec![320], vec![1000], vec![100; 4], vec![63, 1, 64, 65, 127], vec![7; 50]] {
        for awaited in [false, true] {
            for (table, (held, expected)) in
                held_after(awaited, calls.clone()).iter().zip(&one_by_one).enumerate()
            {
                let missing: Vec<_> = expected.iter().filter(|row| !held.contains(row)).collect();
                let more: Vec<_> = held.iter().filter(|row| !expected.contains(row)).collect();
                let what = format!("{calls:?} {awaited}: {}", WRITTEN[table]);
                assert!(missing.is_empty() && more.is_empty(), "{what}: {missing:?} {more:?}");
            }
        }
    }
}

#[test]
fn a_call_that_is_repeated_changes_nothing() {
    let world = World::new();
    world.write(TOKENS);
    let log = log();
    for _ in 0..2 {
        world.control.take_events("dpl_a", "nod_a", 1, log[..300].iter().map(String::as_str)).unwrap();
        assert_eq!(world.count("SELECT count(*) FROM event"), 300);
        assert_eq!(world.count("SELECT rows FROM table_size WHERE name = 'event'"), 300);
        assert_eq!(world.count("SELECT count(*) FROM log_fault"), 1, "the line that is no event");
    }
}

#[test]
fn an_announcement_wakes_the_sender_and_other_events_do_not() {
    let mut world = World::new();
    world.write(TOKENS);
    world.control.announces = true;
    let log = log();
    let mut changes = world.control.store.changes();
    let mut take = |lines: &[String]| {
        world.control.take_events("dpl_a", "nod_a", 1, lines.iter().map(String::as_str)).unwrap();
        let woken = changes.has_changed().unwrap();
        changes.mark_unchanged();
        woken
    };
    assert!(take(&log[..5]), "first uses");
    assert!(!take(&log[5..12]), "further uses");
    assert!(take(&log[12..60]), "first uses in an outage");
}

#[tokio::test]
async fn a_call_waits_for_room_and_is_told_to_come_back_if_there_is_none() {
    let uploads = Arc::new(Uploads::default());
    let room = |mib: usize, patience| {
        let uploads = Arc::clone(&uploads);
        async move { uploads.room_for(mib << 20, patience).await }
    };
    let (none, long) = (Duration::from_millis(1), Duration::from_mins(10));
    let first = room(40, none).await.unwrap();
    let second = room(20, none).await.unwrap();
    assert!(room(5, none).await.is_none(), "60 of 64 MiB are taken");
    assert!(room(4, none).await.is_some(), "what was reserved for a call that gave up is free");
    let waiting = tokio::spawn(room(5, long));
    drop(first);
    assert!(waiting.await.unwrap().is_some(), "room that becomes free is given to who waits");
    drop(second);
    assert!(room(1000, none).await.is_some(), "a body of any length finds room once there are no others");
    let Error::Busy(seconds) = World::new().control.busy() else { unreachable!() };
    assert!((5..=30).contains(&seconds), "{seconds}");
}

#[test]
fn who_waits_to_write_waits_for_few_lines_of_an_upload() {
    let transactions = |awaited: bool| {
        let world = World::new();
        world.write(TOKENS);
        if awaited {
            world.control.store.keep_awaited();
        }
        world.write(
            "CREATE TABLE moved (sequence INTEGER);
             CREATE TRIGGER moved AFTER INSERT ON node_log BEGIN INSERT INTO moved VALUES (new.sequence); END",
        );
        world.control.take_events("dpl_a", "nod_a", 1, log()[..100].iter().map(String::as_str)).unwrap();
        world.count("SELECT count(*) FROM moved")
    };
    assert_eq!((transactions(false), transactions(true)), (1, 4));
}
