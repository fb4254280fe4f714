//! A node's enrolment survives any outage. Each test but the last is named after a promise that users of comparable
//! systems found broken, and cites the report.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;

use crate::rig::clock::shifted;
use crate::rig::{Rig, Running, curl, until};
use rusqlite::Connection;
use serde_json::Value;

fn ask(rig: &Rig, token: &str) -> u16 {
    rig.authorize(token, "GET", "/api/v2/dags").status
}

fn get(rig: &Rig, path: &str) -> (u16, String) {
    let answer = curl(&[format!("http://127.0.0.1:{}{path}", rig.daemon_port)]);
    (answer.status, answer.body)
}

fn sync(rig: &Rig) -> Value {
    rig.json(&["status"])["controlPlane"].clone()
}

fn alarmed(rig: &Rig, kind: &str) -> bool {
    let status = rig.json(&["status"]);
    status["alarms"].as_array().unwrap().iter().any(|alarm| alarm["kind"] == kind)
}

fn with_a_token() -> (Rig, String) {
    let rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    (rig, token)
}

/// spire#1562: an agent whose certificate expired during an outage stayed broken until a restart, while its health
/// checks passed.
#[test]
fn a_node_cut_off_for_weeks_reconnects_without_a_new_enrolment_and_says_meanwhile_how_it_is() {
    let (mut rig, token) = with_a_token();
    std::fs::remove_file(rig.path("enrolment-token")).unwrap();
    rig.kill_control();
    rig.kill_daemon();
    let Some(three_weeks_later) = shifted("+21d") else { return };
    rig.start_daemon_in(&three_weeks_later);
    // The daemon is alive but not ready, and reports both.
    assert_eq!(get(&rig, "/readyz").0, 503);
    assert!(get(&rig, "/readyz").1.contains("older than any role"), "{:?}", get(&rig, "/readyz"));
    until("it is stale", || sync(&rig)["state"] == "stale");
    assert_ne!(ask(&rig, &token), 200);
    rig.start_control_in(&three_weeks_later);
    until("it is live again", || sync(&rig)["state"] == "live");
    until("it serves again", || ask(&rig, &token) == 200);
    assert_eq!(get(&rig, "/readyz").0, 200);
}

/// spire#1847: an agent that was no longer accepted had to be restarted, and lost its data.
#[test]
fn a_node_that_is_refused_goes_on_serving_and_asking() {
    let (rig, token) = with_a_token();
    let nodes = rig.json(&["node", "list", "--data-plane-id", &rig.data_plane]);
    let node = nodes[0]["id"].as_str().unwrap().to_owned();
    rig.cli(&["node", "retire", &node, "--data-plane-id", &rig.data_plane, "--force"]);
    until("it is refused", || sync(&rig)["state"] == "degraded" && sync(&rig)["failures"].as_u64() > Some(1));
    let error = sync(&rig)["lastError"].clone();
    assert!(error.as_str().unwrap().contains("403"), "{error}");
    assert_eq!(sync(&rig)["connectivity"], "online", "a refusal is an answer, and no outage");
    assert_eq!(ask(&rig, &token), 200);
    assert_eq!(get(&rig, "/readyz"), (200, "ready; degraded: the replica could not be renewed\n".into()));
}

/// spire#2061: an agent retried forever after a permanent error, because it judged by the text of the error, and raised
/// no alarm.
#[test]
fn what_a_node_tries_in_vain_it_shows_with_the_reason_and_the_next_attempt() {
    let (mut rig, token) = with_a_token();
    rig.kill_control();
    // Another program listens at the address and closes each connection.
    let listener = TcpListener::bind(("127.0.0.1", rig.control_port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    until("the node says so", || {
        drop(listener.accept());
        let sync = sync(&rig);
        sync["state"] == "offline" && sync["failures"].as_u64() > Some(3) && sync["nextAttempt"].is_u64()
    });
    assert!(sync(&rig)["lastError"].as_str().unwrap().contains(&rig.control_port.to_string()));
    assert_eq!(ask(&rig, &token), 200);
    assert!(crate::rig::metrics(rig.daemon_port).contains("halligan_sync_state{state=\"offline\"} 1"));
    drop(listener);
    rig.start_control(rig.control_port);
    until("it is live again", || sync(&rig)["state"] == "live");
}

/// After an outage all hosts call at once; an overloaded control plane tells them when to retry.
#[test]
fn a_node_that_is_told_to_come_back_later_does_not_come_before() {
    let (mut rig, token) = with_a_token();
    rig.kill_control();
    let listener = TcpListener::bind(("127.0.0.1", rig.control_port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            crate::rig::head_of_request(&mut stream);
            let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 45\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(busy.as_bytes());
        }
    });
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    // The daemon's own pauses are at most five seconds.
    until("it waits as long as it was told to", || {
        sync(&rig)["nextAttempt"].as_u64().is_some_and(|next| next > now() + 35)
    });
    assert!(sync(&rig)["lastError"].as_str().unwrap().contains("503"));
    assert_eq!(ask(&rig, &token), 200);
}

/// opa#2097: the downloaded bundle was not kept, so that after a restart without its server there was nothing to decide
/// by.
#[test]
fn a_cold_start_without_a_control_plane_serves() {
    let (mut rig, token) = with_a_token();
    rig.kill_control();
    rig.kill_daemon();
    rig.start_daemon();
    assert_eq!(ask(&rig, &token), 200);
    assert_eq!(get(&rig, "/readyz").0, 200);
}

/// opa#3472: the kept bundle was reassembled, so that its signature no longer matched at the next start.
#[test]
fn what_is_kept_is_byte_for_byte_what_was_signed() {
    let (mut rig, token) = with_a_token();
    rig.kill_control();
    rig.kill_daemon();
    let rows = |path: &Path, query: &str| {
        let connection = Connection::open(path).unwrap();
        let mut rows = connection.prepare(query).unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.collect::<Result<Vec<(String, String, String)>, _>>().unwrap()
    };
    let query = "SELECT kind, key, body FROM record ORDER BY kind, key";
    let kept = rows(&rig.path("node/replica.db"), query);
    assert_eq!(kept, rows(&rig.path("control/control.db"), query));
    assert!(kept.len() > 3);
    let chain = Connection::open(rig.path("node/replica.db")).unwrap();
    let keyset: String = chain.query_row("SELECT text FROM keyset", [], |row| row.get(0)).unwrap();
    assert_eq!(format!("{keyset}\n"), std::fs::read_to_string(rig.path("control/keysets.ndjson")).unwrap());
    drop(chain);
    rig.start_daemon();
    rig.cli(&["replica", "verify"]);
    assert_eq!(ask(&rig, &token), 200);
}

/// opa#3840: a kept bundle that could not be loaded prevented the program's start.
#[test]
fn a_damaged_replica_keeps_no_daemon_from_starting_and_is_replaced_by_itself() {
    let (mut rig, token) = with_a_token();
    rig.kill_control();
    rig.kill_daemon();
    let path = rig.path("node/replica.db");
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::write(&path, vec![0x5a; usize::try_from(length).unwrap()]).unwrap();
    let _ = std::fs::remove_file(rig.path("node/replica.db-wal"));
    rig.start_daemon_in(&[]);
    assert!(alarmed(&rig, "damaged"));
    assert_eq!(get(&rig, "/readyz").0, 503, "it is there, and can't decide");
    assert_ne!(ask(&rig, &token), 200);
    rig.start_control(rig.control_port);
    until("it has a new one", || ask(&rig, &token) == 200);
    assert_eq!(get(&rig, "/readyz").0, 200);
}

/// opa#6939: the bundle was reported as persisted, and was not.
#[test]
fn what_is_said_to_be_on_the_disk_was_read_back_and_what_is_not_is_written_anew() {
    let (rig, token) = with_a_token();
    let status = rig.json(&["status"]);
    assert_eq!(status["persisted"]["version"], status["replica"]["version"]);
    // A byte on the disk changes without the daemon's knowledge.
    let disk = Connection::open(rig.path("node/replica.db")).unwrap();
    disk.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let changed = "UPDATE record SET body = replace(body, 'prod', 'prud') WHERE kind = 'deployment'";
    assert!(disk.execute(changed, []).unwrap() > 0);
    let (_, another) = rig.direct_access_token("another", &rig.deployment);
    until("it was found out", || alarmed(&rig, "replica_damaged"));
    assert_eq!(ask(&rig, &token), 200, "what was proved stays in force");
    until("it was written anew", || {
        let status = rig.json(&["status"]);
        status["persisted"]["version"].is_u64()
            && status["persisted"]["version"] == status["replica"]["version"]
    });
    until("and goes on from there", || ask(&rig, &another) == 200);
    rig.cli(&["replica", "verify"]);
}

#[test]
fn a_clock_set_back_revives_nothing_also_across_a_restart() {
    let Some(two_days_later) = shifted("+2d") else { return };
    let mut rig = Rig::start();
    let arguments =
        ["token", "create", "-n", "short", "--deployment-id", &rig.deployment, "--direct-access", "-e", "1"];
    let token = rig.json(&arguments)["token"].as_str().unwrap().to_owned();
    rig.synced();
    rig.kill_control();
    assert_eq!(ask(&rig, &token), 200);
    rig.kill_daemon();
    rig.daemon = Some(Running::start(rig.daemon_command().envs(two_days_later)));
    until("it has expired", || {
        let answer = rig.authorize(&token, "GET", "/api/v2/dags");
        answer.status == 401 && answer.reason() == "token_expired"
    });
    let floor = || {
        let disk = Connection::open(rig.path("node/replica.db")).unwrap();
        disk.query_row("SELECT time FROM floor", [], |row| row.get::<_, i64>(0)).unwrap_or(0)
    };
    let expired = rig.json(&["status"])["time"].as_i64().unwrap();
    until("the floor is on the disk", || floor() >= expired);
    rig.kill_daemon();
    rig.start_daemon_in(&[]);
    assert_eq!(rig.authorize(&token, "GET", "/api/v2/dags").reason(), "clock_untrusted");
    assert_eq!(get(&rig, "/readyz").0, 503);
}

#[test]
fn a_control_plane_restored_from_a_backup_is_refused_until_it_is_told_to_go_on_above() {
    let (mut rig, token) = with_a_token();
    let (revoked_id, revoked) = rig.direct_access_token("revoked after the backup", &rig.deployment);
    rig.synced();
    rig.kill_control();
    let backup = rig.back_up_control();
    rig.start_control(rig.control_port);
    rig.cli(&["token", "delete", &revoked_id, "--force"]);
    let (_, lost) = rig.direct_access_token("made after the backup", &rig.deployment);
    rig.synced();
    let version = rig.json(&["status"])["replica"]["version"].as_u64().unwrap();
    assert_eq!((ask(&rig, &revoked), ask(&rig, &lost)), (401, 200));

    rig.kill_control();
    rig.restore_control(&backup);
    rig.start_control(rig.control_port);
    until("the rollback is alarmed", || alarmed(&rig, "rollback"));
    assert_eq!(rig.json(&["status"])["replica"]["version"], version);
    assert_eq!((ask(&rig, &token), ask(&rig, &revoked)), (200, 401));

    rig.recover_above(version);
    until("the node follows again", || sync(&rig)["state"] == "live");
    assert_eq!(rig.json(&["status"])["replica"]["version"], version + 1);
    assert_eq!(ask(&rig, &token), 200);
    assert_eq!(ask(&rig, &lost), 401, "the control plane knows nothing of it any more");
    assert_eq!(ask(&rig, &revoked), 401, "the control plane has forgotten the revocation, the node has not");
    assert!(alarmed(&rig, "invariant"));
    // Later changes arrive as usual.
    let (_, new) = rig.direct_access_token("made after the recovery", &rig.deployment);
    until("the new token is known", || ask(&rig, &new) == 200);
}
