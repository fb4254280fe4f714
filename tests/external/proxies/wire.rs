//! HTTP/1.1 without a library, so that a client's bytes are sent unchanged.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::rig::Answer;

/// Sends `bytes` on a connection of its own. Returns all bytes until the other side closes or stays silent.
pub fn exchange(port: u16, bytes: &[u8]) -> Vec<u8> {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return vec![] };
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // A server that refuses may close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return answer,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
        }
    }
}

/// Sends one request and returns its answer. `target` is sent unchanged.
pub fn ask(port: u16, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut lines = vec![format!("{method} {target} HTTP/1.1"), "Connection: close".into()];
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        lines.push("Host: prod.example".into());
    }
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    if !body.is_empty() {
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            lines.push("Content-Type: application/json".into());
        }
        lines.push(format!("Content-Length: {}", body.len()));
    }
    let request = format!("{}\r\n\r\n{body}", lines.join("\r\n"));
    read(&exchange(port, request.as_bytes()))
}

/// Returns the first answer in `bytes`, or one with status 0 if there is none.
pub fn read(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let (headers, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let mut answer = Answer { status, headers: headers.to_owned(), body: body.to_owned() };
    if answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        answer.body = dechunked(&answer.body);
    } else if let Some(length) = answer.header("content-length").and_then(|length| length.parse().ok()) {
        // Later bytes belong to the next answer.
        let length = answer.body.floor_char_boundary(length);
        answer.body.truncate(length);
    }
    answer
}

/// Decodes a chunked body (RFC 9112 section 7.1).
pub fn dechunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16).unwrap_or(0);
        let Some(chunk) = after.get(..size) else { break };
        if size == 0 {
            break;
        }
        body += chunk;
        rest = after.get(size + 2..).unwrap_or("");
    }
    body
}
