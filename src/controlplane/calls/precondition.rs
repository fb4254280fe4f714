//! Optimistic concurrency (RFC 9110 section 13.1): a change is rejected if the object is no longer as the caller saw
//! it.

use base64::Engine as _;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::controlplane::error::Error;
use crate::protocol::jws::BASE64URL;

/// Returns the entity tag of a representation, which is a hash of its bytes.
pub(in crate::controlplane) fn entity_tag<T: Serialize>(shown: &T) -> Result<String, Error> {
    let bytes = serde_json::to_vec(shown).map_err(std::io::Error::from)?;
    Ok(format!("\"{}\"", BASE64URL.encode(&Sha256::digest(bytes)[..16])))
}

/// The field `If-Match`: the representation that the caller saw. Without it, any change is accepted.
#[derive(Clone, Debug, Default)]
pub struct IfMatch(pub Option<String>);

impl IfMatch {
    /// Fails if the object has changed since the caller saw it. `tag` is computed only if the field is present.
    pub(in crate::controlplane) fn check(
        &self,
        tag: impl FnOnce() -> Result<String, Error>,
    ) -> Result<(), Error> {
        let Some(seen) = &self.0 else { return Ok(()) };
        let tag = tag()?;
        // `*` stands alone; no element of a list (section 13.1.1).
        if seen.trim() == "*" || seen.split(',').any(|seen| seen.trim() == tag) {
            return Ok(());
        }
        Err(Error::Stale)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_seen_must_be_what_is() {
        let tag = entity_tag(&1).unwrap();
        assert_ne!(tag, entity_tag(&2).unwrap());
        for (seen, good) in [
            (None, true),
            (Some("*".into()), true),
            (Some(format!("\"x\", {tag}")), true),
            (Some("\"x\"".into()), false),
            (Some("*, \"x\"".into()), false),
        ] {
            assert_eq!(IfMatch(seen.clone()).check(|| Ok(tag.clone())).is_ok(), good, "{seen:?}");
        }
        // A weak tag promises only similar content, which does not suffice here.
        assert!(IfMatch(Some(format!("W/{tag}"))).check(|| Ok(tag)).is_err());
    }
}
