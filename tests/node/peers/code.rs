//! Exchange of deploys between nodes, which must not harm a node of an earlier version.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use halligan::dataplane::code::{Code, Source};
use halligan::protocol::deploy::host::{HostDeploy, sign_host_deploy};

use super::*;
use crate::nodes::key;
use crate::world::DEPLOYMENT;

/// Returns a node whose host stores code.
fn node(directory: &Path, id: &str, seed: u8) -> (Still, Arc<Code>) {
    let mut still = Still::new(directory, id, seed);
    let path = directory.join(id).join("code");
    let (prover, live) = (Arc::clone(&still.prover), Arc::clone(&still.live));
    let code = Arc::new(Code::new(path, 3, prover, live, [seed; 16]));
    still.face = still.face.with_code(Some(Arc::clone(&code)));
    still.dialogue = still.dialogue.with_code(Some(Arc::clone(&code)));
    (still, code)
}

/// Pushes an empty archive to the host of a node.
fn push(code: &Code) {
    let mut archive = GzEncoder::new(Vec::new(), Compression::fast());
    archive.write_all(&[0; 1024]).unwrap();
    let claim = code.claim(&DEPLOYMENT.parse().unwrap()).unwrap();
    let mut incoming = code.receive_push(&claim).unwrap();
    incoming.write(&archive.finish().unwrap()).unwrap();
    let source = Source { token: "tok_a".parse().unwrap(), event: "evt_1-1".into() };
    code.push(&claim, incoming, &source, T0).unwrap();
}

#[test]
fn a_deploy_of_a_host_reaches_a_peer_whoever_asks() {
    let directory = tempfile::tempdir().unwrap();
    let (mut a, of_a) = node(directory.path(), "nod_a", 51);
    let (mut b, of_b) = node(directory.path(), "nod_b", 52);
    push(&of_a);
    b.round(&a);
    assert_eq!(of_b.host_deploys(9), of_a.host_deploys(9));
    // Node b requests the archive until it gets it, and a has it.
    let wanted = of_b.wanted(T0).remove(0);
    assert!(of_a.archive(&wanted.deployment, &wanted.deploy).is_some() && !wanted.signed);
    assert!(of_b.archive(&wanted.deployment, &wanted.deploy).is_none());
    push(&of_a);
    a.round(&b);
    assert_eq!(of_b.host_deploys(9).len(), 2);
    assert_ne!(of_b.wanted(T0).remove(0), wanted, "the later one is in force");
}

#[test]
fn a_peer_without_code_loses_nothing_else_and_takes_no_part_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mut a, of_a) = node(directory.path(), "nod_a", 51);
    let mut b = Still::new(directory.path(), "nod_b", 52);
    push(&of_a);
    b.revocations.revoke(&order(0), T0).unwrap();
    a.round(&b);
    assert_eq!(a.reason(0), Reason::TokenRevoked);
    a.revocations.revoke(&order(1), T0).unwrap();
    b.round(&a);
    assert_eq!(b.reason(1), Reason::TokenRevoked);
    assert_eq!(of_a.wanted(T0), []);
}

#[test]
fn a_peer_brings_no_code_that_its_key_may_not_sign_and_no_flood_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let (a, of_a) = node(directory.path(), "nod_a", 51);
    let peer = a.face.admit(Some(prover("nod_b", 52).jwt("nod_a", "call", T0).as_bytes())).unwrap();
    let deploy = |iss: &str, seed: u8| {
        let body = HostDeploy {
            iss: iss.parse().unwrap(),
            aud: World::data_plane(),
            sub: DEPLOYMENT.parse().unwrap(),
            deploy: "c1".parse().unwrap(),
            base: 0,
            seq: 1,
            iat: T0,
            digest: [1; 32],
            size: 1,
            token: "tok_a".parse().unwrap(),
            event: "evt_1-1".into(),
        };
        sign_host_deploy(&body, &key(seed))
    };
    let tell = |deploys: Vec<String>| {
        let body = serde_json::to_vec(&serde_json::json!({ "deploys": deploys })).unwrap();
        let asked = PeerRequest { method: "POST", path: "/v2/peer/deploys", query: "", body: &body };
        a.face.answer(&peer, asked).status
    };
    // The signer of each deploy is unknown, another node than the one named, or retired; the last text is no deploy.
    assert_eq!(tell(vec![deploy("nod_b", 99), deploy("nod_a", 52), deploy("nod_c", 53), "x".into()]), 200);
    assert_eq!(of_a.host_deploys(9), [""; 0]);
    assert_eq!(tell(vec![deploy("nod_b", 52); 257]), 413);
    assert_eq!(of_a.host_deploys(9), [""; 0]);
    assert_eq!(tell(vec![deploy("nod_b", 52); 2]), 200);
    assert_eq!(of_a.host_deploys(9).len(), 1);
}
