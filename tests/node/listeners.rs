//! Duties of every listener of both programs: a connection that sends nothing or half a request is closed in time, one
//! client cannot take all places, and an answer that precedes the end of the body arrives. A listener without a row
//! here fails a test.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::rig::network::Namespace;
use crate::rig::{Rig, Running, component, curl, free_port, metrics, until};

/// Longest time that a test waits for the end of a connection.
const PATIENCE: Duration = Duration::from_mins(5);

/// Earliest and latest end, in seconds, of a connection whose request has no complete head, at all listeners except
/// that of peers. The range is wide because a listener counts its limit in quarters.
const HEAD: [u64; 2] = [14, 40];
/// Earliest and latest end, in seconds, of a connection that is idle between two requests.
const IDLE: [u64; 2] = [69, 105];
/// Both ranges at the listener of peers.
const PEER: [u64; 2] = [12, 30];

/// A connection over any transport.
trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// Version of HTTP that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Http1,
    Http2,
}
use Wire::{Http1, Http2};

/// Address of a listener.
#[derive(Clone, Debug)]
enum Place {
    Port(u16),
    Socket(PathBuf),
}

impl Place {
    fn connect(&self) -> Box<dyn Stream> {
        match self {
            Self::Port(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port)).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
            Self::Socket(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
        }
    }
}

/// A listener, its address, its version of HTTP, and its time ranges.
struct Row {
    listener: &'static str,
    place: Place,
    wire: Wire,
    /// Request in HTTP/1.1 that the listener answers.
    request: String,
    head: [u64; 2],
    idle: [u64; 2],
}

/// Every listener of a daemon and of a control plane.
struct Listeners {
    rig: Rig,
    rows: Vec<Row>,
    metrics: [u16; 2],
}

impl Listeners {
    fn start() -> Self {
        let mut rig = Rig::start();
        let [told, grpc, peers, gateway] = [(); 4].map(|()| free_port());
        rig.kill_control();
        rig.control_extra = format!("metrics_listen = \"127.0.0.1:{told}\"\n");
        rig.start_control(rig.control_port);
        rig.kill_daemon();
        let listen = format!("[listen]\ngrpc = [\"127.0.0.1:{grpc}\"]");
        let config = rig.daemon_config().replace("[listen]", &listen)
            + &format!(
                "[peers]\nlisten = [\"127.0.0.1:{peers}\"]\n\
                 [gateway]\nlisten = [\"127.0.0.1:{gateway}\"]\n\
                 [gateway.limits]\nheader_seconds = 20\nidle_seconds = 75\n\
                 [gateway.deployments.{}]\nupstream = \"http://127.0.0.1:1\"\n",
                rig.deployment
            );
        std::fs::write(rig.path("halligand.toml"), config).unwrap();
        rig.start_daemon();
        let request =
            |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{more}\r\n");
        let row = |listener, place: &Place, wire, request: String| Row {
            listener,
            place: place.clone(),
            wire,
            request,
            head: HEAD,
            idle: IDLE,
        };
        let http = Place::Port(rig.daemon_port);
        let admin = Place::Socket(rig.path("admin.sock"));
        let (api, told_at) = (Place::Port(rig.control_port), Place::Port(told));
        let none = String::new;
        let rows = vec![
            // The fast path takes only requests without a `Connection` field; hyper takes the others.
            row("http", &http, Http1, request("/v1/authorize", "")),
            row("http", &http, Http1, request("/v1/authorize", "Connection: keep-alive\r\n")),
            row("grpc", &Place::Port(grpc), Http2, none()),
            row("gateway", &Place::Port(gateway), Http1, request("/", "")),
            Row {
                head: PEER,
                idle: PEER,
                ..row("peers", &Place::Port(peers), Http1, request("/v2/peer/node", ""))
            },
            row("admin", &admin, Http1, request("/v1/glass", "")),
            row("admin", &admin, Http2, none()),
            row("api", &api, Http1, request("/healthz", "")),
            row("api", &api, Http2, none()),
            row("metrics", &told_at, Http1, request("/metrics", "")),
            row("metrics", &told_at, Http2, none()),
        ];
        let metrics = [rig.daemon_port, told];
        let known: BTreeSet<String> = rows.iter().map(|row| row.listener.to_owned()).collect();
        // The daemon reports readiness before the last of its listeners accepts connections.
        until("the programs count the connections of each listener that has a row, and of no other", || {
            metrics.iter().flat_map(|port| counted(*port)).collect::<BTreeSet<_>>() == known
        });
        Self { rig, rows, metrics }
    }
}

/// Preface and SETTINGS of a client (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// HEADERS of a request: `:method GET`, `:scheme http`, `:path /`, `:authority a`.
const GET: &[u8] = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";
/// HEADERS with three fields of the same request, on the next stream and without END_HEADERS.
const HALF_A_HEAD: &[u8] = b"\0\0\x03\x01\x01\0\0\0\x03\x82\x86\x84";
/// HEADERS of the same request on the next stream, cut off within the frame.
const HALF_A_FRAME: &[u8] = b"\0\0\x06\x01\x05\0\0\0\x03\x82\x86";

impl Row {
    /// Connects, has a request answered, and returns the connection.
    fn answered(&self) -> Box<dyn Stream> {
        let mut stream = self.place.connect();
        match self.wire {
            Http1 => {
                stream.write_all(self.request.as_bytes()).unwrap();
                assert_ne!(statuses(&mut stream, 1), [0], "{}", self.listener);
            }
            Http2 => {
                stream.write_all(&[PREFACE, GET].concat()).unwrap();
                loop {
                    let mut head = [0; 9];
                    stream.read_exact(&mut head).unwrap();
                    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                    stream.read_exact(&mut vec![0; length as usize]).unwrap();
                    // A frame of stream 1 with END_STREAM ends the answer.
                    if head[8] == 1 && head[4] & 1 == 1 {
                        break;
                    }
                }
            }
        }
        stream
    }

    /// Runs clients that send nothing more. Returns the time for which each connection was kept, with its limits.
    fn clients(&self) -> Vec<(&'static str, Client, [u64; 2])> {
        let mut clients: Vec<(&'static str, Client, [u64; 2])> = vec![
            ("nothing", |row| held(row.place.connect(), b""), self.head),
            ("nothing after an answer", |row| held(row.answered(), b""), self.idle),
        ];
        match self.wire {
            Http1 => clients.extend([
                (
                    "half a head",
                    (|row| held(row.place.connect(), &row.request.as_bytes()[..24])) as Client,
                    self.head,
                ),
                (
                    "half a head after an answer",
                    |row| held(row.answered(), &row.request.as_bytes()[..24]),
                    self.head,
                ),
                ("an empty line after an answer", |row| held(row.answered(), b"\r\n"), self.head),
                ("half a body", |row| held(row.place.connect(), HALF_A_BODY), [0, 100]),
                (
                    "requests, without a byte of an answer read",
                    |row| {
                        let (mut stream, start) = (row.place.connect(), Instant::now());
                        let requests = row.request.repeat(10);
                        // The write fails once the listener has closed the connection.
                        while start.elapsed() < PATIENCE && stream.write_all(requests.as_bytes()).is_ok() {}
                        start.elapsed()
                    },
                    [self.idle[0], 250],
                ),
            ]),
            Http2 => clients.extend([
                ("a preface", (|row| held(row.place.connect(), PREFACE)) as Client, self.head),
                ("half a preface", |row| held(row.place.connect(), &PREFACE[..9]), self.head),
                ("half a head", |row| held(row.place.connect(), &[PREFACE, HALF_A_HEAD].concat()), self.head),
                ("half a head after an answer", |row| held(row.answered(), HALF_A_HEAD), self.head),
                ("half a frame after an answer", |row| held(row.answered(), HALF_A_FRAME), self.head),
            ]),
        }
        clients
    }
}

const HALF_A_BODY: &[u8] =
    b"POST /v1/enrol HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{";

/// Connects to a listener, and returns how long the connection was kept.
type Client = fn(&Row) -> Duration;

/// Sends `begun`, and returns how long the other side keeps the connection.
fn held(mut connection: impl Read + Write, begun: &[u8]) -> Duration {
    connection.write_all(begun).unwrap();
    let start = Instant::now();
    let mut bytes = [0; 4096];
    // An answer with an error is allowed; the test waits for the end of the connection.
    loop {
        match connection.read(&mut bytes) {
            Ok(0) => return start.elapsed(),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return start.elapsed(),
            Err(_) => return Duration::MAX,
        }
    }
}

/// Reads this number of answers in HTTP/1.1. Returns their statuses, with 0 for one that did not come.
pub(super) fn statuses(stream: &mut impl Read, count: usize) -> Vec<u16> {
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

/// Returns the names of the listeners whose connections the program at a port counts.
fn counted(port: u16) -> BTreeSet<String> {
    let told = metrics(port);
    let names = told.lines().filter_map(|line| {
        let (name, labels) = line.split_once('{')?;
        name.ends_with("_connections_limit").then(|| labels.split('"').nth(1).unwrap().to_owned())
    });
    names.collect()
}

#[test]
fn a_connection_that_asks_nothing_is_closed_at_every_listener() {
    let listeners = Listeners::start();
    let rows = &listeners.rows;
    thread::scope(|scope| {
        let mut waiting = Vec::new();
        for row in rows {
            for (what, client, bounds) in row.clients() {
                let held = scope.spawn(move || client(row));
                waiting.push((format!("{what} at {} over {:?}", row.listener, row.wire), bounds, held));
            }
        }
        // The listener still answers requests and counts open connections.
        for (port, name, listener) in [
            (listeners.metrics[0], "halligan_connections", "http"),
            (listeners.metrics[1], "halligan_control_connections", "api"),
        ] {
            until(&format!("{name} counts those that wait"), || {
                let line = format!("{name}{{listener=\"{listener}\"}} ");
                let told = metrics(port);
                let open = told.lines().find_map(|told| told.strip_prefix(&line)?.parse::<usize>().ok());
                open.is_some_and(|open| open >= 3)
            });
        }
        let mut wrong = Vec::new();
        for (what, [least, most], held) in waiting {
            let held = held.join().unwrap();
            if held < Duration::from_secs(least) || held > Duration::from_secs(most) {
                wrong.push(format!("{what}: closed after {held:?}, not within {least} to {most} s"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

/// After an outage all hosts connect at once. The kernel resets connections that do not fit into its queue of
/// unaccepted ones.
#[test]
fn every_listener_has_room_for_all_hosts_that_connect_at_once() {
    let Some(ss) = component("ss") else { return };
    let listeners = Listeners::start();
    let most: u32 = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    for row in &listeners.rows {
        let Place::Port(port) = row.place else { continue };
        let output = Command::new(&ss).args(["-Hltn", &format!("sport = :{port}")]).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let room: u32 = told.split_whitespace().nth(2).unwrap_or_else(|| panic!("{told:?}")).parse().unwrap();
        assert_eq!(room, most.min(4096), "{}", row.listener);
    }
}

/// Every `Bounds` in the source names a listener that has a row, and no listener has an accept loop of its own.
#[test]
fn no_listener_is_without_a_row() {
    let known = ["http", "grpc", "gateway", "peers", "admin", "api", "metrics"];
    let mut named = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            let shown = path.display();
            // `halligan dev` accepts connections at its own switch, for the person who started it.
            let accepts = text.contains(".accept().await");
            let allowed = path.ends_with("net/listener.rs") || path.ends_with("dev/switch.rs");
            assert!(!accepts || allowed, "{shown} has an accept loop of its own; use net::listener::accept");
            for (at, _) in text.match_indices("Bounds {") {
                let before = text[..at].rsplit('\n').next().unwrap().trim_start();
                if before.starts_with("pub struct") || before.starts_with("let Bounds") || before == "let " {
                    continue;
                }
                let rest = text[at + "Bounds {".len()..].trim_start();
                let name = rest.strip_prefix("name: \"").and_then(|rest| rest.split('"').next());
                named.insert(
                    name.unwrap_or_else(|| panic!("{shown}: write the listener's name first, as a literal"))
                        .to_owned(),
                );
            }
        }
    }
    assert_eq!(named, known.map(str::to_owned).into());
}

/// Opens `count` connections at the same time with a script, here or in a namespace. Returns the number of answered
/// ones.
fn served(mut shell: Command, host: &str, port: u16, count: usize) -> usize {
    // A write to a connection that is already closed fails, and must not end the shell.
    let script = format!(
        "trap '' PIPE\n\
         for i in $(seq {count}); do exec {{fd}}<>/dev/tcp/{host}/{port}; all+=($fd); done\n\
         for fd in ${{all[@]}}; do printf 'GET /healthz HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n' >&$fd; done\n\
         for fd in ${{all[@]}}; do read -t 5 -u $fd line && echo \"$line\"; done"
    );
    let output = shell.args(["-c", &script]).stderr(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().filter(|line| line.starts_with("HTTP/1.1 ")).count()
}

#[test]
fn a_client_on_another_host_has_its_share_at_every_listener() {
    let Some(network) = Namespace::new() else { return };
    if component("bash").is_none() {
        return;
    }
    let mut rig = Rig::start();
    rig.synced();
    let [told, peers, gateway] = [(); 3].map(|()| free_port());
    let (control, http) = (rig.control_port, rig.daemon_port);
    let daemon = rig.daemon_config();
    let run = |rig: &mut Rig, trusted: &str| {
        for running in [rig.control.take(), rig.daemon.take()].into_iter().flatten() {
            running.terminate();
        }
        let everywhere = |text: &str| text.replace("listen = \"127.0.0.1:", "listen = \"0.0.0.0:");
        rig.control_extra = format!(
            "metrics_listen = \"0.0.0.0:{told}\"\ntrusted_proxies = [{trusted}]\n[limits]\nconnections_per_client = 3\n"
        );
        let text = std::fs::read_to_string(rig.path("control.toml")).unwrap();
        let own = text.lines().take(3).collect::<Vec<_>>().join("\n");
        std::fs::write(rig.path("control.toml"), everywhere(&own) + "\n" + &rig.control_extra).unwrap();
        let config = daemon.replace("http = [\"127.0.0.1:", "connections_per_client = 3\nhttp = [\"0.0.0.0:")
            + &format!(
                "[proxies]\ntrusted = [\"127.0.0.0/8\", {trusted}]\n\
                 [peers]\nlisten = [\"0.0.0.0:{peers}\"]\nconnections_per_client = 3\n\
                 [gateway]\nlisten = [\"0.0.0.0:{gateway}\"]\n[gateway.limits]\nconnections_per_client = 3\n\
                 [gateway.deployments.{}]\nupstream = \"http://127.0.0.1:1\"\n",
                rig.deployment
            );
        std::fs::write(rig.path("halligand.toml"), config).unwrap();
        let mut command = network.command(&rig.control_command("serve"));
        rig.control = Some(Running::start(command.stderr(rig.log("control.log"))));
        let mut command = network.command(&rig.daemon_command());
        rig.daemon = Some(Running::start(command.stderr(rig.log("halligand.log"))));
        for port in [control, http] {
            let url = format!("http://{}:{port}/healthz", network.there);
            until("it answers", || curl(&[&url]).status == 200);
        }
    };
    let there = network.there.to_string();
    let far = |port: u16, count: usize| served(Command::new("bash"), &there, port, count);
    let near = |port: u16, count: usize| served(network.command_through(&["bash"]), "127.0.0.1", port, count);
    run(&mut rig, "");
    // One client may hold a quarter of the 64 connections for metrics.
    let shares = [
        (control, "api", 3),
        (told, "metrics", 16),
        (http, "http", 3),
        (peers, "peers", 3),
        (gateway, "gateway", 3),
    ];
    for (port, name, share) in shares {
        // The connection of the readiness check may still be counted.
        until(&format!("{name} has room"), || {
            let served = far(port, 20);
            assert!(served <= share, "{name}: {served}");
            served == share
        });
        let near = near(port, 20);
        assert_eq!(near, if name == "gateway" { 3 } else { 20 }, "{name}: a proxy on this host has no share");
    }
    for name in ["control.log", "halligand.log"] {
        let log = rig.read_log(name);
        let client = network.here.to_string();
        assert!(log.contains("a client has its share of the connections") && log.contains(&client), "{log}");
    }
    // A trusted proxy on another host forwards the connections of many clients.
    run(&mut rig, &format!("\"{}/32\"", network.here));
    for (port, name, share) in [(control, "api", 20), (http, "http", 20), (peers, "peers", 3)] {
        until(&format!("{name} has room for a trusted proxy"), || far(port, 20) == share);
    }
}

#[test]
fn an_answer_that_comes_before_the_body_was_read_arrives_at_every_listener() {
    let listeners = Listeners::start();
    let file = listeners.rig.path("body");
    let socket = listeners.rig.path("admin.sock").display().to_string();
    for bytes in [60_000, 900_000, 5_000_000] {
        std::fs::write(&file, vec![b'x'; bytes]).unwrap();
        let data = format!("@{}", file.display());
        for row in listeners.rows.iter().filter(|row| row.wire == Http1) {
            let path = match row.listener {
                "http" => "/v1/authorize",
                "peers" => "/v2/peer/revocations",
                "api" => "/v1/organizations/none/workspaces",
                _ => "/nowhere",
            };
            let (url, more) = match &row.place {
                Place::Port(port) => (format!("http://127.0.0.1:{port}{path}"), vec![]),
                Place::Socket(_) => (format!("http://a{path}"), vec!["--unix-socket", &socket]),
            };
            for expect in ["Expect:", "Expect: 100-continue"] {
                let mut command = Command::new("curl");
                command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "30"]);
                command.args(["--http1.1", "--data-binary", &data, "-H", expect]).args(&more).arg(&url);
                let clients: Vec<_> = (0..8)
                    .map(|_| command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
                    .collect();
                for client in clients {
                    let output = client.wait_with_output().unwrap();
                    let status = String::from_utf8_lossy(&output.stdout).into_owned();
                    let told = (output.status.code(), status.starts_with('4'));
                    assert_eq!(
                        told,
                        (Some(0), true),
                        "{bytes} bytes at {}, {expect}: {status}",
                        row.listener
                    );
                }
            }
        }
    }
}
