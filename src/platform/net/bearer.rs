//! The bearer token of a request (RFC 6750 section 2.1, RFC 9110 section 11.6.2), and client credentials in its place (RFC
//! 6749 section 2.3.1). Every listener reads them here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::fields::Fields;

const SCHEME: &[u8] = b"bearer";
const BASIC: &[u8] = b"basic";

/// Returns the token of a request with these fields. Returns `None` for two `Authorization` fields, because it is unknown
/// which one was meant.
#[must_use]
pub fn token_of(fields: &(impl Fields + ?Sized)) -> Option<&[u8]> {
    within(fields.only("authorization")?)
}

/// Returns the token in the value of an `Authorization` field: `Bearer` in any case, one or more spaces, the token. A comma
/// joins the values of two fields (RFC 9110 section 5.2), so that a value with one has no token.
#[must_use]
pub fn within(value: &[u8]) -> Option<&[u8]> {
    of_scheme(value, SCHEME)
}

fn of_scheme<'v>(value: &'v [u8], wanted: &[u8]) -> Option<&'v [u8]> {
    let (scheme, rest) = value.split_at_checked(wanted.len())?;
    let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
    let token = rest.get(spaces..)?;
    let one = !token.is_empty() && !token.contains(&b',');
    (scheme.eq_ignore_ascii_case(wanted) && spaces > 0 && one).then_some(token)
}

/// Id and secret of a client.
pub struct Client {
    /// Id of the client.
    pub id: String,
    /// Secret of the client.
    pub secret: Zeroizing<String>,
}

/// Returns true if a request with these fields has an `Authorization` field of the scheme `Basic`, readable or not.
#[must_use]
pub fn is_basic(fields: &(impl Fields + ?Sized)) -> bool {
    fields.only("authorization").is_some_and(|value| {
        value.get(..BASIC.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(BASIC))
    })
}

/// Returns the credentials of a client in an `Authorization` field of the scheme `Basic` (RFC 7617).
///
/// RFC 6749 has id and secret form-encoded first. Ids and tokens contain no character that this would change.
#[must_use]
pub fn client(fields: &(impl Fields + ?Sized)) -> Option<Client> {
    let encoded = of_scheme(fields.only("authorization")?, BASIC)?;
    let text = Zeroizing::new(String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?);
    let (id, secret) = text.split_once(':')?;
    Some(Client { id: id.to_owned(), secret: Zeroizing::new(secret.to_owned()) })
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
        // The text after the spaces counts as the token, and is rejected where tokens are parsed.
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
    fn a_client_has_an_id_and_a_secret() {
        let client_of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.append(AUTHORIZATION, value.parse().unwrap());
            client(&headers).map(|client| (client.id, (*client.secret).clone()))
        };
        let encoded = STANDARD.encode("tok_a:a.b-c_d");
        for scheme in ["Basic", "basic", "BASIC "] {
            let found = client_of(&format!("{scheme} {encoded}"));
            assert_eq!(found, Some(("tok_a".into(), "a.b-c_d".into())), "{scheme}");
        }
        let without = STANDARD.encode("tok_a");
        for value in
            ["Basic", "Basic ", &format!("Basic {without}"), "Basic ???", &format!("Bearer {encoded}")]
        {
            assert_eq!(client_of(value), None, "{value}");
        }
    }

    #[test]
    fn two_fields_are_none_even_if_they_agree() {
        let mut headers = HeaderMap::new();
        assert_eq!(token_of(&headers), None);
        headers.append(AUTHORIZATION, "Bearer a.b.c".parse().unwrap());
        assert_eq!(token_of(&headers), Some(&b"a.b.c"[..]));
        for second in ["Bearer a.b.c", "Basic x", ""] {
            let mut two = headers.clone();
            two.append(AUTHORIZATION, second.parse().unwrap());
            assert_eq!(token_of(&two), None, "{second:?}");
        }
    }
}
