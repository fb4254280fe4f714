//! Seals sessions for cookies, and opens them.
//!
//! A sealed session is base64url of a nonce of 12 bytes and of ChaCha20-Poly1305 (RFC 8439) over the session's JSON. The
//! associated data names this use of the key.

use base64::Engine as _;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::{Content, Session};
use crate::protocol::jws::BASE64URL;

/// Length of a key, in bytes.
pub const KEY_LENGTH: usize = 32;
/// Maximum length of a sealed session, in bytes. Browsers keep cookies of at most 4096 bytes.
pub const MAX_SEALED: usize = 3072;
/// Associated data of every sealed session.
const PURPOSE: &[u8] = b"halligan session 1";

/// Random bytes that no other sealed session of the key has.
pub type SealNonce = [u8; NONCE_LEN];

/// Keys of sessions: the first one seals, all of them open. A key that was replaced stays behind the new one until the
/// sessions under it have ended.
pub struct SealKeys {
    keys: Vec<LessSafeKey>,
}

impl SealKeys {
    /// Returns the keys, or `None` without any.
    ///
    /// ```
    /// use halligan::dataplane::decide::session::Durations;
    /// use halligan::dataplane::decide::session::seal::SealKeys;
    /// # use zeroize::Zeroizing;
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// # let session = world::session(Durations { max: 28_800, idle: 3600 });
    /// let [old, new] = [[1; 32], [2; 32]].map(Zeroizing::new);
    /// let cookie = SealKeys::new(&[old.clone()]).unwrap().seal(&session, [7; 12]).unwrap();
    /// // After a change of keys, the old one still opens the sessions that it sealed.
    /// assert!(SealKeys::new(&[new.clone(), old]).unwrap().open(cookie.as_bytes()).is_some());
    /// assert!(SealKeys::new(&[new]).unwrap().open(cookie.as_bytes()).is_none());
    /// assert!(SealKeys::new(&[]).is_none());
    /// ```
    #[must_use]
    pub fn new(keys: &[Zeroizing<[u8; KEY_LENGTH]>]) -> Option<Self> {
        let key = |bytes: &Zeroizing<[u8; KEY_LENGTH]>| {
            UnboundKey::new(&CHACHA20_POLY1305, &bytes[..]).map(LessSafeKey::new).ok()
        };
        let keys = keys.iter().map(key).collect::<Option<Vec<_>>>()?;
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// Seals a session. Returns `None` if it is too large for a cookie.
    ///
    /// ```
    /// use halligan::dataplane::decide::session::Durations;
    /// use halligan::dataplane::decide::session::seal::{MAX_SEALED, SealKeys};
    /// # use zeroize::Zeroizing;
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// # let session = world::session(Durations { max: 28_800, idle: 3600 });
    /// let keys = SealKeys::new(&[Zeroizing::new([1; 32])]).unwrap();
    /// // A nonce is used once. The caller draws 12 random bytes for each session that it seals.
    /// let cookie = keys.seal(&session, [7; 12]).unwrap();
    /// assert!(cookie.len() <= MAX_SEALED);
    /// assert_eq!(keys.open(cookie.as_bytes()), Some(session));
    /// ```
    #[must_use]
    pub fn seal(&self, session: &Session, nonce: SealNonce) -> Option<String> {
        let mut text = serde_json::to_vec(&session.0).ok()?;
        let key = self.keys.first()?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(PURPOSE), &mut text)
            .ok()?;
        let sealed = BASE64URL.encode([&nonce[..], &text].concat());
        (sealed.len() <= MAX_SEALED).then_some(sealed)
    }

    /// Opens a sealed session. Returns `None` unless one of the keys sealed these very bytes.
    ///
    /// ```
    /// use halligan::dataplane::decide::session::Durations;
    /// use halligan::dataplane::decide::session::seal::SealKeys;
    /// # use zeroize::Zeroizing;
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// # let session = world::session(Durations { max: 28_800, idle: 3600 });
    /// let keys = SealKeys::new(&[Zeroizing::new([1; 32])]).unwrap();
    /// let mut cookie = keys.seal(&session, [7; 12]).unwrap().into_bytes();
    /// assert_eq!(keys.open(&cookie).unwrap().id().as_str(), "ses_a");
    /// // A browser can't change a byte of it.
    /// cookie[40] = if cookie[40] == b'A' { b'B' } else { b'A' };
    /// assert_eq!(keys.open(&cookie), None);
    /// ```
    #[must_use]
    pub fn open(&self, sealed: &[u8]) -> Option<Session> {
        if sealed.len() > MAX_SEALED {
            return None;
        }
        let bytes = BASE64URL.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        self.keys.iter().find_map(|key| {
            let mut text = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let text = key.open_in_place(nonce, Aad::from(PURPOSE), &mut text).ok()?;
            serde_json::from_slice::<Content>(text).ok().map(Session)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::role::RoleDigest;
    use crate::protocol::time::Time;
    use crate::protocol::token::{Claims, RoleClaim};

    const T0: Time = Time::from_unix(1_800_000_000);

    fn session() -> Session {
        let role = RoleClaim { id: "DAG_VIEWER@1".parse().unwrap(), digest: RoleDigest::compute("x") };
        let claims = Claims {
            iss: "https://control.example".into(),
            sub: "tok_a".parse().unwrap(),
            aud: "dep_a".into(),
            iat: T0,
            nbf: T0,
            exp: Some(T0.plus(86_400)),
            generation: 1,
            role: Some(role),
            permissions: Vec::new(),
        };
        let (id, kid) = ("ses_a".parse().unwrap(), "x".repeat(43));
        let (ends, until) = (T0.plus(28_800), T0.plus(3600));
        Session(Content { id, kid, claims, begun: T0, ends, until, standard_on: None })
    }

    fn keys(seeds: &[u8]) -> SealKeys {
        let keys: Vec<_> = seeds.iter().map(|seed| Zeroizing::new([*seed; KEY_LENGTH])).collect();
        SealKeys::new(&keys).unwrap()
    }

    #[test]
    fn a_sealed_session_opens_under_its_key_alone() {
        let sealed = keys(&[1]).seal(&session(), [7; NONCE_LEN]).unwrap();
        assert_eq!(keys(&[1]).open(sealed.as_bytes()), Some(session()));
        assert_eq!(keys(&[2]).open(sealed.as_bytes()), None);
        // The key that was replaced stands behind the new one.
        assert_eq!(keys(&[2, 1]).open(sealed.as_bytes()), Some(session()));
        let anew = keys(&[2, 1]).seal(&session(), [7; NONCE_LEN]).unwrap();
        assert_eq!(keys(&[1]).open(anew.as_bytes()), None);
        assert!(SealKeys::new(&[]).is_none());
    }

    #[test]
    fn a_cookie_says_nothing_in_the_clear() {
        let sealed = keys(&[1]).seal(&session(), [7; NONCE_LEN]).unwrap();
        assert!(sealed.len() < 1024, "{}", sealed.len());
        let bytes = BASE64URL.decode(&sealed).unwrap();
        for clear in ["tok_a", "dep_a", "ses_a", "DAG_VIEWER"] {
            assert!(!bytes.windows(clear.len()).any(|window| window == clear.as_bytes()), "{clear}");
        }
    }

    #[test]
    fn the_largest_session_that_is_sealed_opens_and_a_larger_one_is_not_sealed() {
        let keys = keys(&[1]);
        let named = |length: usize| {
            let mut session = session();
            session.0.kid = "x".repeat(length);
            (keys.seal(&session, [7; NONCE_LEN]), session)
        };
        let (sealed, session) =
            (0..MAX_SEALED).map(named).take_while(|(sealed, _)| sealed.is_some()).last().unwrap();
        let sealed = sealed.unwrap();
        assert_eq!(sealed.len(), MAX_SEALED);
        assert_eq!(keys.open(sealed.as_bytes()), Some(session));
    }

    proptest! {
        #[test]
        fn no_cookie_with_a_flipped_bit_opens_a_session(place in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let sealed = keys(&[1]).seal(&session(), [7; NONCE_LEN]).unwrap();
            // A bit of the cookie's text, and a bit of the bytes that it encodes.
            let mut text = sealed.clone().into_bytes();
            let at = place.index(text.len());
            text[at] ^= 1 << bit;
            prop_assert_eq!(keys(&[1]).open(&text), None);
            let mut bytes = BASE64URL.decode(&sealed).unwrap();
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(keys(&[1]).open(BASE64URL.encode(bytes).as_bytes()), None);
        }

        #[test]
        fn no_other_bytes_open_a_session(bytes in prop::collection::vec(any::<u8>(), 0..4096), cut in any::<prop::sample::Index>()) {
            prop_assert_eq!(keys(&[1]).open(&bytes), None);
            prop_assert_eq!(keys(&[1]).open(BASE64URL.encode(&bytes).as_bytes()), None);
            let sealed = keys(&[1]).seal(&session(), [7; NONCE_LEN]).unwrap();
            prop_assert_eq!(keys(&[1]).open(&sealed.as_bytes()[..cut.index(sealed.len())]), None);
        }
    }
}
