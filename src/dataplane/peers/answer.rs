//! Proof of an answer: the answering node signs the receiver, the hash of the question and the hash of the answer. Peers
//! may talk over plain HTTP, where an attacker in between could change numbers that nothing else signs.
//!
//! The proof has its own `typ`, so that a proof of an answer never passes for a call of the answering node.

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::authentication::{Peer, PeerRefusal, prove_issuer};
use super::question::{PeerRequest, Question};
use crate::dataplane::node::credential::Prover;
use crate::protocol::id::NodeId;
use crate::protocol::jws::{BASE64URL, Typ, sign};
use crate::protocol::node_proof::{Instance, LIFETIME, timely};
use crate::protocol::signer::Signers;
use crate::protocol::time::Time;

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: NodeId,
    aud: NodeId,
    iat: Time,
    exp: Time,
    /// `jti` of the call that is answered.
    jti: String,
    /// Identifies one start of the daemon that answers.
    instance: Instance,
    /// Hash of the question as it arrived.
    question: String,
    /// HTTP status of the answer.
    status: u32,
    /// Hash of the answer's body.
    answer: String,
}

/// Returns the hash of a call: method, path with query, and body, with a line feed after each of the first two.
fn question_hash(method: &str, path: &str, body: &[u8]) -> String {
    let hash = Sha256::new().chain_update(method).chain_update("\n").chain_update(path).chain_update("\n");
    BASE64URL.encode(hash.chain_update(body).finalize())
}

fn answer_hash(body: &[u8]) -> String {
    BASE64URL.encode(Sha256::digest(body))
}

/// Signs this node's answer to the question of `peer`.
#[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
pub(super) fn prove_answer(
    prover: &Prover,
    peer: &Peer,
    asked: PeerRequest<'_>,
    (status, body): (u16, &[u8]),
    now: Time,
) -> String {
    let path = if asked.query.is_empty() {
        asked.path.to_owned()
    } else {
        format!("{}?{}", asked.path, asked.query)
    };
    let claims = Claims {
        iss: prover.identity.node_id.clone(),
        aud: peer.node.clone(),
        iat: now,
        exp: now.plus(LIFETIME),
        jti: peer.call.clone(),
        instance: prover.nonces.start().clone(),
        question: question_hash(asked.method, &path, asked.body),
        status: status.into(),
        answer: answer_hash(body),
    };
    sign(Typ::PeerAnswer, &serde_json::to_vec(&claims).expect("claims serialize"), &prover.key)
}

/// Verifies that the expected node gave exactly this answer to exactly this question. Returns the instance that answered.
pub(super) fn verify_answer(
    proof: &[u8],
    signers: &Signers,
    own: &NodeId,
    question: &Question,
    (status, body): (u16, &[u8]),
    now: Time,
) -> Result<Instance, PeerRefusal> {
    let (claims, retired): (Claims, _) =
        prove_issuer(proof, Typ::PeerAnswer, signers, |claims: &Claims| &claims.iss)?;
    retired?;
    if claims.aud != *own {
        return Err(PeerRefusal::Audience(claims.aud.to_string()));
    }
    if question.asked.as_ref() != Some(&claims.iss) {
        return Err(PeerRefusal::Another(claims.iss));
    }
    if !timely(claims.iat, claims.exp, now) {
        return Err(PeerRefusal::Time);
    }
    if claims.jti != question.call {
        return Err(PeerRefusal::Again);
    }
    let same = claims.question == question_hash(question.method, &question.path, &question.body)
        && claims.status == u32::from(status)
        && claims.answer == answer_hash(body);
    if same { Ok(claims.instance) } else { Err(PeerRefusal::Altered(claims.iss)) }
}
