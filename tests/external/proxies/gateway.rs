//! The daemon as the reverse proxy: it meets the same contract and the further duties of a proxy.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::contract::{OwnAnswers, Setting};
use super::edges::Front;
use super::upstream::Seen;
use super::wire::{ask, exchange, read};
use crate::rig::proxy::example;
use crate::rig::{curl, free_port, tls, until};

/// Returns a setting and the port at which its daemon is a gateway, in front of `upstream` or else the setting's own
/// upstream.
pub fn gateway(upstream: Option<u16>, more: &str) -> (Setting, u16) {
    let port = free_port();
    let setting = Setting::with(|rig, own| {
        let (deployment, upstream) = (&rig.deployment, upstream.unwrap_or(own));
        format!(
            "[gateway]\nlisten = [\"127.0.0.1:{port}\"]\n{more}\n\
             [gateway.deployments.{deployment}]\nupstream = \"http://127.0.0.1:{upstream}\"\n"
        )
    });
    (setting, port)
}

#[test]
fn the_gateway_is_held_to_the_same_contract() {
    let (mut setting, port) = gateway(None, "");
    setting.holds(Front::Gateway, port, OwnAnswers { undecided: (503, true), down: 0 });
}

/// Requests that a proxy and a server might read as two requests in place of one, or as one in place of two. `TOKEN`
/// stands for the caller's header.
const SMUGGLED: [(&str, &str); 16] = [
    (
        "a length and chunks",
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\n\r\n",
    ),
    (
        "chunks and a length",
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\nTransfer-Encoding: chunked\r\nContent-Length: 80\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\n\r\n",
    ),
    (
        "two lengths",
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: prod.example\r\n\r\n",
    ),
    (
        "two lengths in one",
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\nContent-Length: 0, 44\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: prod.example\r\n\r\n",
    ),
    (
        "a length with a sign",
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\nContent-Length: +0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: prod.example\r\n\r\n",
    ),
    (
        "a coding that is none",
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: prod.example\r\n\r\n",
    ),
    (
        "chunks that are not last",
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: prod.example\r\n\r\n",
    ),
    (
        "a space before the colon",
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: prod.example\r\n\r\n",
    ),
    (
        "a folded line",
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: prod.example\r\n\r\n",
    ),
    (
        "chunks in HTTP/1.0",
        "POST /api/v2/dags/etl/dagRuns HTTP/1.0\r\nHost: prod.example\r\nTOKEN\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: prod.example\r\n\r\n",
    ),
    (
        "a line that ends with LF alone, in a value",
        "GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\nX-A: b\nX-Halligan-Role: ADMIN\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: prod.example\r\n\r\n",
    ),
    (
        "a line that ends with CR alone",
        "GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\nX-A: b\rGET /smuggled HTTP/1.1\r\n\r\n",
    ),
    (
        "a chunk's size that is none",
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: prod.example\r\n\r\n",
    ),
    (
        "a chunk's size beyond counting",
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: prod.example\r\n\r\n",
    ),
    (
        "an upgrade to what carries requests",
        "GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: prod.example\r\n\r\n",
    ),
    (
        "a target with a line in it",
        "GET /api/v2/dags%20HTTP/1.1%0d%0aX:%20/smuggled HTTP/1.1\r\nHost: prod.example\r\nTOKEN\r\n\r\n",
    ),
];

#[test]
fn no_request_is_smuggled_in_another() {
    let (setting, port) = gateway(None, "[gateway.limits]\nheader_seconds = 1\nidle_seconds = 2");
    let token = format!("Authorization: {}", setting.bearer());
    for (what, bytes) in SMUGGLED {
        let before = setting.upstream.asked();
        let answer = exchange(port, bytes.replace("TOKEN", &token).as_bytes());
        let came = setting.upstream.asked() - before;
        assert!(came <= 1, "{what}: {came} requests reached the deployment");
        if came == 1 {
            let seen = Seen::in_answer(&read(&answer));
            assert_eq!(seen.header("x-halligan-role"), Some("DEPLOYMENT_ADMIN@1"), "{what}");
            assert_eq!(seen.header("upgrade"), None, "{what}");
        }
    }
    let targets = setting.upstream.targets();
    assert!(targets.iter().all(|target| !target.contains("smuggled")), "{targets:?}");
}

#[test]
fn what_is_pipelined_is_decided_one_by_one() {
    let (setting, port) = gateway(None, "");
    let request = |token: &str| format!("GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\n{token}\r\n");
    let token = format!("Authorization: {}\r\n", setting.bearer());
    let bytes = [request(&token), request(""), request(&format!("{token}Connection: close\r\n"))].concat();
    let answers = String::from_utf8(exchange(port, bytes.as_bytes())).unwrap();
    let statuses: Vec<&str> =
        answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect();
    // The bodies, which are the echoed requests, contain no status line.
    assert_eq!(statuses, ["200", "401", "200"], "{answers}");
    assert_eq!(setting.upstream.asked(), 2);
}

#[test]
fn a_request_is_for_one_host_or_for_none() {
    let (setting, port) = gateway(None, "");
    let token = format!("Authorization: {}", setting.bearer());
    for lines in [
        "GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\nHost: prod.example",
        "GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\nHost: stage.example",
        "GET http://stage.example/api/v2/dags HTTP/1.1\r\nHost: prod.example",
        "GET http://prod.example/api/v2/dags HTTP/1.1\r\nHost: stage.example",
        "GET http://prod.example/api/v2/dags HTTP/1.1",
        "GET http://prod.example@stage.example/api/v2/dags HTTP/1.1\r\nHost: prod.example",
        "GET /api/v2/dags HTTP/1.1\r\nX-Forwarded-Host: prod.example",
        "GET /api/v2/dags HTTP/1.1\r\nHost:",
        "GET /api/v2/dags HTTP/1.1\r\nHost: prod.example, prod.example",
        "GET /api/v2/dags HTTP/1.0\r\nHost: prod.example",
        "GET /api/v2/dags HTTP/1.0",
        "CONNECT prod.example:443 HTTP/1.1\r\nHost: prod.example:443",
        "CONNECT prod.example HTTP/1.1\r\nHost: prod.example",
    ] {
        let answer =
            read(&exchange(port, format!("{lines}\r\nConnection: close\r\n{token}\r\n\r\n").as_bytes()));
        let found = (answer.status, answer.header("x-halligan-reason"));
        assert_eq!(found, (403, Some("path_invalid")), "{lines}: {answer:?}");
        assert!(answer.header("x-halligan-event-id").is_some(), "{lines}: {answer:?}");
    }
    for (lines, reason) in [
        ("GET /api/v2/dags HTTP/1.1\r\nHost: unknown.example", "wrong_deployment"),
        ("OPTIONS * HTTP/1.1\r\nHost: prod.example", "path_invalid"),
    ] {
        let answer =
            read(&exchange(port, format!("{lines}\r\nConnection: close\r\n{token}\r\n\r\n").as_bytes()));
        assert_eq!((answer.status, answer.reason()), (403, reason), "{lines}: {answer:?}");
    }
    assert_eq!(setting.upstream.asked(), 0);
    let answer = ask(
        port,
        "GET",
        "/api/v2/dags",
        &[("Host", "PROD.example:80"), ("Authorization", &setting.bearer())],
        "",
    );
    assert_eq!(Seen::in_answer(&answer).header("host"), Some("PROD.example:80"));
}

#[test]
fn what_belongs_to_a_hop_ends_there() {
    let (setting, port) = gateway(None, "");
    let headers = [
        ("Authorization", &*setting.bearer()),
        ("Connection", "X-Secret, Authorization, X-Halligan-Role"),
        ("X-Secret", "1"),
        ("TE", "trailers"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authorization", "Basic eA=="),
        ("X_Halligan_Role", "ADMIN"),
        ("X-Kept", "1"),
    ];
    let answer = ask(port, "GET", "/api/v2/dags", &headers, "");
    // The client's `Connection` names the token's field. The token is for this hop, so the gateway verifies it all the
    // same.
    let seen = Seen::in_answer(&answer);
    for gone in ["connection", "x-secret", "te", "keep-alive", "proxy-authorization", "x_halligan_role"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    assert_eq!(seen.header("x-halligan-role"), Some("DEPLOYMENT_ADMIN@1"));
    assert_eq!((seen.header("x-kept"), seen.header("x-forwarded-for")), (Some("1"), Some("127.0.0.1")));
    assert_eq!((seen.header("x-forwarded-proto"), seen.header("via")), (Some("http"), Some("1.1 halligan")));
    assert_eq!(answer.header("via"), Some("1.1 halligan"));
}

/// Starts a deployment that handles each connection with `serve`. Returns its port.
pub fn scripted(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

/// Reads the head of a message.
pub fn head(reader: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
    head
}

pub fn connect(port: u16) -> (TcpStream, BufReader<TcpStream>) {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let reader = BufReader::new(stream.try_clone().unwrap());
    (stream, reader)
}

#[test]
fn bodies_stream_both_ways() {
    let (first_chunk, arrived) = mpsc::channel();
    let (says, said) = mpsc::channel::<()>();
    let said = std::sync::Arc::new(std::sync::Mutex::new(said));
    let upstream = scripted(move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        if head(&mut reader).is_empty() {
            return;
        }
        let mut first = [0; 5 + 3];
        reader.read_exact(&mut first).unwrap();
        first_chunk.send(first.to_vec()).unwrap();
        // The answer begins before the request has ended.
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").unwrap();
        said.lock().unwrap().recv().unwrap();
        stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").unwrap();
        let mut rest = String::new();
        let _ = reader.read_to_string(&mut rest);
    });
    let (setting, port) = gateway(Some(upstream), "");
    let (mut stream, mut reader) = connect(port);
    let request = format!(
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nAuthorization: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        setting.bearer()
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream.write_all(b"3\r\nabc\r\n").unwrap();
    assert_eq!(
        arrived.recv_timeout(Duration::from_secs(20)).unwrap(),
        b"3\r\nabc\r\n",
        "before the rest was sent"
    );
    assert!(head(&mut reader).starts_with("HTTP/1.1 200"));
    let mut chunk = [0; 8];
    reader.read_exact(&mut chunk).unwrap();
    assert_eq!(&chunk, b"3\r\none\r\n", "before the rest was answered");
    says.send(()).unwrap();
    reader.read_exact(&mut chunk).unwrap();
    assert_eq!(&chunk, b"3\r\ntwo\r\n");
    stream.write_all(b"0\r\n\r\n").unwrap();
}

#[test]
fn a_websocket_is_handed_over_once_it_was_decided_about() {
    let (heads, seen) = mpsc::channel();
    let upstream = scripted(move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        let head = head(&mut reader);
        heads.send(head).unwrap();
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nX-Halligan-Reason: spoofed\r\n\r\n")
            .unwrap();
        let mut bytes = [0; 5];
        while reader.read_exact(&mut bytes).is_ok() {
            bytes.reverse();
            stream.write_all(&bytes).unwrap();
        }
    });
    let (setting, port) = gateway(Some(upstream), "[gateway.limits]\nwebsocket_seconds = 3");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eHh4\r\n";
    let denied = format!("GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\n{upgrade}\r\n");
    let (mut stream, mut reader) = connect(port);
    stream.write_all(denied.as_bytes()).unwrap();
    assert!(head(&mut reader).starts_with("HTTP/1.1 401"));

    let (mut stream, mut reader) = connect(port);
    let asked = format!(
        "GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\nAuthorization: {}\r\n{upgrade}\r\n",
        setting.bearer()
    );
    stream.write_all(asked.as_bytes()).unwrap();
    let answer = read(head(&mut reader).as_bytes());
    assert_eq!((answer.status, answer.reason()), (101, "ok"));
    assert_eq!(answer.header("sec-websocket-accept"), Some("x"));
    let sent = seen.recv_timeout(Duration::from_secs(20)).unwrap().to_ascii_lowercase();
    assert!(sent.contains("upgrade: websocket") && sent.contains("sec-websocket-key: ehh4"), "{sent}");
    assert!(sent.contains("x-halligan-token-id: c"), "{sent}");
    assert!(seen.try_recv().is_err(), "the denied one reached the deployment");
    for (sent, back) in [(b"hello", b"olleh"), (b"abcde", b"edcba")] {
        stream.write_all(sent).unwrap();
        let mut bytes = [0; 5];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, back);
    }
    let opened = Instant::now();
    let mut rest = Vec::new();
    let _ = reader.read_to_end(&mut rest);
    assert!(opened.elapsed() < Duration::from_secs(15), "it outlives its time");
}

#[test]
fn nothing_is_waited_for_without_end() {
    let upstream = scripted(|stream| {
        let mut reader = BufReader::new(stream);
        head(&mut reader);
        std::thread::sleep(Duration::from_secs(30));
    });
    let limits =
        "[gateway.limits]\nheader_seconds = 1\nidle_seconds = 1\nbody_bytes = 1000\nheader_bytes = 9000";
    let (setting, port) = gateway(Some(upstream), limits);
    let bearer = setting.bearer();
    let token = [("Authorization", &*bearer)];
    let silent = ask(port, "GET", "/api/v2/dags", &token, "");
    assert_eq!((silent.status, silent.header("content-type")), (504, Some("application/problem+json")));
    assert!(silent.header("x-halligan-event-id").is_some());
    let large = ask(port, "POST", "/api/v2/dags/etl/dagRuns", &token, &"x".repeat(2000));
    assert_eq!(large.status, 413);
    let chunks = format!(
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nAuthorization: {bearer}\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n7d0\r\n{}\r\n0\r\n\r\n",
        "x".repeat(2000)
    );
    assert_eq!(read(&exchange(port, chunks.as_bytes())).status, 413);
    let stalled = format!(
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nAuthorization: {bearer}\r\nContent-Length: 10\r\n\r\nabc"
    );
    assert_eq!(read(&exchange(port, stalled.as_bytes())).status, 408);
    let began = Instant::now();
    assert_eq!(exchange(port, b"GET /api/v2/dags HTT").len(), 0, "headers that don't end");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let wide = ask(port, "GET", "/api/v2/dags", &[("X-Wide", &"x".repeat(20_000))], "");
    assert_eq!(wide.status, 431);

    let (unreachable, port) = gateway(Some(free_port()), "");
    let answer = ask(port, "GET", "/api/v2/dags", &[("Authorization", &unreachable.bearer())], "");
    assert_eq!((answer.status, answer.reason()), (502, "ok"));
}

#[test]
fn a_renewed_certificate_is_taken_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["old", "new"] {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        let made = tls::certificate(directory.path(), "DNS:prod.example", &key, &certificate);
        let Some(()) = made else { return };
    }
    std::fs::create_dir(at("tls")).unwrap();
    let put = |name: &str| {
        for kind in ["crt", "key"] {
            let beside = at("tls").join(format!("{name}.{kind}.tmp"));
            std::fs::copy(at(&format!("{name}.{kind}")), &beside).unwrap();
            std::fs::rename(beside, at("tls").join(format!("tls.{kind}"))).unwrap();
        }
    };
    put("old");
    let port = free_port();
    let setting = Setting::with(|rig, upstream| {
        example(rig, upstream, "gateway.toml")
            .replace("0.0.0.0:443", &format!("127.0.0.1:{port}"))
            .replace("/etc/halligan/tls/", &format!("{}/", at("tls").display()))
    });
    let ask = |name: &str, version: &str| {
        curl(&[
            version.to_owned(),
            "--cacert".into(),
            at(&format!("{name}.crt")).display().to_string(),
            "--connect-to".into(),
            format!("prod.example:443:127.0.0.1:{port}"),
            "-H".into(),
            format!("Authorization: {}", setting.bearer()),
            "-H".into(),
            "Cookie: a=1".into(),
            "-d".into(),
            "{\"conf\":{}}".into(),
            "https://prod.example/api/v2/dags/etl/dagRuns".into(),
        ])
    };
    for (version, line) in [("--http1.1", "HTTP/1.1 200"), ("--http2", "HTTP/2 200")] {
        let answer = ask("old", version);
        assert!(answer.headers.starts_with(line), "{answer:?}");
        let seen = Seen::in_answer(&answer);
        assert_eq!(
            (seen.header("host"), seen.header("x-forwarded-proto")),
            (Some("prod.example"), Some("https"))
        );
        assert_eq!((seen.body.as_str(), seen.header("cookie")), ("{\"conf\":{}}", Some("a=1")));
        assert!(seen.header("x-halligan-token-id").is_some());
    }
    put("new");
    until("the new certificate is in force", || ask("new", "--http2").status == 200);
    assert_eq!(ask("old", "--http2").status, 0, "the old one is gone");
    // An incomplete renewal leaves the certificate in force.
    std::fs::copy(at("old.crt"), at("tls/tls.crt")).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(ask("new", "--http1.1").status, 200);
}

#[test]
fn a_certificate_is_taken_anew_whatever_changed_on_the_way_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["old", "new"] {
        std::fs::create_dir(at(name)).unwrap();
        if tls::certificate(&at(name), "DNS:prod.example", "tls.key", "tls.crt").is_none() {
            return;
        }
    }
    let copy = |from: &str, to: &str| {
        for file in ["tls.crt", "tls.key"] {
            std::fs::copy(at(from).join(file), at(to).join(file)).unwrap();
        }
    };
    // The link is replaced by a single rename, so that the path always names a file.
    let link = |target: &str, name: &str| {
        symlink(target, at("beside")).unwrap();
        std::fs::rename(at("beside"), at(name)).unwrap();
    };
    link("old", "middle");
    link("middle", "live");
    for (name, from) in [("kept", ""), ("kept/..1", "new"), ("kept/..2", "old"), ("whole", "new")] {
        std::fs::create_dir(at(name)).unwrap();
        if !from.is_empty() {
            copy(from, name);
        }
    }
    link("..1", "kept/..data");
    for file in ["tls.crt", "tls.key"] {
        link(&format!("..data/{file}"), &format!("kept/{file}"));
    }
    let live = at("live").display().to_string();
    let (setting, port) = gateway(
        None,
        &format!("[gateway.tls]\ncertificate_file = \"{live}/tls.crt\"\nkey_file = \"{live}/tls.key\""),
    );
    let holds = |name: &str| {
        let answer = curl(&[
            "--cacert".to_owned(),
            at(name).join("tls.crt").display().to_string(),
            "--connect-to".into(),
            format!("prod.example:443:127.0.0.1:{port}"),
            "-H".into(),
            format!("Authorization: {}", setting.bearer()),
            "https://prod.example/api/v2/dags".into(),
        ]);
        answer.status == 200
    };
    assert!(holds("old"));
    link("new", "middle");
    until("a link behind a link leads elsewhere", || holds("new"));
    link("old", "live");
    until("a link leads past another", || holds("old"));
    link("kept", "live");
    until("a link leads to a directory of links", || holds("new"));
    link("..2", "kept/..data");
    until("the directory's own link leads elsewhere", || holds("old"));
    std::fs::remove_file(at("live")).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(holds("old"), "while there is none, the last one goes on");
    std::fs::rename(at("whole"), at("live")).unwrap();
    until("a directory is in place of a link", || holds("new"));
    copy("old", "live");
    until("the files are written over", || holds("old"));
}
