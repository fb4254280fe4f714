//! Paths of requests.

use std::fmt::Write as _;

use halligan::dataplane::decide::routes::{CanonicalPath, MAX_PATH};
use percent_encoding::percent_decode_str;
use url::Url;

/// Checks that an accepted path has one meaning. It contains no hidden separator or dot segment, and stays the same
/// however it is encoded. The URL parser of browsers, which repairs where this one refuses, reads the same path.
pub fn check(data: &[u8]) -> bool {
    let Ok(target) = std::str::from_utf8(data) else { return false };
    let Ok(path) = CanonicalPath::parse(target) else { return false };
    let text = path.as_str();
    assert!(text.starts_with('/') && !text.contains("//"), "{text:?}");
    assert!(!text.contains(['\\', '%']) && !text.chars().any(char::is_control), "{text:?}");
    assert!(text.split('/').all(|segment| segment != "." && segment != ".."), "{text:?}");
    assert!(text.len() <= MAX_PATH);
    let sent = target.split('?').next().unwrap();
    let segments = |text: &str| text.split('/').count();
    let disguised = sent.to_ascii_lowercase().matches("%2f").count();
    assert_eq!(segments(sent) + disguised, segments(text), "a separator in disguise");
    assert_eq!(path.encoded_slash().is_some(), disguised > 0, "a disguise nobody is told of");
    assert!(path.encoded_slash().is_none_or(|at| text.as_bytes()[at] == b'/'));
    assert_eq!(CanonicalPath::parse(sent).as_ref(), Ok(&path), "a query takes part");
    assert_eq!(CanonicalPath::parse(&format!("{sent}?/../%2e")).as_ref(), Ok(&path), "a query takes part");
    if text == sent {
        assert_eq!(CanonicalPath::parse(text).unwrap().as_str(), text);
    }
    for encode in [byte as fn(u8) -> bool, |_| true] {
        let spelt = spell(text, encode);
        if spelt.len() <= MAX_PATH {
            assert_eq!(CanonicalPath::parse(&spelt).unwrap().as_str(), text, "{spelt}");
        }
    }
    let url = Url::parse(&format!("http://a.example{target}")).unwrap();
    assert_eq!(
        percent_decode_str(url.path()).decode_utf8().unwrap(),
        text,
        "another reader reads another path"
    );
    assert_eq!(url.host_str(), Some("a.example"));
    true
}

/// Returns true if a byte cannot occur unencoded in a path (RFC 3986 section 3.3).
fn byte(byte: u8) -> bool {
    !byte.is_ascii_alphanumeric() && !b"-._~!$&'()*+,=:@".contains(&byte)
}

/// Returns another spelling of a path, in which the bytes that `encode` selects are percent-encoded, except separators.
fn spell(path: &str, encode: fn(u8) -> bool) -> String {
    let mut spelt = String::new();
    for byte in path.bytes() {
        if byte != b'/' && encode(byte) {
            write!(spelt, "%{byte:02X}").unwrap();
        } else {
            spelt.push(char::from(byte));
        }
    }
    spelt
}
