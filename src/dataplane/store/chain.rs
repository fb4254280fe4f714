//! The chain of keysets and the head under it, proved once: the same bytes under the same roots say the same again.

use std::cell::RefCell;

use crate::protocol::head::{HeadError, SignedHead};
use crate::protocol::id::DataPlaneId;
use crate::protocol::keyset::{Keyset, KeysetError, RootSet};

struct Proved {
    chain: Vec<String>,
    pinned: RootSet,
    keyset: Keyset,
    head: Option<SignedHead>,
}

/// What was proved last. It spares the curve arithmetic and nothing else: every byte is compared.
#[derive(Default)]
pub(super) struct Chain(RefCell<Option<Proved>>);

impl Chain {
    /// Proves a chain as [`Keyset::verify_chain`] does, or knows that it has been done.
    pub(super) fn verify(&self, chain: Vec<String>, pinned: &RootSet) -> Result<Keyset, KeysetError> {
        let mut last = self.0.borrow_mut();
        if let Some(proved) = last.as_ref().filter(|last| last.chain == chain && last.pinned == *pinned) {
            return Ok(proved.keyset.clone());
        }
        let keyset = Keyset::verify_chain(&chain, pinned)?;
        *last = Some(Proved { chain, pinned: pinned.clone(), keyset: keyset.clone(), head: None });
        Ok(keyset)
    }

    /// Proves a head under the keyset that was proved last as [`SignedHead::verify`] does, or knows that it has been done.
    /// None: no keyset has been proved.
    pub(super) fn head(&self, text: &str, audience: &DataPlaneId) -> Result<Option<SignedHead>, HeadError> {
        let mut last = self.0.borrow_mut();
        let Some(proved) = last.as_mut() else { return Ok(None) };
        if proved.head.as_ref().is_none_or(|head| head.as_str() != text || head.head().aud != *audience) {
            proved.head = Some(SignedHead::verify(text, &proved.keyset, audience)?);
        }
        Ok(proved.head.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::protocol::key::SigningKey;
    use crate::protocol::keyset::{KeyUse, KeysetBody, KeysetKey, sign_keyset};
    use crate::protocol::time::Time;

    #[test]
    fn what_was_proved_is_not_proved_by_other_roots_or_of_other_bytes() {
        let [root, other] = [1, 2].map(|seed| SigningKey::from_seed(&[seed; 32]));
        let [pinned, others] =
            [&root, &other].map(|key| RootSet::new(vec![key.public().clone()], 1).unwrap());
        let used =
            |key_use, seed: u8| KeysetKey { key_use, jwk: SigningKey::from_seed(&[seed; 32]).public().jwk() };
        let body = KeysetBody {
            version: 1,
            iat: Time::from_unix(0),
            exp: Time::from_unix(100),
            keys: vec![used(KeyUse::Token, 3), used(KeyUse::Replica, 4)],
            roots: vec![root.public().jwk()],
            threshold: 1,
        };
        let text = sign_keyset(&body, &[&root]);
        let chain = Chain::default();
        for _ in 0..2 {
            assert_eq!(chain.verify(vec![text.clone()], &pinned).unwrap().version(), 1);
            assert!(chain.verify(vec![text.clone()], &others).is_err());
            assert!(chain.verify(vec![text.clone(), text.clone()], &pinned).is_err());
            assert!(chain.verify(Vec::new(), &pinned).is_err());
        }
    }
}
