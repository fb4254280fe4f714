//! Checks host names and listeners: no two settings may name the same one.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::Wrong;
use crate::protocol::id::is_id;

/// Checks the host names under `key`, and that each is used once: `seen` has the earlier ones, with their keys. Names
/// are compared without case and without a final dot.
pub fn check_hosts(hosts: &[String], key: &str, seen: &mut BTreeMap<String, String>) -> Result<(), Wrong> {
    for host in hosts {
        let bare = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let address = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = address.and_then(|inner| inner.parse::<std::net::Ipv6Addr>().ok());
        let label = |label: &str| {
            is_id(label) && !label.starts_with('-') && !label.ends_with('-') && label.len() <= 63
        };
        let name = bare.len() <= 253 && bare.split('.').all(label);
        if address.is_none() && !name {
            let what = format!(
                "{host:?} is no host name; leave scheme, port and path out, and name each host in full"
            );
            return Err(Wrong { key: key.into(), what });
        }
        // An address has several spellings (RFC 5952).
        let bare = address.map_or(bare, |address| format!("[{address}]"));
        if let Some(before) = seen.insert(bare, key.into()) {
            let place = if before == key { "here".into() } else { format!("in {before}") };
            return Err(Wrong {
                key: key.into(),
                what: format!("{host:?} stands {place}, too; a host is one deployment"),
            });
        }
    }
    Ok(())
}

/// Checks that no two settings listen on one address: each of `listeners` has its key and its addresses. An unspecified address
/// covers all of its family. Port 0 is any free port.
pub fn check_listeners(listeners: &[(&str, &[SocketAddr])]) -> Result<(), Wrong> {
    let all = |ip: IpAddr, other: IpAddr| ip.is_unspecified() && ip.is_ipv4() == other.is_ipv4();
    let same = |one: &SocketAddr, other: &SocketAddr| {
        let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
        one.port() != 0 && one.port() == other.port() && (a == b || all(a, b) || all(b, a))
    };
    for (at, (key, addresses)) in listeners.iter().enumerate() {
        let earlier =
            listeners.iter().take(at).flat_map(|(key, list)| list.iter().map(move |one| (*key, one)));
        for (before, one) in earlier {
            if let Some(address) = addresses.iter().find(|address| same(one, address)) {
                let what = format!("{address} is taken by {one} in {before}; name another address or port");
                return Err(Wrong { key: (*key).into(), what });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_host_is_a_bare_name_and_stands_once() {
        let check = |hosts: &[&str]| {
            let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
            check_hosts(&hosts, "b.hosts", &mut BTreeMap::from([("taken.example".into(), "a.hosts".into())]))
        };
        for good in
            ["prod.example", "PROD.example.", "localhost", "10.0.0.1", "[::1]", "a_b.example", "x--y.example"]
        {
            assert_eq!(check(&[good]), Ok(()), "{good}");
        }
        for bad in [
            "",
            ".",
            "prod.example:443",
            "https://prod.example",
            "*.example",
            "prod.example/",
            "a b",
            "a..b",
            "-a.b",
            "[::1]:80",
            "::1",
            "prod.example,b.example",
            "prod\n",
            "u@h",
            "b\u{fc}ro.example",
        ] {
            let wrong = check(&[bad]).unwrap_err();
            assert!(wrong.key == "b.hosts" && wrong.what.contains("no host name"), "{bad}: {wrong:?}");
        }
        for twice in [&["one.example", "ONE.example."][..], &["Taken.Example"]] {
            let wrong = check(twice).unwrap_err();
            assert!(wrong.what.contains("too; a host is one deployment"), "{wrong:?}");
        }
    }

    #[test]
    fn an_address_is_listened_on_once() {
        let taken = |one: &str, other: &str| {
            let (one, other) = ([one.parse().unwrap()], [other.parse().unwrap()]);
            check_listeners(&[("a", &one), ("none", &[]), ("b.c", &other)]).map_err(|wrong| wrong.key)
        };
        for (one, other) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("127.0.0.1:80", "0.0.0.0:80"),
            ("[::]:80", "[::1]:80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
        ] {
            assert_eq!(taken(one, other), Err("b.c".into()), "{one} {other}");
        }
        for (one, other) in [
            ("127.0.0.1:80", "127.0.0.1:81"),
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            // Both work where net.ipv6.bindv6only is set.
            ("[::]:80", "0.0.0.0:80"),
        ] {
            assert_eq!(taken(one, other), Ok(()), "{one} {other}");
        }
    }
}
