//! A deployment that echoes the request it received, so that a test sees what the proxy passed on.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::rig::Answer;

/// A request as it arrived.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: BTreeMap<String, Vec<String>>,
    pub body: String,
    /// Trailer lines after a chunked body.
    pub trailers: Vec<String>,
}

impl Seen {
    /// Returns the request that the upstream received, from the body of `answer`.
    pub fn in_answer(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    /// Returns the only value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.headers.get(name).map(Vec::as_slice) {
            None => None,
            Some([value]) => Some(value),
            Some(values) => panic!("{name} stands more than once: {values:?}"),
        }
    }
}

/// Request targets in the order of their arrival.
type Targets = Arc<Mutex<Vec<String>>>;

/// Upstream server that listens until the test ends.
pub struct Upstream {
    pub port: u16,
    targets: Targets,
}

impl Upstream {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let targets = Targets::default();
        let asked = Arc::clone(&targets);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let asked = Arc::clone(&asked);
                std::thread::spawn(move || answer(stream, &asked));
            }
        });
        Self { port, targets }
    }

    /// Returns the number of requests so far.
    pub fn asked(&self) -> usize {
        self.targets.lock().unwrap().len()
    }

    /// Returns the targets of the requests so far.
    pub fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }
}

/// An answer whose trailer has a field that only the daemon may set.
const ANSWER_WITH_TRAILERS: &[u8] =
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Halligan-Reason\r\nConnection: close\r\n\r\n\
      2\r\nok\r\n0\r\nX-Halligan-Reason: spoofed-by-the-deployment\r\n\r\n";

/// Answers one request and closes the connection. A connection without a request, which a proxy may open early, gets no
/// answer.
fn answer(stream: TcpStream, asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        Some(line.trim_end_matches(['\r', '\n']).to_owned())
    };
    let first = line().filter(|first| !first.is_empty())?;
    let (method, rest) = first.split_once(' ')?;
    let (target, _version) = rest.rsplit_once(' ')?;
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.entry(name.to_ascii_lowercase()).or_default().push(value.trim().to_owned());
    }
    asked.lock().ok()?.push(target.to_owned());
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    if headers.contains_key("transfer-encoding") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            if size == 0 {
                break;
            }
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk[..size]);
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            if line.trim_end().is_empty() {
                break;
            }
            trailers.push(line.trim_end().to_owned());
        }
    } else if let Some(length) = headers.get("content-length") {
        body.resize(length.first()?.parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
    }
    let seen = Seen {
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
        trailers,
    };
    if seen.headers.contains_key("x-answer-with-trailers") {
        let mut stream = stream;
        stream.write_all(ANSWER_WITH_TRAILERS).ok()?;
        return Some(());
    }
    let body = serde_json::to_string(&seen).ok()?;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\
         X-Upstream: kept\r\nSet-Cookie: theirs=kept; Path=/\r\nX-Halligan-Reason: spoofed-by-the-deployment\r\n\
         X-HALLIGAN-EVENT-ID: spoofed-by-the-deployment\r\nX-Halligan-Replica-Age: spoofed-by-the-deployment\r\n\
         X-Halligan-Role: spoofed-by-the-deployment\r\n\r\n",
        body.len()
    );
    let mut stream = stream;
    stream.write_all(head.as_bytes()).ok()?;
    if seen.method != "HEAD" {
        stream.write_all(body.as_bytes()).ok()?;
    }
    Some(())
}
