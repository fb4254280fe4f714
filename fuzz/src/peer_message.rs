//! Messages between nodes: revocations, and proofs of identity.

use std::sync::LazyLock;

use halligan::dataplane::peers::{Revoked, authenticate};
use halligan::protocol::jws::{JwsError, Typ, sign};
use halligan::protocol::key::SigningKey;
use halligan::protocol::record::NodeRecord;
use halligan::protocol::revocation::{
    Revocation, RevocationError, SignedRevocation, check_reason, sign_revocation,
};
use halligan::protocol::signer::Signers;
use serde_json::Value;

use super::survives;
use super::world::T0;

static NODES: LazyLock<[SigningKey; 2]> =
    LazyLock::new(|| [21, 22].map(|seed| SigningKey::from_seed(&[seed; 32])));
static SIGNERS: LazyLock<Signers> = LazyLock::new(|| {
    let node = |id: &str, key: &SigningKey, retired_at| NodeRecord {
        id: id.parse().unwrap(),
        name: id.into(),
        key: key.public().jwk(),
        retired_at,
    };
    [&node("nod_a", &NODES[0], None), &node("nod_b", &NODES[1], Some(T0))].into_iter().collect()
});

/// Revocation that a node signed.
pub static MADE: LazyLock<String> = LazyLock::new(|| {
    let revocation = Revocation {
        iss: "nod_a".parse().unwrap(),
        sub: "tok_a".parse().unwrap(),
        iat: T0,
        jti: "a-1".into(),
        operator: "uid 0".into(),
        reason: "lost laptop".into(),
    };
    sign_revocation(&revocation, &NODES[0])
});

/// Checks the bytes as they are: only a revocation that a node signed is accepted. Checks the bytes signed by a node: a
/// node can revoke in its own name only, until its retirement, and a proof of identity holds for one audience, for
/// minutes.
pub fn check(data: &[u8]) -> bool {
    let sent = serde_json::from_slice::<Revoked>(data).is_ok_and(|message| {
        let written = serde_json::to_string(&message).unwrap();
        let again: Revoked = serde_json::from_str(&written).unwrap();
        assert_eq!(
            (again.list, again.next, &again.revocations),
            (message.list, message.next, &message.revocations)
        );
        for text in message.revocations.iter().filter(|text| SignedRevocation::admit(text, &SIGNERS).is_ok())
        {
            assert_eq!(*text, *MADE, "a revocation nobody made is believed");
        }
        true
    });
    let by_nodes =
        ["nod_a", "nod_b"].into_iter().zip(NODES.iter()).map(|(node, key)| revokes(data, node, key));
    let revokes = by_nodes.fold(false, |any, one| any | one);
    sent | revokes | proves(data)
}

fn revokes(claims: &[u8], node: &str, key: &SigningKey) -> bool {
    let text = sign(Typ::LocalRevocation, claims, key);
    let signed = match SignedRevocation::verify(&text, &SIGNERS) {
        Ok(signed) => signed,
        Err(RevocationError::Jws(error)) => {
            assert!(matches!(error, JwsError::TooLarge(_) | JwsError::Claims(_)), "{error}");
            return false;
        }
        Err(_) => return false,
    };
    let revocation = signed.revocation();
    assert_eq!((signed.as_str(), revocation.iss.as_str()), (text.as_str(), node), "a node signs for another");
    assert!(check_reason(&revocation.reason).is_ok());
    survives(revocation);
    let admitted = SignedRevocation::admit(&text, &SIGNERS).is_ok();
    assert_eq!(admitted, node == "nod_a" || revocation.iat < T0, "a retired node goes on signing");
    true
}

fn proves(claims: &[u8]) -> bool {
    let proof = sign(Typ::NodeAuth, claims, &NODES[0]);
    assert!(authenticate(sign(Typ::NodeAuth, claims, &NODES[1]).as_bytes(), &SIGNERS, "nod_c", T0).is_err());
    let Ok(peer) = authenticate(proof.as_bytes(), &SIGNERS, "nod_c", T0) else { return false };
    // Claims that are not read may contain text that no program can write, such as half a surrogate pair.
    let Ok(said) = serde_json::from_slice::<Value>(claims) else { return true };
    for (claim, value) in [("iss", "nod_a"), ("sub", "nod_a"), ("aud", "nod_c"), ("jti", &*peer.call)] {
        assert_eq!(said[claim], value, "{claim}");
    }
    assert_eq!(peer.node.as_str(), "nod_a");
    let (iat, exp) = (said["iat"].as_i64().unwrap(), said["exp"].as_i64().unwrap());
    assert!(exp - iat <= 300 && exp > T0.unix() - 300 && iat < T0.unix() + 300, "a proof out of its time");
    true
}
