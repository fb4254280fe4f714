//! Client of the API over one connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::rig::control::Control;

/// Connection on which the owner of an organization calls paths below it.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    path: String,
    owner: String,
}

impl Client {
    pub(crate) fn connect(control: &Control) -> Self {
        let stream = TcpStream::connect(control.url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
            path: format!("/v1/organizations/{}", control.organization),
            owner: control.owner.clone(),
        }
    }

    /// Calls a path below the organization, which must answer 200. Returns the duration.
    pub(crate) fn call(&mut self, method: &str, target: &str, body: &str) -> Duration {
        let began = Instant::now();
        let Self { path, owner, .. } = self;
        let length = body.len();
        let request = format!(
            "{method} {path}{target} HTTP/1.1\r\nHost: control\r\nAuthorization: Bearer {owner}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut length) = (String::new(), 0);
        self.stream.read_line(&mut status).unwrap();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}{}", String::from_utf8_lossy(&answer));
        began.elapsed()
    }
}
