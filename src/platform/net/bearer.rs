//! The bearer token of a request (RFC 6750 section 2.1, RFC 9110 section 11.6.2). Every listener reads it here.

use super::fields::Fields;

const SCHEME: &[u8] = b"bearer";

/// Returns the token of a request with these fields. Two `Authorization` fields are none: it is unknown which was meant.
#[must_use]
pub fn of(fields: &(impl Fields + ?Sized)) -> Option<&[u8]> {
    within(fields.only("authorization")?)
}

/// Returns the token in the value of an `Authorization` field: `Bearer` in any case, one or more spaces, the token. A comma
/// joins the values of two fields (RFC 9110 section 5.2), which are none.
#[must_use]
pub fn within(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
    let token = rest.get(spaces..)?;
    let one = !token.is_empty() && !token.contains(&b',');
    (scheme.eq_ignore_ascii_case(SCHEME) && spaces > 0 && one).then_some(token)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hyper::header::{AUTHORIZATION, HeaderMap};

    use super::*;

    #[test]
    fn a_bearer_is_a_scheme_in_any_case_spaces_and_a_token() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", "bEaReR  a.b.c", "Bearer     a.b.c"] {
            assert_eq!(within(value.as_bytes()), Some(&b"a.b.c"[..]), "{value}");
        }
        // What follows the spaces is judged as a token, by whoever takes tokens.
        assert_eq!(within(b"Bearer a b"), Some(&b"a b"[..]));
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer   ",
            "Bearera.b.c",
            "Bearer\ta.b.c",
            "Bearer\u{a0}a.b.c",
            " Bearer a.b.c",
            "Basic a.b.c",
            "Bear a.b.c",
            "Bearer a.b.c, Bearer d.e.f",
            "Bearer a.b.c,",
        ] {
            assert_eq!(within(value.as_bytes()), None, "{value:?}");
        }
    }

    #[test]
    fn two_fields_are_none_even_if_they_agree() {
        let mut headers = HeaderMap::new();
        assert_eq!(of(&headers), None);
        headers.append(AUTHORIZATION, "Bearer a.b.c".parse().unwrap());
        assert_eq!(of(&headers), Some(&b"a.b.c"[..]));
        for second in ["Bearer a.b.c", "Basic x", ""] {
            let mut two = headers.clone();
            two.append(AUTHORIZATION, second.parse().unwrap());
            assert_eq!(of(&two), None, "{second:?}");
        }
    }
}
