//! A hostile peer that speaks the protocol, has a node's key or stands between two nodes, and lies. Each test is named
//! after the promise that the lie would break.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use halligan::dataplane::decide::Reason;
use halligan::dataplane::node::alarm::AlarmKind;
use halligan::dataplane::peers::{DialogueError, PeerRefusal, Question};
use halligan::protocol::jws::{Typ, sign};
use halligan::protocol::time::Time;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{MAX_REVOCATIONS, Still};
use crate::nodes::{key, order};
use crate::world::T0;

/// A change of an answer in transit.
type Change = fn(Given, &str) -> Given;
/// Predicate that is true for the expected refusal.
type Refused = fn(&PeerRefusal) -> bool;
/// Answer of a peer at a position in its list.
type Answer = fn(&Question, u64, &[String]) -> Value;
/// A node and the seed of its key.
type Signer = (&'static str, u8);

/// An answer in transit.
#[derive(Clone)]
pub(super) struct Given {
    status: u16,
    proof: Option<String>,
    body: Vec<u8>,
}

impl Given {
    fn json(value: &Value) -> Self {
        Self { status: 200, proof: None, body: value.to_string().into_bytes() }
    }

    /// Returns the answer with one text in the body replaced.
    fn changed(mut self, from: &str, to: &str) -> Self {
        let body = String::from_utf8(self.body).unwrap();
        assert!(body.contains(from), "{body}");
        self.body = body.replace(from, to).into_bytes();
        self
    }
}

fn hash(parts: &[&[u8]]) -> String {
    let hash = parts.iter().fold(Sha256::new(), Sha256::chain_update);
    URL_SAFE_NO_PAD.encode(hash.finalize())
}

/// Returns the id of a question, from its bearer token.
fn call(question: &Question) -> String {
    let payload = question.bearer.as_ref().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}

/// Signs an answer as the protocol's page says, independently of the code under test.
fn prove(question: &Question, given: Given, (iss, seed): (&str, u8), aud: &str, now: Time) -> Given {
    let asked =
        hash(&[question.method.as_bytes(), b"\n", question.path.as_bytes(), b"\n", question.body.as_slice()]);
    let claims = json!({
        "iss": iss, "aud": aud, "iat": now.unix(), "exp": now.plus(300).unix(), "jti": call(question),
        "instance": "hostile", "question": asked, "status": given.status, "answer": hash(&[given.body.as_slice()]),
    });
    let proof = sign(Typ::PeerAnswer, claims.to_string().as_bytes(), &key(seed));
    Given { proof: Some(proof), ..given }
}

/// Returns the honest answer of the node `other`.
fn honest(other: &Still, question: &Question) -> Given {
    let reply = other.reply(question);
    Given { status: reply.status, proof: reply.proof, body: reply.body.to_vec() }
}

/// Performs a round of `node` with answers by `answer`. Returns the number of calls, or the reason why the round ended.
fn round(node: &mut Still, mut answer: impl FnMut(&Question) -> Given) -> Result<usize, DialogueError> {
    node.dialogue.begin(T0);
    let mut calls = 0;
    while let Some(question) = node.dialogue.next(T0)? {
        calls += 1;
        assert!(calls <= 1000, "it never ends");
        let Given { status, proof, body } = answer(&question);
        node.dialogue.answered(&question, status, proof.as_deref().map(str::as_bytes), &body, T0)?;
    }
    Ok(calls)
}

/// Returns two nodes, of which `b` has revoked a token.
fn pair(directory: &std::path::Path) -> (Still, Still) {
    let (a, b) = (Still::new(directory, "nod_a", 51), Still::new(directory, "nod_b", 52));
    b.revocations.revoke(&order(0), T0).unwrap();
    (a, b)
}

fn refusal(outcome: Result<usize, DialogueError>) -> PeerRefusal {
    match outcome {
        Err(DialogueError::Peer(refusal)) => refusal,
        other => unreachable!("{other:?}"),
    }
}

fn is_pull(question: &Question) -> bool {
    question.path.starts_with("/v2/peer/revocations?")
}

const B: (&str, u8) = ("nod_b", 52);

#[test]
fn whoever_changes_an_answer_on_its_way_hides_nothing_and_is_alarmed() {
    let list = |other: &Still| other.revocations.id().to_owned();
    let changes: [(&str, Change); 5] = [
        ("next", |given, _| given.changed("\"next\":1", "\"next\":900")),
        ("the list's name", |given, list| given.changed(list, "another")),
        ("the revocations", |mut given, _| {
            let mut body: Value = serde_json::from_slice(&given.body).unwrap();
            body["revocations"] = json!([]);
            given.body = body.to_string().into_bytes();
            given
        }),
        ("the status", |given, _| Given { status: 204, ..given }),
        ("white space", |given, _| given.changed("{\"list\"", "{ \"list\"")),
    ];
    for (what, change) in changes {
        let directory = tempfile::tempdir().unwrap();
        let (mut a, b) = pair(directory.path());
        let name = list(&b);
        let outcome = round(&mut a, |question| {
            let given = honest(&b, question);
            if is_pull(question) { change(given, &name) } else { given }
        });
        assert!(matches!(refusal(outcome), PeerRefusal::Altered(node) if node.as_str() == "nod_b"), "{what}");
        assert_eq!(a.live.alarms.count(AlarmKind::Refused), 1, "{what}");
        // Without interference the node gets all of it.
        round(&mut a, |question| honest(&b, question)).unwrap();
        assert_eq!(a.reason(0), Reason::TokenRevoked, "{what}");
    }
}

#[test]
fn whoever_changes_a_question_on_its_way_hides_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut a, b) = pair(directory.path());
    let outcome = round(&mut a, |question| {
        let mut sent = question.clone();
        if is_pull(question) {
            sent.path = "/v2/peer/revocations?after=900".into();
        }
        honest(&b, &sent)
    });
    assert!(matches!(refusal(outcome), PeerRefusal::Altered(_)));
    // A node's own reports count as delivered only if the peer has confirmed exactly these bytes.
    a.revocations.revoke(&order(1), T0).unwrap();
    let outcome = round(&mut a, |question| {
        let mut sent = question.clone();
        if question.method == "POST" && question.path == "/v2/peer/revocations" {
            sent.body = br#"{"list":"x","next":0,"revocations":[]}"#.to_vec();
        }
        honest(&b, &sent)
    });
    assert!(matches!(refusal(outcome), PeerRefusal::Altered(_)));
    round(&mut a, |question| honest(&b, question)).unwrap();
    assert_eq!((a.reason(0), b.reason(1)), (Reason::TokenRevoked, Reason::TokenRevoked));
}

#[test]
fn a_peer_that_skips_is_asked_for_what_it_skipped() {
    let directory = tempfile::tempdir().unwrap();
    let (mut a, b) = pair(directory.path());
    let id = b.revocations.id().to_owned();
    // The peer has the key, signs its answers, and claims more items than it sends.
    for next in [1, 2, 900, u64::MAX - 1, u64::MAX] {
        round(&mut a, |question| {
            let given = honest(&b, question);
            if !is_pull(question) {
                return given;
            }
            let lie = json!({ "list": id, "next": next, "revocations": [] });
            prove(question, Given::json(&lie), B, "nod_a", T0)
        })
        .unwrap();
        assert_ne!(a.reason(0), Reason::TokenRevoked);
    }
    round(&mut a, |question| honest(&b, question)).unwrap();
    assert_eq!(a.reason(0), Reason::TokenRevoked);
    assert_eq!(a.live.alarms.count(AlarmKind::Refused), 0, "a list may have gaps");
}

#[test]
fn an_answer_that_is_played_again_or_out_of_turn_counts_for_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut a, b) = pair(directory.path());
    // The answers are recorded while the peer has nothing to report.
    let mut recorded = Vec::new();
    let quiet = Still::new(&directory.path().join("nod_a"), "nod_b", 52);
    round(&mut a, |question| {
        let given = honest(&quiet, question);
        recorded.push((question.path.clone(), given.clone()));
        given
    })
    .unwrap();
    let replayed = round(&mut a, |question| {
        let old = recorded.iter().find(|(path, _)| *path == question.path);
        old.map_or_else(|| honest(&b, question), |(_, given)| given.clone())
    });
    assert!(matches!(refusal(replayed), PeerRefusal::Again));
    // Answers of this round, each one call late.
    let mut before: Option<Given> = None;
    let reordered = round(&mut a, |question| {
        let given = honest(&b, question);
        if question.bearer.is_none() {
            return given;
        }
        before.replace(given.clone()).unwrap_or(given)
    });
    assert!(matches!(refusal(reordered), PeerRefusal::Again));
    round(&mut a, |question| honest(&b, question)).unwrap();
    assert_eq!(a.reason(0), Reason::TokenRevoked);
}

#[test]
fn nobody_answers_for_another_node() {
    let directory = tempfile::tempdir().unwrap();
    let (mut a, b) = pair(directory.path());
    let empty = json!({ "list": "x", "next": 0, "revocations": [] });
    let liars: [(&str, Signer, &str, Time, Refused); 6] = [
        ("another living node", ("nod_d", 54), "nod_a", T0, |r| matches!(r, PeerRefusal::Another(_))),
        ("a retired node", ("nod_c", 53), "nod_a", T0, |r| matches!(r, PeerRefusal::Retired(_))),
        ("a retired node, as another", ("nod_b", 53), "nod_a", T0, |r| matches!(r, PeerRefusal::Issuer(_))),
        ("a stranger", ("nod_b", 60), "nod_a", T0, |r| matches!(r, PeerRefusal::Proof(_))),
        ("the node, to another", B, "nod_d", T0, |r| matches!(r, PeerRefusal::Audience(_))),
        ("the node, long ago", B, "nod_a", T0.plus(-3600), |r| matches!(r, PeerRefusal::Time)),
    ];
    for (who, signer, aud, at, refused) in liars {
        let outcome = round(&mut a, |question| {
            if question.bearer.is_none() {
                return honest(&b, question);
            }
            prove(question, Given::json(&empty), signer, aud, at)
        });
        let refusal = refusal(outcome);
        assert!(refused(&refusal), "{who}: {refusal}");
    }
    // The answer has no proof, the proof of a call, or a text that is no proof.
    let bearer = b.prover.jwt("nod_a", "call", T0);
    for proof in [None, Some(bearer), Some(String::new()), Some("a.b.c".into())] {
        let outcome = round(&mut a, |question| {
            if question.bearer.is_none() {
                return honest(&b, question);
            }
            Given { proof: proof.clone(), ..Given::json(&empty) }
        });
        assert!(matches!(refusal(outcome), PeerRefusal::Proof(_)));
    }
    assert_ne!(a.reason(0), Reason::TokenRevoked);
}

#[test]
fn a_retired_node_is_neither_asked_nor_answered() {
    let directory = tempfile::tempdir().unwrap();
    let mut a = Still::new(directory.path(), "nod_a", 51);
    let mut retired = Still::new(directory.path(), "nod_c", 53);
    retired.revocations.revoke(&order(0), T0).unwrap();
    let mut calls = 0;
    let outcome = round(&mut a, |question| {
        calls += 1;
        honest(&retired, question)
    });
    assert!(matches!(refusal(outcome), PeerRefusal::Retired(node) if node.as_str() == "nod_c"));
    assert_eq!(calls, 1, "nothing but its name");
    let refused = round(&mut retired, |question| honest(&a, question));
    assert!(matches!(refused, Err(DialogueError::Status(401))), "{refused:?}");
    assert_ne!(a.reason(0), Reason::TokenRevoked);
    // A node without a record is refused as well.
    let mut stranger = Still::new(directory.path(), "nod_x", 61);
    let outcome = round(&mut a, |question| honest(&stranger, question));
    assert!(matches!(refusal(outcome), PeerRefusal::Unknown(_)));
    let refused = round(&mut stranger, |question| honest(&a, question));
    assert!(matches!(refused, Err(DialogueError::Status(401))), "{refused:?}");
}

#[test]
fn a_call_for_one_node_is_none_for_another() {
    let directory = tempfile::tempdir().unwrap();
    let (mut a, b) = pair(directory.path());
    let other = Still::new(directory.path(), "nod_d", 54);
    // The server at the address claims to be b and forwards the calls to d.
    let outcome = round(&mut a, |question| {
        if question.bearer.is_none() { honest(&b, question) } else { honest(&other, question) }
    });
    assert!(matches!(outcome, Err(DialogueError::Status(401))), "{outcome:?}");
}

#[test]
fn a_peer_ends_no_round_by_having_no_end() {
    let directory = tempfile::tempdir().unwrap();
    let (mut a, b) = pair(directory.path());
    a.revocations.revoke(&order(1), T0).unwrap();
    let page: Vec<String> = (0..MAX_REVOCATIONS).map(|number| format!("a.b.{number}")).collect();
    let mut number = 0_u64;
    let endless: [(&str, Answer); 3] = [
        ("full pages", |_, number, page| json!({ "list": "x", "next": number * 500, "revocations": page })),
        ("another list each time", |question, number, page| {
            if question.method == "POST" {
                json!({ "list": number.to_string(), "taken": { "new": 0, "known": 0, "refused": 1 } })
            } else {
                json!({ "list": number.to_string(), "next": 500, "revocations": page })
            }
        }),
        ("pages that lead back", |_, _, page| json!({ "list": "x", "next": 0, "revocations": page })),
    ];
    for (what, answer) in endless {
        let outcome = round(&mut a, |question| {
            let told = question.path.starts_with("/v2/peer/revocations");
            let lies = told && (question.method == "GET" || what == "another list each time");
            if !lies {
                return honest(&b, question);
            }
            number += 1;
            prove(question, Given::json(&answer(question, number, &page)), B, "nod_a", T0)
        });
        assert!(outcome.is_ok(), "{what}: {outcome:?}");
    }
    round(&mut a, |question| honest(&b, question)).unwrap();
    round(&mut a, |question| honest(&b, question)).unwrap();
    assert_eq!(a.reason(0), Reason::TokenRevoked);
}

#[test]
fn half_answers_and_answers_that_are_too_large_are_no_answers() {
    let directory = tempfile::tempdir().unwrap();
    let (mut a, b) = pair(directory.path());
    let many: Vec<String> = (0..=MAX_REVOCATIONS).map(|number| format!("a.b.{number}")).collect();
    let list = b.revocations.id().to_owned();
    let large = json!({ "list": list, "next": 1, "revocations": many });
    let more = json!({ "list": list, "next": 1, "revocations": [], "else": 1 });
    let bodies = [
        Vec::new(),
        b"{".to_vec(),
        large.to_string().as_bytes()[..4000].to_vec(),
        large.to_string().into_bytes(),
        more.to_string().into_bytes(),
        vec![0xff; 100],
    ];
    for body in bodies {
        // The peer's signature is valid; only the content is wrong.
        let outcome = round(&mut a, |question| {
            if !is_pull(question) {
                return honest(&b, question);
            }
            let given = Given { status: 200, proof: None, body: body.clone() };
            prove(question, given, B, "nod_a", T0)
        });
        assert!(matches!(outcome, Err(DialogueError::Answer(_) | DialogueError::TooMany)), "{outcome:?}");
    }
    round(&mut a, |question| honest(&b, question)).unwrap();
    assert_eq!(a.reason(0), Reason::TokenRevoked);
}

#[test]
fn a_peer_that_lost_what_it_had_is_told_all_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut a = Still::new(directory.path(), "nod_a", 51);
    let b = Still::new(directory.path(), "nod_b", 52);
    a.revocations.revoke(&order(1), T0).unwrap();
    // Node a reads the list of b, which is empty, and then sends b one revocation.
    round(&mut a, |question| honest(&b, question)).unwrap();
    assert_eq!(b.reason(1), Reason::TokenRevoked);
    let anew = directory.path().join("anew");
    std::fs::create_dir(&anew).unwrap();
    let b = Still::new(&anew, "nod_b", 52);
    for _ in 0..2 {
        round(&mut a, |question| honest(&b, question)).unwrap();
    }
    assert_eq!(b.reason(1), Reason::TokenRevoked);
}

#[test]
fn a_host_that_meets_its_own_identity_says_so_and_one_that_meets_itself_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut a = Still::new(directory.path(), "nod_a", 51);
    // Every host has the same list of peers, so each one's list includes its own address.
    let own = a.face.name();
    let asked = round(&mut a, |question| {
        assert!(question.bearer.is_none());
        Given { status: own.status, proof: None, body: own.body.to_vec() }
    });
    assert_eq!(asked.unwrap(), 1);
    assert!(!a.live.membership.shared(T0));
    let copy = directory.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let copy = Still::new(&copy, "nod_a", 51);
    // A server's claim alone does not prove that it is the node itself.
    let liar = round(&mut a, |question| {
        if question.bearer.is_none() { honest(&copy, question) } else { Given::json(&json!({})) }
    });
    assert!(liar.is_err());
    assert!(!a.live.membership.shared(T0));
    round(&mut a, |question| honest(&copy, question)).unwrap();
    for host in [&a, &copy] {
        assert!(host.live.membership.shared(T0));
        assert_eq!(host.live.alarms.count(AlarmKind::SharedIdentity), 1);
    }
}
