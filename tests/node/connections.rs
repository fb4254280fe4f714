//! Limits of sizes and shares at `listen.http`. Both servers behind it, the fast path and hyper, have the same limits.
//! Tests in listeners.rs cover the duties of every listener.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use super::listeners::statuses;
use crate::rig::{Rig, until};

#[test]
fn a_client_has_its_share_of_the_connections_and_a_trusted_proxy_has_no_bound_of_its_own() {
    let mut rig = Rig::start();
    let served = |port: u16| {
        let mut clients: Vec<_> = (0..9).map(|_| connect(port)).collect();
        let asks = |client: &mut TcpStream| {
            // The write fails if the connection was closed at once.
            let _ = client.write_all(question("").as_bytes());
            statuses(client, 1) == [401]
        };
        clients.iter_mut().filter_map(|client| asks(client).then_some(())).count()
    };
    assert_eq!(served(rig.daemon_port), 9, "loopback is trusted unless others are named");
    let config = rig.daemon_config();
    for (trusted, expected) in [("10.0.0.0/8", 3), ("127.0.0.1/32", 9), ("::ffff:127.0.0.0/104", 9)] {
        rig.kill_daemon();
        let config = config.replace("[listen]", "[listen]\nconnections_per_client = 3")
            + &format!("[proxies]\ntrusted = [\"{trusted}\"]\n");
        std::fs::write(rig.path("halligand.toml"), config).unwrap();
        rig.start_daemon();
        // The connection of the readiness check may still be counted.
        until("the share is free", || {
            let served = served(rig.daemon_port);
            assert!(served <= expected, "{trusted}: {served}");
            served == expected
        });
    }
    let log = rig.read_log("halligand.log");
    assert!(log.contains("a client has its share of the connections") && log.contains("127.0.0.1"), "{log}");
}

/// Fields of a request that select the server behind `listen.http`: the fast path does not take requests with a
/// `Connection` field.
const SERVERS: [(&str, &str); 2] =
    [("the fast path", ""), ("the ordinary server", "Connection: keep-alive\r\n")];

/// Returns a request without a token, which is answered with 401.
fn question(more: &str) -> String {
    format!("GET /v1/authorize HTTP/1.1\r\nHost: daemon\r\n{more}\r\n")
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(2))).unwrap();
    stream
}

/// A limit: its name, a function that tries it at a port with one server's fields, and the expected statuses.
type Limit = (&'static str, fn(u16, &str) -> Vec<u16>, &'static [u16]);

const SIZES: [Limit; 7] = [
    ("1000 fields", |port, server| wide(port, server, &"X-A: b\r\n".repeat(1000)), &[401]),
    ("1100 fields", |port, server| wide(port, server, &"X-A: b\r\n".repeat(1100)), &[431]),
    (
        "a head of 60 kB",
        |port, server| wide(port, server, &format!("X-A: {}\r\n", "b".repeat(60_000))),
        &[401],
    ),
    (
        "a head of 70 kB",
        |port, server| wide(port, server, &format!("X-A: {}\r\n", "b".repeat(70_000))),
        &[431],
    ),
    (
        "requests that do not wait for answers",
        |port, server| {
            let mut stream = connect(port);
            stream.write_all(question(server).repeat(8).as_bytes()).unwrap();
            statuses(&mut stream, 8)
        },
        &[401; 8],
    ),
    (
        "one request after the other",
        |port, server| {
            let mut stream = connect(port);
            let ask = |_| {
                stream.write_all(question(server).as_bytes()).unwrap();
                statuses(&mut stream, 1)[0]
            };
            (0..8).map(ask).collect()
        },
        &[401; 8],
    ),
    (
        "a body before the next request",
        |port, server| {
            let mut stream = connect(port);
            let body = question(&format!("{server}Content-Length: 5\r\n")) + "hello";
            stream.write_all([question(server), body, question(server)].concat().as_bytes()).unwrap();
            statuses(&mut stream, 3)
        },
        &[401; 3],
    ),
];

fn wide(port: u16, server: &str, fields: &str) -> Vec<u16> {
    let mut stream = connect(port);
    stream.write_all(question(server).as_bytes()).unwrap();
    let first = statuses(&mut stream, 1);
    assert_eq!(first, [401]);
    stream.write_all(question(&format!("{server}{fields}")).as_bytes()).unwrap();
    statuses(&mut stream, 1)
}

#[test]
fn the_fast_path_has_each_size_of_the_ordinary_server() {
    let rig = Rig::start();
    for (what, size, expected) in SIZES {
        for (server, fields) in SERVERS {
            assert_eq!(size(rig.daemon_port, fields), expected, "{what}, {server}");
        }
    }
}
