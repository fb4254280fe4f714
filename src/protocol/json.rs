//! JSON objects. serde reads a struct from an array of its members too, in their order; where RFC 7515 and RFC 7519 say
//! "object", another implementation does not, and one value would have two spellings.

use serde::Deserialize;
use serde::de::Error as _;

/// Reads `text`, which must be a JSON object, and UTF-8 throughout (RFC 8259 section 8.1): in what it skips, serde looks no
/// closer.
pub fn object<'t, T: Deserialize<'t>>(text: &'t [u8]) -> Result<T, serde_json::Error> {
    let text = std::str::from_utf8(text).map_err(serde_json::Error::custom)?;
    if text.trim_ascii_start().starts_with('{') {
        serde_json::from_str(text)
    } else {
        Err(serde_json::Error::custom("not a JSON object"))
    }
}
