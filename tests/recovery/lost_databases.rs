//! Databases of a host that are lost together, or that are valid and hold less than they held: neither is a first start.

#![allow(clippy::unwrap_used)]

use std::process::Output;

use crate::rig::Rig;
use crate::what_can_be_lost::{DATABASES, alarms, copy, host_that_revoked, start};

const LOST: &str = "is missing, though this host had one; put the file back";

fn halligand(rig: &Rig, arguments: &[&str]) -> Output {
    rig.daemon_command().args(arguments).output().unwrap()
}

fn accept(rig: &Rig) {
    let accepted = halligand(rig, &["accept-loss", "revocations.db", "--reason", "the disk was replaced"]);
    assert!(accepted.status.success(), "{accepted:?}");
}

/// Deletes every database of the stopped host, what SQLite keeps beside them, and the inventory.
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
    let moved = halligand(&rig, &["new-identity"]);
    assert!(moved.status.success(), "{moved:?}");
    rig.start_control(rig.control_port);
    rig.give_enrolment_token(&rig.path("enrolment-token"));
    let (code, said) = start(&mut rig).unwrap_err();
    assert!(code == 74 && said.contains(LOST), "{code} {said}");
    accept(&rig);
    start(&mut rig).unwrap();
    rig.synced();
}
