//! A connection that sends nothing, or half a request, is closed in time. Tried at the daemon's `http` and `admin`, and at the
//! control plane's `api` and `metrics`.

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
