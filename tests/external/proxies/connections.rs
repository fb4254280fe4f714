//! Independence of the daemon's answers from earlier requests on a connection and from the boundaries of its reads.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::rig::{Answer, Rig, until};

/// Number of rounds; each splits the same requests at other places.
const CUTS: u64 = 20;

/// Returns an authorization request as a proxy sends it, with additional header lines.
fn question(rig: &Rig, token: &str, uri: &str, more: &str) -> String {
    format!(
        "GET /v1/authorize/{} HTTP/1.1\r\nHost: daemon\r\nAuthorization: Bearer {token}\r\n\
         X-Original-Method: GET\r\nX-Original-URI: {uri}\r\n{more}\r\n",
        rig.deployment
    )
}

/// Returns the consecutive answers in `bytes`.
fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let mut answer = Answer::read(bytes);
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert!(answer.body.len() >= length, "{answer:?}");
        answer.body.truncate(length);
        bytes = &bytes[answer.headers.len() + 4 + length..];
        answers.push(answer);
    }
    answers
}

fn connect(rig: &Rig) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", rig.daemon_port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Sends `bytes` in these pieces. Returns all answers until the daemon closes the connection.
fn exchange(rig: &Rig, mut bytes: &[u8], mut piece: impl FnMut() -> usize) -> Vec<Answer> {
    let mut stream = connect(rig);
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at(piece().min(bytes.len()));
        stream.write_all(now).unwrap();
        bytes = later;
        // The pause lets each piece arrive separately.
        std::thread::sleep(Duration::from_micros(200));
    }
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    answers(&all)
}

fn told(answers: &[Answer]) -> Vec<(u16, Option<&str>, bool)> {
    answers
        .iter()
        .map(|answer| (answer.status, answer.header("x-halligan-reason"), answer.body.is_empty()))
        .collect()
}

#[test]
fn answers_come_in_the_order_of_the_requests_however_they_are_cut() {
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    rig.kill_control();
    let good = question(&rig, &token, "/api/v2/dags", "");
    let padded = question(&rig, &token, "/api/v2/dags", &format!("Cookie: {}\r\n", "c".repeat(9000)));
    // A body that looks like a request must not be read as one.
    let body = "GET /healthz HTTP/1.1\r\n\r\n";
    let more = format!("Content-Length: {}\r\nConnection: close\r\n", body.len());
    let last = question(&rig, &token, "/api/v2/dags", &more) + body;
    let (ok, none) = ((200, Some("ok"), true), (401, Some("token_missing"), false));
    let unnamed = good.replace("Authorization", "X-Authorization");
    // The fast path does not take the long request, so hyper serves the connection from there on.
    let all = [
        (good.clone(), ok),
        (unnamed.clone(), none),
        (question(&rig, &token, "/nowhere", ""), (403, Some("route_unknown"), false)),
        (question(&rig, "forged", "/api/v2/dags", ""), (401, Some("token_malformed"), false)),
        (padded, ok),
        ("GET /healthz HTTP/1.1\r\nHost: daemon\r\n\r\n".to_owned(), (200, None, false)),
        (good, ok),
        (unnamed, none),
        (last, ok),
    ];
    let (requests, expected): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let bytes = requests.concat().into_bytes();
    assert_eq!(told(&exchange(&rig, &bytes, || usize::MAX)), expected);
    for seed in 0..CUTS {
        let mut random = StdRng::seed_from_u64(seed);
        let longest = random.random_range(40..4000);
        let answers = exchange(&rig, &bytes, || random.random_range(1..=longest));
        assert_eq!(told(&answers), expected, "seed {seed}");
    }
}

#[test]
fn a_connection_that_is_kept_and_one_that_is_not_are_told_the_same() {
    let rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    for (token, uri) in [(&*token, "/api/v2/dags"), (&*token, "/nowhere"), ("forged", "/api/v2/dags")] {
        let close = question(&rig, token, uri, "Connection: close\r\n");
        let both = question(&rig, token, uri, "") + &close;
        let [kept, closed] = &exchange(&rig, both.as_bytes(), || usize::MAX)[..] else {
            panic!("two answers")
        };
        let said = |answer: &Answer| {
            let mut fields: Vec<_> = answer
                .headers
                .lines()
                .filter(|line| !line.starts_with("connection: "))
                .map(|line| match line.split_once(": ") {
                    // The event id and the date differ between answers, so only their lengths are compared.
                    Some((name @ ("x-halligan-event-id" | "date"), value)) => {
                        format!("{name}: {}", value.len())
                    }
                    _ => line.to_owned(),
                })
                .collect();
            fields.sort();
            (fields, answer.body.len())
        };
        assert_eq!(said(kept), said(closed));
        let date = kept.header("date").unwrap();
        assert!(date.ends_with(" GMT") && date.len() == "Thu, 26 Nov 2026 00:00:00 GMT".len(), "{date}");
    }
}

#[test]
fn a_connection_that_is_kept_learns_from_an_answer_that_the_daemon_stops() {
    let rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    let question = question(&rig, &token, "/api/v2/dags", "");
    let (mut asking, mut silent) = (connect(&rig), connect(&rig));
    let mut buffer = [0; 4096];
    for stream in [&mut asking, &mut silent] {
        stream.write_all(question.as_bytes()).unwrap();
        let length = stream.read(&mut buffer).unwrap();
        assert_eq!(told(&answers(&buffer[..length])), [(200, Some("ok"), true)]);
    }
    rig.daemon.as_ref().unwrap().signal("TERM");
    // The client keeps sending requests, as a busy proxy does, until it is told to close.
    until("the connection is told to end", || {
        asking.write_all(question.as_bytes()).unwrap();
        let length = asking.read(&mut buffer).unwrap();
        let answer = &answers(&buffer[..length])[0];
        assert_eq!(answer.status, 200);
        answer.header("connection") == Some("close")
    });
    assert_eq!(asking.read(&mut buffer).unwrap(), 0);
    assert_eq!(silent.read(&mut buffer).unwrap(), 0, "one that says nothing is closed");
}
