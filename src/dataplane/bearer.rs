//! The bearer token of a request (RFC 6750 section 2.1): in one header field, or there is none.

use super::fields::Fields;

/// The token of the request with these fields. Two are none: nobody knows which was meant.
#[must_use]
pub fn of(fields: &(impl Fields + ?Sized)) -> Option<&[u8]> {
    within(fields.only("authorization")?)
}

/// The token in the value of an `Authorization` field.
#[must_use]
pub fn within(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}
