//! A connection that sends nothing, or half a request, is closed in time. Tried at the daemon's `http` and `admin`, and at the
//! control plane's `api` and `metrics`. The two servers behind `http`, the fast path and hyper, have the same limits.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::rig::{Rig, until};

/// The longest that a connection may stay open without a request's head: that may take 20 seconds.
const HEAD: Duration = Duration::from_secs(45);
/// The longest that a connection may stay open without a request's body: that may take a minute.
const BODY: Duration = Duration::from_secs(80);

/// Sends `begun`, and returns how long the other side keeps the connection.
fn held(mut connection: impl Read + Write, begun: &[u8]) -> Duration {
    connection.write_all(begun).unwrap();
    let start = Instant::now();
    let mut bytes = [0; 4096];
    // An answer that says why is welcome; what counts is the end.
    loop {
        match connection.read(&mut bytes) {
            Ok(0) => return start.elapsed(),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return start.elapsed(),
            Err(_) => return Duration::MAX,
        }
    }
}

#[test]
fn a_connection_that_asks_nothing_is_closed() {
    let mut rig = Rig::start();
    let metrics = crate::rig::free_port();
    rig.kill_control();
    rig.control_extra = format!("metrics_listen = \"127.0.0.1:{metrics}\"\n");
    rig.start_control(rig.control_port);
    let starts: [(&[u8], Duration); 4] = [
        (b"", HEAD),
        (b"GET /v1/authorize HTTP/1.1\r\nHost: a.example\r\nX-Half", HEAD),
        (
            b"POST /v1/enrol HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{",
            BODY,
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HEAD),
    ];
    let mut waiting = Vec::new();
    for port in [rig.daemon_port, rig.control_port, metrics] {
        for (begun, bound) in starts {
            waiting.push((
                port.to_string(),
                begun,
                bound,
                thread::spawn(move || {
                    let connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
                    connection.set_read_timeout(Some(BODY)).unwrap();
                    held(connection, begun)
                }),
            ));
        }
    }
    let socket = rig.path("admin.sock");
    for (begun, bound) in starts {
        let socket = socket.clone();
        waiting.push((
            "admin".to_owned(),
            begun,
            bound,
            thread::spawn(move || {
                let connection = UnixStream::connect(socket).unwrap();
                connection.set_read_timeout(Some(BODY)).unwrap();
                held(connection, begun)
            }),
        ));
    }
    // Requests are answered meanwhile, and open connections are counted: the two that have sent no whole head at each listener,
    // and the one that asks. The others may have been refused at once.
    for (port, name, limit) in [
        (rig.daemon_port, "halligan_connections", "halligan_connections_limit{listener=\"admin\"} 64"),
        (metrics, "halligan_control_connections", "halligan_control_connections_limit{listener=\"api\"}"),
    ] {
        assert!(crate::rig::metrics(port).contains(limit), "{}", crate::rig::metrics(port));
        let listener = if port == metrics { "api" } else { "http" };
        until(&format!("{name} counts those that wait"), || {
            let line = format!("{name}{{listener=\"{listener}\"}} ");
            let told = crate::rig::metrics(port);
            let open = told.lines().find_map(|told| told.strip_prefix(&line)?.parse::<usize>().ok());
            open.is_some_and(|open| open >= 3)
        });
    }
    for (listener, begun, bound, held) in waiting {
        let held = held.join().unwrap();
        let begun = String::from_utf8_lossy(begun).into_owned();
        assert!(held < bound, "{listener} held {begun:?} for {held:?}");
    }
}

#[test]
fn a_client_has_its_share_of_the_connections_and_a_trusted_proxy_has_no_bound_of_its_own() {
    let mut rig = Rig::start();
    let served = |port: u16| {
        let mut clients: Vec<_> = (0..9).map(|_| connect(port)).collect();
        let asks = |client: &mut TcpStream| {
            // One that was closed at once may not take it.
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
        // A connection that asked whether the daemon is ready may still have a place.
        until("the share is free", || {
            let served = served(rig.daemon_port);
            assert!(served <= expected, "{trusted}: {served}");
            served == expected
        });
    }
    let log = rig.read_log("halligand.log");
    assert!(log.contains("a client has its share of the connections") && log.contains("127.0.0.1"), "{log}");
}

/// Fields of a request that decide which server behind `listen.http` answers it: the fast path takes none about the connection.
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

/// Reads this number of answers. Returns their statuses, with 0 for one that did not come.
fn statuses(stream: &mut TcpStream, count: usize) -> Vec<u16> {
    let (mut bytes, mut buffer, mut statuses) = (Vec::new(), [0; 4096], Vec::new());
    while statuses.len() < count {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let whole = text.find("\r\n\r\n").and_then(|end| {
            let head = text[..end].to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let end = end + 4 + length.unwrap_or(0);
            (end <= bytes.len()).then(|| (end, head["http/1.1 ".len()..][..3].parse().unwrap()))
        });
        if let Some((end, status)) = whole {
            bytes.drain(..end);
            statuses.push(status);
            continue;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => statuses.push(0),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
        }
    }
    statuses
}

/// A limit, tried on one server: what is done with a connection to this port by a client that adds these fields to its requests.
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

/// Connects to a port, asks with further header fields, and returns how long the connection was held.
type Client = fn(u16, &str) -> Duration;

/// Times after which a connection is closed, in seconds: what its client does, and from when to when the end comes.
const TIMES: [(&str, Client, [u64; 2]); 5] = [
    ("no request", |port, _| held(connect(port), b""), [15, 35]),
    ("half a request", |port, server| held(connect(port), &question(server).as_bytes()[..40]), [15, 35]),
    (
        "half a request after an answer",
        |port, server| {
            let mut stream = connect(port);
            stream.write_all(question(server).as_bytes()).unwrap();
            assert_eq!(statuses(&mut stream, 1), [401]);
            held(stream, &question(server).as_bytes()[..40])
        },
        [14, 35],
    ),
    (
        "nothing after an answer",
        |port, server| {
            let mut stream = connect(port);
            stream.write_all(question(server).as_bytes()).unwrap();
            assert_eq!(statuses(&mut stream, 1), [401]);
            held(stream, b"")
        },
        [69, 100],
    ),
    (
        "requests, without a byte of an answer read",
        |port, server| {
            let mut stream = connect(port);
            let (start, question) = (Instant::now(), question(server).repeat(10));
            // It fails once the daemon has closed the connection.
            while start.elapsed() < Duration::from_mins(5) && stream.write_all(question.as_bytes()).is_ok() {}
            start.elapsed()
        },
        [69, 250],
    ),
];

#[test]
fn the_fast_path_has_each_limit_of_the_ordinary_server() {
    let rig = Rig::start();
    let port = rig.daemon_port;
    let mut waiting = Vec::new();
    for (what, time, bounds) in TIMES {
        for (server, fields) in SERVERS {
            waiting.push((what, server, bounds, thread::spawn(move || time(port, fields))));
        }
    }
    for (what, size, expected) in SIZES {
        for (server, fields) in SERVERS {
            assert_eq!(size(port, fields), expected, "{what}, {server}");
        }
    }
    for (what, server, [least, most], held) in waiting {
        let held = held.join().unwrap();
        let within = held >= Duration::from_secs(least) && held <= Duration::from_secs(most);
        assert!(within, "{what}, {server}: closed after {held:?}");
    }
}
