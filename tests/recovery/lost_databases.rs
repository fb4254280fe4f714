//! Loss of several databases of a host, or of their content: a host must not treat either as a first start.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use crate::rig::{Rig, until};
use crate::what_can_be_lost::{DATABASES, accept_loss, alarms, copy, host_that_revoked, settle, start};
use rusqlite::Connection;

const LOST: &str = "is missing, though this host had one; put the file back";

fn accept(rig: &Rig) {
    let accepted = accept_loss(rig, "revocations.db");
    assert!(accepted.status.success(), "{accepted:?}");
}

/// Deletes every database of the stopped host, SQLite's side files and the inventory.
fn lose_all(rig: &Rig) {
    copy(&rig.path("kept"), &rig.path("node"));
    for entry in std::fs::read_dir(rig.path("node")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "databases.json" || DATABASES.iter().any(|database| name.starts_with(database)) {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_host_that_lost_every_database_and_their_inventory_takes_this_for_no_first_start() {
    let mut rig = Rig::start();
    assert_eq!(alarms(&rig), "[]", "a first start is no loss");
    let (_, value) = host_that_revoked(&mut rig);
    lose_all(&rig);
    for _ in 0..2 {
        let (code, said) = start(&mut rig).unwrap_err();
        assert!(code == 74 && said.contains("revocations") && said.contains(LOST), "{code} {said}");
    }
    accept(&rig);
    start(&mut rig).unwrap();
    assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").reason(), "replica_missing");
    let told = alarms(&rig);
    assert!(told.contains("accepted the loss") && told.contains("another glass was begun"), "{told}");
    rig.daemon.take().unwrap().terminate();
    start(&mut rig).unwrap();
    assert_eq!(alarms(&rig), "[]", "it is told once");
}

#[test]
fn a_new_identity_hides_no_loss_of_revocations() {
    let mut rig = Rig::start();
    host_that_revoked(&mut rig);
    lose_all(&rig);
    let moved = rig.daemon_command().arg("new-identity").output().unwrap();
    assert!(moved.status.success(), "{moved:?}");
    rig.start_control(rig.control_port);
    rig.give_enrolment_token(&rig.path("enrolment-token"));
    let (code, said) = start(&mut rig).unwrap_err();
    assert!(code == 74 && said.contains(LOST), "{code} {said}");
    accept(&rig);
    start(&mut rig).unwrap();
    rig.synced();
}

/// Loss of content in a database that stays a valid SQLite file.
#[derive(Clone, Copy, Debug)]
enum Gone {
    /// The database has no tables, and its schema version is that of a new file.
    Schema,
    /// The table with the data is dropped.
    Table,
    /// Every row is deleted.
    Rows,
    /// The database was copied from a running host without SQLite's write-ahead log.
    Log,
}

use Gone::{Log, Rows, Schema, Table};

impl Gone {
    fn of(self, rig: &Rig, name: &str, table: &str) {
        let path = rig.path("node").join(name);
        if let Log = self {
            std::fs::copy(rig.path("running").join(name), path).unwrap();
            return;
        }
        let connection = Connection::open(&path).unwrap();
        match self {
            Schema => {
                drop(connection);
                std::fs::remove_file(&path).unwrap();
                Connection::open(&path).unwrap().execute_batch("CREATE TABLE x (y); DROP TABLE x").unwrap();
            }
            Table => connection.execute_batch(&format!("DROP TABLE {table}")).unwrap(),
            _ => tables(&connection)
                .iter()
                .for_each(|table| connection.execute_batch(&format!("DELETE FROM {table}")).unwrap()),
        }
    }
}

fn tables(connection: &Connection) -> Vec<String> {
    let named = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
    let mut statement = connection.prepare(named).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

fn has_outage(directory: &Path) -> bool {
    let connection = Connection::open(directory.join("outages.db")).unwrap();
    connection.query_row("SELECT count(*) FROM outage", [], |row| row.get(0)) == Ok(1)
}

#[test]
fn a_valid_database_that_holds_less_than_it_held_is_not_taken_for_a_new_one() {
    let mut rig = Rig::start();
    let (_, value) = host_that_revoked(&mut rig);
    start(&mut rig).unwrap();
    until("an outage is recorded", || has_outage(&rig.path("node")));
    assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").reason(), "token_revoked");
    rig.daemon.take().unwrap().terminate();
    settle(&rig.path("node"), &DATABASES);
    copy(&rig.path("node"), &rig.path("kept"));
    // On this host SQLite has not yet written anything from its write-ahead logs into the databases.
    let mut other = Rig::start();
    host_that_revoked_and_was_killed(&mut other);
    copy(&other.path("node"), &rig.path("running"));

    // The last column is the text of the host's error.
    let table = [
        ("replica.db", "record", [Schema, Table, Log], "another replica was begun"),
        ("audit.db", "block", [Schema, Table, Log], "another audit log was begun"),
        ("outages.db", "outage", [Schema, Table, Log], "another record of outages was begun"),
        ("glass.db", "broken", [Schema, Table, Log], "another glass was begun"),
        ("revocations.db", "revocation", [Schema, Table, Log], "put the file back"),
    ];
    let rows = [
        ("replica.db", "the replica's database holds no replica, though this host had one"),
        ("audit.db", "this host noted that its log had"),
        ("outages.db", "it holds 0 of the last 1 outages"),
        // A lost glass database is harmless: break-glass access ends with it.
        ("glass.db", ""),
        ("revocations.db", "put the file back"),
    ];
    let cases = table
        .into_iter()
        .flat_map(|(name, table, losses, told)| losses.map(|loss| (name, table, loss, told)))
        .chain(rows.map(|(name, told)| (name, "", Rows, told)));
    for (name, table, loss, told) in cases {
        copy(&rig.path("kept"), &rig.path("node"));
        loss.of(&rig, name, table);
        if let Err((code, said)) = start(&mut rig) {
            assert!(name == "revocations.db" && code == 74 && said.contains(told), "{name} {loss:?}: {said}");
        } else {
            let alarms = alarms(&rig);
            assert!(name != "revocations.db" && alarms.contains(told), "{name} {loss:?}: {alarms}");
            assert_eq!(alarms == "[]", told.is_empty(), "{name} {loss:?}: {alarms}");
            let reason = if name == "replica.db" { "replica_missing" } else { "token_revoked" };
            assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").reason(), reason, "{name} {loss:?}");
            rig.daemon.take().unwrap().terminate();
        }
    }
    // An operator can accept the loss, and the host signs again each revocation that its audit log records.
    copy(&rig.path("kept"), &rig.path("node"));
    Table.of(&rig, "revocations.db", "revocation");
    start(&mut rig).unwrap_err();
    accept(&rig);
    start(&mut rig).unwrap();
    assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").reason(), "token_revoked");
}

fn host_that_revoked_and_was_killed(rig: &mut Rig) {
    let (id, _) = rig.direct_access_token("lost", &rig.deployment);
    rig.synced();
    rig.json(&["revoke", &id, "--reason", "laptop lost"]);
    rig.kill_daemon();
}
