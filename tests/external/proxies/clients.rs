//! The gateway and misbehaving clients: they cannot block other clients, and their errors name the fault.

use std::io::{BufRead as _, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::contract::Setting;
use super::gateway::{connect, gateway, head, scripted};
use super::wire::{ask, exchange, read};
use crate::rig::{Answer, curl, free_port, tls, until};

const RUN: &str = "https://prod.example/api/v2/dags/etl/dagRuns";

/// A gateway that speaks TLS.
struct Secure {
    setting: Setting,
    port: u16,
    directory: TempDir,
}

impl Secure {
    /// Starts a gateway with these limits. Returns `None` if openssl is not installed.
    fn start(upstream: Option<u16>, limits: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        tls::certificate(directory.path(), "DNS:prod.example", "tls.key", "tls.crt")?;
        let at = directory.path().display();
        let more = format!(
            "[gateway.tls]\ncertificate_file = \"{at}/tls.crt\"\nkey_file = \"{at}/tls.key\"\n[gateway.limits]\n{limits}"
        );
        let (setting, port) = gateway(upstream, &more);
        Some(Self { setting, port, directory })
    }

    fn certificate(&self) -> PathBuf {
        self.directory.path().join("tls.crt")
    }

    /// Returns curl's arguments for this gateway.
    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let to = format!("prod.example:443:127.0.0.1:{}", self.port);
        let certificate = self.certificate().display().to_string();
        let own = ["--cacert", &certificate, "--connect-to", &to];
        own.iter().chain(more).map(|&word| word.to_owned()).collect()
    }

    fn curl(&self, more: &[&str]) -> Answer {
        curl(&self.arguments(more))
    }

    /// Returns a connection that has negotiated `protocol`, or `None` if the gateway closed it during the handshake.
    fn connect(&self, protocol: &[u8]) -> Option<Connected> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.certificate()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("prod.example").unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).ok()?;
        }
        assert_eq!(connection.alpn_protocol(), Some(protocol));
        Some(StreamOwned::new(connection, stream))
    }
}

type Connected = StreamOwned<ClientConnection, TcpStream>;

/// Returns the time for which the gateway keeps a connection whose client only repeats `act`.
fn lasts(mut stream: Connected, mut act: impl FnMut(&mut Connected)) -> Duration {
    let began = Instant::now();
    stream.sock.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut space = [0; 4096];
    while began.elapsed() < Duration::from_secs(30) {
        match stream.read(&mut space) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
            Err(_) => break,
        }
        act(&mut stream);
    }
    began.elapsed()
}

/// Encodes a frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const HEADERS: u8 = 1;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

#[test]
fn clients_that_ask_nothing_keep_nobody_out_and_lose_their_places() {
    let limits = "connections = 20\nheader_seconds = 2\nidle_seconds = 3";
    let Some(secure) = Secure::start(None, limits) else { return };
    let bearer = format!("Authorization: {}", secure.setting.bearer());
    let other = |version: &str| {
        let more = [version, "--interface", "127.0.0.2", "-H", &bearer, "https://prod.example/api/v2/dags"];
        secure.curl(&more).status
    };
    let silent: Vec<_> = (0..20).map_while(|_| secure.connect(b"h2")).collect();
    assert_eq!(silent.len(), 5, "a quarter of what the others leave is one client's share");
    for version in ["--http1.1", "--http2"] {
        assert_eq!(other(version), 200, "another client is served meanwhile");
    }
    let began = Instant::now();
    for stream in silent {
        lasts(stream, |_| {});
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    // These frames are valid, but none is a complete request.
    let ping = frame(PING, 0, 0, b"12345678");
    // HEADERS with `:method GET`, `:scheme https` and `:path /`, without END_HEADERS, so that the request never ends.
    let endless = frame(HEADERS, 1, 1, &[0x82, 0x87, 0x84]);
    let more = frame(CONTINUATION, 0, 1, &[]);
    let settings = frame(4, 0, 0, &[]);
    let nothing: &[u8] = &[];
    for (what, first, again) in [
        ("nothing", nothing, nothing),
        ("a preface", PREFACE, nothing),
        ("half a preface", &PREFACE[..9], nothing),
        ("PINGs", PREFACE, &ping),
        ("SETTINGS", PREFACE, &settings),
        ("WINDOW_UPDATEs", PREFACE, &frame(8, 0, 0, &[0, 0, 0, 1])),
        ("HEADERS without an end", &[PREFACE, &endless].concat(), nothing),
        ("CONTINUATIONs without an end", &[PREFACE, &endless].concat(), &more),
    ] {
        let mut stream = secure.connect(b"h2").unwrap();
        stream.write_all(first).unwrap();
        let lasted = lasts(stream, |stream| drop(stream.write_all(again)));
        assert!(lasted < Duration::from_secs(5), "{what}: {lasted:?}");
    }
    for (what, first, again) in [
        ("nothing", "", ""),
        ("half a head", "GET / HTTP/1.1\r\nHost: a\r\n", ""),
        ("empty lines", "", "\r\n"),
        ("one line after the other", "GET / HTTP/1.1\r\n", "X-A: b\r\n"),
    ] {
        let mut stream = secure.connect(b"http/1.1").unwrap();
        stream.write_all(first.as_bytes()).unwrap();
        let lasted = lasts(stream, |stream| drop(stream.write_all(again.as_bytes())));
        assert!(lasted < Duration::from_secs(5), "{what}: {lasted:?}");
    }
    // After one request, this connection sends only PINGs.
    let mut stream = secure.connect(b"h2").unwrap();
    let asked = frame(HEADERS, 5, 1, &[0x82, 0x87, 0x84, 0x41, 0x01, b'a']);
    stream.write_all(&[PREFACE, &asked].concat()).unwrap();
    let lasted = lasts(stream, |stream| drop(stream.write_all(&ping)));
    assert!(lasted < Duration::from_secs(8), "{lasted:?}");
    // This connection never finishes its handshake.
    let (mut stream, mut reader) = connect(secure.port);
    stream.write_all(&[22, 3, 1]).unwrap();
    let began = Instant::now();
    let _ = reader.fill_buf();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(other("--http2"), 200);
}

#[test]
fn half_a_head_after_an_answer_has_the_time_of_a_head_over_both_versions() {
    let limits = "header_seconds = 2\nidle_seconds = 30";
    let Some(secure) = Secure::start(None, limits) else { return };
    let asked = frame(HEADERS, 5, 1, &[0x82, 0x87, 0x84, 0x41, 0x01, b'a']);
    let endless = frame(HEADERS, 1, 3, &[0x82, 0x87, 0x84]);
    let ping = frame(PING, 0, 0, b"12345678");
    let cut = frame(HEADERS, 5, 3, &[0x82, 0x87, 0x84, 0x41, 0x01, b'a']);
    let half_a_ping = &ping[..11];
    // Each row has the bytes after the answer, and true if they begin the head of a request.
    for (what, then, begins) in [
        ("HEADERS without an end", &endless[..], true),
        ("HEADERS that break off", &cut[..12], true),
        ("the header of HEADERS", &cut[..9], true),
        ("a PING, and half of HEADERS", &[&ping, &cut[..11]].concat(), true),
        ("half a PING", half_a_ping, false),
        ("a PING", &ping, false),
        ("nothing", b"", false),
    ] {
        let mut stream = secure.connect(b"h2").unwrap();
        stream.write_all(&[PREFACE, &asked].concat()).unwrap();
        assert!(first_frame(&mut stream, HEADERS).is_some(), "{what}");
        stream.write_all(then).unwrap();
        let lasted = lasts(stream, |_| {}).as_secs();
        assert_eq!(lasted < 8, begins, "{what}: {lasted} s");
    }
    // The bytes follow the answer, or arrive in one piece with the request before it.
    for (what, with, then, begins) in [
        ("half a line", "", "GET /api", true),
        ("half a head", "", "GET / HTTP/1.1\r\nHost: a\r\nX-Half", true),
        ("an empty line", "", "\r\n", true),
        ("nothing", "", "", false),
        ("a byte with the request", "G", "", true),
        ("half a head with the request", "GET / HTTP/1.1\r\nHost: a\r\nX-Half", "", true),
        ("all but one byte with the request", "GET / HTTP/1.1\r\nHost: a\r\n\r", "", true),
        ("half a line with the request, and more of it", "GET /a", "pi", true),
    ] {
        let mut stream = secure.connect(b"http/1.1").unwrap();
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{with}").as_bytes()).unwrap();
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 4"), "{what}");
        stream.write_all(then.as_bytes()).unwrap();
        let lasted = lasts(stream, |_| {}).as_secs();
        assert_eq!(lasted < 8, begins, "{what}: {lasted} s");
    }
}

/// Posts `file` with this many curl processes at a time. Returns the status and the exit code of each.
fn posts(secure: &Secure, version: &str, file: &str, clients: usize, more: &[&str]) -> Vec<String> {
    let data = format!("@{file}");
    let status = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "30"];
    let mut command = Command::new("curl");
    command.args(status).args(secure.arguments(&[version, "--data-binary", &data])).args(more).arg(RUN);
    let running: Vec<_> = (0..clients)
        .map(|_| command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    let ended = running.into_iter().map(|client| client.wait_with_output().unwrap());
    ended
        .map(|output| {
            format!("{} {}", String::from_utf8_lossy(&output.stdout), output.status.code().unwrap())
        })
        .collect()
}

#[test]
fn an_answer_that_comes_before_the_body_was_read_arrives() {
    let limits = "body_bytes = 2000000";
    let Some(secure) = Secure::start(Some(free_port()), limits) else { return };
    let bearer = format!("Authorization: {}", secure.setting.bearer());
    let far = format!("Authorization: Bearer {}", secure.setting.far);
    let file = |bytes: usize| {
        let path = secure.directory.path().join(bytes.to_string());
        std::fs::write(&path, vec![b'x'; bytes]).unwrap();
        path.display().to_string()
    };
    for bytes in [60_000, 100_000, 900_000, 1_900_000] {
        let file = file(bytes);
        for version in ["--http1.1", "--http2"] {
            for (header, status) in [("X-No: token", 401), (&far, 403), (&bearer, 502)] {
                // Each client sends its body with and without `Expect: 100-continue`.
                for expect in ["Expect:", "Expect: 100-continue"] {
                    let clients = if bytes == 60_000 { 20 } else { 4 };
                    let told = posts(&secure, version, &file, clients, &["-H", header, "-H", expect]);
                    let all = told.iter().all(|told| *told == format!("{status} 0"));
                    assert!(all, "{bytes} bytes, {version}, {expect}, {status}: {told:?}");
                }
            }
        }
    }
    // Each body exceeds the limit, and is sent with and without its length.
    for bytes in [2_100_000, 3_500_000] {
        let file = file(bytes);
        for version in ["--http1.1", "--http2"] {
            for (framing, expected) in
                [("X-A: b", &["413 0"][..]), ("Transfer-Encoding: chunked", &["413 0", "502 0"])]
            {
                let headers = ["-H", &bearer, "-H", "Expect:", "-H", framing];
                let told = posts(&secure, version, &file, 4, &headers);
                let all = told.iter().all(|told| expected.contains(&told.as_str()));
                assert!(all, "{bytes} bytes, {version}, {framing}: {told:?}");
            }
        }
    }
}

#[test]
fn an_answer_of_a_daemon_that_can_not_decide_arrives_too() {
    let limits = "body_bytes = 2000000\n[staleness]\nroles.DEPLOYMENT_ADMIN = 1";
    let Some(secure) = Secure::start(None, limits) else { return };
    let bearer = format!("Authorization: {}", secure.setting.bearer());
    until("the replica is stale", || {
        secure.curl(&["-H", &bearer, "https://prod.example/api/v2/dags"]).status == 503
    });
    for bytes in [60_000, 900_000] {
        let path = secure.directory.path().join(bytes.to_string());
        std::fs::write(&path, vec![b'x'; bytes]).unwrap();
        let (path, data) = (path.display().to_string(), format!("@{}", path.display()));
        for version in ["--http1.1", "--http2"] {
            for expect in ["Expect:", "Expect: 100-continue"] {
                let headers = ["-H", &bearer, "-H", expect];
                let told = posts(&secure, version, &path, 10, &headers);
                let all = told.iter().all(|told| told == "503 0");
                assert!(all, "{bytes} bytes, {version}, {expect}: {told:?}");
                let answer =
                    secure.curl(&[&[version, "--data-binary", &data][..], &headers, &[RUN]].concat());
                assert_eq!((answer.status, answer.reason()), (503, "replica_stale"), "{version}: {answer:?}");
                assert!(answer.body.contains("replica_stale"), "{version}: {answer:?}");
            }
        }
    }
    assert_eq!(secure.setting.upstream.asked(), 0);
}

/// Encodes a string of HPACK without Huffman coding (RFC 7541 section 5.2).
fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.len();
    if rest < 127 {
        bytes.push(u8::try_from(rest).unwrap());
    } else {
        bytes.push(127);
        rest -= 127;
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).unwrap());
    }
    [&bytes, text].concat()
}

/// Encodes a field that enters no table (RFC 7541 section 6.2.2).
fn literal(name: &str, value: &[u8]) -> Vec<u8> {
    [vec![0], string(name.as_bytes()), string(value)].concat()
}

/// Encodes the pseudo-fields of a request for the deployment.
fn request_line(method: &str) -> Vec<u8> {
    let fields = [
        (":method", method),
        (":scheme", "https"),
        (":path", "/api/v2/dags/etl/dagRuns"),
        (":authority", "prod.example"),
    ];
    fields.iter().flat_map(|(name, value)| literal(name, value.as_bytes())).collect()
}

/// Splits a head into frames: HEADERS with `flags`, and CONTINUATION until its end.
fn head_frames(flags: u8, stream: u8, head: &[u8], ends: bool) -> Vec<u8> {
    let count = head.chunks(16_384).count();
    let frames = head.chunks(16_384).enumerate().map(|(number, part)| {
        let end = if ends && number + 1 == count { 4 } else { 0 };
        let (kind, flags) = if number == 0 { (HEADERS, flags) } else { (CONTINUATION, 0) };
        frame(kind, flags | end, stream, part)
    });
    frames.flatten().collect()
}

/// Reads a frame: its kind, stream and payload.
fn next_frame(stream: &mut Connected) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], head[8], payload))
}

/// Reads frames up to the first of this kind, and returns its stream and payload.
fn first_frame(stream: &mut Connected, kind: u8) -> Option<(u8, Vec<u8>)> {
    std::iter::from_fn(|| next_frame(stream))
        .find(|frame| frame.0 == kind)
        .map(|(_, stream, payload)| (stream, payload))
}

#[test]
fn trailers_end_at_the_gateway() {
    let (heads, came) = std::sync::mpsc::channel();
    let upstream = scripted(move |stream| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        let head = head(&mut reader);
        if head.is_empty() {
            return;
        }
        let mut body = String::new();
        while !body.ends_with("0\r\n\r\n") && !body.contains("X-") && reader.read_line(&mut body).unwrap() > 0
        {
        }
        heads.send(head.to_ascii_lowercase() + &body.to_ascii_lowercase()).unwrap();
        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Halligan-Reason\r\n\r\n\
              2\r\nok\r\n0\r\nX-Halligan-Reason: spoofed\r\nX-Kept: 1\r\n\r\n",
        );
    });
    let Some(secure) = Secure::start(Some(upstream), "") else { return };
    let seen = || {
        let seen = came.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(!seen.contains("spoofed") && !seen.contains("trailer"), "{seen}");
    };
    let bearer = secure.setting.bearer();
    // Over HTTP/2, trailers of the request and of its answer are dropped.
    let head = [request_line("POST"), literal("authorization", bearer.as_bytes())].concat();
    let spoofed = frame(HEADERS, 5, 1, &literal("x-halligan-role", b"spoofed"));
    let request = [PREFACE, &head_frames(0, 1, &head, true), &frame(0, 0, 1, b"{}"), &spoofed].concat();
    let mut stream = secure.connect(b"h2").unwrap();
    stream.write_all(&request).unwrap();
    seen();
    stream.sock.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let frames: Vec<_> =
        std::iter::from_fn(|| next_frame(&mut stream)).filter(|frame| frame.1 == 1).collect();
    let heads = frames.iter().filter(|(kind, ..)| *kind == HEADERS).count();
    let data: Vec<u8> =
        frames.iter().filter(|(kind, ..)| *kind == 0).flat_map(|frame| frame.2.clone()).collect();
    assert_eq!((heads, &*data), (1, &b"ok"[..]), "{frames:?}");
    // The same holds over HTTP/1.1.
    let mut stream = secure.connect(b"http/1.1").unwrap();
    let request = format!(
        "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nAuthorization: {bearer}\r\nConnection: close\r\n\
         TE: trailers\r\nTrailer: X-Halligan-Role\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\
         X-Halligan-Role: spoofed\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    seen();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("0\r\n\r\n"), "{answer}");
    assert!(!answer.contains("spoofed"), "{answer}");
}

const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

#[test]
fn a_head_that_the_parser_of_http2_refuses_is_answered_as_the_page_says() {
    let Some(secure) = Secure::start(None, "header_bytes = 4000") else { return };
    let wide: Vec<u8> = (0..30).flat_map(|_| literal("x-wide", &[b'x'; 10_000])).collect();
    let head = [request_line("POST"), wide].concat();
    let mut stream = secure.connect(b"h2").unwrap();
    stream.write_all(&[PREFACE, &head_frames(0, 1, &head, true)].concat()).unwrap();
    // SETTINGS_MAX_HEADER_LIST_SIZE tells clients the limit (RFC 9113 section 6.5.2).
    let (_, settings) = first_frame(&mut stream, SETTINGS).unwrap();
    let bound = settings.chunks(6).find(|setting| setting[..2] == [0, 6]).unwrap();
    assert_eq!(bound[2..], (4000_u32 + 256 * 1024).to_be_bytes());
    // The answer is `:status 431` without any other field, and so without a reason or an event.
    assert_eq!(first_frame(&mut stream, HEADERS), Some((1, vec![0x48, 0x83, 0x69, 0x90, 0xff])));
    // PROTOCOL_ERROR resets this stream only.
    assert_eq!(first_frame(&mut stream, RST_STREAM), Some((1, vec![0, 0, 0, 1])));
    stream.write_all(&head_frames(1, 3, &request_line("GET"), true)).unwrap();
    let (answered, fields) = first_frame(&mut stream, HEADERS).unwrap();
    assert!(answered == 3 && fields.len() > 50, "the connection goes on: {answered} {fields:?}");

    // The gateway answers ENHANCE_YOUR_CALM to a head with more CONTINUATION frames than its size needs and a quarter.
    // No bytes follow the last frame: a connection that is closed with unread bytes is reset, and the reset can
    // overtake the GOAWAY.
    let needed = (4000 + 256 * 1024) / 16_384;
    let frames = 1 + needed + needed / 4 + 1;
    let mut stream = secure.connect(b"h2").unwrap();
    let first = [request_line("POST"), vec![0], string(b"x-wide")].concat();
    // The last field's value continues after the last frame, so that the head never ends.
    let length = frames * 16_384 - first.len();
    let endless = [first, string(&vec![b'x'; length])].concat();
    let head = head_frames(1, 1, &endless[..frames * 16_384], false);
    stream.write_all(&[PREFACE, &head].concat()).unwrap();
    let (_, reason) = first_frame(&mut stream, GOAWAY).unwrap();
    assert_eq!(reason[4..8], [0, 0, 0, 11]);
}

#[test]
fn what_a_client_breaks_off_over_tls_is_no_fault_of_the_deployment() {
    let came = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&came);
    let upstream = scripted(move |stream| {
        let mut reader = std::io::BufReader::new(stream);
        if !head(&mut reader).is_empty() {
            counts.fetch_add(1, Ordering::Relaxed);
        }
        let _ = reader.read_to_end(&mut Vec::new());
    });
    let Some(secure) = Secure::start(Some(upstream), "") else { return };
    let bearer = secure.setting.bearer();
    let arrives = |count: usize| until("the upload has begun", || came.load(Ordering::Relaxed) == count);

    // HTTP/2: the client resets the stream, closes the connection, or closes it with unread bytes, which is a TCP
    // reset.
    let begins = [request_line("POST"), literal("authorization", bearer.as_bytes())].concat();
    let begins = [PREFACE, &head_frames(0, 1, &begins, true), &frame(0, 0, 1, &[b'x'; 1000])].concat();
    let ping = frame(PING, 0, 0, b"12345678");
    let mut kept = Vec::new();
    for (count, last) in [
        (1, frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])),
        (2, frame(RST_STREAM, 0, 1, &[0, 0, 0, 2])),
        (3, frame(GOAWAY, 0, 0, &[0; 8])),
        (4, vec![]),
        (5, ping),
    ] {
        let mut stream = secure.connect(b"h2").unwrap();
        stream.write_all(&begins).unwrap();
        arrives(count);
        stream.write_all(&last).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        if last.get(3) == Some(&RST_STREAM) {
            kept.push(stream);
        }
    }
    // HTTP/1.1: the client closes the connection with `100 Continue` unread or with nothing unread, in a body of either
    // framing.
    for (count, framing) in [
        (6, "Content-Length: 100000\r\nExpect: 100-continue"),
        (7, "Content-Length: 100000"),
        (8, "Transfer-Encoding: chunked\r\nExpect: 100-continue"),
        (9, "Transfer-Encoding: chunked"),
    ] {
        let mut stream = secure.connect(b"http/1.1").unwrap();
        let request = format!(
            "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\nAuthorization: {bearer}\r\n{framing}\r\n\r\n5\r\nabcde\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        arrives(count);
        std::thread::sleep(Duration::from_millis(200));
    }
    std::thread::sleep(Duration::from_millis(500));
    let log = secure.setting.rig.read_log("halligand.log");
    assert!(!log.contains("a deployment can't be reached"), "{log}");
}

#[test]
fn a_head_that_leaves_doubt_about_its_body_is_refused_with_a_reason() {
    let (setting, port) = gateway(None, "");
    let token = format!("Authorization: {}", setting.bearer());
    for framing in [
        "Transfer-Encoding: foo, chunked",
        "Transfer-Encoding: chunked, foo",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 0\r\nX-A: b\r\ncontent-length: 0",
        "Content-Length: 0, 0",
        "Content-Length: 00x",
        "Content-Length: -0",
        "Content-Length: 0 0",
        "Content-Length:",
    ] {
        let request = format!(
            "POST /api/v2/dags/etl/dagRuns HTTP/1.1\r\nHost: prod.example\r\n{token}\r\n{framing}\r\n\r\n0\r\n\r\n\
             GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\n{token}\r\n\r\n"
        );
        let bytes = exchange(port, request.as_bytes());
        let answer = read(&bytes);
        let found = (answer.status, answer.header("x-halligan-reason"), answer.header("connection"));
        assert_eq!(found, (400, Some("path_invalid"), Some("close")), "{framing}: {answer:?}");
        assert!(answer.header("x-halligan-event-id").is_some(), "{framing}: {answer:?}");
        let answers = String::from_utf8_lossy(&bytes).matches("HTTP/1.1 ").count();
        assert_eq!(answers, 1, "{framing}: nothing is read behind it");
    }
    assert_eq!(setting.upstream.asked(), 0);
}

#[test]
fn headers_are_bounded_as_configured_over_both_versions() {
    let Some(secure) = Secure::start(None, "header_bytes = 4000") else { return };
    let bearer = format!("Authorization: {}", secure.setting.bearer());
    for version in ["--http1.1", "--http2"] {
        for (fields, bytes, status) in [
            (1, 1_000, 200),
            (1, 3_990, 431),
            (1, 9_000, 431),
            (1, 60_000, 431),
            (20, 200, 431),
            (20, 20, 200),
        ] {
            let wide: Vec<_> =
                (0..fields).map(|number| format!("X-Wide-{number}: {}", "x".repeat(bytes))).collect();
            let mut more = vec![version, "-H", &bearer];
            more.extend(wide.iter().flat_map(|header| ["-H", header]));
            more.push("https://prod.example/api/v2/dags");
            let answer = secure.curl(&more);
            let what = format!("{fields} of {bytes} bytes, {version}: {answer:?}");
            assert_eq!(answer.status, status, "{what}");
            if status == 431 {
                assert_eq!(answer.header("x-halligan-reason"), Some("path_invalid"), "{what}");
                assert!(answer.header("x-halligan-event-id").is_some(), "{what}");
            }
        }
    }
    // `listen.http`, which proxies ask, has its own limit.
    let (daemon, uri) = (secure.setting.rig.daemon_port, "/v1/authorize");
    let headers =
        |bytes: usize| [("X-Wide", "x".repeat(bytes)), ("X-Original-URI", "/api/v2/dags".to_owned())];
    for (bytes, status) in [(1_000, 401), (90_000, 431)] {
        let headers = headers(bytes);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let deployment = format!("{uri}/{}", secure.setting.rig.deployment);
        let answer = ask(daemon, "GET", &deployment, &headers, "");
        assert_eq!(answer.status, status, "{bytes}: {answer:?}");
        assert!(answer.header("x-halligan-event-id").is_some(), "{bytes}: {answer:?}");
    }
}

#[test]
fn a_request_for_another_protocol_that_is_not_granted_ends_its_connection() {
    let (setting, port) = gateway(None, "");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eHh4\r\n";
    let token = format!("Authorization: {}\r\n", setting.bearer());
    for (first, status, came) in [
        (format!("{token}{upgrade}"), 200, 1),
        (upgrade.to_owned(), 401, 0),
        (format!("{token}Connection: Upgrade\r\nUpgrade: h2c\r\n"), 200, 1),
    ] {
        let before = setting.upstream.asked();
        let request = |more: &str| format!("GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\n{more}\r\n");
        // The guard does not read the bytes after a request for an upgrade, so the second request must not be answered.
        let began = Instant::now();
        let bytes = exchange(port, (request(&first) + &request(&token)).as_bytes());
        let answer = read(&bytes);
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{answer:?}");
        let answers = String::from_utf8_lossy(&bytes).matches("HTTP/1.1 ").count();
        assert_eq!((answers, setting.upstream.asked() - before), (1, came), "{answer:?}");
        assert!(began.elapsed() < Duration::from_secs(9), "it is closed");
    }
}

#[test]
fn a_client_that_reads_nothing_of_its_answer_loses_its_place() {
    let upstream = scripted(|stream| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        if head(&mut reader).is_empty() {
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        while stream.write_all(&[b'x'; 8192]).is_ok() {}
    });
    let limits =
        "[gateway.limits]\nconnections = 4\nconnections_per_client = 1\nheader_seconds = 1\nidle_seconds = 2";
    let (setting, port) = gateway(Some(upstream), limits);
    let (mut stream, _reader) = connect(port);
    let request = format!(
        "GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\nAuthorization: {}\r\n\r\n",
        setting.bearer()
    );
    stream.write_all(request.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let asks = || ask(port, "GET", "/api/v2/nowhere", &[], "").status;
    assert_eq!(asks(), 0, "its share is taken");
    until("its place is free", || asks() == 401);
}
