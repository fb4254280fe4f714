//! Checks URLs to which secrets are sent.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Returns true if nobody on the way can read a request to `url`: `https://`, or `http://` on loopback (RFC 6761 section
/// 6.3 for names). Rejects a URL with a user name, or with characters that parsers read differently.
#[must_use]
pub fn keeps_secrets(url: &str) -> bool {
    if url.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'\\') {
        return false;
    }
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let Some(host) = host_of(rest.split(['/', '?', '#']).next().unwrap_or_default()) else { return false };
    scheme.eq_ignore_ascii_case("https") || (scheme.eq_ignore_ascii_case("http") && is_loopback(host))
}

/// Returns the host of an authority that is a host and, if anything follows it, a port from 1 to 65535 (RFC 3986 section 3.2,
/// without user information); an IPv6 address in its brackets. Some HTTP clients ignore a port that is too large, and connect to the
/// scheme's own port.
#[must_use]
pub fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let number = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let valid = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.strip_suffix('.').unwrap_or(host).split('.').all(label),
    };
    (valid && port.is_none_or(number)).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback());
    }
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::keeps_secrets;

    #[test]
    fn a_secret_goes_over_tls_or_stays_on_the_host() {
        for good in [
            "https://control.example",
            "HTTPS://control.example:8443/x",
            "http://127.0.0.1:8080",
            "http://127.9.9.9",
            "http://localhost:1",
            "http://LocalHost.",
            "http://control.localhost:1",
            "http://[::1]:8080/a?b",
        ] {
            assert!(keeps_secrets(good), "{good}");
        }
        for bad in [
            "http://control.example",
            "HTTP://control.example",
            "http://10.0.0.1",
            "http://127.0.0.1.example",
            "http://localhost.example",
            "http://localhost@control.example",
            "http://127.0.0.1:80@control.example",
            "http://localhost\\@control.example",
            "http://control.example#localhost",
            "http://control.example/?localhost",
            "http://xlocalhost",
            "http://[::2]",
            "http://[::1",
            "http://[::1].example",
            "http://lo\tcalhost",
            "https://user@control.example",
            "https://control.example:",
            "https://control.example:0",
            "https://control.example:65536",
            "https://control.example:84430",
            "https://control.example:+1",
            "https://control..example",
            "https://.example",
            "https://*.example",
            "https://:443",
            "http://127.0.0.1:99999",
            "http://[::1]:99999",
            "http://[::1]x",
            "https://",
            "ftp://localhost",
            "control.example",
            "",
        ] {
            assert!(!keeps_secrets(bad), "{bad}");
        }
    }
}
