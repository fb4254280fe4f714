//! Pushes that are interrupted, whose token expires meanwhile, or that meet a full disk.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::*;

/// Sends the head of a push and the beginning of its body. Returns the connection, and the status of an early answer or
/// 0.
pub(super) fn begin(rig: &Rig, token: &str, length: u64, body: &[u8]) -> (TcpStream, u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", rig.daemon_port)).unwrap();
    let head = format!(
        "PUT /v1/deploys/{} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n",
        rig.deployment
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(if body.is_empty() { 20 } else { 1 })))
        .unwrap();
    let mut answer = [0; 12];
    let status =
        stream.read_exact(&mut answer).map_or(0, |()| String::from_utf8_lossy(&answer[9..]).parse().unwrap());
    (stream, status)
}

#[test]
fn a_push_that_breaks_off_switches_nothing_and_another_meanwhile_is_told_to_wait() {
    let (mut rig, token) = with_token();
    rig.kill_control();
    let (one, two) = (pack(&rig, "one", "1"), pack(&rig, "two", "2"));
    assert_eq!(push(&rig, rig.daemon_port, &token, &one).status, 200);
    let bytes = std::fs::read(&two).unwrap();
    let (broken, status) = begin(&rig, &token, bytes.len() as u64, &bytes[..20]);
    assert_eq!(status, 0);
    let meanwhile = push(&rig, rig.daemon_port, &token, &two);
    assert_eq!((meanwhile.status, &meanwhile.json()["code"]), (409, &json!("deploy_in_progress")));
    drop(broken);
    until("the next push is taken", || push(&rig, rig.daemon_port, &token, &two).status == 200);
    assert_eq!(runs(&rig, "node"), "2");
    // A daemon that is killed during a push leaves no partial deploy in force.
    let (_broken, _) = begin(&rig, &token, bytes.len() as u64, &bytes[..20]);
    rig.kill_daemon();
    rig.start_daemon();
    assert_eq!(runs(&rig, "node"), "2");
    let part = rig.path(&format!("node/code/{}/push.part", rig.deployment));
    until("the part is removed", || !part.exists());
}

#[test]
fn a_token_that_is_revoked_while_its_archive_arrives_deploys_nothing() {
    let rig = Rig::start();
    let (id, token) = rig.direct_access_token("deployer", &rig.deployment);
    rig.synced();
    let bytes = std::fs::read(pack(&rig, "one", "1")).unwrap();
    let (mut stream, status) = begin(&rig, &token, bytes.len() as u64, &bytes[..20]);
    assert_eq!(status, 0);
    rig.cli(&["revoke", &id, "--reason", "lost"]);
    stream.write_all(&bytes[20..]).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    assert_eq!(runs(&rig, "node"), "");
}

/// A small file system that is unmounted when the test ends. Mounting it requires root.
struct Small(PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_switches_nothing_and_is_told_and_goes_on_once_there_is_room() {
    let (mut rig, token) = with_token();
    let above = Above::of(&rig);
    let small = rig.path("small");
    std::fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&small).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return crate::rig::skipped("a tmpfs can't be mounted; run as root");
    }
    let small = Small(small);
    rig.kill_daemon();
    let config = format!("{}[code]\ndirectory = '{}'\n", rig.daemon_config(), small.0.display());
    std::fs::write(rig.path("halligand.toml"), config).unwrap();
    rig.start_daemon();
    let runs = || {
        let path = small.0.join(format!("{}/current/dag.py", rig.deployment));
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let first = above.deploy(&pack(&rig, "one", "1"));
    until("the deploy arrives", || runs() == "1");
    // The content compresses well: the archive fits on the disk, and its unpacked content does not.
    let large = pack(&rig, "large", &"2".repeat(2 << 20));
    let answer = push(&rig, rig.daemon_port, &token, &large);
    assert_eq!((answer.status, &answer.json()["code"]), (507, &json!("disk_failed")), "{answer:?}");
    assert_eq!(runs(), "1");
    let second = above.deploy(&large);
    until("the full disk is told", || {
        let status = rig.json(&["status"]);
        code(&status)["problem"].as_str().is_some_and(|problem| problem.contains("free space"))
    });
    let status = rig.json(&["status"]);
    assert_eq!((&code(&status)["current"], &code(&status)["deploy"]), (&json!(first), &json!(second)));
    assert!(status["alarms"].as_array().unwrap().iter().all(|alarm| alarm["kind"] == "damaged"));
    assert!(metrics(rig.daemon_port).contains("\nhalligan_code_behind 1\n"));
    assert_eq!(runs(), "1");
    assert!(Command::new("mount").args(["-o", "remount,size=8m"]).arg(&small.0).status().unwrap().success());
    // A restarted daemon tries at once and does not wait for the time of the next attempt.
    rig.kill_daemon();
    rig.start_daemon();
    let path = small.0.join(format!("{}/current/dag.py", rig.deployment));
    until("there is room", || std::fs::metadata(&path).is_ok_and(|found| found.len() == 2 << 20));
}
