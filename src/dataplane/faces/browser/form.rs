//! The form of the sign-in page: a token that was pasted (`application/x-www-form-urlencoded`), or one in a file
//! (`multipart/form-data`, RFC 7578).

use hyper::header::{CONTENT_TYPE, HeaderMap};
use zeroize::Zeroizing;

/// Maximum size of a form, in bytes: a token, where to go afterwards, and their framing.
pub const MAX_FORM: usize = 16 * 1024;

/// Values of the form.
#[derive(Debug, Default)]
pub(super) struct Form {
    /// Token without the white space around it.
    pub(super) token: Zeroizing<String>,
    /// Path to go to afterwards, as sent.
    pub(super) to: String,
}

impl Form {
    /// Parses the body of a request. Returns `None` if it is no such form.
    #[must_use]
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let essence = kind.split(';').next().unwrap_or_default().trim();
        let mut form = Self::default();
        if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            form_urlencoded::parse(body)
                .for_each(|(name, value)| form.set(&name, &Zeroizing::new(value.into_owned())));
        } else if essence.eq_ignore_ascii_case("multipart/form-data") {
            let boundary = boundary(kind)?;
            for part in parts(body, boundary)? {
                let (name, value) = part_of(part)?;
                form.set(name, &Zeroizing::new(std::str::from_utf8(value).ok()?.to_owned()));
            }
        } else {
            return None;
        }
        Some(form)
    }

    fn set(&mut self, name: &str, value: &str) {
        match name {
            // A form with both fields fills one of them.
            "token" | "file" if !value.trim().is_empty() => {
                self.token = Zeroizing::new(value.trim().to_owned());
            }
            "to" => value.clone_into(&mut self.to),
            _ => {}
        }
    }
}

/// Returns the boundary of a multipart body (RFC 2046 section 5.1.1).
fn boundary(kind: &str) -> Option<&str> {
    let parameter = |part: &str| -> Option<(usize, usize)> {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then_some((part.len() - value.len(), part.len()))
    };
    let part = kind.split(';').find(|part| parameter(part).is_some())?;
    let (from, to) = parameter(part)?;
    let boundary = part[from..to].trim().trim_matches('"');
    (1..=70).contains(&boundary.len()).then_some(boundary)
}

/// Returns the parts of a multipart body, each with its head.
fn parts<'b>(body: &'b [u8], boundary: &str) -> Option<Vec<&'b [u8]>> {
    let first = format!("--{boundary}");
    let (delimiter, mut rest) = (format!("\r\n{first}"), body.strip_prefix(first.as_bytes())?);
    let mut parts = Vec::new();
    // Each delimiter ends its line, and the last one ends with two hyphens.
    while !rest.starts_with(b"--") {
        rest = rest.strip_prefix(b"\r\n")?;
        let end = rest.windows(delimiter.len()).position(|window| window == delimiter.as_bytes())?;
        parts.push(&rest[..end]);
        rest = &rest[end + delimiter.len()..];
    }
    Some(parts)
}

/// Returns the name and the value of a part.
fn part_of(part: &[u8]) -> Option<(&str, &[u8])> {
    let end = part.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, value) = (std::str::from_utf8(&part[..end]).ok()?, &part[end + 4..]);
    let line = head
        .lines()
        .find(|line| line.get(..20).is_some_and(|name| name.eq_ignore_ascii_case("content-disposition:")))?;
    let name = line.split(';').find_map(|parameter| parameter.trim().strip_prefix("name="))?;
    Some((name.trim_matches('"'), value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(kind: &str, body: &[u8]) -> Option<(String, String)> {
        let headers = [(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())].into_iter().collect();
        Form::read(&headers, body).map(|form| (form.token.to_string(), form.to))
    }

    const URLENCODED: &str = "application/x-www-form-urlencoded";

    #[test]
    fn a_token_is_pasted_or_in_a_file() {
        let found = |token: &str, to: &str| Some((token.to_owned(), to.to_owned()));
        assert_eq!(read(URLENCODED, b"token=a.b.c&to=%2Fdags%3Fa"), found("a.b.c", "/dags?a"));
        assert_eq!(read(URLENCODED, b"token=+a.b.c%0D%0A&to="), found("a.b.c", ""));
        assert_eq!(read("Application/X-WWW-Form-Urlencoded; charset=utf-8", b"token=a"), found("a", ""));
        assert_eq!(read(URLENCODED, b""), found("", ""));
        let multipart = "--xyz\r\nContent-Disposition: form-data; name=\"to\"\r\n\r\n/dags\r\n\
            --xyz\r\ncontent-disposition: form-data; name=\"token\"\r\n\r\n\r\n\
            --xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"t\"\r\nContent-Type: text/plain\r\n\r\na.b.c\n\r\n--xyz--\r\n";
        let kind = "multipart/form-data; boundary=xyz";
        assert_eq!(read(kind, multipart.as_bytes()), found("a.b.c", "/dags"));
        assert_eq!(
            read("multipart/form-data; boundary=\"xyz\"", multipart.as_bytes()),
            found("a.b.c", "/dags")
        );
        for (kind, body) in [
            ("text/plain", "token=a.b.c"),
            ("application/json", "{}"),
            ("multipart/form-data", multipart),
            ("multipart/form-data; boundary=other", multipart),
            (kind, "--xyz"),
            (kind, "--xyz\r\nname=token\r\n\r\na"),
            (kind, "--xyz\r\n\r\n--xyz--"),
        ] {
            assert_eq!(read(kind, body.as_bytes()), None, "{kind} {body}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
            let _ = read("multipart/form-data; boundary=x", &body);
            let whole = b"--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\na.b.c\r\n--x--";
            let _ = read("multipart/form-data; boundary=x", &whole[..cut.index(whole.len())]);
            let _ = read(URLENCODED, &body);
        }
    }
}
