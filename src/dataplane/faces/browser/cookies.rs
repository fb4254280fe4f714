//! Cookies of a request (RFC 6265): the session's, and those that the deployment gets.

use hyper::header::HeaderValue;

use crate::platform::net::fields::Fields;

/// Name of the session's cookie. Browsers take a cookie of this prefix only from its own host, over TLS, for all paths.
pub const SESSION: &str = "__Host-halligan-session";

/// Prefix of the daemon's cookies.
const OURS: &[u8] = b"__Host-halligan-";
/// Cookie in which Airflow reads a token. The daemon removes it, so that a caller can't choose their identity in Airflow.
const AIRFLOW_TOKEN: &[u8] = b"_token";

/// Returns the cookies of a request: the name of each, and the pair as sent. A request may have several fields (RFC 9113
/// section 8.2.3).
fn pairs<F: Fields + ?Sized>(fields: &F) -> impl Iterator<Item = (&[u8], &[u8])> {
    let values = fields.fields().filter(|(name, _)| is_cookie(name)).map(|(_, value)| value);
    values.flat_map(|value| value.split(|&byte| byte == b';')).map(|pair| (name(pair), trimmed(pair)))
}

fn is_cookie(name: &str) -> bool {
    name.len() == 6 && name.eq_ignore_ascii_case("cookie")
}

/// Returns the name of a cookie. Servers strip what they hold for white space around it, beyond ASCII too, so nothing but
/// visible ASCII counts at its ends.
fn name(pair: &[u8]) -> &[u8] {
    trimmed(pair.split(|&byte| byte == b'=').next().unwrap_or_default())
}

fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && !first.is_ascii_graphic()
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && !last.is_ascii_graphic()
    {
        bytes = rest;
    }
    bytes
}

/// Returns the value of the session's cookie. Returns `None` if there are two, because it is unknown which one was meant.
pub fn session<F: Fields + ?Sized>(fields: &F) -> Option<&[u8]> {
    let mut found = pairs(fields).filter(|(name, _)| *name == SESSION.as_bytes());
    let (Some((_, pair)), None) = (found.next(), found.next()) else { return None };
    pair.get(SESSION.len()..)?.strip_prefix(b"=")
}

/// Returns the cookies that the deployment gets, or `None` if the request has none: all but the daemon's and Airflow's own.
/// The value is empty if nothing is left.
pub fn for_deployment<F: Fields + ?Sized>(fields: &F) -> Option<HeaderValue> {
    fields.fields().find(|(name, _)| is_cookie(name))?;
    // A proxy that joined two fields with a comma would hide ours in the value of another.
    let ours = |pair: &[u8]| pair.windows(OURS.len()).any(|part| part == OURS);
    let kept = pairs(fields).filter(|(name, pair)| !pair.is_empty() && *name != AIRFLOW_TOKEN && !ours(pair));
    let kept: Vec<&[u8]> = kept.map(|(_, pair)| pair).collect();
    // These bytes were part of a header field, so they are valid in one.
    Some(HeaderValue::from_bytes(&kept.join(&b"; "[..])).unwrap_or_else(|_| HeaderValue::from_static("")))
}

/// Returns the field that sets the session's cookie for `seconds`.
#[must_use]
pub fn set(sealed: &str, seconds: i64) -> Option<HeaderValue> {
    let attributes = "Path=/; Secure; HttpOnly; SameSite=Lax";
    let text = format!("{SESSION}={sealed}; {attributes}; Max-Age={}", seconds.max(0));
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hyper::header::{COOKIE, HeaderMap};
    use proptest::prelude::*;

    use super::*;

    fn map(lines: &[&[u8]]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        map
    }

    #[test]
    fn the_session_is_the_one_cookie_of_its_name() {
        assert_eq!(session(&map(&[b"a=b; __Host-halligan-session=abc; c=d"])), Some(&b"abc"[..]));
        assert_eq!(session(&map(&[b"a=b", b"__Host-halligan-session=abc"])), Some(&b"abc"[..]));
        for none in [
            &b"__Host-halligan-session=abc; __Host-halligan-session=abc"[..],
            b"__Host-halligan-session",
            b"__host-halligan-session=abc",
            b"x__Host-halligan-session=abc",
            b"a=__Host-halligan-session=abc",
            b"",
        ] {
            assert_eq!(session(&map(&[none])), None, "{none:?}");
        }
    }

    #[test]
    fn the_deployment_gets_neither_the_session_nor_a_token() {
        let left = |lines: &[&[u8]]| for_deployment(&map(lines)).map(|value| value.as_bytes().to_owned());
        assert_eq!(left(&[]), None);
        assert_eq!(left(&[b"a=b; c=d"]).unwrap(), b"a=b; c=d");
        assert_eq!(left(&[b"a=b", b"c=d"]).unwrap(), b"a=b; c=d");
        for taken in [
            &b"_token=x"[..],
            b"_token",
            b"_token = x",
            b"  _token=x ",
            b"\xa0_token=x",
            b"\t_token\x85=x",
            b"__Host-halligan-session=x",
            b"__Host-halligan-anything=x",
            b"theme=dark,__Host-halligan-session=x",
            b";;_token=x;",
        ] {
            assert_eq!(left(&[taken]).unwrap(), b"", "{taken:?}");
            assert_eq!(left(&[b"a=b", taken, b"c=_token"]).unwrap(), b"a=b; c=_token", "{taken:?}");
        }
    }

    proptest! {
        #[test]
        fn no_line_of_cookies_hides_one(front in "[ -~]{0,20}", back in "[ -~]{0,20}") {
            let line = format!("{front}; __Host-halligan-session=secret;{back}");
            let left = for_deployment(&map(&[line.as_bytes()])).unwrap();
            prop_assert!(!String::from_utf8_lossy(left.as_bytes()).contains("secret"));
        }
    }
}
