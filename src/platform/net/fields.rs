//! Header fields (RFC 9110 section 5) of a message, whichever parser has read it.

use std::time::Duration;

use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;

/// Returns the time after which the sender of an answer asks to be called again (RFC 9110 section 10.2.3), in seconds.
/// Returns `None` for a date.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Fields of a message.
pub trait Fields: Sync {
    /// Returns each field's name and value. Names are compared without regard to case (RFC 9110 section 5.1).
    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])>;

    /// Returns the value of the field `name` if it occurs exactly once. Returns `None` for a repeated field, because it is
    /// unknown which value was meant.
    fn only(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.fields().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let (Some((_, value)), None) = (fields.next(), fields.next()) else { return None };
        Some(value)
    }
}

impl Fields for HeaderMap {
    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }
}

/// Fields as the daemon's fast path parses them, in place.
#[cfg(feature = "daemon")]
impl Fields for [httparse::Header<'_>] {
    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter().map(|field| (field.name, field.value))
    }
}

/// Fields as Envoy sends them over gRPC: a map in which a name occurs once, because Envoy joins the values of a repeated
/// field.
#[cfg(feature = "grpc")]
impl<S: std::hash::BuildHasher + Sync> Fields for std::collections::HashMap<String, String, S> {
    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }
}

/// Returns the size of a request's head as HTTP/1.1 writes it (RFC 9112 section 2.1), in bytes, for a request of any version.
#[must_use]
pub fn head_bytes(request: &Parts) -> usize {
    let field = |name: usize, value: usize| name + ": ".len() + value + "\r\n".len();
    let target = request.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let line = request.method.as_str().len() + target + "  HTTP/1.1\r\n".len();
    let host = request.uri.authority().map_or(0, |host| field("host".len(), host.as_str().len()));
    let fields = request.headers.iter().map(|(name, value)| field(name.as_str().len(), value.len()));
    line + host + fields.sum::<usize>() + "\r\n".len()
}

/// Returns the value as text, or `None` unless all of it is visible ASCII, spaces and tabs.
#[must_use]
pub fn text(value: &[u8]) -> Option<&str> {
    // The fold visits every byte: without an early exit the compiler vectorizes the loop.
    let visible = value.iter().fold(true, |so_far, byte| so_far & matches!(byte, b'\t' | b' '..=b'~'));
    // Such bytes are valid UTF-8.
    std::str::from_utf8(value).ok().filter(|_| visible)
}

#[cfg(all(test, feature = "daemon"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_name_has_no_case() {
        let field = |name, value| httparse::Header { name, value };
        let fields = [field("Host", b"a"), field("X-Twice", b"b"), field("x-twice", b"c")];
        assert_eq!(fields.only("host"), Some(&b"a"[..]));
        assert_eq!(fields.only("x-twice"), None);
        assert_eq!(fields.only("x-never"), None);
    }

    #[test]
    fn a_head_is_as_long_as_it_would_be_written() {
        let text = "GET /a?b HTTP/1.1\r\nhost: p.example\r\nx-a: b\r\nx-a: \r\n\r\n";
        for uri in ["https://p.example/a?b", "/a?b"] {
            let mut request = hyper::Request::builder().uri(uri).header("x-a", "b").header("x-a", "");
            if uri.starts_with('/') {
                request = request.header("host", "p.example");
            }
            assert_eq!(head_bytes(&request.body(()).unwrap().into_parts().0), text.len(), "{uri}");
        }
    }

    #[test]
    fn text_is_visible() {
        assert_eq!(text(b"a b\tc~"), Some("a b\tc~"));
        for value in [&b"\x7f"[..], b"\x1f", b"\r\n", "\u{e4}".as_bytes(), b"\xff"] {
            assert_eq!(text(value), None, "{value:?}");
        }
    }
}
