//! A connection that sends nothing, or half a request, is closed in time, at every listener of both programs.

#![allow(clippy::unwrap_used, clippy::panic)]

mod rig;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use rig::{Rig, curl};

/// Longer than a request's head may take, and shorter than what a stranger could hold a place for before.
const PATIENCE: Duration = Duration::from_secs(80);

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
    let metrics = rig::free_port();
    rig.kill_control();
    rig.control_extra = format!("metrics_listen = \"127.0.0.1:{metrics}\"\n");
    rig.start_control(rig.control_port);
    let starts: [&[u8]; 4] = [
        b"",
        b"GET /v1/authorize HTTP/1.1\r\nHost: a.example\r\nX-Half",
        b"POST /v1/enrol HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let mut waiting = Vec::new();
    for port in [rig.daemon_port, rig.control_port, metrics] {
        for begun in starts {
            waiting.push((
                port.to_string(),
                begun,
                thread::spawn(move || {
                    let connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
                    connection.set_read_timeout(Some(PATIENCE)).unwrap();
                    held(connection, begun)
                }),
            ));
        }
    }
    let socket = rig.path("admin.sock");
    for begun in starts {
        let socket = socket.clone();
        waiting.push((
            "admin".to_owned(),
            begun,
            thread::spawn(move || {
                let connection = UnixStream::connect(socket).unwrap();
                connection.set_read_timeout(Some(PATIENCE)).unwrap();
                held(connection, begun)
            }),
        ));
    }
    // Who asks meanwhile is answered, and those who wait are counted.
    let told = curl(&[format!("http://127.0.0.1:{}/metrics", rig.daemon_port)]).body;
    assert!(told.contains("halligan_connections_limit{listener=\"admin\"} 64"), "{told}");
    let told = curl(&[format!("http://127.0.0.1:{metrics}/metrics")]).body;
    assert!(told.contains("halligan_control_connections_limit{listener=\"api\"}"), "{told}");
    for (listener, begun, held) in waiting {
        let held = held.join().unwrap();
        let begun = String::from_utf8_lossy(begun).into_owned();
        assert!(held < PATIENCE, "{listener} held {begun:?} for {held:?}");
    }
}
