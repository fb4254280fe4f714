//! Exchange between nodes while their control plane is down, with real daemons. A hostile peer cannot inject or roll
//! back records, nor exhaust a node.

#![allow(clippy::unwrap_used)]

mod code;
mod hostile;
mod split_view;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::nodes::{order, prover};
use crate::rig::node::Node;
use crate::rig::{Rig, curl, free_port, until};
use crate::world::{T0, World};
use halligan::dataplane::decide::Reason;
use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
use halligan::dataplane::node::credential::Prover;
use halligan::dataplane::node::state::Live;
use halligan::dataplane::peers::{
    Dialogue, MAX_REVOCATIONS, PeerFace, PeerRequest, Question, Reply, Revoked, serve,
};
use halligan::dataplane::replica::replication::Replication;
use halligan::dataplane::replica::store::{Origin, ReplicaStore};
use halligan::dataplane::revocations::Revocations;
use halligan::platform::net::listener::Connections;
use halligan::platform::net::share::{Each, Share};
use halligan::protocol::record::Record;
use halligan::protocol::time::Time;

#[test]
fn a_revocation_reaches_every_node_without_the_control_plane() {
    let mut rig = Rig::start();
    let (missed_id, missed) = rig.direct_access_token("missed", &rig.deployment);
    let (id, token) = rig.direct_access_token("lost", &rig.deployment);
    let [mut a, mut b, mut c] = ["a", "b", "c"].map(|name| Node::start(&rig, name));
    // The nodes form a chain: a polls b, and b polls c, so that only b exchanges with both others.
    a.configure(&rig, rig.control_port, &[&b]);
    b.configure(&rig, rig.control_port, &[&c]);
    for node in [&mut a, &mut b, &mut c] {
        node.restart();
        node.synced(&rig);
    }
    rig.kill_control();
    for node in [&a, &b, &c] {
        assert_eq!(node.authorize(&rig, &token).status, 200);
    }
    a.json(&rig, &["revoke", &id, "--reason", "laptop lost"]);
    for node in [&a, &b, &c] {
        until("the node denies", || node.authorize(&rig, &token).status == 401);
        assert_eq!(node.authorize(&rig, &token).reason(), "token_revoked");
    }

    // Node b gets the revocation after its restart, and node c, which polls no peer, receives it from b.
    b.kill();
    a.json(&rig, &["revoke", &missed_id, "--reason", "while b was down"]);
    b.run();
    for node in [&b, &c] {
        until("the node denies", || node.authorize(&rig, &missed).status == 401);
    }
    let known = c.json(&rig, &["revoke", "--list"]);
    assert_eq!(known.as_array().unwrap().len(), 2);
    assert_eq!(known[1]["reason"], "while b was down");

    // Every node reports the revocation to the control plane, which stores it once.
    rig.start_control(rig.control_port);
    let told = |node: &Node| {
        let held = node.json(&rig, &["revoke", "--list"]);
        held.as_array().unwrap().iter().all(|held| !held["answer"].is_null())
    };
    for node in [&a, &b, &c] {
        until("the control plane knows", || told(node));
    }
    rig.synced();
    assert_eq!(rig.authorize(&token, "GET", "/api/v2/dags").reason(), "token_revoked");
}

#[test]
fn a_node_without_an_uplink_follows_a_peer_that_has_one() {
    let rig = Rig::start();
    let (id, token) = rig.direct_access_token("revoked above", &rig.deployment);
    let [a, mut b] = ["a", "b"].map(|name| Node::start(&rig, name));
    a.synced(&rig);
    b.synced(&rig);
    b.configure(&rig, free_port(), &[&a]);
    b.restart();
    assert_eq!(b.authorize(&rig, &token).status, 200);
    rig.cli(&["token", "delete", &id, "--force"]);
    until("b has heard of it from a", || b.authorize(&rig, &token).status == 401);
    // The replica is exchanged too: the token was created while b was cut off.
    let (_, new) = rig.direct_access_token("new", &rig.deployment);
    until("b knows the new token", || b.authorize(&rig, &new).status == 200);
    let status = b.json(&rig, &["status"]);
    assert_eq!(
        status["controlPlane"]["connectivity"], "offline",
        "that is no contact with the control plane"
    );
}

#[test]
fn a_revocation_told_by_a_peer_outlives_that_peers_record() {
    let mut rig = Rig::start();
    let (id, token) = rig.direct_access_token("lost", &rig.deployment);
    let a = Node::start(&rig, "a");
    a.synced(&rig);
    rig.kill_control();
    let backup = rig.back_up_control();
    rig.start_control(rig.control_port);
    // A host that is missing in the backup revokes the token while neither host reaches the control plane.
    let mut b = Node::start(&rig, "b");
    let (mut a, known) = (a, b.json(&rig, &["status"])["nodeId"].clone());
    a.synced(&rig);
    b.synced(&rig);
    let version = a.json(&rig, &["status"])["replica"]["version"].as_u64().unwrap();
    rig.kill_control();
    a.configure(&rig, rig.control_port, &[&b]);
    a.restart();
    assert_eq!(a.authorize(&rig, &token).status, 200);
    b.json(&rig, &["revoke", &id, "--reason", "laptop lost"]);
    until("a has heard of it from b", || a.authorize(&rig, &token).status == 401);
    b.kill();
    rig.restore_control(&backup);
    rig.recover_above(version);
    rig.start_control(rig.control_port);
    let nodes = rig.json(&["node", "list", "--data-plane-id", &rig.data_plane]);
    assert!(!nodes.to_string().contains(known.as_str().unwrap()), "the backup is older than b: {nodes}");
    until("a follows", || a.json(&rig, &["status"])["replica"]["version"].as_u64().unwrap() > version);
    assert_eq!(a.authorize(&rig, &token).reason(), "token_revoked");
    for control_is_there in [true, false] {
        if !control_is_there {
            rig.kill_control();
        }
        a.restart();
        assert_eq!(a.authorize(&rig, &token).reason(), "token_revoked");
    }
    // No other node can prove the revocation now, so the control plane confirms it, and another host denies the token.
    rig.start_control(rig.control_port);
    until("the control plane knows", || {
        let held = a.json(&rig, &["revoke", "--list"]);
        held.as_array().unwrap().iter().any(|held| held["answer"] == "revoked")
    });
    rig.synced();
    assert_eq!(rig.authorize(&token, "GET", "/api/v2/dags").reason(), "token_revoked");
}

#[test]
fn many_revocations_at_once_reach_a_peer_without_asking_too_much_of_it() {
    let mut rig = Rig::start();
    let (last, token) = rig.direct_access_token("the last of them", &rig.deployment);
    let [mut a, b] = ["a", "b"].map(|name| Node::start(&rig, name));
    a.configure(&rig, rig.control_port, &[&b]);
    a.restart();
    a.synced(&rig);
    b.synced(&rig);
    rig.kill_control();
    let socket = a.directory.join("admin.sock").display().to_string();
    let revoke = |token: &str| {
        let order = format!(r#"{{"tokenId": "{token}", "reason": "a host was broken into"}}"#);
        curl(&["--unix-socket", &socket, "-d", &order, "http://localhost/v1/revocations"])
    };
    for number in 0..100 {
        assert_eq!(revoke(order(number).token.as_ref()).status, 200);
    }
    assert_eq!(revoke(&last).status, 200);
    until("b knows the last of them", || b.authorize(&rig, &token).status == 401);
    let log = std::fs::read_to_string(a.directory.join("log")).unwrap();
    assert!(!log.contains("the exchange with the peer failed"), "{log}");
}

/// Starts a server that claims to be a node and sends `answer` to every other call. Returns its address and the number
/// of calls.
fn scripted(name: Vec<u8>, answer: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let (name, answer, asked) = (name.clone(), answer.clone(), Arc::clone(&asked));
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|read| read > 0) {
                    if request.starts_with(b"GET /v2/peer/node ") {
                        let _ = stream.write_all(&name);
                        continue;
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                    let _ = stream.write_all(&answer);
                    std::thread::sleep(Duration::from_secs(1));
                    return;
                }
            });
        }
    });
    (url, count)
}

fn http(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn peers_that_answer_nonsense_do_no_harm() {
    let rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    let mut node = Node::start(&rig, "a");
    node.synced(&rig);
    let endless = [http(&[]).as_slice(), &vec![b'x'; 8 << 20]].concat();
    let huge = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", u64::MAX).into_bytes();
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{}/\r\ncontent-length: 0\r\n\r\n",
        rig.control_port
    );
    let forged = http(br#"{"list":"x","next":18446744073709551615,"revocations":["a.b.c"]}"#);
    let half = http(&[b' '; 1000])[..600].to_vec();
    // Each server claims to be the other host of the data plane, which is up.
    let id = rig.json(&["status"])["nodeId"].as_str().unwrap().to_owned();
    let name = http(format!(r#"{{"node":"{id}","instance":"hostile"}}"#).as_bytes());
    let scripts = [b"garbage".to_vec(), Vec::new(), endless, huge, half, redirect.into_bytes(), forged]
        .map(|script| scripted(name.clone(), script));
    let urls: Vec<String> = scripts.iter().map(|(url, _)| url.clone()).collect();
    // Without its control plane the node polls them about everything.
    node.configure_urls(&rig, free_port(), &urls);
    node.restart();
    until("each was asked twice", || scripts.iter().all(|(_, count)| count.load(Ordering::Relaxed) >= 2));
    assert_eq!(node.authorize(&rig, &token).status, 200);
    assert_eq!(node.json(&rig, &["revoke", "--list"]).as_array().unwrap().len(), 0);
    assert_eq!(
        node.json(&rig, &["replica", "verify"])["version"],
        node.json(&rig, &["status"])["replica"]["version"]
    );
}

/// Returns records of two tokens, three nodes and a retired node.
fn records() -> Vec<Record> {
    let nodes = [
        crate::nodes::record("nod_a", 51, None),
        crate::nodes::record("nod_b", 52, None),
        crate::nodes::record("nod_c", 53, Some(T0)),
        crate::nodes::record("nod_d", 54, None),
    ];
    World::records(2).into_iter().chain(nodes).collect()
}

/// A node without a network: its server and its client.
struct Still {
    prover: Arc<Prover>,
    live: Arc<Live>,
    revocations: Arc<Revocations>,
    replication: Arc<Replication>,
    face: PeerFace,
    dialogue: Dialogue,
}

impl Still {
    fn new(directory: &Path, id: &str, seed: u8) -> Self {
        let path = directory.join(id);
        std::fs::create_dir(&path).unwrap();
        let store =
            ReplicaStore::open(&path.join("replica.db"), World::data_plane(), World::new().pinned()).unwrap();
        let live = Arc::new(Live::new(Snapshot::absent(), T0, T0));
        let replication = Arc::new(Replication::new(store, Arc::clone(&live), Staleness::default()));
        replication.apply_bundle(&*World::new().bundle(1, &records(), T0), Origin::Feed, T0).unwrap();
        let prover = prover(id, seed);
        let revocations =
            Revocations::open(&path.join("revocations.db"), Arc::clone(&live), Arc::clone(&prover)).unwrap();
        let revocations = Arc::new(revocations);
        let parts =
            || (Arc::clone(&revocations), Arc::clone(&replication), Arc::clone(&live), Arc::clone(&prover));
        let (r, p, l, v) = parts();
        let face = PeerFace::new(r, p, l, v, Arc::new(|| T0));
        let (r, p, l, v) = parts();
        let dialogue = Dialogue::new(r, p, l, v);
        Self { prover, live, revocations, replication, face, dialogue }
    }

    fn reason(&self, token: usize) -> Reason {
        crate::nodes::reason(&self.live, token)
    }

    /// Performs one round with a peer by function calls.
    fn round(&mut self, other: &Self) {
        self.dialogue.begin(T0);
        self.talk(other, || {});
    }

    /// Answers a question as the node does over the network.
    fn reply(&self, question: &Question) -> Reply {
        let Some(bearer) = question.bearer.as_deref() else { return self.face.name() };
        let (path, query) = question.path.split_once('?').unwrap_or((&question.path, ""));
        let asked = PeerRequest { method: question.method, path, query, body: &question.body };
        match self.face.admit(Some(bearer.as_bytes())) {
            Ok(peer) => self.face.answer(&peer, asked),
            Err(refused) => refused,
        }
    }

    /// Performs the rest of a round, and runs `meanwhile` during each call. Returns the number of calls.
    fn talk(&mut self, other: &Self, meanwhile: impl Fn()) -> usize {
        let mut calls = 0;
        while let Some(question) = self.dialogue.next(T0).unwrap() {
            calls += 1;
            meanwhile();
            let reply = other.reply(&question);
            let proof = reply.proof.as_deref().map(str::as_bytes);
            self.dialogue.answered(&question, reply.status, proof, &reply.body, T0).unwrap();
        }
        calls
    }
}

#[test]
fn two_nodes_end_with_the_union_whoever_asks() {
    let directory = tempfile::tempdir().unwrap();
    let mut a = Still::new(directory.path(), "nod_a", 51);
    let b = Still::new(directory.path(), "nod_b", 52);
    a.revocations.revoke(&order(0), T0).unwrap();
    b.revocations.revoke(&order(1), T0).unwrap();
    for _ in 0..2 {
        a.round(&b);
    }
    for node in [&a, &b] {
        assert_eq!((node.reason(0), node.reason(1)), (Reason::TokenRevoked, Reason::TokenRevoked));
        assert_eq!(node.revocations.list().unwrap().len(), 2);
    }
}

#[test]
fn what_comes_up_while_news_are_told_waits_for_the_next_telling() {
    let directory = tempfile::tempdir().unwrap();
    let mut a = Still::new(directory.path(), "nod_a", 51);
    let b = Still::new(directory.path(), "nod_b", 52);
    a.round(&b);
    let revocations = Arc::clone(&a.revocations);
    let next = AtomicUsize::new(0);
    let revoke = || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        // With one call per revocation a peer's rate limit would soon be exceeded.
        assert!(number < 20, "it never ends");
        revocations.revoke(&order(number), T0).unwrap();
    };
    revoke();
    for told in 1..=5 {
        a.dialogue.begin_telling();
        assert_eq!(a.talk(&b, revoke), 1);
        assert_eq!(b.revocations.after(0, MAX_REVOCATIONS).unwrap().len(), told);
    }
    a.dialogue.begin(T0);
    assert!(a.talk(&b, revoke) <= 4);
}

#[test]
fn a_node_takes_changes_from_a_peer_and_is_never_led_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut a = Still::new(directory.path(), "nod_a", 51);
    let b = Still::new(directory.path(), "nod_b", 52);
    let version = |node: &Still| node.live.snapshot().head().unwrap().head().version;
    let mut changed = records();
    changed.push(World::record(&World::token_record(7)));
    let delta = World::new().delta(
        1,
        2,
        &changed,
        vec![halligan::protocol::bundle::Change::Put(World::record(&World::token_record(7)))],
        T0.plus(10),
    );
    b.replication.apply_bundle(&*delta, Origin::Feed, T0.plus(10)).unwrap();
    assert!(b.replication.changes_since(1).is_some_and(|kept| *kept == *delta), "passed on as it came");
    a.round(&b);
    assert_eq!((version(&a), version(&b)), (2, 2));
    // In the other direction nothing is transferred: an older replica is not offered.
    let mut b = b;
    b.round(&a);
    assert_eq!((version(&a), version(&b)), (2, 2));
    // An older replica that is offered is refused.
    let old = World::new().bundle(1, &records(), T0.plus(20));
    assert!(a.replication.apply_bundle(&*old, Origin::Peer, T0.plus(20)).is_err());
    assert_eq!(version(&a), 2);
}

#[test]
fn only_living_nodes_are_answered_and_each_call_once() {
    let directory = tempfile::tempdir().unwrap();
    let a = Still::new(directory.path(), "nod_a", 51);
    let plane = World::data_plane();
    let call = |id: &str, seed: u8, audience: &str, now: Time| prover(id, seed).jwt(audience, "call-1", now);
    let refused = [
        (call("nod_c", 53, "nod_a", T0), "a retired node"),
        (call("nod_b", 59, "nod_a", T0), "a key of nobody"),
        (call("nod_b", 51, "nod_a", T0), "another node's key"),
        (call("nod_b", 52, crate::world::ISSUER, T0), "a proof for the control plane"),
        (call("nod_b", 52, plane.as_str(), T0), "a proof for every node"),
        (call("nod_b", 52, "nod_d", T0), "a proof for another node"),
        (call("nod_b", 52, "nod_b", T0), "a proof for the node itself"),
        (call("nod_b", 52, "nod_a", T0.plus(-3600)), "an old proof"),
        (call("nod_b", 52, "nod_a", T0.plus(3600)), "a proof of the future"),
        (World::new().value(0), "a token"),
        (String::new(), "nothing"),
    ];
    for (proof, what) in refused {
        let reply = a.face.admit(Some(proof.as_bytes())).unwrap_err();
        assert_eq!(reply.status, 401, "{what}");
    }
    assert_eq!(a.face.admit(None).unwrap_err().status, 401);
    let good = call("nod_b", 52, "nod_a", T0);
    assert!(a.face.admit(Some(good.as_bytes())).is_ok());
    assert_eq!(a.face.admit(Some(good.as_bytes())).unwrap_err().status, 401, "used before");
    // The proof of an answer is not valid for a call, so that a peer cannot call another node in its name.
    let peer = a.face.admit(Some(prover("nod_b", 52).jwt("nod_a", "call-2", T0).as_bytes())).unwrap();
    let asked = PeerRequest { method: "GET", path: "/v2/peer/revocations", query: "", body: b"" };
    let proof = a.face.answer(&peer, asked).proof.unwrap();
    let b = Still::new(directory.path(), "nod_b", 52);
    assert_eq!(b.face.admit(Some(proof.as_bytes())).unwrap_err().status, 401);
}

#[test]
fn a_peers_bearer_is_one_field_with_a_scheme_in_any_case_and_spaces() {
    let directory = tempfile::tempdir().unwrap();
    let a = Still::new(directory.path(), "nod_a", 51);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (_stop, stopped) = tokio::sync::watch::channel(());
    let each = Each::everybody(Share::Quarter);
    let within = runtime.enter();
    let _served = serve(listener, Arc::new(a.face), each, Connections::default(), stopped);
    drop(within);
    let asked = std::cell::Cell::new(0);
    let status = |lines: &[&str]| {
        asked.set(asked.get() + 1);
        let proof = prover("nod_b", 52).jwt("nod_a", &format!("call-{}", asked.get()), T0);
        let lines = lines
            .iter()
            .flat_map(|line| ["-H".to_owned(), format!("Authorization: {}", line.replace("PROOF", &proof))]);
        let url = format!("http://127.0.0.1:{port}/v2/peer/revocations");
        curl(&lines.chain([url]).collect::<Vec<_>>()).status
    };
    for good in ["Bearer PROOF", "bearer PROOF", "BEARER PROOF", "bEaReR   PROOF", "Bearer      PROOF"] {
        assert_eq!(status(&[good]), 200, "{good}");
    }
    for bad in [
        &["PROOF"][..],
        &["BearerPROOF"],
        &["Bearer\tPROOF"],
        &["Basic PROOF"],
        &["Bearer PROOF, Bearer PROOF"],
        &["Bearer PROOF", "Bearer PROOF"],
        &["Basic eA==", "Bearer PROOF"],
        &[],
    ] {
        assert_eq!(status(bad), 401, "{bad:?}");
    }
}

#[test]
fn a_peer_gets_and_gives_no_more_than_its_share() {
    let directory = tempfile::tempdir().unwrap();
    let a = Still::new(directory.path(), "nod_a", 51);
    let b = Still::new(directory.path(), "nod_b", 52);
    let ask = |method: &str, path: &str, query: &str, body: &[u8]| {
        let proof = b.prover.jwt("nod_a", &b.prover.nonces.next(), T0);
        match a.face.admit(Some(proof.as_bytes())) {
            Ok(peer) => a.face.answer(&peer, PeerRequest { method, path, query, body }).status,
            Err(refused) => refused.status,
        }
    };
    let many = Revoked { revocations: vec!["a.b.c".into(); MAX_REVOCATIONS + 1], ..Revoked::default() };
    assert_eq!(ask("POST", "/v2/peer/revocations", "", &serde_json::to_vec(&many).unwrap()), 413);
    assert_eq!(ask("POST", "/v2/peer/revocations", "", b"[]"), 400);
    assert_eq!(ask("DELETE", "/v2/peer/revocations", "", b""), 404);
    let whole = |query: &str| ask("GET", "/v2/peer/bundle", query, b"");
    assert_eq!(whole("since=1&signed=4000000000"), 204, "nothing newer");
    assert_eq!(whole("since=0"), 200);
    let flood = (0..200).map(|_| ask("GET", "/v2/peer/revocations", "after=0", b""));
    assert!(flood.filter(|status| *status == 429).count() >= 100, "a flood is cut off");
}
