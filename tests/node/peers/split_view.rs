//! A control plane that shows hosts different replicas of one version. The hosts detect it from each other, online or
//! offline, and keep and report the proof.

use halligan::dataplane::node::alarm::AlarmKind;
use halligan::dataplane::node::connection::{Outcome, Progress};
use halligan::dataplane::replica::store::Origin;
use halligan::protocol::bundle::{BundleReader, Change, Limits, write_bundle};
use halligan::protocol::digest::ReplicaDigest;
use halligan::protocol::head::{Head, sign_head};
use halligan::protocol::key::SigningKey;
use halligan::protocol::record::Record;
use halligan::protocol::time::Time;
use rusqlite::Connection;

use super::{Still, records};
use crate::rig::node::Node;
use crate::rig::{self, Rig, free_port, until};
use crate::world::{T0, World};

/// Returns a replica with one more token.
fn with(number: usize) -> Vec<Record> {
    let more = World::record(&World::token_record(number));
    records().into_iter().chain([more]).collect()
}

fn take(node: &Still, version: u64, records: &[Record], at: Time) {
    node.replication.apply_bundle(&*World::new().bundle(version, records, at), Origin::Feed, at).unwrap();
}

fn go_online(node: &Still) {
    let progress = Progress::new(T0).after(Outcome::Renewed, T0, None).0;
    node.live.record_attempt(progress, None, T0, std::time::Duration::ZERO);
}

#[test]
fn hosts_that_are_shown_two_replicas_of_one_version_find_out_online_too() {
    let directory = tempfile::tempdir().unwrap();
    let mut a = Still::new(directory.path(), "nod_a", 51);
    let b = Still::new(directory.path(), "nod_b", 52);
    // Signed in the same second, so that neither is newer than the other.
    take(&a, 2, &with(7), T0);
    take(&b, 2, &with(8), T0);
    go_online(&a);
    go_online(&b);
    a.round(&b);
    for node in [&a, &b] {
        assert_eq!(node.live.alarms.count(AlarmKind::Fork), 1);
        let forks = node.replication.forks().unwrap();
        assert_eq!(forks.iter().map(|fork| fork.version).collect::<Vec<_>>(), [2, 2]);
        assert_ne!(forks[0].head, forks[1].head, "both are kept");
    }
    // Every answer has a newly signed head: the same contradiction is kept and reported once.
    for later in 1..20 {
        take(&a, 2, &with(7), T0.plus(later));
        a.round(&b);
    }
    for node in [&a, &b] {
        assert_eq!(node.replication.forks().unwrap().len(), 2);
        assert_eq!(node.live.alarms.count(AlarmKind::Fork), 1);
    }
}

#[test]
fn a_split_that_one_host_has_left_behind_is_found_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let mut a = Still::new(directory.path(), "nod_a", 51);
    let mut b = Still::new(directory.path(), "nod_b", 52);
    take(&a, 2, &with(7), T0);
    take(&a, 3, &with(9), T0);
    take(&b, 2, &with(8), T0);
    go_online(&a);
    go_online(&b);
    // Either host may poll: the one that is ahead or the one behind.
    a.round(&b);
    assert_eq!(a.live.alarms.count(AlarmKind::Fork), 1);
    b.round(&a);
    assert_eq!(b.live.alarms.count(AlarmKind::Fork), 1);
}

#[test]
fn hosts_that_are_shown_one_replica_raise_no_alarm_however_far_apart_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let mut a = Still::new(directory.path(), "nod_a", 51);
    let b = Still::new(directory.path(), "nod_b", 52);
    for version in 2..400 {
        take(&a, version, &with(usize::try_from(version).unwrap()), T0);
    }
    take(&b, 2, &with(2), T0.plus(5));
    a.round(&b);
    assert_eq!(a.live.alarms.count(AlarmKind::Fork) + b.live.alarms.count(AlarmKind::Fork), 0);
    // A head without a valid signature by the replica key is no contradiction.
    let forged = World::new().head(2, &with(8), T0).replace('A', "B");
    for text in [forged, String::new(), World::new().value(0)] {
        a.replication.compare_heads(&[text], T0).unwrap();
    }
    assert_eq!(a.replication.forks().unwrap().len(), 0);
}

/// Returns the replica of the rig's host with the head of another history: the next version without one of its records.
fn other_history(rig: &Rig) -> Vec<u8> {
    let path = rig.path("replica.bundle");
    rig.cli(&["replica", "export", path.to_str().unwrap()]);
    let bundle = std::fs::read(&path).unwrap();
    let mut reader = BundleReader::new(&*bundle, Limits::default()).unwrap();
    let keysets = reader.keysets().to_vec();
    let payload = reader.head().split('.').nth(1).unwrap().to_owned();
    let mut changes: Vec<Change> = reader.by_ref().map(Result::unwrap).collect();
    let dropped = changes.iter().position(
        |change| matches!(change, Change::Put(record) if record.body.contains(&rig.other_deployment)),
    );
    changes.remove(dropped.unwrap());
    let mut digest = ReplicaDigest::empty();
    for change in &changes {
        if let Change::Put(record) = change {
            digest.add(record);
        }
    }
    let head: serde_json::Value = {
        use base64::Engine as _;
        let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
        serde_json::from_slice(&decoded).unwrap()
    };
    let now = Time::from_unix(head["iat"].as_i64().unwrap());
    let head = Head {
        iss: head["iss"].as_str().unwrap().to_owned(),
        aud: rig.data_plane.parse().unwrap(),
        version: head["version"].as_u64().unwrap() + 1,
        digest: digest.checksum(),
        count: changes.len() as u64,
        iat: now,
        exp: now.plus(900),
        keyset: head["keyset"].as_u64().unwrap(),
    };
    let pem = std::fs::read_to_string(rig.path("control/replica.pem")).unwrap();
    let head = sign_head(&head, &SigningKey::from_pkcs8_pem(&pem).unwrap());
    write_bundle(&keysets, &head, 0, changes).unwrap()
}

#[test]
fn a_split_view_is_told_upward_with_both_heads() {
    let mut rig = Rig::start();
    let metrics_port = free_port();
    rig.kill_control();
    rig.control_extra = format!("metrics_listen = \"127.0.0.1:{metrics_port}\"\n");
    rig.start_control(rig.control_port);
    let mut b = Node::start(&rig, "b");
    b.synced(&rig);
    rig.synced();
    // An attacker with the replica key stands between b and its control plane.
    b.configure(&rig, free_port(), &[]);
    b.restart();
    let bundle = rig.path("other.bundle");
    std::fs::write(&bundle, other_history(&rig)).unwrap();
    b.cli(&rig, &["replica", "import", bundle.to_str().unwrap()]);
    rig.direct_access_token("something new", &rig.deployment);
    rig.synced();
    let id = b.json(&rig, &["status"])["nodeId"].as_str().unwrap().to_owned();
    // Then b reaches its control plane again.
    b.configure(&rig, rig.control_port, &[]);
    b.restart();
    let remark = |rig: &Rig| {
        let nodes = rig.json(&["node", "list", "--data-plane-id", &rig.data_plane]);
        let nodes = nodes.as_array().unwrap().clone();
        nodes.into_iter().find(|node| node["id"] == id.as_str()).unwrap()["remark"].to_string()
    };
    until("the control plane knows", || remark(&rig).contains("contradicts another"));
    let told = rig::metrics(metrics_port);
    let line = format!("halligan_control_replica_forks{{data_plane=\"{}\"}} 1", rig.data_plane);
    assert!(told.lines().any(|told| told == line), "{told}");
    let kept: u64 = Connection::open(rig.path("control/control.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM replica_fork WHERE node = ?1", [&id], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 1);
    assert_eq!(b.json(&rig, &["replica", "forks"]).as_array().unwrap().len(), 2);
    until("the host alarms", || {
        let status = b.json(&rig, &["status"]);
        status["alarms"].as_array().unwrap().iter().any(|alarm| alarm["kind"] == "fork")
    });
}
