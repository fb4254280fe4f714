//! Canonical paths: request targets with a single interpretation. Ambiguous ones are rejected.
//!
//! Under RFC 3986 two parties can read one path differently: dot segments, empty segments, encoded separators. A guard that
//! reads it otherwise than the upstream protects nothing. Therefore this module repairs no path.

use std::borrow::Cow;

use thiserror::Error;

/// Maximum length of a path, in bytes as sent.
pub const MAX_PATH: usize = 2048;

/// Reasons to reject a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// The path does not begin with a slash.
    #[error("the path does not begin with '/'")]
    Relative,
    /// The path is longer than [`MAX_PATH`].
    #[error("the path is longer than 2048 bytes")]
    TooLong,
    /// A segment is `.` or `..`, plain or encoded.
    #[error("the path has a dot segment")]
    DotSegment,
    /// Two slashes follow each other.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// The path holds an encoded percent sign, or a backslash, which some upstreams read as a separator.
    #[error("the path has an encoded separator")]
    Separator,
    /// The path holds a control character, encoded or not; a character that RFC 3986 permits only encoded; or `;`.
    #[error("the path or the query has a forbidden character; encode it with '%'")]
    Character,
    /// A percent sign has no two hexadecimal digits after it.
    #[error("the path is not percent-encoded properly")]
    Encoding,
    /// The decoded path is not UTF-8.
    #[error("the path is not UTF-8")]
    Utf8,
}

/// Returns true if every byte is permitted unencoded in a request's target.
///
/// ```
/// use halligan::dataplane::decide::routes::is_target;
///
/// assert!(is_target(b"/api/v2/dags?limit=1"));
/// assert!(!is_target(b"/two words"));
/// ```
#[must_use]
pub fn is_target(bytes: &[u8]) -> bool {
    !any(bytes, |byte| !byte.is_ascii_graphic() | is_unsafe(byte))
}

/// Returns true if `fault` is true of any byte. All bytes are looked at, so that the compiler can compare many at once.
fn any(bytes: &[u8], fault: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(false, |found, byte| found | fault(*byte))
}

/// Path with a single interpretation: decoded once, absolute, without empty or dot segments.
///
/// An encoded slash (`%2F`) is decoded too. Only the route knows the parameters that may hold one:
/// [`RouteMap::find`](super::RouteMap::find) rejects any other.
///
/// ```
/// use halligan::dataplane::decide::routes::{CanonicalPath, PathError};
///
/// let path = CanonicalPath::parse("/api/v2/dags/a%20b?limit=1").unwrap();
/// assert_eq!(path.as_str(), "/api/v2/dags/a b");
/// assert_eq!(CanonicalPath::parse("/api/../secret"), Err(PathError::DotSegment));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    decoded: Cow<'a, str>,
    /// Offset in `decoded` of the first slash that was sent as `%2F`.
    encoded_slash: Option<usize>,
}

/// Returns true for a character that RFC 3986 permits only encoded, or that ends a target (`#`). Proxies differ in handling
/// them: some reject the request, some encode the character, some cut the target off. The daemon rejects them all.
#[expect(clippy::needless_bitwise_bool, reason = "without branches, many bytes are compared at once")]
fn is_unsafe(byte: u8) -> bool {
    (byte == b'"') | (byte == b'<') | (byte == b'>') | (byte == b'`') | (byte == b'#')
}

impl<'a> CanonicalPath<'a> {
    /// Parses the path of a request target in origin form (RFC 9112 section 3.2.1). The query is ignored.
    ///
    /// ```
    /// use halligan::dataplane::decide::routes::{CanonicalPath, PathError};
    ///
    /// assert_eq!(CanonicalPath::parse("/api/v2/dags?limit=1")?.as_str(), "/api/v2/dags");
    /// for (target, error) in [
    ///     ("api/v2/dags", PathError::Relative),
    ///     ("/api//dags", PathError::EmptySegment),
    ///     ("/api/%2e%2e/dags", PathError::DotSegment),
    ///     ("/api/a%5Cb", PathError::Separator),
    ///     ("/api/a;b", PathError::Character),
    ///     ("/api/100%", PathError::Encoding),
    /// ] {
    ///     assert_eq!(CanonicalPath::parse(target), Err(error), "{target}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse(target: &'a str) -> Result<Self, PathError> {
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        if path.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        if !path.starts_with('/') {
            return Err(PathError::Relative);
        }
        if !is_target(target.as_bytes()) {
            return Err(PathError::Character);
        }
        // Some servers read `;` as the beginning of path parameters, others as an ordinary character.
        if any(path.as_bytes(), |byte| byte == b';') {
            return Err(PathError::Character);
        }
        if any(path.as_bytes(), |byte| byte == b'\\') {
            return Err(PathError::Separator);
        }
        let (decoded, encoded_slash) = decode(path)?;
        check_segments(decoded.as_bytes())?;
        Ok(Self { decoded, encoded_slash })
    }

    /// Returns the decoded path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.decoded
    }

    /// Returns the offset in the decoded path of the first slash that was sent as `%2F`.
    ///
    /// ```
    /// use halligan::dataplane::decide::routes::CanonicalPath;
    ///
    /// let path = CanonicalPath::parse("/xcoms/a%2Fb")?;
    /// assert_eq!((path.as_str(), path.encoded_slash()), ("/xcoms/a/b", Some(8)));
    /// assert_eq!(CanonicalPath::parse("/xcoms/a/b")?.encoded_slash(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn encoded_slash(&self) -> Option<usize> {
        self.encoded_slash
    }
}

/// Rejects dot segments and empty ones. The last segment may be empty: the path ends with a slash then.
#[expect(clippy::needless_bitwise_bool, reason = "without branches, many bytes are compared at once")]
fn check_segments(path: &[u8]) -> Result<(), PathError> {
    let pairs = path.iter().zip(path.iter().skip(1));
    // Few paths have a segment that begins with a dot. Only in those each segment is compared.
    let (dot, empty) = pairs.fold((false, false), |(dot, empty), (&one, &next)| {
        (dot | ((one == b'/') & (next == b'.')), empty | ((one == b'/') & (next == b'/')))
    });
    if empty {
        return Err(PathError::EmptySegment);
    }
    if dot && path.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b"..")) {
        return Err(PathError::DotSegment);
    }
    Ok(())
}

/// Decodes once. Rejects an encoded backslash, control character or percent sign. Returns the offset of the first encoded slash.
fn decode(path: &str) -> Result<(Cow<'_, str>, Option<usize>), PathError> {
    if !path.contains('%') {
        return Ok((Cow::Borrowed(path), None));
    }
    let mut encoded_slash = None;
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
            b'\\' | b'%' => return Err(PathError::Separator),
            b'/' => {
                encoded_slash = encoded_slash.or(Some(decoded.len()));
                decoded.push(b'/');
            }
            byte => decoded.push(byte),
        }
    }
    let decoded = String::from_utf8(decoded).map_err(|_| PathError::Utf8)?;
    // Control characters of ASCII, and U+0080 to U+009F, which terminals also interpret.
    if decoded.contains(char::is_control) {
        return Err(PathError::Character);
    }
    Ok((Cow::Owned(decoded), encoded_slash))
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
            ("/a//b//c", PathError::EmptySegment),
            ("///", PathError::EmptySegment),
            ("/a%2f%2Fb", PathError::EmptySegment),
            ("/a/%2fb", PathError::EmptySegment),
            ("/a/%2e%2e%2fb", PathError::DotSegment),
            ("/a%2f..", PathError::DotSegment),
            ("/a/./b/../c", PathError::DotSegment),
            ("/%2fa", PathError::EmptySegment),
            ("/a%5cb", PathError::Separator),
            ("/a\\b", PathError::Separator),
            ("/a%252e", PathError::Separator),
            ("/a%00", PathError::Character),
            ("/a%0d%0a", PathError::Character),
            ("/a b", PathError::Character),
            ("/a;x=1", PathError::Character),
            ("/a#b", PathError::Character),
            ("/a?b#c", PathError::Character),
            ("/a?b=\"c\"", PathError::Character),
            ("/a?b=<c", PathError::Character),
            ("/a?b=c>", PathError::Character),
            ("/a?b=`c`", PathError::Character),
            ("/a?b=c d", PathError::Character),
            ("/a?b=\u{e9}", PathError::Character),
            ("/a?b=\u{7f}", PathError::Character),
            ("/a\u{e9}", PathError::Character),
            ("/a<b>", PathError::Character),
            ("/a%7f", PathError::Character),
            ("/a%C2%80", PathError::Character),
            ("/a%c2%9b31m", PathError::Character),
            ("/a%C2%9F", PathError::Character),
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
            ("/a%C2%A0b", "/a\u{a0}b"),
            ("/a%2Fb", "/a/b"),
            ("/a?b={c}|[d]^e'f(g)*h;i,j", "/a"),
            ("/a?b=%22%3C%23%C3%A9", "/a"),
            ("/a/", "/a/"),
        ] {
            assert_eq!(CanonicalPath::parse(path).unwrap().as_str(), canonical);
        }
        assert!(CanonicalPath::parse(&format!("/{}", "a".repeat(MAX_PATH - 1))).is_ok());
    }

    #[test]
    fn an_encoded_slash_is_known_by_its_place() {
        for (path, slash) in
            [("/a/b", None), ("/a%2Fb", Some(2)), ("/%C3%A9/a%2fb%2Fc", Some(5)), ("/a/b%2f", Some(4))]
        {
            let path = CanonicalPath::parse(path).unwrap();
            assert_eq!(path.encoded_slash(), slash, "{path:?}");
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
