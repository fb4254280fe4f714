//! Damage on a disk: applying a change does not read unrelated records, a scrub reads all of them, and damaged records
//! are written again.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::world::{DEPLOYMENT, T0, World};
use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
use halligan::dataplane::decide::{Now, Reason, RequestFacts, Target, decide};
use halligan::dataplane::node::alarm::AlarmKind;
use halligan::dataplane::node::state::Live;
use halligan::dataplane::replica::replication::Replication;
use halligan::dataplane::replica::scrub::scrub;
use halligan::dataplane::replica::store::{Origin, ReplicaStore};
use halligan::platform::clock::Clock;
use halligan::protocol::bundle::Change;
use halligan::protocol::record::Record;
use halligan::protocol::time::Time;
use halligan::protocol::token::TokenRecord;

/// Number of tokens: more than one step of a scrub covers, and more than SQLite keeps in its cache.
const TOKENS: usize = 8000;

struct Host {
    replication: Arc<Replication>,
    live: Arc<Live>,
    directory: tempfile::TempDir,
}

impl Host {
    /// Creates a host that has applied version 1 and whose database is checkpointed into one file.
    fn new(records: &[Record]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let world = World::new();
        let path = directory.path().join("replica.db");
        let store = ReplicaStore::open(&path, World::data_plane(), world.pinned()).unwrap();
        let live = Arc::new(Live::new(Snapshot::absent(), T0, T0));
        let replication = Arc::new(Replication::new(store, Arc::clone(&live), Staleness::default()));
        let host = Self { replication, live, directory };
        host.take(&world.bundle(1, records, T0), T0);
        host.checkpoint();
        // SQLite reports a checkpoint by another connection as a change, so the next heartbeat verifies everything
        // again.
        host.take(&world.delta(1, 1, records, vec![], T0.plus(1)), T0.plus(1));
        host
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("replica.db")
    }

    fn take(&self, bundle: &[u8], now: Time) {
        self.replication.apply_bundle(bundle, Origin::Feed, now).unwrap();
    }

    fn checkpoint(&self) {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    }

    async fn scrub(&self, now: Time) -> bool {
        let clock: Clock = Arc::new(move || now);
        scrub(&self.replication, &clock, Duration::ZERO).await
    }

    fn reason(&self, number: usize) -> Reason {
        let facts = RequestFacts {
            deployment: Target::Id(DEPLOYMENT),
            method: "GET",
            uri: "/api/v2/dags",
            client: None,
        };
        let token = World::new().value(number);
        let now = Now { wall: T0.plus(60), floor: T0 };
        decide(Some(token.as_bytes()), &facts, &self.live.snapshot(), now).reason()
    }
}

/// Changes one byte in the file without SQLite, as a failing disk does.
fn rot(path: &Path, text: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let places: Vec<_> =
        bytes.windows(text.len()).enumerate().filter(|(_, part)| *part == text.as_bytes()).collect();
    let places: Vec<usize> = places.into_iter().map(|(place, _)| place).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place + text.len() - 1] ^= 1;
    }
    std::fs::write(path, bytes).unwrap();
}

fn revoked(number: usize) -> Record {
    World::record(&TokenRecord { revoked_at: Some(T0), ..World::token_record(number) })
}

/// Returns the records with one token revoked, and the delta that leads to them.
fn revocation(
    records: &[Record],
    number: usize,
    base: u64,
    version: u64,
    at: Time,
) -> (Vec<Record>, Vec<u8>) {
    let gone = revoked(number);
    let mut records = records.to_vec();
    *records.iter_mut().find(|record| record.key == gone.key).unwrap() = gone.clone();
    let delta = World::new().delta(base, version, &records, vec![Change::Put(gone)], at);
    (records, delta)
}

#[tokio::test]
async fn damage_of_records_that_no_change_touches_is_found_by_a_scrub_and_written_anew() {
    let records = World::records(TOKENS);
    let host = Host::new(&records);
    assert!(host.scrub(T0.plus(2)).await);
    assert_eq!(host.live.on_disk().unwrap().proved_at, T0.plus(2));

    rot(&host.path(), &format!("\"id\":\"{}", World::token_record(700).id));
    // A delta reads only the records that it changes.
    let (records, delta) = revocation(&records, 3, 1, 2, T0.plus(2));
    host.take(&delta, T0.plus(2));
    assert_eq!((host.reason(3), host.reason(700)), (Reason::TokenRevoked, Reason::Ok));
    assert_eq!(host.live.on_disk().map(|disk| (disk.version, disk.proved_at)), Some((2, T0.plus(2))));
    assert_eq!(host.live.alarms.count(AlarmKind::ReplicaDamaged), 0);

    assert!(!host.scrub(T0.plus(3)).await);
    assert_eq!(host.live.alarms.count(AlarmKind::ReplicaDamaged), 1);
    assert_eq!(
        (host.reason(3), host.reason(700)),
        (Reason::TokenRevoked, Reason::Ok),
        "what was proved stays"
    );
    assert_eq!(host.replication.position().unwrap().0, 0, "a snapshot is asked for");

    host.take(&World::new().bundle(2, &records, T0.plus(4)), T0.plus(4));
    assert_eq!(host.live.on_disk().unwrap().version, 2);
    assert!(host.scrub(T0.plus(5)).await);
    assert_eq!((host.reason(3), host.reason(700)), (Reason::TokenRevoked, Reason::Ok));
    assert_eq!(host.live.alarms.count(AlarmKind::ReplicaDamaged), 1);
}

#[tokio::test]
async fn damage_of_a_record_that_a_change_replaces_refuses_the_change_and_is_written_anew() {
    let records = World::records(TOKENS);
    let host = Host::new(&records);
    rot(&host.path(), &format!("\"id\":\"{}", World::token_record(700).id));
    let (records, delta) = revocation(&records, 700, 1, 2, T0.plus(2));
    host.replication.apply_bundle(&*delta, Origin::Feed, T0.plus(2)).unwrap_err();
    assert_eq!(host.live.alarms.count(AlarmKind::ReplicaDamaged), 1);
    assert_eq!(host.replication.position().unwrap().0, 0, "a snapshot is asked for");
    host.take(&World::new().bundle(2, &records, T0.plus(3)), T0.plus(3));
    assert_eq!((host.reason(3), host.reason(700)), (Reason::Ok, Reason::TokenRevoked));
    assert!(host.scrub(T0.plus(3)).await);
}

#[test]
fn what_another_program_writes_to_the_database_is_found_with_the_next_change() {
    let records = World::records(TOKENS);
    let host = Host::new(&records);
    let connection = rusqlite::Connection::open(host.path()).unwrap();
    let key = World::token_record(700).id.to_string();
    connection.execute("UPDATE record SET body = '{}' WHERE key = ?1", [key]).unwrap();
    let (_, delta) = revocation(&records, 3, 1, 2, T0.plus(2));
    host.replication.apply_bundle(&*delta, Origin::Feed, T0.plus(2)).unwrap_err();
    assert_eq!(host.live.alarms.count(AlarmKind::ReplicaDamaged), 1);
    assert_eq!(host.reason(700), Reason::Ok, "what was proved stays in force");
}

#[test]
fn losses_of_a_token_outlive_the_record_that_a_delta_brings() {
    let records = World::records(TOKENS);
    let host = Host::new(&records);
    let (_, delta) = revocation(&records, 3, 1, 2, T0.plus(2));
    host.take(&delta, T0.plus(2));
    // A control plane that lost the revocation lists the token as active again.
    let forgotten = World::record(&World::token_record(3));
    let delta = World::new().delta(2, 3, &records, vec![Change::Put(forgotten)], T0.plus(3));
    host.take(&delta, T0.plus(3));
    assert_eq!(host.reason(3), Reason::TokenRevoked);
    // Neither a heartbeat nor a start reactivates the token.
    host.take(&World::new().delta(3, 3, &records, vec![], T0.plus(4)), T0.plus(4));
    assert_eq!(host.reason(3), Reason::TokenRevoked);
    let path = host.path();
    let store = ReplicaStore::open(&path, World::data_plane(), World::new().pinned()).unwrap();
    let snapshot = Snapshot::from_verified(store.index().unwrap().unwrap(), Staleness::default(), None);
    host.live.replace(|_| snapshot);
    assert_eq!(host.reason(3), Reason::TokenRevoked);
}
