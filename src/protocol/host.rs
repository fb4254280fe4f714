//! Host names, in the one form in which they are compared.

use std::borrow::Cow;

/// Returns a host without its port, in lower case and without the dot of the root: `Prod.Example.:443` is `prod.example`.
///
/// DNS compares names without case (RFC 4343), and a name with the dot at its end is the same name (RFC 1034 section 3.1).
/// Both planes compare hosts in this form only: otherwise a deployment could take the name of another.
#[must_use]
pub fn host_name(host: &str) -> Cow<'_, str> {
    let name = match host.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
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
