//! Caches the last verified keyset chain and the head under it. The same bytes under the same roots give the same result.

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

/// Last verified chain. A hit saves only the signature check: every byte is compared.
#[derive(Default)]
pub(super) struct Chain(RefCell<Option<Proved>>);

impl Chain {
    /// Verifies a chain as [`Keyset::verify_chain`] does. Returns the cached result for the same chain and roots.
    pub(super) fn verify(&self, chain: Vec<String>, pinned: &RootSet) -> Result<Keyset, KeysetError> {
        let mut last = self.0.borrow_mut();
        if let Some(proved) = last.as_ref().filter(|last| last.chain == chain && last.pinned == *pinned) {
            return Ok(proved.keyset.clone());
        }
        let keyset = Keyset::verify_chain(&chain, pinned)?;
        *last = Some(Proved { chain, pinned: pinned.clone(), keyset: keyset.clone(), head: None });
        Ok(keyset)
    }

    /// Verifies a head as [`SignedHead::verify`] does. Returns the cached result for the same head and keyset.
    pub(super) fn head(
        &self,
        text: &str,
        keyset: &Keyset,
        audience: &DataPlaneId,
    ) -> Result<SignedHead, HeadError> {
        let mut last = self.0.borrow_mut();
        let Some(proved) = last.as_mut().filter(|last| last.keyset.text() == keyset.text()) else {
            return SignedHead::verify(text, keyset, audience);
        };
        let same = |head: &&SignedHead| head.as_str() == text && head.head().aud == *audience;
        if let Some(head) = proved.head.as_ref().filter(same) {
            return Ok(head.clone());
        }
        let head = SignedHead::verify(text, keyset, audience)?;
        proved.head = Some(head.clone());
        Ok(head)
    }

    /// Keeps a head that was just verified under `keyset`, so that the next reader need not verify it again.
    pub(super) fn keep(&self, head: SignedHead, keyset: &Keyset) {
        if let Some(last) = self.0.borrow_mut().as_mut().filter(|last| last.keyset.text() == keyset.text()) {
            last.head = Some(head);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::protocol::head::{Head, sign_head};
    use crate::protocol::key::SigningKey;
    use crate::protocol::keyset::{KeyUse, KeysetBody, KeysetKey, sign_keyset};
    use crate::protocol::time::Time;

    fn root() -> SigningKey {
        SigningKey::from_seed(&[1; 32])
    }

    /// Returns a keyset whose replica key has this seed, signed by [`root`].
    fn keyset(replica: u8) -> String {
        let used =
            |key_use, seed: u8| KeysetKey { key_use, jwk: SigningKey::from_seed(&[seed; 32]).public().jwk() };
        let body = KeysetBody {
            iss: None,
            version: 1,
            iat: Time::from_unix(0),
            exp: Time::from_unix(100),
            keys: vec![used(KeyUse::Token, 3), used(KeyUse::Replica, replica)],
            roots: vec![root().public().jwk()],
            threshold: 1,
        };
        sign_keyset(&body, &[&root()])
    }

    fn roots(key: &SigningKey) -> RootSet {
        RootSet::new(vec![key.public().clone()], 1).unwrap()
    }

    #[test]
    fn what_was_proved_is_not_proved_by_other_roots_or_of_other_bytes() {
        let (pinned, others) = (roots(&root()), roots(&SigningKey::from_seed(&[2; 32])));
        let text = keyset(4);
        let chain = Chain::default();
        for _ in 0..2 {
            assert_eq!(chain.verify(vec![text.clone()], &pinned).unwrap().version(), 1);
            assert!(chain.verify(vec![text.clone()], &others).is_err());
            assert!(chain.verify(vec![text.clone(), text.clone()], &pinned).is_err());
            assert!(chain.verify(Vec::new(), &pinned).is_err());
        }
    }

    #[test]
    fn a_head_that_was_proved_is_not_proved_under_another_keyset_or_of_other_bytes() {
        let pinned = roots(&root());
        let [other, third] = [5, 6].map(|seed| Keyset::verify_chain(&[keyset(seed)], &pinned).unwrap());
        let [own, elsewhere] = ["dpl_a", "dpl_b"].map(|id| DataPlaneId::new(id).unwrap());
        let head = Head {
            iss: "https://control.example".into(),
            aud: own.clone(),
            version: 1,
            digest: [0; 32],
            count: 0,
            iat: Time::from_unix(0),
            exp: Time::from_unix(100),
            keyset: 1,
        };
        let [text, forged] = [4, 5].map(|seed| sign_head(&head, &SigningKey::from_seed(&[seed; 32])));
        let chain = Chain::default();
        let keyset = chain.verify(vec![keyset(4)], &pinned).unwrap();
        for _ in 0..2 {
            assert_eq!(chain.head(&text, &keyset, &own).unwrap().head(), &head);
            assert!(chain.head(&text, &keyset, &elsewhere).is_err());
            assert!(chain.head(&text, &other, &own).is_err());
            assert_eq!(chain.head(&forged, &other, &own).unwrap().head(), &head);
            assert!(chain.head(&forged, &third, &own).is_err(), "another keyset proved it");
            assert!(chain.head(&forged, &keyset, &own).is_err());
            assert!(chain.head(&text[1..], &keyset, &own).is_err());
        }
        // A head that is handed in as proved is not verified again, under the keyset that proved it and no other.
        let proved = SignedHead::verify(&forged, &other, &own).unwrap();
        chain.keep(proved.clone(), &other);
        assert!(chain.head(&forged, &keyset, &own).is_err());
        chain.keep(proved, &keyset);
        assert!(chain.head(&forged, &keyset, &own).is_ok());
    }
}
