//! Keysets. The input is a chain, oldest first, one keyset in each line. A line that begins with a digit from 1 to 7 is
//! a payload, and the bits of the digit select which of three roots sign it. Any other line is a keyset as it is.

use std::sync::LazyLock;

use halligan::protocol::jws::{Typ, sign};
use halligan::protocol::key::SigningKey;
use halligan::protocol::keyset::{Keyset, MAX_KEYSET, RootSet, UnverifiedKeyset};
use serde_json::json;

use super::{WORLD, object, survives};

static ROOTS: LazyLock<[SigningKey; 3]> =
    LazyLock::new(|| [1, 2, 3].map(|seed| SigningKey::from_seed(&[seed; 32])));

/// Returns a general JWS with any `payload`, signed by the roots that `bits` selects.
fn signed(payload: &[u8], bits: u8) -> String {
    let compact = |root: &SigningKey| sign(Typ::Keyset, payload, root);
    let signers = ROOTS.iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1);
    let texts: Vec<String> = signers.map(|(_, root)| compact(root)).collect();
    let parts: Vec<Vec<&str>> = texts.iter().map(|text| text.split('.').collect()).collect();
    let signatures: Vec<_> =
        parts.iter().map(|parts| json!({ "protected": parts[0], "signature": parts[2] })).collect();
    json!({ "payload": parts[0][1], "signatures": signatures }).to_string()
}

/// Checks that an accepted chain starts at the pinned root, has no gaps, and that a threshold of the old and the new
/// roots has signed each step. The text is kept byte for byte.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let line = |line: &str| match line.as_bytes().first() {
        Some(digit @ b'1'..=b'7') => signed(&line.as_bytes()[1..], digit - b'0'),
        _ => line.to_owned(),
    };
    // Only four keysets are read, because longer chains take more time and show no more.
    let chain: Vec<String> = text.split('\n').take(4).map(line).collect();
    let pinned = RootSet::new(vec![ROOTS[0].public().clone()], 1).unwrap();
    let mut before: Option<Keyset> = None;
    for (text, place) in chain.iter().zip(1..) {
        let Ok(unverified) = UnverifiedKeyset::parse(text) else {
            assert!(Keyset::verify_chain(&chain[..place], &pinned).is_err());
            break;
        };
        read_again(&unverified);
        let step = before
            .as_ref()
            .map_or_else(|| Keyset::verify_first(text, &pinned), |last| last.verify_next(text));
        assert_eq!(step.is_ok(), Keyset::verify_chain(&chain[..place], &pinned).is_ok());
        let Ok(keyset) = step else { break };
        assert!(text.len() <= MAX_KEYSET);
        assert_eq!(keyset.text(), text);
        assert!(object(text.as_bytes()));
        assert_eq!(keyset.body(), unverified.body());
        survives(keyset.body());
        let enough = |roots: &RootSet| {
            let signed = roots.keys().iter().filter(|root| unverified.signed_by(root)).count();
            assert!(
                roots.threshold() > 0 && signed >= roots.threshold() as usize,
                "too few roots have signed"
            );
        };
        if let Some(last) = &before {
            assert_eq!(keyset.version(), last.version() + 1);
            enough(last.roots());
            enough(keyset.roots());
        } else {
            enough(&pinned);
        }
        for key in &keyset.body().keys {
            let kid = halligan::protocol::key::PublicKey::from_jwk(&key.jwk).unwrap().kid().to_string();
            assert!(keyset.token_key(&kid).is_some() || keyset.replica_key(&kid).is_some());
        }
        before = Some(keyset);
    }
    before.is_some()
}

/// Checks that an unverified keyset is the same after writing, and that a root adds only one signature.
fn read_again(unverified: &UnverifiedKeyset) {
    let written = unverified.to_line();
    assert!(!written.contains('\n'));
    if written.len() > MAX_KEYSET {
        return;
    }
    let mut again = UnverifiedKeyset::parse(&written).unwrap();
    assert_eq!((again.body(), again.payload()), (unverified.body(), unverified.payload()));
    assert_eq!(again.to_line(), written);
    again.sign(&WORLD.root);
    let once = again.to_line();
    again.sign(&WORLD.root);
    assert!(again.signed_by(WORLD.root.public()) && again.to_line() == once);
}
