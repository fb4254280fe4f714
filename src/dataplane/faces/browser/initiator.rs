//! Reads from a request's fields which party made its browser send it, and whether a person opens a page.
//!
//! Browsers send `Sec-Fetch-*` (Fetch Metadata) where the connection can be trusted, and pages can't set these fields. Where
//! a browser is too old for them, `Origin` (RFC 6454) has to name this host.

use crate::dataplane::decide::session::Initiator;
use crate::platform::net::fields::{Fields, text};
use crate::platform::net::origin::keeps_secrets;
use crate::protocol::host::host_name;

/// Value of a field.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Value<'h> {
    #[default]
    Absent,
    Once(&'h [u8]),
    /// The field is there more than once: it is unknown which value was meant.
    Repeated,
}

impl<'h> Value<'h> {
    fn add(&mut self, value: &'h [u8]) {
        *self = if *self == Self::Absent { Self::Once(value) } else { Self::Repeated };
    }

    fn is(self, value: &str) -> bool {
        matches!(self, Self::Once(told) if told == value.as_bytes())
    }
}

/// Fields of a request in which its browser describes it.
#[derive(Clone, Copy, Default)]
pub(super) struct Stated<'h> {
    site: Value<'h>,
    mode: Value<'h>,
    dest: Value<'h>,
    origin: Value<'h>,
    accept: Value<'h>,
    upgrade: bool,
}

impl<'h> Stated<'h> {
    /// Reads the fields.
    pub(super) fn read<F: Fields + ?Sized>(fields: &'h F) -> Self {
        let mut stated = Self::default();
        for (name, value) in fields.fields() {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            match name.len() {
                14 if is("sec-fetch-site") => stated.site.add(value),
                14 if is("sec-fetch-mode") => stated.mode.add(value),
                14 if is("sec-fetch-dest") => stated.dest.add(value),
                6 if is("origin") => stated.origin.add(value),
                6 if is("accept") => stated.accept.add(value),
                7 if is("upgrade") => stated.upgrade = true,
                _ => {}
            }
        }
        stated
    }

    /// Returns who made the browser send a request to `host`, which may have a port.
    #[must_use]
    pub(super) fn initiator(&self, host: &str) -> Initiator {
        let navigates = self.mode.is("navigate") && !self.upgrade;
        match self.site {
            Value::Once(b"same-origin") => Initiator::SameOrigin,
            // A person typed the address, or opened a bookmark.
            Value::Once(b"none") if navigates => Initiator::Navigation,
            // A link leads to a page at the top level. A frame has another destination.
            Value::Once(_) if navigates && self.dest.is("document") => Initiator::Navigation,
            Value::Once(_) | Value::Repeated => Initiator::Elsewhere,
            Value::Absent => match self.origin {
                Value::Once(origin) if same_origin(origin, host) => Initiator::SameOrigin,
                // Without either field it may be a navigation, which may only read.
                Value::Absent if !self.upgrade => Initiator::Navigation,
                _ => Initiator::Elsewhere,
            },
        }
    }

    /// Returns true if a person opens a page by this request, so that the answer to a denial is a page as well.
    #[must_use]
    pub(super) fn opens_page(&self, method: &str) -> bool {
        let wanted = match self.mode {
            Value::Once(mode) => mode == b"navigate",
            Value::Absent => matches!(self.accept, Value::Once(accept) if takes_html(accept)),
            Value::Repeated => false,
        };
        wanted && !self.upgrade && matches!(method, "GET" | "HEAD")
    }
}

/// Returns true if `Accept` names HTML. `*/*` alone is what programs send.
fn takes_html(accept: &[u8]) -> bool {
    text(accept).is_some_and(|accept| {
        let mut ranges = accept.split(',').map(|range| range.split(';').next().unwrap_or_default());
        ranges.any(|range| range.trim().eq_ignore_ascii_case("text/html"))
    })
}

/// Returns true if an origin is that of a page of `host`: it has the same name and port, and a scheme whose pages nobody on
/// the way can change.
fn same_origin(origin: &[u8], host: &str) -> bool {
    let Some(origin) = text(origin).filter(|origin| keeps_secrets(origin)) else { return false };
    let Some((scheme, named)) = origin.split_once("://") else { return false };
    let default = if scheme.eq_ignore_ascii_case("https") { "443" } else { "80" };
    let (name, port) = split_port(named);
    let (host, host_port) = split_port(host);
    !host.is_empty()
        && host_name(name) == host_name(host)
        && port.unwrap_or(default) == host_port.unwrap_or(default)
}

/// Splits a host from its port.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (name, Some(port))
        }
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn stated(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for &(name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    const SITE: &str = "sec-fetch-site";
    const MODE: &str = "sec-fetch-mode";
    const DEST: &str = "sec-fetch-dest";

    #[test]
    fn a_page_of_this_host_is_told_from_every_other() {
        use Initiator::{Elsewhere, Navigation, SameOrigin};
        for (lines, expected) in [
            (&[(SITE, "same-origin"), (MODE, "cors")][..], SameOrigin),
            (&[(SITE, "same-origin"), (MODE, "websocket"), ("upgrade", "websocket")], SameOrigin),
            (&[(SITE, "none"), (MODE, "navigate"), (DEST, "document")], Navigation),
            (&[(SITE, "cross-site"), (MODE, "navigate"), (DEST, "document")], Navigation),
            (&[(SITE, "same-site"), (MODE, "navigate"), (DEST, "document")], Navigation),
            (&[(SITE, "cross-site"), (MODE, "navigate"), (DEST, "iframe")], Elsewhere),
            (&[(SITE, "same-site"), (MODE, "navigate"), (DEST, "embed")], Elsewhere),
            (&[(SITE, "same-site"), (MODE, "navigate")], Elsewhere),
            (&[(SITE, "same-site"), (MODE, "cors"), (DEST, "empty")], Elsewhere),
            (&[(SITE, "cross-site"), (MODE, "no-cors"), (DEST, "image")], Elsewhere),
            (&[(SITE, "cross-site"), (MODE, "websocket"), ("upgrade", "websocket")], Elsewhere),
            (&[(SITE, "none"), (MODE, "cors")], Elsewhere),
            (&[(SITE, "same-origin"), (SITE, "same-origin")], Elsewhere),
            (&[(SITE, "Same-Origin")], Elsewhere),
            (&[(SITE, "cross-site"), ("origin", "https://a.example")], Elsewhere),
            // Browsers without Fetch Metadata.
            (&[], Navigation),
            (&[("upgrade", "websocket")], Elsewhere),
            (&[("origin", "https://a.example"), ("upgrade", "websocket")], SameOrigin),
            (&[("origin", "https://b.example"), ("upgrade", "websocket")], Elsewhere),
            (&[("origin", "null")], Elsewhere),
            (&[("origin", "https://a.example"), ("origin", "https://a.example")], Elsewhere),
        ] {
            let fields = stated(lines);
            assert_eq!(Stated::read(&fields).initiator("a.example"), expected, "{lines:?}");
        }
    }

    #[test]
    fn an_origin_has_the_same_name_and_port_and_keeps_secrets() {
        for (origin, host) in [
            ("https://a.example", "a.example"),
            ("https://A.EXAMPLE", "a.example"),
            ("https://a.example", "a.example:443"),
            ("https://a.example:8443", "a.example:8443"),
            ("http://localhost:8080", "localhost:8080"),
            ("http://127.0.0.1", "127.0.0.1:80"),
            ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ] {
            assert!(same_origin(origin.as_bytes(), host), "{origin} {host}");
        }
        for (origin, host) in [
            ("https://b.example", "a.example"),
            ("https://a.example.b.example", "a.example"),
            ("https://x.a.example", "a.example"),
            ("https://a.example:8443", "a.example"),
            ("https://a.example", "a.example:8443"),
            ("https://a.example:80", "a.example:443"),
            // Whoever is on the way could have made this page.
            ("http://a.example", "a.example"),
            ("null", "null"),
            ("", ""),
            ("https://", ""),
            ("https://a.example@b.example", "a.example"),
            ("https://a.example\\@b.example", "a.example"),
            ("file://a.example", "a.example"),
        ] {
            assert!(!same_origin(origin.as_bytes(), host), "{origin} {host}");
        }
    }

    #[test]
    fn a_person_is_told_from_a_program() {
        for (lines, method, expected) in [
            (&[(MODE, "navigate")][..], "GET", true),
            (&[(MODE, "navigate")], "HEAD", true),
            (&[(MODE, "navigate")], "POST", false),
            (&[("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")], "GET", true),
            (&[("accept", "application/xml;q=0.9, TEXT/HTML;q=0.8")], "GET", true),
            (&[("accept", "*/*")], "GET", false),
            (&[("accept", "application/json")], "GET", false),
            (&[(MODE, "cors"), ("accept", "text/html")], "GET", false),
            (&[("accept", "text/html"), ("upgrade", "websocket")], "GET", false),
            (&[], "GET", false),
        ] {
            assert_eq!(Stated::read(&stated(lines)).opens_page(method), expected, "{lines:?}");
        }
    }
}
