//! A hostile or broken server in place of the control plane: a node gives up on it within limits of time and memory,
//! and keeps deciding by its last verified replica.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::rig::{Rig, Running, free_port, head_of_request, tls, until};
use crate::world::{T0, World};
use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
use halligan::dataplane::node::alarm::AlarmKind;
use halligan::dataplane::node::connection::Outcome;
use halligan::dataplane::node::state::Live;
use halligan::dataplane::replica::replication::Replication;
use halligan::dataplane::replica::store::{Origin, ReplicaStore, StoreError};
use halligan::dataplane::uplink::client::{Patience, Upstream, UpstreamError};
use halligan::protocol::bundle::MEDIA_TYPE;
use halligan::protocol::time::Time;

/// Serves each connection with `script`, which gets the head of the request.
fn serve(script: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, script) = (stream.unwrap(), Arc::clone(&script));
            std::thread::spawn(move || {
                let head = head_of_request(&mut stream);
                script(&String::from_utf8_lossy(&head), &mut stream);
            });
        }
    });
    url
}

fn impatient() -> Patience {
    Patience {
        connect: Duration::from_millis(300),
        headers: Duration::from_millis(300),
        idle: Duration::from_millis(300),
        grace: Duration::from_millis(400),
        rate: 1 << 20,
        total: Duration::from_secs(5),
        size: 1 << 20,
    }
}

fn upstream(urls: Vec<String>, spool: &Path) -> Upstream {
    Upstream::new(urls, None, spool.into(), impatient()).unwrap()
}

async fn feed(upstream: &Upstream) -> Result<(Vec<u8>, usize), UpstreamError> {
    let mut received =
        upstream.feed("/v1/data-planes/dpl_a/feed?since=0&keyset=0", &|| "proof".into(), 0).await?;
    let mut bytes = Vec::new();
    received.bytes.read_to_end(&mut bytes).unwrap();
    Ok((bytes, received.source))
}

/// Writes repeatedly until the other end closes the connection.
fn pour(stream: &mut TcpStream, bytes: &[u8], pause: Duration) {
    while stream.write_all(bytes).is_ok() {
        std::thread::sleep(pause);
    }
}

/// Sends bytes and ignores a closed connection.
fn send(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) {
    let _ = stream.write_all(bytes.as_ref());
}

fn head_of(status: &str, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {MEDIA_TYPE}\r\n{more}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_answers_in_its_place_is_given_up_in_time() {
    type Script = fn(&str, &mut TcpStream);
    let asked = Arc::new(AtomicUsize::new(0));
    let elsewhere = {
        let asked = Arc::clone(&asked);
        serve(move |_, _| {
            asked.fetch_add(1, Ordering::SeqCst);
        })
    };
    let scripts: [(&str, Script, Outcome); 12] = [
        ("silence", |_, _| std::thread::sleep(Duration::from_secs(5)), Outcome::Unreachable),
        ("hangs up", |_, _| {}, Outcome::Unreachable),
        ("no HTTP", |_, s| send(s, b"SSH-2.0-OpenSSH_9.2\r\n"), Outcome::Unreachable),
        ("headers by the byte", |_, s| pour(s, b"H", Duration::from_millis(20)), Outcome::Unreachable),
        (
            "headers without end",
            |_, s| {
                send(s, b"HTTP/1.1 200 OK\r\n");
                pour(s, format!("X: {}\r\n", "a".repeat(8000)).as_bytes(), Duration::ZERO);
            },
            Outcome::Unreachable,
        ),
        (
            "a body by the byte",
            |_, s| {
                send(s, head_of("200 OK", ""));
                pour(s, b"x", Duration::from_millis(10));
            },
            Outcome::Unreachable,
        ),
        (
            "a body without end",
            |_, s| {
                send(s, head_of("200 OK", ""));
                pour(s, &[0; 16_384], Duration::ZERO);
            },
            Outcome::Refused,
        ),
        (
            "a body that breaks off",
            |_, s| send(s, head_of("200 OK", "Content-Length: 1000000\r\n") + "x"),
            Outcome::Unreachable,
        ),
        (
            "a login page",
            |_, s| send(s, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi"),
            Outcome::Unreachable,
        ),
        (
            "a gateway",
            |_, s| send(s, head_of("503 Service Unavailable", "Content-Length: 0\r\n")),
            Outcome::Unreachable,
        ),
        ("a refusal", |_, s| send(s, head_of("401 Unauthorized", "Content-Length: 0\r\n")), Outcome::Refused),
        (
            "a part nobody asked for",
            |_, s| {
                let range = "Content-Range: bytes 5-6/7\r\nContent-Length: 2\r\n";
                send(s, head_of("206 Partial Content", range) + "hi");
            },
            Outcome::Unreachable,
        ),
    ];
    let directory = tempfile::tempdir().unwrap();
    for (what, script, outcome) in scripts {
        let upstream = upstream(vec![serve(script)], directory.path());
        let started = Instant::now();
        let error = feed(&upstream).await.unwrap_err();
        assert_eq!(error.outcome(), outcome, "{what}: {error}");
        assert!(started.elapsed() < Duration::from_secs(4), "{what} took {:?}", started.elapsed());
        assert!(!error.to_string().contains(['\r', '\n', '\u{1b}']), "{what}: {error}");
    }
    // A redirect is not followed, because the node's proof is for its control plane only.
    let to = format!("Location: {elsewhere}/\r\nContent-Length: 0\r\n");
    let redirecting = serve(move |_, s| send(s, head_of("307 Temporary Redirect", &to)));
    let error = feed(&upstream(vec![redirecting], directory.path())).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unreachable, "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_broke_off_is_taken_up_where_it_broke() {
    let whole: Arc<Vec<u8>> = Arc::new((0..400_000_u32).map(|number| number.to_le_bytes()[0]).collect());
    let heads = Arc::new(Mutex::new(Vec::new()));
    let url = {
        let (whole, heads) = (Arc::clone(&whole), Arc::clone(&heads));
        serve(move |head, stream| {
            heads.lock().unwrap().push(head.to_owned());
            let range = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("range: bytes=")?
                    .strip_suffix('-')?
                    .parse::<usize>()
                    .ok()
            });
            let (status, start) = range.map_or(("200 OK", 0), |start| ("206 Partial Content", start));
            let more = format!(
                "ETag: \"one\"\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{}\r\n",
                whole.len() - start,
                whole.len() - 1,
                whole.len()
            );
            send(stream, head_of(status, &more));
            // Sends one part at a time.
            let end = whole.len().min(start + 150_000);
            send(stream, &whole[start..end]);
        })
    };
    let directory = tempfile::tempdir().unwrap();
    let upstream = upstream(vec![url], directory.path());
    let mut tries = 0;
    let bytes = loop {
        tries += 1;
        match feed(&upstream).await {
            Ok((bytes, _)) => break bytes,
            Err(error) => assert!(tries < 20, "{error}"),
        }
    };
    assert_eq!(bytes, *whole);
    assert!(tries >= 3, "it came in parts");
    let heads = heads.lock().unwrap();
    assert!(!heads[0].to_ascii_lowercase().contains("range:"));
    assert!(heads[1..].iter().all(|head| head.to_ascii_lowercase().contains("if-range: \"one\"")));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_addresses_the_one_that_answers_is_found_and_remembered() {
    let asked = Arc::new(AtomicUsize::new(0));
    let bad = {
        let asked = Arc::clone(&asked);
        serve(move |_, _| {
            asked.fetch_add(1, Ordering::SeqCst);
        })
    };
    // The server announces that it closes the connection, so that the client does not reuse one that is about to close.
    let good = serve(|_, s| send(s, head_of("200 OK", "Content-Length: 2\r\nConnection: close\r\n") + "hi"));
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let directory = tempfile::tempdir().unwrap();
    let upstream = upstream(vec![nobody, bad, good], directory.path());
    for _ in 0..3 {
        assert_eq!(feed(&upstream).await.unwrap(), (b"hi".to_vec(), 2));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "those that failed come last");
    // After its answer was rejected, the other addresses come first again.
    upstream.distrust(2);
    assert_eq!(feed(&upstream).await.unwrap().1, 2);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn what_is_no_bundle_is_refused_and_alarmed_and_what_was_proved_stays() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new();
    let store = ReplicaStore::open(&directory.path().join("replica.db"), World::data_plane(), world.pinned());
    let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), T0));
    let replication = Replication::new(store.unwrap(), Arc::clone(&live), Staleness::default());
    let records = World::records(2);
    replication.apply_bundle(&*world.bundle(1, &records, T0), Origin::Feed, T0).unwrap();
    assert_eq!(live.on_disk().unwrap().version, 1);
    let zeros = |count: u64| zstd::encode_all(std::io::repeat(0).take(count), 1).unwrap();
    let mut junk = zstd::decode_all(&*world.bundle(2, &records, T0.plus(1))).unwrap();
    for number in 0..100 {
        let put = format!("{{\"op\":\"put\",\"kind\":\"token\",\"key\":\"x{number}\",\"body\":\"{{}}\"}}\n");
        junk.extend(put.as_bytes());
    }
    let refused = [
        b"garbage".to_vec(),
        zeros(64 << 20),
        zstd::encode_all(&b"{}\n"[..], 1).unwrap(),
        crate::world::frame(&junk),
        world.bundle(2, &records, T0.plus(1))[..200].to_vec(),
    ];
    for (number, bundle) in (1..).zip(refused) {
        let error = replication.apply_bundle(&*bundle, Origin::Feed, T0.plus(1)).unwrap_err();
        assert!(matches!(error, StoreError::Bundle(_) | StoreError::TooMany(2)), "{number}: {error}");
        assert_eq!(live.alarms.count(AlarmKind::Refused), number);
        assert_eq!(live.snapshot().head().unwrap().head().version, 1);
    }
    replication.apply_bundle(&*world.bundle(2, &records, T0.plus(1)), Origin::Feed, T0.plus(1)).unwrap();
    assert_eq!(live.on_disk().unwrap().version, 2);
}

/// Starts a proxy that accepts CONNECT and counts the calls.
fn tunnels(count: &Arc<AtomicUsize>) -> String {
    let count = Arc::clone(count);
    serve(move |head, stream| {
        let Some(to) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else { return };
        count.fetch_add(1, Ordering::SeqCst);
        let Ok(mut server) = TcpStream::connect(to) else { return };
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let (mut from, mut back) = (server.try_clone().unwrap(), stream.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut back));
        let _ = std::io::copy(stream, &mut server);
    })
}

#[test]
fn tls_ends_at_the_control_plane_also_through_a_proxy_and_only_the_named_authority_counts() {
    let mut rig = Rig::start();
    let directory = rig.directory.path().to_owned();
    let Some(()) = tls::authority(&directory) else { return };
    rig.kill_control();
    rig.kill_daemon();
    let (plain, port) = (rig.control_port, free_port());
    let file = |name: &str| rig.path(name).display().to_string();
    let control = std::fs::read_to_string(rig.path("control.toml")).unwrap();
    let control = control
        .replace(&format!("listen = \"127.0.0.1:{plain}\""), &format!("listen = \"127.0.0.1:{port}\""));
    let tls = format!("[tls]\ncertificate = '{}'\nkey = '{}'\n", file("tls.pem"), file("tls.key"));
    std::fs::write(rig.path("control.toml"), format!("{control}{tls}")).unwrap();
    let _control = Running::start(&mut rig.control_command("serve"));
    let urls = format!("urls = [\"http://127.0.0.1:{plain}\"]");
    let secure = format!("urls = [\"https://127.0.0.1:{port}\"]");
    let trusting = format!("{secure}\nca_file = '{}'", file("ca.pem"));
    let count = Arc::new(AtomicUsize::new(0));
    let proxy = tunnels(&count);
    let config = rig.daemon_config();
    for (control_plane, direct, state) in
        [(&trusting, false, "live"), (&trusting, true, "live"), (&secure, false, "offline")]
    {
        std::fs::write(rig.path("halligand.toml"), config.replace(&urls, control_plane)).unwrap();
        let before = count.load(Ordering::SeqCst);
        let mut command = rig.daemon_command();
        command.env("HTTPS_PROXY", &proxy).env("NO_PROXY", if direct { "127.0.0.1" } else { "" });
        rig.daemon = Some(Running::start(&mut command));
        let status = || {
            let output = rig.cli_command().args(["status", "--json"]).output().unwrap();
            serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_default()
        };
        until("it stands as it should", || status()["controlPlane"]["state"] == state);
        assert_eq!(count.load(Ordering::SeqCst) > before, !direct, "{control_plane}");
        if state == "offline" {
            assert!(
                status()["controlPlane"]["lastError"].as_str().unwrap().contains("certificate"),
                "{}",
                status()
            );
        }
        rig.kill_daemon();
    }
}
