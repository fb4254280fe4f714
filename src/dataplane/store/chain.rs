//! The chain of keysets, proved once: the same bytes under the same roots say the same again.

use std::cell::RefCell;

use crate::protocol::keyset::{Keyset, KeysetError, RootSet};

struct Proved {
    chain: Vec<String>,
    pinned: RootSet,
    keyset: Keyset,
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
        *last = Some(Proved { chain, pinned: pinned.clone(), keyset: keyset.clone() });
        Ok(keyset)
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
