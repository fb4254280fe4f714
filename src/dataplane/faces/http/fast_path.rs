//! Fast path: parses and answers a proxy's authorization requests in the connection's own buffer.
//!
//! It takes only requests with a single interpretation: `GET /v1/authorize[/{deployment}]` in HTTP/1.1, without a field
//! about the body or the connection. The parser is httparse, as in hyper. At the first other or doubtful bytes the
//! connection is handed to hyper, and stays there.
//!
//! Each limit of the ordinary server holds here too. Times: 20 seconds for a head and for the first request, 75 seconds between
//! requests and without a byte of the answer taken. Larger heads, more fields and bodies are handed over, and so is a head that
//! is incomplete at that moment, with the time that it has taken. The next request is read once the answer is written, so a client that
//! reads nothing cannot make the daemon hold answers.

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::pin;

use hyper::header::{CONTENT_LENGTH, DATE, HeaderName};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{AUTHORIZE, Face};
use crate::dataplane::authorize::Verdict;
use crate::dataplane::decide::Decision;
use crate::dataplane::faces::answer::Answers;
use crate::dataplane::faces::browser::Extras;
use crate::platform::net::connections::{Ceased, Stop};
use crate::platform::net::listener::IDLE;
use crate::protocol::time::Time;

/// Maximum size of a request on the fast path, in bytes.
const LONGEST: usize = 8192;
/// Maximum number of header fields on the fast path.
const MOST_FIELDS: usize = 64;

/// Field names that determine the framing of a message or the state of the connection (RFC 9112 sections 6 and 9, RFC 9110
/// sections 7.8 and 10.1.1).
const FRAMING: [&str; 5] = ["connection", "content-length", "expect", "transfer-encoding", "upgrade"];

/// Uninitialized storage for the header fields of a request.
pub struct Room<'b>([MaybeUninit<httparse::Header<'b>>; MOST_FIELDS]);

impl Default for Room<'_> {
    fn default() -> Self {
        Self([const { MaybeUninit::uninit() }; MOST_FIELDS])
    }
}

/// Result of parsing received bytes.
pub enum Reading<'h, 'b> {
    /// The bytes begin with a request for the fast path.
    Question(Question<'h, 'b>),
    /// The bytes may be the beginning of one.
    Unfinished,
    /// The bytes are something else.
    Other,
}

/// Authorization request of a proxy.
pub struct Question<'h, 'b> {
    /// Identifier of the deployment, if the path names one.
    pub deployment: Option<&'b str>,
    /// Length in bytes.
    pub length: usize,
    /// Header fields of the request.
    pub fields: &'h [httparse::Header<'b>],
}

impl<'h, 'b> Question<'h, 'b> {
    /// Method of every request on the fast path.
    pub const METHOD: &'static str = "GET";

    /// Parses the beginning of `bytes`.
    pub fn read(bytes: &'b [u8], room: &'h mut Room<'b>) -> Reading<'h, 'b> {
        let mut request = httparse::Request::new(&mut []);
        let length = match request.parse_with_uninit_headers(bytes, &mut room.0) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Reading::Unfinished,
            Err(_) => return Reading::Other,
        };
        let fields = &*request.headers;
        let (Some(Self::METHOD), Some(1), Some(path)) = (request.method, request.version, request.path)
        else {
            return Reading::Other;
        };
        let Some(named) = path.strip_prefix(AUTHORIZE) else { return Reading::Other };
        let plain = |id: &&str| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let deployment = named.strip_prefix('/').filter(plain);
        if deployment.is_none() && !named.is_empty() {
            return Reading::Other;
        }
        let framing = |name: &str| FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing));
        if fields.iter().any(|field| framing(field.name)) {
            return Reading::Other;
        }
        Reading::Question(Self { deployment, length, fields })
    }
}

/// Answers requests until other bytes arrive or shutdown begins. Returns the bytes that were read and not answered, or
/// `None` if the peer closed the connection or is idle.
pub(super) async fn serve(
    stream: &mut TcpStream,
    peer: IpAddr,
    face: &Face,
    stop: &mut Stop,
) -> io::Result<Option<Vec<u8>>> {
    let (mut bytes, mut answer) = (Vec::with_capacity(LONGEST), Writer::default());
    let mut answered = false;
    loop {
        if bytes.len() >= LONGEST {
            return Ok(Some(bytes));
        }
        let begun = !answered || !bytes.is_empty();
        match stop.read(begun, pin!(stream.read_buf(&mut bytes))).await {
            Ok(Ok(0)) | Err(Ceased::Idle) => return Ok(None),
            Ok(read) => drop(read?),
            Err(Ceased::Stopped) => return Ok(Some(bytes)),
        }
        loop {
            let mut room = Room::default();
            let question = match Question::read(&bytes, &mut room) {
                Reading::Question(question) => question,
                Reading::Unfinished => break,
                Reading::Other => return Ok(Some(bytes)),
            };
            stop.progressed();
            answered = true;
            let (verdict, extras) =
                face.decide_on_original(question.deployment, Question::METHOD, question.fields, peer).await;
            write(stream, answer.write(&face.answers, &verdict, &extras)).await?;
            let length = question.length;
            bytes.drain(..length);
        }
    }
}

/// Sends an answer. A client that takes no byte of it for [`IDLE`] is an error, as in the ordinary server.
async fn write(stream: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    // Almost every answer fits in the socket's buffer, and then needs no timer.
    let written = match stream.try_write(answer) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
        written => written.unwrap_or(0),
    };
    let mut rest = &answer[written..];
    while !rest.is_empty() {
        let written = timeout(IDLE, stream.write(rest)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = &rest[written..];
    }
    Ok(())
}

/// Writes responses (RFC 9112 section 4) into a reused buffer.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    /// Second of the last response, and its `Date` value (RFC 9110 section 5.6.7).
    second: Time,
    date: String,
}

impl Writer {
    fn write(&mut self, answers: &Answers, verdict: &Verdict, extras: &Extras) -> &[u8] {
        self.bytes.clear();
        match &verdict.decision {
            Decision::Allowed(allowed) => {
                self.bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
                let bytes = &mut self.bytes;
                answers.allow(allowed, &verdict.event, extras, |name, value| field(bytes, name, value));
                self.end(verdict.time, b"");
            }
            Decision::Denied(denied) => {
                let answer = answers.deny(denied, &verdict.event, extras);
                let (status, reason) = (answer.status(), answer.status().canonical_reason().unwrap_or(""));
                for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
                    self.bytes.extend_from_slice(part.as_bytes());
                }
                for (name, value) in answer.headers() {
                    field(&mut self.bytes, name, value.as_bytes());
                }
                self.end(verdict.time, answer.body());
            }
        }
        &self.bytes
    }

    /// Writes the end of a response with `body`, at `now`.
    fn end(&mut self, now: Time, body: &[u8]) {
        if self.second != now || self.date.is_empty() {
            let date = Timestamp::from_second(now.unix())
                .and_then(|now| DateTimePrinter::new().timestamp_to_rfc9110_string(&now));
            // A time outside the calendar has no `Date` value.
            (self.second, self.date) = (now, date.unwrap_or_default());
        }
        field(&mut self.bytes, &CONTENT_LENGTH, itoa::Buffer::new().format(body.len()).as_bytes());
        if !self.date.is_empty() {
            field(&mut self.bytes, &DATE, self.date.as_bytes());
        }
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes.extend_from_slice(body);
    }
}

/// Writes a field line (RFC 9112 section 5).
fn field(bytes: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        bytes.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http_body_util::{BodyExt as _, Full};
    use hyper::body::{Bytes, Incoming};
    use hyper::header::{HeaderMap, HeaderValue};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Method, Request, Response, Uri};
    use hyper_util::rt::TokioIo;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn read(bytes: &str) -> String {
        let mut room = Room::default();
        match Question::read(bytes.as_bytes(), &mut room) {
            Reading::Question(question) => {
                assert_eq!(question.length, bytes.find("\r\n\r\n").unwrap() + 4);
                format!("{:?} {}", question.deployment, question.fields.len())
            }
            Reading::Unfinished => "unfinished".to_owned(),
            Reading::Other => "other".to_owned(),
        }
    }

    #[test]
    fn a_question_is_known_by_its_line() {
        assert_eq!(read("GET /v1/authorize/dep_a1 HTTP/1.1\r\nHost: a\r\n\r\n"), "Some(\"dep_a1\") 1");
        assert_eq!(read("GET /v1/authorize HTTP/1.1\r\n\r\nGET"), "None 0");
        assert_eq!(read("GET /v1/authorize/ HTTP/1.1\r\n\r\n"), "Some(\"\") 0");
        for line in [
            "GET /v1/authorized HTTP/1.1",
            "GET /v1/authorize/dep_a/b HTTP/1.1",
            "GET /v1/authorize/dep%5Fa HTTP/1.1",
            "GET /v1/authorize/dep_a?b HTTP/1.1",
            "GET http://a/v1/authorize/dep_a HTTP/1.1",
            "GET /healthz HTTP/1.1",
            "GET /v1/ext_authz/dep_a/ HTTP/1.1",
            "GET /v1/authorize/dep_a HTTP/1.0",
            "HEAD /v1/authorize/dep_a HTTP/1.1",
            "POST /v1/authorize/dep_a HTTP/1.1",
            "get /v1/authorize/dep_a HTTP/1.1",
            "GET  /v1/authorize/dep_a HTTP/1.1",
            "PRI * HTTP/2.0",
        ] {
            assert_eq!(read(&format!("{line}\r\nHost: a\r\n\r\n")), "other", "{line}");
        }
    }

    #[test]
    fn what_frames_or_is_malformed_is_left_to_hyper() {
        for field in [
            "Content-Length: 0",
            "content-LENGTH: 5",
            "Transfer-Encoding: chunked",
            "Connection: close",
            "Connection: x-original-uri",
            "Upgrade: h2c",
            "Expect: 100-continue",
            "a b: c",
            "a : c",
            " a: c",
            "a: b\0c",
            "a: b\r c",
        ] {
            let request = format!("GET /v1/authorize/dep_a HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
            assert_eq!(read(&request), "other", "{field:?}");
        }
        let fields = |count| "a: b\r\n".repeat(count);
        assert_eq!(read(&format!("GET /v1/authorize HTTP/1.1\r\n{}\r\n", fields(MOST_FIELDS))), "None 64");
        assert_eq!(read(&format!("GET /v1/authorize HTTP/1.1\r\n{}\r\n", fields(MOST_FIELDS + 1))), "other");
    }

    /// Returns hyper's reading of the requests in `bytes`: method, URI, header fields and body of each.
    fn by_hyper(bytes: &[u8]) -> Vec<(Method, Uri, HeaderMap, Bytes)> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let service = service_fn(|request: Request<Incoming>| {
            let seen = Arc::clone(&seen);
            async move {
                let (parts, body) = request.into_parts();
                if let Ok(body) = body.collect().await {
                    seen.lock().unwrap().push((parts.method, parts.uri, parts.headers, body.to_bytes()));
                }
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(64 * 1024);
            client.write_all(bytes).await.unwrap();
            client.shutdown().await.unwrap();
            // Any bytes may follow the request.
            let _ =
                http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service).await;
        });
        std::mem::take(&mut *seen.lock().unwrap())
    }

    fn request() -> impl Strategy<Value = Vec<u8>> {
        let line = select(vec![
            "GET /v1/authorize/dep_a HTTP/1.1\r\n",
            "\r\nGET /v1/authorize HTTP/1.1\r\n",
            "GET /v1/authorize/dep_a HTTP/1.1\n",
            "GET /v1/authorize/dep_a/ HTTP/1.1\r\n",
        ]);
        let name = select(vec![
            "Host",
            "X-Original-URI",
            "x-original-uri",
            "Authorization",
            "Cookie",
            "X-A",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Connection",
            "Content-Length",
            "X Y",
            "X-\u{e4}",
            "",
            "HTTP2-Settings",
            "Proxy-Connection",
        ]);
        let value = select(vec![
            "a",
            "",
            "  a b\t",
            "Bearer a.b.c",
            "/api/v2/dags?x=y",
            "close",
            "0",
            "1",
            "a\u{e4}",
            "a\0",
            "a\r b",
            "trailers",
        ]);
        let separator = select(vec![": ", ":", " : ", ":\t"]);
        let end = select(vec!["\r\n", "\r\n", "\r\n", "\n", "\r\n ", "\r"]);
        let field = (name, separator, value, end)
            .prop_map(|(name, separator, value, end)| [name, separator, value, end].concat());
        let rest = select(vec!["", "GET", "GET /healthz HTTP/1.1\r\n\r\n", "\0\0"]);
        (line, prop::collection::vec(field, 0..4), rest)
            .prop_map(|(line, fields, rest)| format!("{line}{}\r\n{rest}", fields.concat()).into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// The fast path and hyper must read a request alike: the same path, the same fields, and no body.
        #[test]
        fn hyper_reads_a_question_in_the_same_way(bytes in request(), flip in any::<(prop::sample::Index, u8, bool)>()) {
            let mut bytes = bytes;
            if flip.2 {
                let place = flip.0.index(bytes.len());
                bytes[place] = flip.1;
            }
            let mut room = Room::default();
            let Reading::Question(question) = Question::read(&bytes, &mut room) else { return Ok(()) };
            let Some((method, uri, headers, body)) = by_hyper(&bytes).into_iter().next() else { panic!("hyper refuses it") };
            let path = question.deployment.map_or("/v1/authorize".to_owned(), |id| format!("/v1/authorize/{id}"));
            prop_assert_eq!((method.as_str(), uri.to_string()), (Question::METHOD, path));
            prop_assert!(body.is_empty());
            prop_assert_eq!(headers.len(), question.fields.len());
            for name in headers.keys() {
                let taken = question.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name.as_str()));
                let seen = headers.get_all(name).iter().map(HeaderValue::as_bytes);
                prop_assert!(seen.eq(taken.map(|field| field.value)));
            }
            // The bytes behind the request belong to the next one.
            let alone = by_hyper(&bytes[..question.length]);
            prop_assert_eq!(alone, [(method, uri, headers, body)]);
        }
    }
}
