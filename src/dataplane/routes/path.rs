//! Canonical paths: what is left of a request target when every doubt about its meaning has been refused.
//!
//! RFC 3986 lets two parties read one path in two ways: dot segments, empty segments, encoded separators. A guard that
//! reads it one way before an upstream that reads it another way guards nothing. So nothing is repaired here.

use std::borrow::Cow;

use thiserror::Error;

/// The longest path accepted, in bytes, as sent.
pub const MAX_PATH: usize = 2048;

/// Why a path is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("the path does not begin with '/'")]
    Relative,
    /// Longer than [`MAX_PATH`].
    #[error("the path is longer than 2048 bytes")]
    TooLong,
    /// `.` or `..` as a segment, plain or encoded.
    #[error("the path has a dot segment")]
    DotSegment,
    /// Two slashes in a row.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// An encoded slash or percent sign, or a backslash: a separator to some upstreams.
    #[error("the path has an encoded separator")]
    Separator,
    /// A control character, a space, `#` or `;` as sent.
    #[error("the path has a forbidden character")]
    Character,
    /// A percent sign without two hexadecimal digits after it.
    #[error("the path is not percent-encoded properly")]
    Encoding,
    /// Not UTF-8 once decoded.
    #[error("the path is not UTF-8")]
    Utf8,
}

/// A path with one reading: decoded once, absolute, without empty or dot segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a>(Cow<'a, str>);

impl<'a> CanonicalPath<'a> {
    /// Reads the path of a request target in origin form (RFC 9112 section 3.2.1); a query takes no part.
    pub fn parse(target: &'a str) -> Result<Self, PathError> {
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        if path.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        if !path.starts_with('/') {
            return Err(PathError::Relative);
        }
        for byte in path.bytes() {
            match byte {
                // `;` begins path parameters for some servers, and an ordinary character for others.
                0..=b' ' | b'#' | b';' | 0x7f => return Err(PathError::Character),
                b'\\' => return Err(PathError::Separator),
                _ => {}
            }
        }
        let decoded = decode(path)?;
        let mut segments = decoded.as_bytes().split(|byte| *byte == b'/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            match segment {
                b"." | b".." => return Err(PathError::DotSegment),
                // The last one may be empty: a slash ends the path.
                b"" if segments.peek().is_some() => return Err(PathError::EmptySegment),
                _ => {}
            }
        }
        Ok(Self(decoded))
    }

    /// The decoded path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Decodes once. What decodes to a separator, a control character or another percent sign is refused.
fn decode(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let mut rest = path.as_bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let [high, low, after @ ..] = rest else { return Err(PathError::Encoding) };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return Err(PathError::Encoding) };
        rest = after;
        match u8::try_from(high * 16 + low).map_err(|_| PathError::Encoding)? {
            b'/' | b'\\' | b'%' => return Err(PathError::Separator),
            0..0x20 | 0x7f => return Err(PathError::Character),
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| PathError::Utf8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn doubt_is_refused() {
        for (path, error) in [
            ("", PathError::Relative),
            ("api/v2", PathError::Relative),
            ("http://host/api", PathError::Relative),
            ("/a/../b", PathError::DotSegment),
            ("/a/./b", PathError::DotSegment),
            ("/a/..", PathError::DotSegment),
            ("/a/%2e%2E/b", PathError::DotSegment),
            ("/a/.%2e", PathError::DotSegment),
            ("//a", PathError::EmptySegment),
            ("/a//b", PathError::EmptySegment),
            ("/a%2fb", PathError::Separator),
            ("/a%2Fb", PathError::Separator),
            ("/a%5cb", PathError::Separator),
            ("/a\\b", PathError::Separator),
            ("/a%252e", PathError::Separator),
            ("/a%00", PathError::Character),
            ("/a%0d%0a", PathError::Character),
            ("/a b", PathError::Character),
            ("/a;x=1", PathError::Character),
            ("/a#b", PathError::Character),
            ("/a%", PathError::Encoding),
            ("/a%2", PathError::Encoding),
            ("/a%zz", PathError::Encoding),
            ("/a%+1", PathError::Encoding),
            ("/a%ff", PathError::Utf8),
        ] {
            assert_eq!(CanonicalPath::parse(path), Err(error), "{path:?}");
        }
        assert_eq!(CanonicalPath::parse(&format!("/{}", "a".repeat(MAX_PATH))), Err(PathError::TooLong));
    }

    #[test]
    fn what_is_plain_is_kept() {
        for (path, canonical) in [
            ("/", "/"),
            ("/api/v2/dags?order_by=../x", "/api/v2/dags"),
            ("/api/v2/dags/caf%C3%A9", "/api/v2/dags/café"),
            ("/api/v2/dags/my%20dag", "/api/v2/dags/my dag"),
            ("/api/v2/dags/~/dagRuns", "/api/v2/dags/~/dagRuns"),
            ("/a/...", "/a/..."),
            ("/a/", "/a/"),
        ] {
            assert_eq!(CanonicalPath::parse(path).unwrap().as_str(), canonical);
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_has_one_reading(path in "/([a-zA-Z0-9./\\\\%~ \u{0}é]|%2[eEfF5]|%5c|%c3%a9){0,24}") {
            if let Ok(canonical) = CanonicalPath::parse(&path) {
                let text = canonical.as_str();
                prop_assert!(text.starts_with('/') && !text.contains("//") && !text.contains('\\') && !text.contains('%'));
                prop_assert!(text.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert!(!text.chars().any(char::is_control));
            }
        }
    }
}
