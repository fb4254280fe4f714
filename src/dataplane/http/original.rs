//! The original request, as a proxy tells it in headers. Only a trusted peer may tell, and in one way only.

use std::borrow::Cow;
use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use ipnet::IpNet;

use super::host_name;
use crate::dataplane::decide::Reason;

/// What was asked for, of whom, from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original<'h> {
    /// The method, as sent.
    pub method: &'h str,
    /// Path and query, as sent.
    pub uri: &'h str,
    /// The host without its port, in lower case, if it was told.
    pub host: Option<Cow<'h, str>>,
    /// Where it came from.
    pub client: IpAddr,
}

/// One of the two ways in which proxies tell: `X-Original-*`, as nginx is configured to, or `X-Forwarded-*`, as Caddy
/// and Traefik do by themselves.
#[derive(Default)]
struct Family<'h> {
    method: Option<&'h str>,
    uri: Option<&'h str>,
    host: Option<&'h str>,
}

/// Puts a value in its place; one that stands twice, or is not text, leaves doubt.
fn once<'h>(place: &mut Option<&'h str>, value: &'h HeaderValue) -> Result<(), Reason> {
    let value = value.to_str().map_err(|_| Reason::PathInvalid)?;
    if place.replace(value).is_some() { Err(Reason::PathInvalid) } else { Ok(()) }
}

pub(in crate::dataplane) fn trusts(trusted: &[IpNet], peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    trusted.iter().any(|network| network.contains(&peer))
}

impl<'h> Original<'h> {
    /// Reads what a peer tells. With two families at once nobody knows which the proxy meant, and which a client sent.
    pub fn read(headers: &'h HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> Result<Self, Reason> {
        if !trusts(trusted, peer) {
            return Err(Reason::PathInvalid);
        }
        let (mut original, mut forwarded) = (Family::default(), Family::default());
        let (mut host, mut real_ip, mut hops) = (None, None, false);
        for (name, value) in headers {
            match name.as_str() {
                "x-original-method" => once(&mut original.method, value)?,
                "x-original-uri" => once(&mut original.uri, value)?,
                "x-original-host" => once(&mut original.host, value)?,
                "x-forwarded-method" => once(&mut forwarded.method, value)?,
                "x-forwarded-uri" => once(&mut forwarded.uri, value)?,
                "x-forwarded-host" => once(&mut forwarded.host, value)?,
                "host" => once(&mut host, value)?,
                "x-real-ip" => once(&mut real_ip, value)?,
                "x-forwarded-for" => hops = true,
                _ => {}
            }
        }
        let told = |family: &Family<'_>| family.method.is_some() || family.uri.is_some();
        let family = match (told(&original), told(&forwarded)) {
            (true, false) => original,
            (false, true) => forwarded,
            _ => return Err(Reason::PathInvalid),
        };
        let (Some(method), Some(uri)) = (family.method, family.uri) else { return Err(Reason::PathInvalid) };
        let client = real_ip
            .and_then(|address| address.parse().ok())
            .or_else(|| if hops { last_hop(headers, trusted) } else { None })
            .unwrap_or(peer);
        Ok(Self { method, uri, host: family.host.or(host).map(host_name), client })
    }

    /// What a peer asks with, without the first `prefix` bytes of its path.
    pub fn behind(
        prefix: usize,
        request: &'h Parts,
        peer: IpAddr,
        trusted: &[IpNet],
    ) -> Result<Self, Reason> {
        if !trusts(trusted, peer) {
            return Err(Reason::PathInvalid);
        }
        let uri = request.uri.path_and_query().and_then(|target| target.as_str().get(prefix..));
        let mut host = None;
        for value in request.headers.get_all(header::HOST) {
            once(&mut host, value)?;
        }
        Ok(Self {
            method: request.method.as_str(),
            uri: uri.ok_or(Reason::PathInvalid)?,
            host: host.map(host_name),
            client: last_hop(&request.headers, trusted).unwrap_or(peer),
        })
    }

    /// What is left when nobody who may tells: the request that came, and nothing it asks for.
    #[must_use]
    pub fn unknown(method: &'h str, peer: IpAddr) -> Self {
        Self { method, uri: "", host: None, client: peer }
    }
}

/// The last hop in front of the proxies that are trusted.
fn last_hop(headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let values: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    // From the right, and no further than can be read: what stands left of it, anybody may have written.
    values
        .iter()
        .rev()
        .flat_map(|value| value.rsplit(','))
        .map_while(|hop| hop.trim().parse().ok())
        .find(|&hop| !trusts(trusted, hop))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).fold(
            HeaderMap::new(),
            |mut map, (name, value): (header::HeaderName, _)| {
                map.append(name, value);
                map
            },
        )
    }

    fn read(
        pairs: &[(&'static str, &'static str)],
        peer: IpAddr,
    ) -> Result<(String, String, String, IpAddr), Reason> {
        let trusted = ["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        let headers = headers(pairs);
        let original = Original::read(&headers, peer, &trusted)?;
        let host = original.host.as_deref().unwrap_or("").to_owned();
        Ok((original.method.to_owned(), original.uri.to_owned(), host, original.client))
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
        assert_eq!(found.3.to_string(), "192.0.2.7");
        let caddy = [
            ("x-forwarded-method", "GET"),
            ("x-forwarded-uri", "/"),
            ("x-forwarded-host", "prod.example"),
            ("x-forwarded-for", "198.51.100.1, 192.0.2.9, 10.1.2.3"),
        ];
        let found = read(&caddy, PROXY).unwrap();
        assert_eq!(found.3.to_string(), "192.0.2.9", "the hop the trusted proxies saw, not what it claims");
    }

    #[test]
    fn nobody_else_may_tell() {
        assert_eq!(read(&NGINX, "192.0.2.1".parse().unwrap()), Err(Reason::PathInvalid));
        assert!(read(&NGINX, "::ffff:127.0.0.1".parse().unwrap()).is_ok());
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

    #[test]
    fn a_hop_that_cant_be_read_ends_the_chain() {
        let found = |value| {
            read(
                &[("x-forwarded-method", "GET"), ("x-forwarded-uri", "/"), ("x-forwarded-for", value)],
                PROXY,
            )
            .unwrap()
            .3
        };
        assert_eq!(found("192.0.2.1, nonsense, 10.0.0.1"), PROXY);
        assert_eq!(found("nonsense, 192.0.2.1"), "192.0.2.1".parse::<IpAddr>().unwrap());
        assert_eq!(found(""), PROXY);
    }
}
