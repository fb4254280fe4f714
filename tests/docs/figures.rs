//! Figures that one command prints: the time from a revocation's acknowledgement to the first denial, and the number of
//! events that are lost on the way to the control plane.
//!
//!     cargo test --profile dist --test docs figures -- --ignored --nocapture
//!
//! `FIGURES` sets the number of revocations that are measured each way; the default is 1000.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::rig::Rig;
use crate::rig::node::Node;
use serde_json::{Value, json};

/// A kept connection, so that the time to connect is not measured.
struct Line<S> {
    stream: BufReader<S>,
}

impl<S: std::io::Read + std::io::Write> Line<S> {
    fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> (u16, Vec<u8>) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "the connection ended");
            let lower = line.trim().to_ascii_lowercase();
            if status == 0 {
                status = lower.split(' ').nth(1).unwrap().parse().unwrap();
            } else if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            } else if lower.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (status, body)
    }
}

fn line(port: u16) -> Line<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    Line::new(stream)
}

struct Above<'r> {
    rig: &'r Rig,
    line: Line<TcpStream>,
    organization: String,
}

impl<'r> Above<'r> {
    fn new(rig: &'r Rig) -> Self {
        let organization = rig.json(&["organization", "list"])[0]["id"].as_str().unwrap().to_owned();
        Self { rig, line: line(rig.control_port), organization }
    }

    fn call(&mut self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let headers =
            format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", self.rig.owner_token);
        let path = format!("/v1/organizations/{}{path}", self.organization);
        let (status, answer) = self.line.ask(method, &path, &headers, body);
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {}",
            String::from_utf8_lossy(&answer)
        );
        answer
    }

    /// Creates tokens. Returns the id and the value of each.
    fn tokens(&mut self, count: usize) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (0..count)
            .map(|number| {
                let new = json!({
                    "name": format!("figure {number}"), "type": "DEPLOYMENT", "kind": "DIRECT_ACCESS",
                    "entityId": self.rig.deployment, "tokenExpiryPeriodInDays": 1,
                });
                let made: Value =
                    serde_json::from_slice(&self.call("POST", "/tokens", &new.to_string())).unwrap();
                (text(&made["id"]), text(&made["token"]))
            })
            .collect()
    }
}

/// Sends requests until the token is denied. Returns the number of allowed ones.
fn until_denied(line: &mut Line<TcpStream>, deployment: &str, token: &str) -> u64 {
    let headers = format!(
        "authorization: Bearer {token}\r\nx-original-method: GET\r\nx-original-uri: /api/v2/dags\r\n"
    );
    let started = Instant::now();
    let mut allowed = 0;
    while line.ask("GET", &format!("/v1/authorize/{deployment}"), &headers, "").0 == 200 {
        allowed += 1;
        assert!(started.elapsed() < Duration::from_secs(30), "never denied");
        // The pause is shorter than the measured times, and keeps the log at some hundred thousand events.
        std::thread::sleep(Duration::from_micros(200));
    }
    allowed
}

fn print(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)].as_secs_f64() * 1000.0;
    println!(
        "{what}: p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms, over {}",
        at(50),
        at(99),
        at(100),
        took.len()
    );
}

#[test]
#[ignore = "it measures, and takes minutes; run it by name"]
fn from_revocation_to_denial() {
    let count = std::env::var("FIGURES").ok().and_then(|count| count.parse().ok()).unwrap_or(1000);
    let mut rig = Rig::start();
    // The limit of calls must not affect the measurement.
    rig.control_extra = "[limits]\ncalls_per_minute = 1000000\n".into();
    rig.kill_control();
    rig.start_control(rig.control_port);
    let [mut a, b] = ["a", "b"].map(|name| Node::start(&rig, name));
    a.configure(&rig, rig.control_port, &[&b]);
    a.restart();
    let (above_tokens, peer_tokens, late_tokens) = {
        let mut above = Above::new(&rig);
        (above.tokens(count), above.tokens(count), above.tokens(20))
    };
    for node in [&a, &b] {
        node.synced(&rig);
    }
    rig.synced();
    let deployment = rig.deployment.clone();
    let mut allowed = 0;

    let mut live = Vec::new();
    {
        let mut above = Above::new(&rig);
        let mut face = line(rig.daemon_port);
        for (id, token) in &above_tokens {
            above.call("DELETE", &format!("/tokens/{id}"), "");
            let acknowledged = Instant::now();
            allowed += until_denied(&mut face, &deployment, token);
            live.push(acknowledged.elapsed());
        }
    }
    print("live, from the control plane's answer to the first denial", live);

    let mut reconnect = Vec::new();
    for (id, token) in &late_tokens {
        rig.kill_control();
        let port = crate::rig::free_port();
        rig.start_control(port);
        let url = format!("http://127.0.0.1:{port}");
        let deleted =
            rig.cli_command().env("HALLIGAN_URL", url).args(["token", "delete", id, "--force"]).output();
        assert!(deleted.unwrap().status.success());
        rig.kill_control();
        rig.start_control(rig.control_port);
        let back = Instant::now();
        allowed += until_denied(&mut line(rig.daemon_port), &deployment, token);
        reconnect.push(back.elapsed());
    }
    print("after reconnect, from the control plane's first answer to the first denial", reconnect);

    rig.kill_control();
    let mut peer = Vec::new();
    {
        let mut admin = Line::new(UnixStream::connect(a.directory.join("admin.sock")).unwrap());
        let mut face = line(b.port);
        for (id, token) in &peer_tokens {
            let order = json!({ "tokenId": id, "reason": "figures" }).to_string();
            assert_eq!(admin.ask("POST", "/v1/revocations", "", &order).0, 200);
            let acknowledged = Instant::now();
            allowed += until_denied(&mut face, &deployment, token);
            peer.push(acknowledged.elapsed());
        }
    }
    print("through a peer, from the command's answer to the first denial on the other node", peer);

    rig.start_control(rig.control_port);
    let count = |query: &str| -> u64 {
        let connection = rusqlite::Connection::open(rig.path("control/control.db")).unwrap();
        connection.query_row(query, [], |row| row.get(0)).unwrap()
    };
    let uses = "SELECT coalesce(sum(uses), 0) FROM token_use";
    // Events may still arrive. The count ends once all have arrived, or none has for thirty seconds.
    let (mut arrived, mut last) = (count(uses), Instant::now());
    while arrived < allowed && last.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(200));
        let now = count(uses);
        if now > arrived {
            (arrived, last) = (now, Instant::now());
        }
    }
    println!("events lost: {} of {allowed} uses", allowed.abs_diff(count(uses)));
    assert_eq!(count(uses), allowed);
    assert_eq!(count("SELECT count(*) FROM log_fault"), 0);
}
