//! Normalizes host names for comparison.

use std::borrow::Cow;

/// Returns a host in lower case, without its port and without the final dot of the root.
///
/// DNS names are case-insensitive (RFC 4343), and a final dot does not change a name (RFC 1034 section 3.1). Both planes
/// compare hosts in this form only: otherwise one deployment could claim the name of another in a different spelling.
///
/// ```
/// use halligan::protocol::host::host_name;
///
/// assert_eq!(host_name("Prod.Example.:443"), "prod.example");
/// assert_eq!(host_name("[2001:DB8::1]:443"), "[2001:db8::1]");
/// ```
#[must_use]
pub fn host_name(host: &str) -> Cow<'_, str> {
    let name = match host.rsplit_once(':') {
        // In an IPv6 address without a port, the text behind the last colon ends in `]` and is no number.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::host_name;

    #[test]
    fn one_name_has_one_form() {
        for host in ["prod.example", "PROD.Example", "prod.example.", "Prod.Example.:443", "prod.example:"] {
            assert_eq!(host_name(host), "prod.example", "{host}");
        }
        for (host, name) in [
            ("[::1]:8080", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            // Two dots are no name: they are left for nobody to have.
            ("prod.example..", "prod.example."),
            (".", ""),
            ("", ""),
            (":443", ""),
        ] {
            assert_eq!(host_name(host), name, "{host}");
        }
    }
}
