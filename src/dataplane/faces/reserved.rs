//! Reserved header names: only the daemon and the proxy beside it send them. The gateway removes a client's field with such
//! a name, and the examples in `docs/examples` do so at every other proxy.
//!
//! Servers pass headers as variables (CGI, WSGI, PHP) and replace every character but letters and digits with `_`: they
//! read `X_Halligan_Role` and `X.Halligan.Role` as `X-Halligan-Role`. All these spellings of a name are reserved.

use std::borrow::Cow;

/// Names in the daemon's responses, and one that the examples use internally. The examples overwrite or remove each of
/// them by name where a proxy cannot remove headers by a pattern.
pub const SPOKEN: [&str; 7] = [
    "x-halligan-token-id",
    "x-halligan-role",
    "x-halligan-deployment",
    "x-halligan-event-id",
    "x-halligan-reason",
    "x-halligan-replica-age",
    "x-halligan-authorization",
];

/// Prefix of the daemon's names, after folding.
const OURS: &str = "x-halligan-";

/// Prefixes of names that describe the client or the original request.
const PREFIXES: [&str; 3] = ["x-forwarded-", "x-original-", "x-envoy-original-"];

/// Single names of that kind; credentials that end at the gateway; and names by which a framework overrides the method,
/// since the decision is about the method of the request line.
const NAMES: [&str; 12] = [
    "authorization",
    "proxy-authorization",
    "expect",
    "forwarded",
    "x-forwarded",
    "x-real-ip",
    "x-rewrite-url",
    "x-rewrite-uri",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-method",
];

/// Folds a name as CGI does, with `-` for every character but letters and digits.
fn folded(name: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte == b'-' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name.bytes().all(plain) {
        return name.into();
    }
    let fold = |byte: u8| match byte.to_ascii_lowercase() {
        byte if plain(byte) => char::from(byte),
        _ => '-',
    };
    name.bytes().map(fold).collect::<String>().into()
}

/// Returns true if the name is one of the daemon's.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    folded(name).starts_with(OURS)
}

/// Returns true if a client must not send a field of this name to a deployment.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let name = folded(name);
    name.starts_with(OURS)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || NAMES.contains(&&*name)
}

/// Returns true if a name has the daemon's prefix and is none of [`SPOKEN`]. A proxy that passes such a field of a client
/// to the daemon also passes it to the deployment, which would trust it, so the request is denied.
#[must_use]
pub fn is_unknown(name: &str) -> bool {
    // The first letter excludes most names.
    matches!(name.as_bytes().first(), Some(b'x' | b'X'))
        && is_ours(name)
        && !SPOKEN.iter().any(|spoken| name.eq_ignore_ascii_case(spoken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_reserved_in_every_spelling_that_a_server_folds() {
        for name in [
            "x-halligan-role",
            "X-HALLIGAN-ROLE",
            "x_halligan_role",
            "X-Halligan_Role",
            "x.halligan.role",
            "x~halligan!role",
            "x-halligan-",
            "x-halligan-anything",
            "x-halligan-replica-age",
        ] {
            assert!(is_ours(name) && is_reserved(name), "{name}");
        }
        for name in [
            "authorization",
            "Authorization",
            "x_forwarded_for",
            "x.forwarded.proto",
            "x-forwarded-anything",
            "forwarded",
            "x-real-ip",
            "X_Real_IP",
            "x-original-url",
            "x_rewrite_url",
            "x-http-method-override",
            "X_HTTP_Method_Override",
            "x-http-method",
            "x-method-override",
            "proxy_authorization",
        ] {
            assert!(is_reserved(name) && !is_ours(name), "{name}");
        }
        for name in
            ["x-halliganrole", "halligan", "xx-halligan-role", "x-request-id", "x-method-name", "cookie", ""]
        {
            assert!(!is_reserved(name) && !is_unknown(name), "{name}");
        }
    }

    #[test]
    fn what_no_proxy_removes_is_unknown() {
        for name in SPOKEN {
            assert!(is_ours(name) && !is_unknown(name) && !is_unknown(&name.to_ascii_uppercase()), "{name}");
            assert!(is_unknown(&name.replace('-', "_")), "{name}");
        }
        assert!(is_unknown("X-Halligan-Admin") && is_unknown("x.halligan.admin"));
    }
}
