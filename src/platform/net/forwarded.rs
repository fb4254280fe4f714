//! The client of a request behind proxies. Both planes read it here, so that a source bound to a token and an address in an
//! audit log mean the same.
//!
//! A proxy names the client in `X-Real-IP`, in `X-Forwarded-For` or in `Forwarded` (RFC 7239). If a named address can't be
//! read, the client is unknown. It is never taken to be the proxy: a proxy on loopback would otherwise lend a client its
//! address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::fields::{Fields, text};

/// Returns true if `address` lies in one of these networks. An IPv4 address mapped into IPv6 is the IPv4 address.
#[must_use]
pub fn within(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| canonical(*network).contains(&address))
}

/// Returns a network of IPv4 addresses mapped into IPv6 (`::ffff:10.0.0.0/104`) as the IPv4 network: addresses are compared in
/// their canonical form, so the mapped network would match none.
#[must_use]
pub fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let plain = mapped.addr().to_ipv4_mapped().zip(mapped.prefix_len().checked_sub(96));
    plain.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok()).map_or(network, IpNet::V4)
}

/// Returns the client of a request that `peer` sent: the peer itself, unless it is a trusted proxy that names another.
/// Returns `None` if a trusted proxy names it in a form that can't be read, or in two fields that disagree.
#[must_use]
pub fn client<F>(fields: &F, peer: IpAddr, trusted: &[IpNet]) -> Option<IpAddr>
where
    F: Fields + ?Sized,
{
    let peer = peer.to_canonical();
    if !within(trusted, peer) {
        return Some(peer);
    }
    let (mut real, mut hops, mut forwarded) =
        (NamedClient::Nothing, NamedClient::Nothing, NamedClient::Nothing);
    for (name, value) in fields.fields() {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            // The field has one address, and may occur only once.
            9 if is("x-real-ip") => {
                let first = matches!(real, NamedClient::Nothing);
                real = text(value)
                    .and_then(address)
                    .filter(|_| first)
                    .map_or(NamedClient::Nobody, NamedClient::Client);
            }
            9 if is("forwarded") => forwarded = forwarded.then(value, trusted, forwarded_for),
            15 if is("x-forwarded-for") => hops = hops.then(value, trusted, Some),
            _ => {}
        }
    }
    let mut client = NamedClient::Nothing;
    for told in [real, hops, forwarded] {
        client = match (client, told) {
            (client, NamedClient::Nothing) => client,
            (NamedClient::Nothing, told) => told,
            (
                NamedClient::Client(one) | NamedClient::Proxy(one),
                NamedClient::Client(other) | NamedClient::Proxy(other),
            ) if one == other => client,
            _ => NamedClient::Nobody,
        };
    }
    match client {
        NamedClient::Nothing => Some(peer),
        NamedClient::Client(client) | NamedClient::Proxy(client) => Some(client),
        NamedClient::Nobody => None,
    }
}

/// Client that a chain of hops names, read from the left. Each proxy appends the address it was called from, so an address
/// counts only if every hop to its right is a trusted proxy.
#[derive(Clone, Copy)]
enum NamedClient {
    /// No field.
    Nothing,
    /// Every hop so far is a trusted proxy; this is the first of them.
    Proxy(IpAddr),
    /// The last hop that is not a trusted proxy.
    Client(IpAddr),
    /// The last hop that is not a trusted proxy can't be read.
    Nobody,
}

impl NamedClient {
    /// Adds the next field line; `node` finds the address in an element of its list.
    fn then<'v>(self, value: &'v [u8], trusted: &[IpNet], node: impl Fn(&'v str) -> Option<&'v str>) -> Self {
        let Some(value) = text(value) else { return Self::Nobody };
        value.split(',').fold(self, |so_far, hop| match node(hop).and_then(address) {
            None => Self::Nobody,
            Some(hop) if !within(trusted, hop) => Self::Client(hop),
            Some(hop) => match so_far {
                Self::Nothing => Self::Proxy(hop),
                so_far => so_far,
            },
        })
    }
}

/// Returns the value of `for` in one element of `Forwarded`. A comma within a quoted string cuts an element in two; no address
/// has one, so such an element has no client.
fn forwarded_for(element: &str) -> Option<&str> {
    let mut found = element.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim_matches([' ', '\t']).eq_ignore_ascii_case("for").then_some(value)
    });
    found.next().filter(|_| found.next().is_none())
}

/// Reads an address as proxies write it: alone, with a port, in brackets, in quotes, with a zone.
#[must_use]
pub fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let text = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => text,
    };
    let v6 = |text: &str| -> Option<Ipv6Addr> {
        match text.split_once('%') {
            Some((_, "")) => None,
            Some((address, _)) => address.parse().ok(),
            None => text.parse().ok(),
        }
    };
    let port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok();
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, behind) = rest.split_once(']')?;
        let whole = behind.is_empty() || behind.strip_prefix(':').is_some_and(port);
        IpAddr::V6(v6(address).filter(|_| whole)?)
    } else if let Some(address) = v6(text) {
        IpAddr::V6(address)
    } else {
        let (address, whole) =
            text.split_once(':').map_or((text, true), |(address, behind)| (address, port(behind)));
        IpAddr::V4(address.parse::<Ipv4Addr>().ok().filter(|_| whole)?)
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn found(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let trusted = ["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for &(name, value) in lines {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        let client = client(&headers, peer.parse().unwrap(), &trusted);
        client.map_or_else(|| "nobody".to_owned(), |client| client.to_string())
    }

    const PROXY: &str = "127.0.0.1";
    const FOR: &str = "x-forwarded-for";
    const REAL: &str = "x-real-ip";

    #[test]
    fn an_address_is_read_in_every_spelling() {
        for (spelling, expected) in [
            ("203.0.113.9", "203.0.113.9"),
            ("203.0.113.9:4711", "203.0.113.9"),
            ("203.0.113.9:0", "203.0.113.9"),
            (" 203.0.113.9\t", "203.0.113.9"),
            ("\"203.0.113.9:4711\"", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("[::ffff:203.0.113.9]:4711", "203.0.113.9"),
            ("::ffff:cb00:7109", "203.0.113.9"),
            ("2001:db8::1", "2001:db8::1"),
            ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("\"[2001:db8::1]:443\"", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:443", "fe80::1"),
        ] {
            assert_eq!(found(PROXY, &[(FOR, spelling)]), expected, "{spelling}");
            assert_eq!(found(PROXY, &[(REAL, spelling)]), expected, "{spelling}");
        }
    }

    #[test]
    fn what_was_told_and_cant_be_read_is_nobody_and_never_the_peer() {
        for told in [
            "",
            " ",
            "nonsense",
            "unknown",
            "-",
            "_hidden",
            "203.0.113.9:",
            "203.0.113.9:port",
            "203.0.113.9:65536",
            "203.0.113.9:+1",
            "203.0.113",
            "203.0.113.9.1",
            "0203.0.113.9",
            "203.0.113.9/32",
            "[203.0.113.9]",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]443",
            "[]",
            ":443",
            "\"203.0.113.9",
            "fe80::1%",
            "localhost",
            "203.0.113.9 127.0.0.1",
            "203.0.113.9;127.0.0.1",
            "\u{661}27.0.0.1",
        ] {
            assert_eq!(found(PROXY, &[(FOR, told)]), "nobody", "{told:?}");
            assert_eq!(found(PROXY, &[(REAL, told)]), "nobody", "{told:?}");
        }
        assert_eq!(found(PROXY, &[(REAL, "203.0.113.9, 127.0.0.1")]), "nobody", "a list is no address");
        assert_eq!(found(PROXY, &[(REAL, "203.0.113.9"), (REAL, "203.0.113.9")]), "nobody");
        for forwarded in
            ["", "for", "for=", "proto=https", "for=unknown", "for=_x", "for=203.0.113.9;for=10.0.0.1"]
        {
            assert_eq!(found(PROXY, &[("forwarded", forwarded)]), "nobody", "{forwarded:?}");
        }
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_trusted_proxy() {
        for (told, expected) in [
            ("198.51.100.1, 192.0.2.9, 10.1.2.3", "192.0.2.9"),
            ("198.51.100.1,192.0.2.9:80,10.1.2.3:81", "192.0.2.9"),
            ("nonsense, 192.0.2.9", "192.0.2.9"),
            ("192.0.2.9, nonsense", "nobody"),
            ("192.0.2.9, nonsense, 10.0.0.1", "nobody"),
            ("192.0.2.9, , 10.0.0.1", "nobody"),
            ("192.0.2.9,", "nobody"),
            // A client may stand in the proxies' own network.
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3, 10.1.2.4", "10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
        ] {
            assert_eq!(found(PROXY, &[(FOR, told)]), expected, "{told}");
        }
        let lines = [(FOR, "198.51.100.1"), (FOR, "192.0.2.9, 10.0.0.7"), (FOR, "10.0.0.8")];
        assert_eq!(found(PROXY, &lines), "192.0.2.9");
        assert_eq!(
            found(PROXY, &[("forwarded", "for=192.0.2.9;proto=http, For=\"10.0.0.1:80\"")]),
            "192.0.2.9"
        );
        assert_eq!(found(PROXY, &[("forwarded", "by=10.0.0.1; FOR=\"[2001:db8::1]:80\"")]), "2001:db8::1");
    }

    #[test]
    fn two_ways_of_telling_agree_or_name_nobody() {
        let both = |real, hops| found(PROXY, &[(REAL, real), (FOR, hops)]);
        assert_eq!(both("192.0.2.9", "198.51.100.1, 192.0.2.9"), "192.0.2.9");
        assert_eq!(both("192.0.2.9:80", "::ffff:192.0.2.9"), "192.0.2.9");
        assert_eq!(both("127.0.0.1", "192.0.2.9"), "nobody");
        assert_eq!(both("192.0.2.9", "127.0.0.1"), "nobody");
        assert_eq!(both("nonsense", "192.0.2.9"), "nobody");
        assert_eq!(both("192.0.2.9", "nonsense"), "nobody");
        assert_eq!(found(PROXY, &[(FOR, "192.0.2.9"), ("forwarded", "for=192.0.2.8")]), "nobody");
        assert_eq!(found(PROXY, &[(FOR, "192.0.2.9"), ("forwarded", "for=192.0.2.9")]), "192.0.2.9");
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(found("192.0.2.1", &[(FOR, "127.0.0.1"), (REAL, "127.0.0.1")]), "192.0.2.1");
        assert_eq!(found("::ffff:127.0.0.1", &[(FOR, "192.0.2.9")]), "192.0.2.9");
        assert_eq!(found(PROXY, &[]), "127.0.0.1", "who names nobody asks for itself");
    }

    #[test]
    fn a_mapped_network_is_the_network() {
        for (written, meant) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:a00:0/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:0:0/95", "::ffff:0.0.0.0/95"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
        ] {
            assert_eq!(canonical(written.parse().unwrap()).to_string(), meant, "{written}");
        }
        assert!(within(&["::ffff:10.0.0.0/104".parse().unwrap()], "10.1.2.3".parse().unwrap()));
    }
}
