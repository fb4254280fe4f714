//! The bearer token of a request (RFC 6750 section 2.1): in one header, or there is none.

use hyper::header::{self, HeaderMap};

/// The token of the request with these headers. Two headers are none: nobody knows which was meant.
#[must_use]
pub fn of(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (first, None) = (values.next()?, values.next()) else { return None };
    within(first.as_bytes())
}

/// The token in the value of an `Authorization` header.
#[must_use]
pub fn within(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}
