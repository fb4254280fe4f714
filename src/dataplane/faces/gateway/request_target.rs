//! Parses the target and host of a request, if they have a single interpretation.

use hyper::header;
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, Scheme};
use hyper::{Method, Version};

/// Unambiguous host and target of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestTarget<'r> {
    /// Host as sent, with its port if there is one.
    pub(super) host: &'r str,
    /// Path and query, as sent.
    pub(super) target: &'r str,
}

impl<'r> RequestTarget<'r> {
    /// Parses a request's line and host (RFC 9112 section 3.2, RFC 9113 section 8.3.1). Two hosts, or none, are ambiguous;
    /// so is a host in the target that differs from the header, since two parties could route by different ones.
    pub(super) fn read(request: &'r Parts) -> Option<Self> {
        if request.method == Method::CONNECT || request.version < Version::HTTP_11 {
            return None;
        }
        if request.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
            return None;
        }
        let mut hosts = request.headers.get_all(header::HOST).iter();
        let named = match (hosts.next(), hosts.next()) {
            (Some(host), None) => Some(host.to_str().ok()?),
            (None, _) => None,
            (Some(_), Some(_)) => return None,
        };
        let host = match (request.uri.authority().map(Authority::as_str), named) {
            (Some(authority), Some(named)) if authority.eq_ignore_ascii_case(named) => named,
            // HTTP/2 needs no Host header. In HTTP/1.1 it must be present, even if the target overrides it.
            (Some(authority), None) if request.version == Version::HTTP_2 => authority,
            (None, Some(named)) => named,
            _ => return None,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) {
            return None;
        }
        let target = request.uri.path_and_query()?.as_str();
        Some(Self { host, target })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hyper::Request;

    use super::*;

    fn read(version: Version, uri: &str, hosts: &[&str]) -> Option<(String, String)> {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        RequestTarget::read(&parts).map(|asked| (asked.host.to_owned(), asked.target.to_owned()))
    }

    #[test]
    fn one_host_and_one_target() {
        let found = |host: &str, target: &str| Some((host.to_owned(), target.to_owned()));
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        assert_eq!(read(one, "/a?b", &["p.example:80"]), found("p.example:80", "/a?b"));
        assert_eq!(read(one, "http://P.example/a", &["p.example"]), found("p.example", "/a"));
        assert_eq!(read(two, "https://p.example/a", &[]), found("p.example", "/a"));
        assert_eq!(read(two, "https://p.example/a", &["p.example"]), found("p.example", "/a"));
        for (version, uri, hosts) in [
            (one, "/a", &[][..]),
            (one, "/a", &["p.example", "p.example"]),
            (one, "/a", &["p.example", "q.example"]),
            (one, "http://q.example/a", &["p.example"]),
            (one, "http://p.example/a", &[]),
            (one, "http://x@p.example/a", &["x@p.example"]),
            (one, "ftp://p.example/a", &["p.example"]),
            (one, "/a", &[""]),
            (one, "/a", &["p.example/b"]),
            (one, "/a", &["p.example, q.example"]),
            (two, "https://q.example/a", &["p.example"]),
            (Version::HTTP_10, "/a", &["p.example"]),
        ] {
            assert_eq!(read(version, uri, hosts), None, "{uri} {hosts:?}");
        }
    }
}
