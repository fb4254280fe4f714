//! Parses JSON objects strictly. serde also accepts an array of the members' values for a struct. RFC 7515 and RFC 7519
//! demand an object, so other implementations would reject that spelling.

use serde::Deserialize;
use serde::de::Error as _;

/// Maximum depth of nested objects and arrays in one text, including the outermost object. RFC 8259 section 9 lets each
/// receiver set a limit. The protocol sets one, so that all receivers accept the same texts.
pub const MAX_NESTING: usize = 64;

/// Error about a text that nests deeper than [`MAX_NESTING`].
pub const TOO_DEEP: &str = "its objects and arrays nest more than 64 deep";

/// Parses `text` as a JSON object. All of `text` must be UTF-8 (RFC 8259 section 8.1), and it must nest at most [`MAX_NESTING`]
/// deep: serde checks neither in the values that it skips.
///
/// ```
/// use halligan::protocol::json::object;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Head {
///     version: u64,
/// }
///
/// assert_eq!(object::<Head>(br#"{"version":7}"#)?.version, 7);
/// // serde would read the array as the members in their order.
/// assert!(object::<Head>(b"[7]").is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn object<'t, T: Deserialize<'t>>(text: &'t [u8]) -> Result<T, serde_json::Error> {
    let text = std::str::from_utf8(text).map_err(serde_json::Error::custom)?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(serde_json::Error::custom("not a JSON object"));
    }
    if nests_too_deep(text.as_bytes()) {
        return Err(serde_json::Error::custom(TOO_DEEP));
    }
    serde_json::from_str(text)
}

/// Returns true if more than [`MAX_NESTING`] objects and arrays are open at once. The result for a text that is not JSON is unspecified.
///
/// ```
/// use halligan::protocol::json::nests_too_deep;
///
/// assert!(!nests_too_deep("[".repeat(64).as_bytes()));
/// assert!(nests_too_deep("[".repeat(65).as_bytes()));
/// ```
#[must_use]
pub fn nests_too_deep(text: &[u8]) -> bool {
    // Tokens are parsed at each decision: nearly all texts have too few brackets, and counting them needs no parser.
    if text.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= MAX_NESTING {
        return false;
    }
    let (mut depth, mut in_string, mut bytes) = (0_usize, false, text.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if in_string => _ = bytes.next(),
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_NESTING {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{MAX_NESTING, object};

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct One {
        a: u8,
    }

    fn read(ignored: &str) -> Option<One> {
        object(format!(r#"{{"a":1,"ignored":{ignored}}}"#).as_bytes()).ok()
    }

    #[test]
    fn an_ignored_member_nests_as_deep_as_the_bound_and_no_deeper() {
        let arrays = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let objects = |depth: usize| format!("{}1{}", r#"{"b":"#.repeat(depth), "}".repeat(depth));
        // The outermost object is one of the levels.
        for nested in [arrays, objects] {
            assert_eq!(read(&nested(MAX_NESTING - 1)), Some(One { a: 1 }));
            assert_eq!(read(&nested(MAX_NESTING)), None);
            assert_eq!(read(&nested(100_000)), None);
        }
    }

    #[test]
    fn values_beside_each_other_and_brackets_in_strings_are_no_nesting() {
        let beside = format!("[{}1]", "[],{},".repeat(1000));
        let text = format!(r#""\\\"{}\\""#, "[{".repeat(1000));
        for flat in [&beside, &text] {
            assert_eq!(read(flat), Some(One { a: 1 }), "{flat}");
        }
        // The escaped quotation mark does not end the string, and what follows the string counts again.
        assert_eq!(read(&format!(r#"["\"[[[[",{}{}]"#, "[".repeat(63), "]".repeat(63))), None);
    }
}
