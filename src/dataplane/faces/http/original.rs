//! The original request, as a proxy describes it in headers. Only a trusted peer may describe it, in one of two ways.

use std::borrow::Cow;
use std::net::IpAddr;

use hyper::header;
use hyper::http::request::Parts;
use ipnet::IpNet;

use crate::dataplane::decide::Reason;
use crate::dataplane::faces::reserved;
use crate::platform::net::fields::{Fields, text};
use crate::platform::net::forwarded;
use crate::protocol::host::host_name;

/// Method, path and host of the original request. [`forwarded::client`] finds the client's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original<'h> {
    /// Method, as sent.
    pub method: &'h str,
    /// Path and query, as sent.
    pub uri: &'h str,
    /// Host as sent, if the headers name it.
    pub host: Option<&'h str>,
}

/// Headers of one of the two ways: `X-Original-*`, for which nginx is configured, or `X-Forwarded-*`, the default of Caddy
/// and Traefik.
#[derive(Default)]
struct Family<'h> {
    method: Option<&'h str>,
    uri: Option<&'h str>,
    host: Option<&'h str>,
}

/// Stores a value. A second value, or one that is not text, is ambiguous.
fn once<'h>(place: &mut Option<&'h str>, value: &'h [u8]) -> Result<(), Reason> {
    let value = text(value).ok_or(Reason::PathInvalid)?;
    if place.replace(value).is_some() { Err(Reason::PathInvalid) } else { Ok(()) }
}

impl<'h> Original<'h> {
    /// Reads the headers of a peer. Headers of both families are ambiguous, since a client may have sent one of them.
    pub fn read<F>(fields: &'h F, peer: IpAddr, trusted: &[IpNet]) -> Result<Self, Reason>
    where
        F: Fields + ?Sized,
    {
        if !forwarded::within(trusted, peer) {
            return Err(Reason::PathInvalid);
        }
        let (mut original, mut forwarded) = (Family::default(), Family::default());
        // The client's address is parsed elsewhere. Two fields with it are ambiguous, since a client may have sent one, and
        // make the others doubtful too.
        let (mut host, mut real_ip) = (None, None);
        for (name, value) in fields.fields() {
            if reserved::is_unknown(name) {
                return Err(Reason::PathInvalid);
            }
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            // The length selects the candidates, so that no field is compared with all names.
            let place = match name.len() {
                4 if is("host") => &mut host,
                9 if is("x-real-ip") => &mut real_ip,
                14 if is("x-original-uri") => &mut original.uri,
                15 if is("x-original-host") => &mut original.host,
                15 if is("x-forwarded-uri") => &mut forwarded.uri,
                16 if is("x-forwarded-host") => &mut forwarded.host,
                17 if is("x-original-method") => &mut original.method,
                18 if is("x-forwarded-method") => &mut forwarded.method,
                _ => continue,
            };
            once(place, value)?;
        }
        let told = |family: &Family<'_>| family.method.is_some() || family.uri.is_some();
        let family = match (told(&original), told(&forwarded)) {
            (true, false) => original,
            (false, true) => forwarded,
            _ => return Err(Reason::PathInvalid),
        };
        let (Some(method), Some(uri)) = (family.method, family.uri) else { return Err(Reason::PathInvalid) };
        Ok(Self { method, uri, host: family.host.or(host) })
    }

    /// Reads the original request from the peer's own request, without the first `prefix` bytes of its path.
    pub fn behind(
        prefix: usize,
        request: &'h Parts,
        peer: IpAddr,
        trusted: &[IpNet],
    ) -> Result<Self, Reason> {
        if !forwarded::within(trusted, peer) {
            return Err(Reason::PathInvalid);
        }
        let uri = request.uri.path_and_query().and_then(|target| target.as_str().get(prefix..));
        if request.headers.keys().any(|name| reserved::is_unknown(name.as_str())) {
            return Err(Reason::PathInvalid);
        }
        let mut host = None;
        for value in request.headers.get_all(header::HOST) {
            once(&mut host, value.as_bytes())?;
        }
        Ok(Self { method: request.method.as_str(), uri: uri.ok_or(Reason::PathInvalid)?, host })
    }

    /// Returns the normalized host name, or an empty one if the headers name no host.
    #[must_use]
    pub fn host_name(&self) -> Cow<'h, str> {
        self.host.map_or_else(Cow::default, host_name)
    }

    /// Returns a request with this method and without path and host, for peers that are not trusted.
    #[must_use]
    pub fn unknown(method: &'h str) -> Self {
        Self { method, uri: "", host: None }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn read(
        pairs: &[(&'static str, &'static str)],
        peer: IpAddr,
    ) -> Result<(String, String, String), Reason> {
        let trusted = ["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        let field = |&(name, value): &(&'static str, &'static str)| httparse::Header {
            name,
            value: value.as_bytes(),
        };
        let fields: Vec<_> = pairs.iter().map(field).collect();
        let original = Original::read(&*fields, peer, &trusted)?;
        let host = original.host_name().into_owned();
        Ok((original.method.to_owned(), original.uri.to_owned(), host))
    }

    const NGINX: [(&str, &str); 5] = [
        ("host", "127.0.0.1:8181"),
        ("x-original-method", "PATCH"),
        ("x-original-uri", "/api/v2/dags/a?b=c"),
        ("x-original-host", "Prod.Example:443"),
        ("x-real-ip", "192.0.2.7"),
    ];

    #[test]
    fn nginx_and_caddy_are_understood() {
        let found = read(&NGINX, PROXY).unwrap();
        assert_eq!(
            (found.0.as_str(), found.1.as_str(), found.2.as_str()),
            ("PATCH", "/api/v2/dags/a?b=c", "prod.example")
        );
        let caddy = [
            ("x-forwarded-method", "GET"),
            ("x-forwarded-uri", "/"),
            ("x-forwarded-host", "prod.example"),
            ("x-forwarded-for", "198.51.100.1, 192.0.2.9, 10.1.2.3"),
        ];
        let found = read(&caddy, PROXY).unwrap();
        assert_eq!((found.0.as_str(), found.1.as_str(), found.2.as_str()), ("GET", "/", "prod.example"));
    }

    #[test]
    fn nobody_else_may_tell() {
        assert_eq!(read(&NGINX, "192.0.2.1".parse().unwrap()), Err(Reason::PathInvalid));
        assert!(read(&NGINX, "::ffff:127.0.0.1".parse().unwrap()).is_ok());
    }

    #[test]
    fn names_have_no_case() {
        let found =
            read(&[("X-Original-Method", "GET"), ("X-ORIGINAL-URI", "/a"), ("Host", "b")], PROXY).unwrap();
        assert_eq!((found.0.as_str(), found.1.as_str(), found.2.as_str()), ("GET", "/a", "b"));
        let twice = [("x-original-method", "GET"), ("X-Original-Method", "GET"), ("x-original-uri", "/a")];
        assert_eq!(read(&twice, PROXY), Err(Reason::PathInvalid));
    }

    #[test]
    fn nobody_speaks_under_a_name_that_the_proxies_let_through() {
        let with = |name, value| [&NGINX[..], &[(name, value)]].concat();
        for name in ["x-halligan-role", "X-HALLIGAN-REPLICA-AGE", "x-halligan-reason", "x-request-id"] {
            assert!(read(&with(name, "a"), PROXY).is_ok(), "every proxy takes {name} out or overwrites it");
        }
        for name in
            ["x-halligan-admin", "X_Halligan_Role", "x-halligan_role", "x.halligan.role", "x-halligan-"]
        {
            assert_eq!(read(&with(name, "a"), PROXY), Err(Reason::PathInvalid), "{name}");
        }
    }

    #[test]
    fn two_readings_are_none() {
        let with = |name, value| [&NGINX[..], &[(name, value)]].concat();
        for (name, value) in [
            ("x-forwarded-method", "GET"),
            ("x-forwarded-uri", "/other"),
            ("x-original-method", "GET"),
            ("x-original-uri", "/api/v2/dags/a?b=c"),
            ("x-original-host", "prod.example"),
        ] {
            assert_eq!(read(&with(name, value), PROXY), Err(Reason::PathInvalid), "{name}");
        }
        assert_eq!(read(&NGINX[..2], PROXY), Err(Reason::PathInvalid), "a method without a path");
        assert_eq!(read(&[], PROXY), Err(Reason::PathInvalid));
    }
}
