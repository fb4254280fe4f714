//! Parses JSON objects strictly. serde also accepts an array of the members' values for a struct. RFC 7515 and RFC 7519
//! demand an object, so other implementations would reject that spelling.

use serde::Deserialize;
use serde::de::Error as _;

/// Parses `text` as a JSON object. All of `text` must be UTF-8 (RFC 8259 section 8.1): serde does not check the values
/// that it skips.
pub fn object<'t, T: Deserialize<'t>>(text: &'t [u8]) -> Result<T, serde_json::Error> {
    let text = std::str::from_utf8(text).map_err(serde_json::Error::custom)?;
    if text.trim_ascii_start().starts_with('{') {
        serde_json::from_str(text)
    } else {
        Err(serde_json::Error::custom("not a JSON object"))
    }
}
