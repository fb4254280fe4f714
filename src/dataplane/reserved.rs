//! Header names that only the daemon and the proxy beside it speak under. A client that sends one speaks for them, so the
//! gateway takes it out, and the examples in `docs/examples` do the same at every other proxy.
//!
//! Servers hand headers on as variables (CGI, WSGI, PHP) and fold what is no letter or digit into `_`: `X_Halligan_Role` and
//! `X.Halligan.Role` are then `X-Halligan-Role`. A name is reserved in every such spelling.

use std::borrow::Cow;

/// The names under which the daemon answers, and those the examples use on the way. The examples overwrite or remove each of
/// them by name where a proxy can't remove headers by a pattern.
pub const SPOKEN: [&str; 7] = [
    "x-halligan-token-id",
    "x-halligan-role",
    "x-halligan-deployment",
    "x-halligan-event-id",
    "x-halligan-reason",
    "x-halligan-replica-age",
    "x-halligan-authorization",
];

/// What every name of the daemon begins with, once it is folded.
const OURS: &str = "x-halligan-";

/// Names that say where a request came from, or what it was before a proxy changed it.
const PREFIXES: [&str; 3] = ["x-forwarded-", "x-original-", "x-envoy-original-"];

/// Single names of the same kind, the credentials that end here, and names by which a framework takes one method for another:
/// the decision is about the method of the request line.
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

/// Folds a name as CGI does, with `-` for whatever is no letter or digit.
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

/// Returns whether the daemon alone speaks under this name.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    folded(name).starts_with(OURS)
}

/// Returns whether a client may not say this to a deployment.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let name = folded(name);
    name.starts_with(OURS)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || NAMES.contains(&&*name)
}

/// Returns whether a name is the daemon's and yet none of [`SPOKEN`]. A proxy that passes such a header of a client on to the
/// daemon passes it on to the deployment too, where it would be believed: the request is refused.
#[must_use]
pub fn is_unknown(name: &str) -> bool {
    // Most names are told by their first letter.
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
