//! Recovery without an operator: a host that starts over, or whose control plane does, replicates again.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use halligan::controlplane::ControlPlane;
use halligan::controlplane::access::authorization::Actor;
use halligan::controlplane::feed::Held;
use halligan::controlplane::signing::Signing;
use halligan::controlplane::store::Store;
use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
use halligan::dataplane::node::alarm::AlarmKind;
use halligan::dataplane::node::state::Live;
use halligan::dataplane::replica::replication::Replication;
use halligan::dataplane::replica::store::{Origin, ReplicaStore, StoreError};
use halligan::protocol::key::PublicKey;
use halligan::protocol::keyset::RootSet;
use halligan::protocol::time::Time;
use serde_json::json;

const NOW: Time = Time::from_unix(1_800_000_000);

/// A control plane on disk, with an owner, a workspace and a data plane.
struct Estate {
    directory: tempfile::TempDir,
    plane: ControlPlane,
    owner: Actor,
    workspace: String,
    data_plane: String,
}

impl Estate {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
        Signing::create(directory.path(), NOW, &mut rng).unwrap();
        let plane = open(directory.path());
        let made = plane.bootstrap("Acme", "owner@acme.example").unwrap();
        let owner = plane.authenticate(made.token.as_bytes()).unwrap();
        let workspace = serde_json::from_value(json!({ "name": "data" })).unwrap();
        let workspace = plane.create_workspace(&owner, &owner.organization, &workspace).unwrap().id.into();
        let data_plane = plane.create_data_plane(&owner, &owner.organization, "eu").unwrap().id.into();
        Self { directory, plane, owner, workspace, data_plane }
    }

    fn deploy(&self, name: &str) -> String {
        let new = json!({ "name": name, "workspaceId": self.workspace, "dataPlaneId": self.data_plane });
        let new = serde_json::from_value(new).unwrap();
        self.plane.create_deployment(&self.owner, &self.owner.organization, new).unwrap().id.into()
    }

    fn undeploy(&self, id: &str) {
        let seen = halligan::controlplane::calls::precondition::IfMatch::default();
        self.plane.delete_deployment(&self.owner, &self.owner.organization, id, &seen).unwrap();
    }

    fn token(&self, name: &str, deployment: &str) -> String {
        let new = json!({
            "name": name, "type": "DEPLOYMENT", "kind": "DIRECT_ACCESS", "entityId": deployment,
            "tokenExpiryPeriodInDays": 30,
        });
        let new = serde_json::from_value(new).unwrap();
        self.plane.create_token(&self.owner, &self.owner.organization, new, None).unwrap().id.to_string()
    }

    fn rotate_token(&self, id: &str) {
        let seen = halligan::controlplane::calls::precondition::IfMatch::default();
        self.plane.rotate_token(&self.owner, &self.owner.organization, id, None, &seen).unwrap();
    }

    fn delete_token(&self, id: &str) {
        let seen = halligan::controlplane::calls::precondition::IfMatch::default();
        self.plane.delete_token(&self.owner, &self.owner.organization, id, &seen).unwrap();
    }

    /// Returns a host with an empty disk.
    fn host(&self, name: &str) -> Replication {
        let pem = std::fs::read_to_string(self.directory.path().join("root.pub.pem")).unwrap();
        let pinned = RootSet::new(vec![PublicKey::from_pem(&pem).unwrap()], 1).unwrap();
        let path = self.directory.path().join(format!("{name}.db"));
        let store = ReplicaStore::open(&path, self.data_plane.parse().unwrap(), pinned).unwrap();
        let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), NOW));
        Replication::new(store, live, Staleness::default())
    }

    /// Performs one poll: sends the host's position and applies the answer.
    fn poll(&self, host: &Replication) -> Result<u64, StoreError> {
        let (version, keyset) = host.position()?;
        let answer = self.plane.feed(&self.data_plane, Held { version, keyset }).unwrap();
        let bytes = answer.read(0, usize::try_from(answer.length()).unwrap()).unwrap();
        host.apply_bundle(&*bytes, Origin::Feed, NOW)?;
        Ok(held(host))
    }

    fn backup(&self) -> Vec<u8> {
        let copy = self.directory.path().join("backup.db");
        let _ = std::fs::remove_file(&copy);
        let database = rusqlite::Connection::open(self.directory.path().join("control.db")).unwrap();
        database.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        std::fs::read(copy).unwrap()
    }

    fn restore(self, backup: &[u8]) -> Self {
        self.restore_at(backup, NOW)
    }

    fn restore_at(self, backup: &[u8], now: Time) -> Self {
        let Self { directory, plane, owner, workspace, data_plane } = self;
        drop(plane);
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(directory.path().join(format!("control.db{suffix}")));
        }
        std::fs::write(directory.path().join("control.db"), backup).unwrap();
        let plane = open_at(directory.path(), now);
        Self { directory, plane, owner, workspace, data_plane }
    }
}

fn open(directory: &Path) -> ControlPlane {
    open_at(directory, NOW)
}

fn open_at(directory: &Path, now: Time) -> ControlPlane {
    ControlPlane::new(
        Store::open(&directory.join("control.db")).unwrap(),
        Signing::load(directory).unwrap(),
        "https://control.example".into(),
        Arc::new(move || now),
        Box::new(rand_core::UnwrapErr(getrandom::SysRng)),
    )
}

fn held(host: &Replication) -> u64 {
    host.live().snapshot().head().map_or(0, |head| head.head().version)
}

fn dead(host: &Replication, token: &str) -> bool {
    let (snapshot, token) = (host.live().snapshot(), token.parse().unwrap());
    !snapshot.knows(&token) || snapshot.ended(&token).is_some()
}

#[test]
fn a_host_that_starts_from_nothing_gets_the_replica_whatever_happened_before() {
    let estate = Estate::new();
    // Far more records are deleted than remain.
    for round in 0..40 {
        let id = estate.deploy(&format!("gone {round}"));
        estate.undeploy(&id);
    }
    let kept = estate.deploy("kept");
    let token = estate.token("oncall", &kept);
    let host = estate.host("new");
    assert!(estate.poll(&host).is_ok());
    assert!(!dead(&host, &token));
    // A host that lost its disk replicates too.
    assert!(estate.poll(&estate.host("again")).is_ok());
    assert_eq!(host.live().alarms.latest().len(), 0);
}

#[test]
fn a_host_that_was_away_while_more_was_made_and_removed_than_is_left_takes_the_changes() {
    let estate = Estate::new();
    let host = estate.host("away");
    estate.poll(&host).unwrap();
    for round in 0..200 {
        let id = estate.deploy(&format!("gone {round}"));
        estate.undeploy(&id);
    }
    let before = held(&host);
    assert!(estate.poll(&host).unwrap() > before);
    assert_eq!(host.live().alarms.latest().len(), 0);
}

#[test]
fn a_host_takes_the_snapshot_of_another_history_and_what_was_dead_stays_dead() {
    let estate = Estate::new();
    let deployment = estate.deploy("prod");
    let (good, revoked) = (estate.token("good", &deployment), estate.token("revoked", &deployment));
    let backup = estate.backup();
    let host = estate.host("host");
    estate.delete_token(&revoked);
    let lost = estate.token("made after the backup", &deployment);
    estate.poll(&host).unwrap();
    let version = held(&host);
    assert!(dead(&host, &revoked) && !dead(&host, &good) && !dead(&host, &lost));

    // The control plane was restored without `recover`: below the host's version its heads are refused as older, and at
    // that version as a fork.
    let estate = estate.restore(&backup);
    let mut made = Vec::new();
    loop {
        match estate.poll(&host) {
            Err(StoreError::Rollback { have, .. }) => assert_eq!(have, version),
            Err(StoreError::Fork(at)) => assert_eq!(at, version),
            Err(StoreError::History { have, got }) => {
                assert!(have == version && got > version);
                break;
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(held(&host), version, "what was proved stays in force");
        assert!(made.len() < 20);
        made.push(estate.token(&format!("new {}", made.len()), &deployment));
    }
    assert_eq!(host.live().alarms.count(AlarmKind::History), 1);
    assert_eq!(host.live().alarms.count(AlarmKind::Refused), 0, "nobody tampered");
    // The next poll requests a snapshot and applies it.
    assert!(estate.poll(&host).unwrap() > version);
    assert!(made.iter().chain([&good]).all(|token| !dead(&host, token)));
    assert!(dead(&host, &revoked) && dead(&host, &lost));
    // Later changes arrive as deltas again.
    let newest = estate.token("newest", &deployment);
    let (at, _) = host.position().unwrap();
    assert_eq!(at, held(&host));
    estate.poll(&host).unwrap();
    assert!(!dead(&host, &newest));
    estate.delete_token(&newest);
    estate.poll(&host).unwrap();
    assert!(dead(&host, &newest));
}

#[test]
fn recovery_is_right_at_whatever_version_the_restored_control_plane_is() {
    for changes_without in [0, 1, 2, 3, 9] {
        let estate = Estate::new();
        let deployment = estate.deploy("prod");
        let backup = estate.backup();
        let host = estate.host("host");
        estate.token("one", &deployment);
        estate.token("two", &deployment);
        let version = estate.poll(&host).unwrap();
        let estate = estate.restore(&backup);
        for number in 0..changes_without {
            estate.token(&format!("new {number}"), &deployment);
        }
        let raised = estate.plane.recover(version, None).unwrap();
        assert!(raised.iter().all(|plane| plane.to > version && plane.to > plane.from));
        assert!(estate.poll(&host).unwrap() > version, "{changes_without} changes");
        assert_eq!(host.live().alarms.latest().len(), 0, "{changes_without} changes");
    }
}

#[test]
fn what_is_rotated_after_another_recovery_from_the_same_backup_opens() {
    let mut estate = Estate::new();
    let deployment = estate.deploy("prod");
    let tokens: Vec<_> =
        (0..12).map(|number| estate.token(&format!("token {number}"), &deployment)).collect();
    let (backup, host) = (estate.backup(), estate.host("host"));
    let mut version = estate.poll(&host).unwrap();
    for restores in 1..4 {
        estate = estate.restore_at(&backup, NOW.plus(60 * restores));
        estate.plane.recover(version, None).unwrap();
        // More than once: the numbers go on from the first one.
        for _ in 0..2 {
            for token in &tokens {
                estate.rotate_token(token);
            }
        }
        version = estate.poll(&host).unwrap();
        let rejected = tokens.iter().filter(|token| dead(&host, token)).count();
        assert_eq!(rejected, 0, "after restore {restores}");
    }
}

#[test]
fn a_control_plane_tells_of_nodes_that_are_ahead_of_it_until_it_has_passed_them() {
    let estate = Estate::new();
    let version = estate.plane.recover(6, None).unwrap()[0].to;
    assert_eq!(version, 7);
    let note = |node: &str, held| estate.plane.note_position(&estate.data_plane, node, held).unwrap();
    note("nod_a", 7);
    note("nod_b", 0);
    assert_eq!(estate.plane.nodes_ahead().unwrap(), []);
    note("nod_a", 9);
    note("nod_b", 12);
    let ahead = estate.plane.nodes_ahead().unwrap();
    assert_eq!((ahead.len(), ahead[0].nodes, ahead[0].highest, ahead[0].version), (1, 2, 12, 7));
    let findings = estate.plane.findings();
    assert!(
        findings
            .iter()
            .any(|found| !found.blocks && found.detail.contains("halligan-control recover --above 12")),
        "{findings:?}"
    );
    // One of the hosts starts with an empty disk.
    note("nod_b", 0);
    assert_eq!(estate.plane.nodes_ahead().unwrap()[0].highest, 9);
    estate.plane.recover(9, None).unwrap();
    assert_eq!(estate.plane.nodes_ahead().unwrap(), []);
    assert!(estate.plane.note_position("dpl_other", "nod_a", 9).is_err());
}

#[test]
fn an_answer_played_back_is_frozen_at_once() {
    let estate = Estate::new();
    let deployment = estate.deploy("prod");
    let host = estate.host("host");
    let version = estate.poll(&host).unwrap();
    let answer = |nonce: Option<&str>| {
        let answer = estate.plane.feed_for(&estate.data_plane, Held { version, keyset: 1 }, nonce).unwrap();
        answer.read(0, usize::try_from(answer.length()).unwrap()).unwrap()
    };
    let take = |bytes: &[u8], nonce: &str| host.apply_answer(bytes, Origin::Feed, Some(nonce), NOW);
    let captured = answer(Some("one"));
    take(&captured, "one").unwrap();
    // The clock stands still. A second answer in the same second has a new nonce and is fresh; an earlier answer is
    // not.
    take(&answer(Some("two")), "two").unwrap();
    assert_eq!(host.live().alarms.count(AlarmKind::Frozen), 0);
    for (played_back, nonce) in
        [(&captured, "three"), (&answer(Some("other")), "three"), (&answer(None), "three")]
    {
        assert!(matches!(take(played_back, nonce), Err(StoreError::Replayed(_))));
    }
    assert_eq!(host.live().alarms.count(AlarmKind::Frozen), 3);
    assert!(take(&answer(Some("four")), "four").is_ok(), "the next genuine answer ends it");
    // A control plane that signs no nonce is accepted as long as the versions of its heads rise.
    estate.token("oncall", &deployment);
    assert!(take(&answer(None), "five").is_ok());
    assert_eq!(held(&host), version + 1);
}
