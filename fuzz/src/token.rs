//! Tokens.

use std::sync::LazyLock;

use halligan::protocol::head::SignedHead;
use halligan::protocol::jws::{Typ, sign};
use halligan::protocol::token::{TokenError, TokenKind, VerifiedToken, mint, verify};

use super::world::World;
use super::{KEYSET, WORLD, object, survives};

/// All valid tokens.
static MINTED: LazyLock<Vec<String>> = LazyLock::new(|| (0..4).map(|number| WORLD.value(number)).collect());

/// Checks the bytes as they are: only a token that was minted is accepted. Checks the bytes as signed claims: reading
/// keeps all accepted claims, and a token carries what its kind requires.
pub fn check(data: &[u8]) -> bool {
    let minted = verify(data, &KEYSET).is_ok();
    if minted {
        let text = std::str::from_utf8(data).unwrap();
        assert!(MINTED.iter().any(|token| token == text), "a token nobody minted is believed");
        assert!(
            SignedHead::verify(text, &KEYSET, &World::data_plane()).is_err(),
            "a token passes for a head"
        );
    }
    let as_head = sign(Typ::ReplicaHead, data, &WORLD.token);
    assert_eq!(
        verify(as_head.as_bytes(), &KEYSET).err(),
        Some(refusal(&as_head)),
        "a head passes for a token"
    );
    let kinds = [(TokenKind::DirectAccess, Typ::DirectAccess), (TokenKind::Standard, Typ::Standard)];
    let signed = kinds.map(|(kind, typ)| {
        let text = sign(typ, data, &WORLD.token);
        match verify(text.as_bytes(), &KEYSET) {
            Ok(token) => {
                assert!(object(data));
                holds(&token, kind);
                true
            }
            Err(error) => {
                assert_eq!(error, refusal(&text));
                false
            }
        }
    });
    assert!(signed[1] || !signed[0], "what a direct-access token carries, a standard one may");
    minted || signed[1]
}

fn refusal(text: &str) -> TokenError {
    if text.len() > halligan::protocol::token::MAX_TOKEN {
        TokenError::TooLarge
    } else {
        TokenError::Malformed
    }
}

fn holds(token: &VerifiedToken, kind: TokenKind) {
    assert_eq!(token.kind(), kind);
    assert_eq!(token.kid(), WORLD.token.public().kid());
    let claims = token.claims();
    if kind == TokenKind::DirectAccess {
        assert!(claims.exp.is_some() && claims.role.is_some(), "a direct-access token without end or role");
    }
    survives(claims);
    let again = mint(kind, claims, &WORLD.token);
    assert_eq!(verify(again.as_bytes(), &KEYSET).unwrap().claims(), claims);
    assert_eq!(*mint(kind, claims, &WORLD.token), *again);
}
