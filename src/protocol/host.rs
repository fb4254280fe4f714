//! Normalizes host names for comparison.

use std::borrow::Cow;

/// Returns a host in lower case, without its port and without the final dot of the root.
///
/// DNS names are case-insensitive (RFC 4343), and a final dot does not change a name (RFC 1034 section 3.1). Both planes
/// compare hosts in this form only: otherwise one deployment could claim the name of another in a different spelling.
/// A host that has not the form `name`, `name:port`, `[address]` or `[address]:port` keeps port and dot, so that no
/// deployment has it. Applying this function to its own result changes nothing.
///
/// ```
/// use halligan::protocol::host::host_name;
///
/// assert_eq!(host_name("Prod.Example.:443"), "prod.example");
/// assert_eq!(host_name("[2001:DB8::1]:443"), "[2001:db8::1]");
/// assert_eq!(host_name("prod.example:443:"), "prod.example:443:");
/// ```
#[must_use]
pub fn host_name(host: &str) -> Cow<'_, str> {
    let name = match host.rsplit_once(':') {
        // In an IPv6 address without a port, the text behind the last colon ends in `]` and is no number.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let address = name.starts_with('[') && name.ends_with(']');
    let formed = address || !(name.contains(':') || name.ends_with('.'));
    let name = if formed { name } else { host };
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::host_name;

    #[test]
    fn one_name_has_one_form() {
        for host in ["prod.example", "PROD.Example", "prod.example.", "Prod.Example.:443", "prod.example:"] {
            assert_eq!(host_name(host), "prod.example", "{host}");
        }
        for (host, name) in
            [("[::1]:8080", "[::1]"), ("[2001:DB8::1]", "[2001:db8::1]"), (".", ""), ("", ""), (":443", "")]
        {
            assert_eq!(host_name(host), name, "{host}");
        }
    }

    #[test]
    fn a_host_of_another_form_is_nobodys() {
        for host in [
            "prod.example..",
            "prod.example..:443",
            "prod.example:443:",
            "prod.example:443:443",
            "prod.example::",
            "prod.example:.",
            "prod.example:443.",
            "::1",
            "[::1]:80:",
        ] {
            assert_eq!(host_name(host), host);
        }
    }

    proptest! {
        #[test]
        fn the_form_of_a_form_is_itself(host in "[aB1.:\\[\\]]{0,12}") {
            let once = host_name(&host);
            prop_assert_eq!(host_name(&once), once.clone());
        }
    }
}
