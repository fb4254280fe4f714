//! peer_answers.json, peer_lists.json and peer_heads.json: the judgement of a node about a peer's answers.
//! enrolments.json: the judgement of a control plane about the proof of a host that enrols.

use std::sync::Arc;

use halligan::controlplane::ControlPlane;
use halligan::controlplane::error::Error;
use halligan::controlplane::signing::Signing;
use halligan::controlplane::store::Store;
use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
use halligan::dataplane::node::alarm::AlarmKind;
use halligan::dataplane::node::credential::{Nonces, Prover};
use halligan::dataplane::node::identity::Identity;
use halligan::dataplane::node::state::Live;
use halligan::dataplane::peers::{Dialogue, DialogueError, PeerRefusal, Question};
use halligan::dataplane::replica::replication::Replication;
use halligan::dataplane::replica::store::{Origin, ReplicaStore};
use halligan::dataplane::revocations::Revocations;
use halligan::protocol::jws::{JwsError, Typ, sign};
use halligan::protocol::key::{Jwk, SigningKey};
use halligan::protocol::record::{NodeRecord, Record, RecordKind};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Vectors, base64, changed, payload, read, replaced, text, time};
use crate::world::{DATA_PLANE, ISSUER, T0, World};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

/// Returns node a, which asks; node b, which answers; node c; and node d, which was retired.
fn nodes() -> Vec<NodeRecord> {
    let node = |id: &str, seed, retired_at| NodeRecord {
        id: id.parse().unwrap(),
        name: id.into(),
        key: key(seed).public().jwk(),
        retired_at,
    };
    vec![
        node("nod_a", 21, None),
        node("nod_b", 22, None),
        node("nod_c", 23, None),
        node("nod_d", 24, Some(T0)),
    ]
}

fn records(tokens: usize) -> Vec<Record> {
    let nodes = nodes();
    let nodes = nodes.iter().map(|node| Record::from_value(RecordKind::Node, node.id.as_str(), node));
    World::records(tokens).into_iter().chain(nodes).collect()
}

fn hash(bytes: impl AsRef<[u8]>) -> String {
    base64(Sha256::digest(bytes))
}

/// Returns the claims of the proof of node b's answer.
fn claims(question: &Question, status: u16, body: &str) -> String {
    let asked = [question.method, "\n", &question.path, "\n"].concat().into_bytes();
    json!({
        "iss": "nod_b", "aud": "nod_a", "iat": T0, "exp": T0.plus(300), "jti": call(question), "instance": "b-1",
        "question": hash([asked, question.body.clone()].concat()), "status": status, "answer": hash(body),
    })
    .to_string()
}

fn call(question: &Question) -> String {
    let proof: Value = serde_json::from_str(&payload(question.bearer.as_deref().unwrap())).unwrap();
    proof["jti"].as_str().unwrap().to_owned()
}

/// Node a with a replica of version 7, in a round with node b.
struct Asking {
    _directory: tempfile::TempDir,
    live: Arc<Live>,
    dialogue: Dialogue,
}

impl Asking {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("replica.db");
        let store = ReplicaStore::open(&path, World::data_plane(), World::new().pinned()).unwrap();
        let live = Arc::new(Live::new(Snapshot::absent(), T0, T0));
        let replication = Arc::new(Replication::new(store, Arc::clone(&live), Staleness::default()));
        replication.apply_bundle(&*World::new().bundle(7, &records(2), T0), Origin::Feed, T0).unwrap();
        let identity = Identity {
            node_id: "nod_a".parse().unwrap(),
            data_plane_id: DATA_PLANE.parse().unwrap(),
            issuer: ISSUER.into(),
        };
        // Seeded, so that the calls are the same in every run.
        let nonces = Nonces::new(&mut StdRng::seed_from_u64(0));
        let prover = Arc::new(Prover { identity, key: Arc::new(key(21)), nonces });
        let revocations = directory.path().join("revocations.db");
        let revocations = Revocations::open(&revocations, Arc::clone(&live), Arc::clone(&prover)).unwrap();
        let dialogue = Dialogue::new(Arc::new(revocations), replication, Arc::clone(&live), prover);
        Self { _directory: directory, live, dialogue }
    }

    /// Goes on to the next call of a path. Node b answers each call before it correctly.
    fn until(&mut self, path: &str) -> Question {
        self.dialogue.begin(T0);
        loop {
            let question = self.dialogue.next(T0).unwrap().unwrap();
            if question.path.starts_with(path) {
                return question;
            }
            let body = match question.path.as_str() {
                "/v2/peer/node" => r#"{"node":"nod_b","instance":"b-1"}"#,
                "/v2/peer/heads" => r#"{"heads":[]}"#,
                other => panic!("{other} comes before {path}"),
            };
            self.tell(&question, body).unwrap();
        }
    }

    /// Answers a call as node b.
    fn tell(&mut self, question: &Question, body: &str) -> Result<(), DialogueError> {
        let proof = question
            .bearer
            .as_ref()
            .map(|_| sign(Typ::PeerAnswer, claims(question, 200, body).as_bytes(), &key(22)));
        self.give(question, 200, &proof.unwrap_or_default(), body)
    }

    fn give(
        &mut self,
        question: &Question,
        status: u16,
        proof: &str,
        body: &str,
    ) -> Result<(), DialogueError> {
        self.dialogue.answered(question, status, Some(proof.as_bytes()), body.as_bytes(), T0)
    }
}

const PULL: &str = "/v2/peer/revocations?";

/// Returns a call as the cases state it.
fn shown(question: &Question) -> Value {
    json!({ "method": question.method, "path": question.path, "body": "", "jti": call(question) })
}

fn judge_answer(common: &Value, case: &Value) -> String {
    let mut asking = Asking::new();
    let question = asking.until(PULL);
    assert_eq!(common["call"], shown(&question), "the node makes another call than the one that is answered");
    let (proof, body) = (text(case, "proof"), text(case, "body"));
    let answer = match asking.give(&question, read(case, "status"), proof, body) {
        // The proof of the answer is valid. The content of the body is not judged here.
        Ok(()) | Err(DialogueError::Answer(_)) => "ok",
        Err(DialogueError::Status(_)) => "status",
        Err(DialogueError::Peer(refusal)) => match refusal {
            PeerRefusal::Audience(_) => "audience",
            PeerRefusal::Another(_) => "another",
            PeerRefusal::Time => "time",
            PeerRefusal::Again => "call",
            PeerRefusal::Altered(_) => "altered",
            PeerRefusal::Retired(_) => "retired",
            PeerRefusal::Issuer(_) => "issuer",
            PeerRefusal::Proof(JwsError::KeyUnknown) => "key_unknown",
            PeerRefusal::Proof(JwsError::SignatureInvalid) => "signature_invalid",
            _ => "malformed",
        },
        Err(other) => panic!("{other}"),
    };
    answer.into()
}

#[test]
fn peer_answers() {
    let question = Asking::new().until(PULL);
    let mut vectors = Vectors::new(
        "peer_answers.json",
        "Is the answer of `status` and `body`, with `proof` in its header, an answer of node `asked` to the call of node `asks`? \
         The node that asks holds the node records `nodes`; `call` is what it sent, with `jti` of its proof.",
        judge_answer,
    )
    .with("nodes", json!(nodes()))
    .with("asks", json!("nod_a"))
    .with("asked", json!("nod_b"))
    .with("now", json!(T0.unix()))
    .with("call", shown(&question));
    let body = r#"{"list":"b-list","next":0,"revocations":[]}"#;
    let mut case = |name: &str, (status, proof, body): (u16, String, &str), expected: &str, why: &str| {
        vectors.case(name, json!({ "status": status, "proof": proof, "body": body }), expected, why);
    };
    let good = claims(&question, 200, body);
    let signed = |claims: &str, seed| (200, sign(Typ::PeerAnswer, claims.as_bytes(), &key(seed)), body);
    let of = |from: &str, to: &str| signed(&replaced(&good, from, to), 22);
    let with = |name: &str, value: Value| {
        let mut changed: Value = serde_json::from_str(&good).unwrap();
        changed[name] = value;
        signed(&changed.to_string(), 22)
    };
    let times = |iat: i64, exp: i64| {
        let mut changed: Value = serde_json::from_str(&good).unwrap();
        (changed["iat"], changed["exp"]) = (json!(T0.plus(iat)), json!(T0.plus(exp)));
        signed(&changed.to_string(), 22)
    };
    let whole = signed(&good, 22);
    case("as the node gives it", whole.clone(), "ok", "");
    case("an unknown claim", of("{", r#"{"x":1,"#), "ok", "the claims are an open object");
    case("299 s from the future", times(299, 599), "ok", "as in a node proof");
    case("another start of the daemon", with("instance", json!("b-2")), "ok", "instance is any text");
    case(
        "an instance of 65 bytes",
        with("instance", json!("b".repeat(65))),
        "malformed",
        "instance is at most 64 bytes",
    );
    case("a status of 500", (500, whole.1.clone(), body), "status", "200 and 204 are answers");
    case("no proof", (200, String::new(), body), "malformed", "a JWS has three parts");
    case(
        "signed as a call",
        (200, sign(Typ::NodeAuth, good.as_bytes(), &key(22)), body),
        "malformed",
        "typ names another kind of object",
    );
    case(
        "longer than 2048 bytes",
        with("instance", json!("b".repeat(1500))),
        "malformed",
        "an answer's proof is at most 2048 bytes",
    );
    for name in ["iss", "aud", "iat", "exp", "jti", "instance", "question", "status", "answer"] {
        let mut without: Value = serde_json::from_str(&good).unwrap();
        without.as_object_mut().unwrap().remove(name);
        let what = format!("no {name}");
        case(&what, signed(&without.to_string(), 22), "malformed", "a required claim is missing");
    }
    case("a claim twice", of("{", r#"{"aud":"nod_c","#), "malformed", "a claim stands twice");
    case("the status as a text", with("status", json!("200")), "malformed", "a claim is not of its type");
    case("the key of nobody", signed(&good, 25), "key_unknown", "its kid is the key of no node");
    case(
        "a bit of the signature changed",
        (200, changed(&whole.1, 10), body),
        "signature_invalid",
        "the signature does not hold",
    );
    case("the key of another node", signed(&good, 23), "issuer", "the key is not that of iss");
    case("a node nobody knows", of("nod_b", "nod_x"), "issuer", "iss has no record");
    case(
        "a node that was retired",
        signed(&replaced(&good, "nod_b", "nod_d"), 24),
        "retired",
        "a retired node is neither asked nor answered",
    );
    case("to another node", with("aud", json!("nod_c")), "audience", "aud is not the node that asked");
    case(
        "of another living node",
        signed(&replaced(&good, "nod_b", "nod_c"), 23),
        "another",
        "iss is not the node that was asked",
    );
    case("300 s from the future", times(300, 600), "time", "iat is less than 300 s ahead");
    case("ends now", times(-300, 0), "time", "exp is ahead: there is no leeway on it");
    case("good for 301 s", times(0, 301), "time", "exp is at most 300 s after iat");
    case("to another call", with("jti", json!("another")), "call", "jti is not that of the call");
    let altered = "the claims are not of this question and this answer";
    case(
        "another path",
        with("question", json!(hash("GET\n/v2/peer/revocations?after=9\n"))),
        "altered",
        altered,
    );
    case(
        "another method",
        with("question", json!(hash(format!("POST\n{}\n", question.path)))),
        "altered",
        altered,
    );
    case(
        "a question without its last LF",
        with("question", json!(hash(format!("GET\n{}", question.path)))),
        "altered",
        altered,
    );
    case("another status than was signed", (204, whole.1.clone(), body), "altered", altered);
    case(
        "next changed",
        (200, whole.1.clone(), r#"{"list":"b-list","next":9,"revocations":[]}"#),
        "altered",
        altered,
    );
    case(
        "a space more",
        (200, whole.1.clone(), r#"{"list":"b-list", "next":0,"revocations":[]}"#),
        "altered",
        altered,
    );
    case("half an answer", (200, whole.1, &body[..20]), "altered", altered);
    vectors.hold();
}

/// Returns a list of a peer with `count` numbered texts. They are not valid revocations, but the list counts them.
fn message(list: &str, next: &Value, count: usize) -> String {
    let revocations: Vec<String> = (0..count).map(|number| format!("{number}.b.c")).collect();
    json!({ "list": list, "next": next, "revocations": revocations }).to_string()
}

fn judge_list(common: &Value, case: &Value) -> String {
    let mut asking = Asking::new();
    let question = asking.until(PULL);
    let read_before = message(text(common, "list"), &common["after"], read(common, "after"));
    asking.tell(&question, &read_before).unwrap();
    let question = asking.until(PULL);
    assert!(question.path.ends_with(&format!("after={}", common["after"])), "{}", question.path);
    let answer = match asking.tell(&question, text(case, "body")) {
        Ok(()) => "ok",
        Err(DialogueError::TooMany) => "too_many",
        Err(DialogueError::Answer(_)) => "malformed",
        Err(other) => panic!("{other}"),
    };
    let next = asking.until(PULL).path;
    if next == format!("/v2/peer/revocations?after={}", case["reads_after"]) {
        answer.into()
    } else {
        format!("{answer}, then asks for {next}")
    }
}

#[test]
fn peer_lists() {
    let mut vectors = Vectors::new(
        "peer_lists.json",
        "A node has read the list `list` of a peer up to number `after`, and is answered `body`. Is it an answer, and from which \
         number does the node read on (`reads_after`)?",
        judge_list,
    )
    .with("list", json!("b-list"))
    .with("after", json!(2));
    let message = |list: &str, next: Value, count: usize| message(list, &next, count);
    let mut case = |name: &str, body: String, (expected, reads_after): (&str, u64), why: &str| {
        vectors.case(name, json!({ "body": body, "reads_after": reads_after }), expected, why);
    };
    case("nothing new", message("b-list", json!(2), 0), ("ok", 2), "");
    case("one more", message("b-list", json!(3), 1), ("ok", 3), "");
    let skips = "the next question is for at most `after` plus the number of revocations that came";
    case("one more, behind a gap", message("b-list", json!(9), 1), ("ok", 3), skips);
    case("far ahead of what came", message("b-list", json!(900), 0), ("ok", 2), skips);
    case("as far ahead as can be", message("b-list", json!(u64::MAX), 1), ("ok", 3), skips);
    case("behind what was read", message("b-list", json!(1), 0), ("ok", 2), "a list is not read backwards");
    case(
        "another list",
        message("b-list-2", json!(1), 1),
        ("ok", 0),
        "another name than before: the list is read again from its beginning",
    );
    case(
        "500 revocations",
        message("b-list", json!(502), 500),
        ("ok", 502),
        "a message holds at most 500 revocations",
    );
    case(
        "501 revocations",
        message("b-list", json!(503), 501),
        ("too_many", 2),
        "a message holds at most 500 revocations",
    );
    let closed = "the object is closed, and all its members are required";
    let good = message("b-list", json!(3), 1);
    case("an unknown member", replaced(&good, "{", r#"{"x":1,"#), ("malformed", 2), closed);
    case("no list", replaced(&good, r#""list":"b-list","#, ""), ("malformed", 2), closed);
    case("no next", replaced(&good, r#""next":3,"#, ""), ("malformed", 2), closed);
    case("no revocations", r#"{"list":"b-list","next":3}"#.into(), ("malformed", 2), closed);
    case("a member twice", replaced(&good, "{", r#"{"next":9,"#), ("malformed", 2), "a member stands twice");
    let typed = "a member is not of its type";
    case("a negative next", message("b-list", json!(-1), 0), ("malformed", 2), typed);
    case("next as a text", message("b-list", json!("3"), 0), ("malformed", 2), typed);
    case("a revocation that is no text", replaced(&good, r#""0.b.c""#, "7"), ("malformed", 2), typed);
    case("no object", "[]".into(), ("malformed", 2), typed);
    vectors.hold();
}

fn judge_heads(common: &Value, case: &Value) -> String {
    let mut asking = Asking::new();
    let own = asking.live.snapshot();
    assert_eq!(text(common, "own"), own.head().unwrap().as_str());
    let question = asking.until("/v2/peer/heads");
    let answer = match asking.tell(&question, text(case, "body")) {
        Ok(()) if asking.live.alarms.count(AlarmKind::Fork) > 0 => "fork",
        Ok(()) => "ok",
        Err(DialogueError::Answer(_)) => "malformed",
        Err(other) => panic!("{other}"),
    };
    answer.into()
}

#[test]
fn peer_heads() {
    let world = World::new();
    let own = world.head(7, &records(2), T0);
    let mut vectors = Vectors::new(
        "peer_heads.json",
        "A node of `data_plane` holds the head `own` since its start, and is shown `body` in answer to its own. Is it an answer \
         (`malformed`, if not), and is there a split view (`fork`)?",
        judge_heads,
    )
    .with("keyset", json!(world.keyset))
    .with("data_plane", json!("dpl_a"))
    .with("own", json!(own));
    let mut case = |name: &str, body: String, expected: &str, why: &str| {
        vectors.case(name, json!({ "body": body }), expected, why);
    };
    let heads = |heads: &[&str]| json!({ "heads": heads }).to_string();
    let other = world.head(7, &records(3), T0);
    let claims = payload(&other);
    let signed = |claims: &str, key: &SigningKey| sign(Typ::ReplicaHead, claims.as_bytes(), key);
    case("nothing", heads(&[]), "ok", "");
    case("the same head", heads(&[&own]), "ok", "");
    case(
        "the same, signed later",
        heads(&[&world.head(7, &records(2), T0.plus(60))]),
        "ok",
        "digest and count are compared",
    );
    case(
        "another version",
        heads(&[&world.head(8, &records(3), T0)]),
        "ok",
        "heads of one version are compared",
    );
    case("another digest", heads(&[&other]), "fork", "another digest of one version is a split view");
    let count = payload(&own);
    let of = serde_json::from_str::<Value>(&count).unwrap()["count"].as_u64().unwrap();
    let recounted = replaced(&count, &format!(r#""count":{of}"#), &format!(r#""count":{}"#, of + 1));
    case(
        "another count",
        heads(&[&signed(&recounted, &world.replica)]),
        "fork",
        "another count of one version is a split view",
    );
    case(
        "the eighth of them",
        heads(&[&[own.as_str(); 7][..], &[&other]].concat()),
        "fork",
        "at most 8 heads count",
    );
    case(
        "the ninth of them",
        heads(&[&[own.as_str(); 8][..], &[&other]].concat()),
        "ok",
        "at most 8 heads count",
    );
    let proves = "a head that no replica key of the keyset signed proves nothing";
    case("signed by the key for tokens", heads(&[&signed(&claims, &world.token)]), "ok", proves);
    case("signed by a node", heads(&[&signed(&claims, &key(22))]), "ok", proves);
    case("a bit of the signature changed", heads(&[&changed(&other, 10)]), "ok", proves);
    case("no JWS", heads(&["a.b.c"]), "ok", proves);
    case(
        "for another data plane",
        heads(&[&signed(&replaced(&claims, "dpl_a", "dpl_b"), &world.replica)]),
        "ok",
        "aud is not the data plane",
    );
    case("an unknown member", r#"{"heads":[],"x":1}"#.into(), "ok", "the object is open");
    case("no heads", "{}".into(), "malformed", "a required member is missing");
    case(
        "heads as a text",
        json!({ "heads": other }).to_string(),
        "malformed",
        "a member is not of its type",
    );
    case("a head that is no text", r#"{"heads":[7]}"#.into(), "malformed", "a member is not of its type");
    vectors.hold();
}

fn enrol(common: &Value, case: &Value) -> String {
    let now = time(common, "now");
    let directory = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(0);
    Signing::create(directory.path(), T0, &mut random).unwrap();
    let control = ControlPlane::new(
        Store::open(&directory.path().join("control.db")).unwrap(),
        Signing::load(directory.path()).unwrap(),
        ISSUER.into(),
        Arc::new(move || now),
        Box::new(random),
    );
    let made = control.bootstrap("Acme", "owner@acme.example").unwrap();
    let owner = control.authenticate(made.token.as_bytes()).unwrap();
    let plane = control.create_data_plane(&owner, &made.organization_id, "a").unwrap();
    let token = control.create_enrolment_token(&owner, &made.organization_id, &plane.id, 3600).unwrap();
    let enrolment = json!({
        "enrolmentToken": *token.enrolment_token, "name": "a", "key": case["key"], "proof": case["proof"],
    });
    let Ok(enrolment) = serde_json::from_value(enrolment) else { return "key".into() };
    let answer = match control.enrol(&enrolment) {
        Ok(_) => "ok",
        Err(Error::Unauthenticated(_)) => "proof",
        Err(Error::Proof(fault)) if format!("{fault:?}").starts_with("Audience") => "audience",
        Err(Error::Proof(_)) => "time",
        Err(_) => "key",
    };
    answer.into()
}

#[test]
fn enrolments() {
    let mut vectors = Vectors::new(
        "enrolments.json",
        "Does `proof` prove to a control plane, at `now`, that the host which enrols has `key`? Its enrolment token is good.",
        enrol,
    )
    .with("now", json!(T0.unix()));
    let own = key(21).public().jwk();
    let mut case_of = |name: &str, jwk: &Jwk, proof: String, expected: &str, why: &str| {
        vectors.case(name, json!({ "key": jwk, "proof": proof }), expected, why);
    };
    let claims = r#"{"aud":"halligan-control","iat":1800000000,"exp":1800000300}"#;
    let signed = |claims: &str| sign(Typ::NodeAuth, claims.as_bytes(), &key(21));
    let times = |iat: i64, exp: i64| {
        signed(&json!({ "aud": "halligan-control", "iat": T0.plus(iat), "exp": T0.plus(exp) }).to_string())
    };
    let small = Jwk { x: base64([0; 32]), kid: None, ..own.clone() };
    case_of("a key of small order", &small, signed(claims), "key", "a key of small order is refused");
    let mut case = |name: &str, proof: String, expected: &str, why: &str| {
        case_of(name, &own, proof, expected, why);
    };
    case("as a host makes it", signed(claims), "ok", "");
    let compared = "other claims are not required, and not compared";
    case(
        "with the claims of a node proof",
        signed(&replaced(claims, "{", r#"{"iss":"nod_a","sub":"nod_a","jti":"p-1","instance":"a-1","#)),
        "ok",
        compared,
    );
    case(
        "iss and sub differ",
        signed(&replaced(claims, "{", r#"{"iss":"nod_a","sub":"nod_b","#)),
        "ok",
        compared,
    );
    case(
        "an unknown claim",
        signed(&replaced(claims, "{", r#"{"x":1,"#)),
        "ok",
        "the claims are an open object",
    );
    case("299 s from the future", times(299, 599), "ok", "the clocks may be less than 300 s apart");
    case("about to end", times(-299, 1), "ok", "the clocks may be less than 300 s apart");
    case("no proof", String::new(), "proof", "a JWS has three parts");
    case(
        "signed with another key",
        sign(Typ::NodeAuth, claims.as_bytes(), &key(22)),
        "proof",
        "it is signed with `key`",
    );
    case(
        "a bit of the signature changed",
        changed(&signed(claims), 10),
        "proof",
        "the signature does not hold",
    );
    case(
        "signed as a revocation",
        sign(Typ::LocalRevocation, claims.as_bytes(), &key(21)),
        "proof",
        "typ names another kind of object",
    );
    for name in ["aud", "iat", "exp"] {
        let mut without: Value = serde_json::from_str(claims).unwrap();
        without.as_object_mut().unwrap().remove(name);
        case(&format!("no {name}"), signed(&without.to_string()), "proof", "a required claim is missing");
    }
    case("a claim twice", signed(&replaced(claims, "{", r#"{"iat":1,"#)), "proof", "a claim stands twice");
    case(
        "longer than 2048 bytes",
        signed(&replaced(claims, "{", &format!(r#"{{"x":"{}","#, "a".repeat(1600)))),
        "proof",
        "a proof is at most 2048 bytes",
    );
    case(
        "for the issuer",
        signed(&replaced(claims, "halligan-control", ISSUER)),
        "audience",
        "aud is `halligan-control`",
    );
    case("300 s from the future", times(300, 600), "time", "iat is less than 300 s ahead");
    case("ends now", times(-300, 0), "time", "exp is ahead: there is no leeway on it");
    case("good for 301 s", times(0, 301), "time", "exp is at most 300 s after iat");
    case("exp before iat", times(10, 9), "time", "exp is after iat");
    vectors.hold();
}
