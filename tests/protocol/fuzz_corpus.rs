//! The promises of fuzz/, checked for the inputs of its corpus. With HALLIGAN_WRITE_CORPUS set the seeds are written
//! again.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use crate::fuzz::world::{ISSUER, T0, World};
use crate::fuzz::{Check, TARGETS};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use halligan::protocol::event::{Checkpoint, Connectivity, Draft, EventKind, GENESIS, place};
use halligan::protocol::id::{DeploymentId, NodeId, TokenId};
use halligan::protocol::key::SigningKey;
use halligan::protocol::keyset::{KeyUse, KeysetBody, KeysetKey};
use halligan::protocol::record::{DagTagsRecord, NodeRecord, Record, RecordKind, StandardTokensRecord};
use serde_json::json;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// Returns the payload of a compact JWS.
fn payload(jws: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(jws.split('.').nth(1).unwrap()).unwrap()
}

/// Returns the records of a replica, one in each line.
fn records() -> String {
    let tags = DagTagsRecord {
        deployment: "dep_a".parse().unwrap(),
        tags: [("etl".into(), vec!["team".into()])].into(),
    };
    let node = NodeRecord {
        id: "nod_a".parse().unwrap(),
        name: "a".into(),
        key: SigningKey::from_seed(&[21; 32]).public().jwk(),
        retired_at: Some(T0),
    };
    let more = [
        Record::from_value(RecordKind::DagTags, "dep_a", &tags),
        Record::from_value(RecordKind::Node, "nod_a", &node),
        Record::from_value(RecordKind::StandardTokens, "dpl_a", &StandardTokensRecord { changes: 1 }),
    ];
    let line = |record: Record| format!("{} {} {}", record.kind, record.key, record.body);
    World::records(1).into_iter().chain(more).map(line).collect::<Vec<_>>().join("\n")
}

/// Returns a chain of three keysets whose roots change. The digit before each line states as bits which of roots 1, 2
/// and 3 sign it.
fn chain() -> String {
    let key = |seed: u8| SigningKey::from_seed(&[seed; 32]).public().jwk();
    let body = |version, roots: &[u8], threshold| KeysetBody {
        iss: None,
        version,
        iat: T0,
        exp: T0.plus(86_400),
        keys: vec![
            KeysetKey { key_use: KeyUse::Token, jwk: key(100) },
            KeysetKey { key_use: KeyUse::Replica, jwk: key(101) },
        ],
        roots: roots.iter().map(|&seed| key(seed)).collect(),
        threshold,
    };
    let line = |signers: u8, body| format!("{signers}{}", serde_json::to_string(&body).unwrap());
    [line(1, body(1, &[1], 1)), line(7, body(2, &[2, 3], 2)), line(6, body(3, &[2, 3], 2))].join("\n")
}

fn event() -> String {
    let (node, token) = (NodeId::new("nod_a").unwrap(), TokenId::new("tok_a").unwrap());
    let (role, deployment) = ("DAG_VIEWER@1".parse().unwrap(), DeploymentId::new("dep_a").unwrap());
    let draft = Draft {
        decision: Some("allow"),
        reason: Some("ok"),
        token: Some(&token),
        generation: Some(2),
        role: Some(&role),
        deployment: Some(&deployment),
        method: Some("GET"),
        route: Some("/api/v2/dags/{dag_id}"),
        path: Some("/api/v2/dags/\"odd\""),
        permission: Some("deployment.airflow.dag.get"),
        client: Some([192, 0, 2, 7].into()),
        glass: Some("always"),
        operator: Some("uid 0"),
        because: Some("drill"),
        until: Some(T0),
        ..Draft::new(EventKind::Decision, "evt_1-1", T0, &node, Connectivity::Offline)
    };
    let (mut json, mut line) = (Vec::new(), String::new());
    draft.write(&mut json);
    place(7, GENESIS, std::str::from_utf8(&json).unwrap(), &mut line);
    line
}

/// Returns a request as a proxy sends it. `TOKEN` stands for a valid token.
fn request(line: &str, headers: &[&str]) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nAuthorization: Bearer TOKEN\r\n{}\r\n\r\n", headers.join("\r\n")).into_bytes()
}

type Seed = (&'static str, &'static str, Vec<u8>);

/// Returns the inputs that libFuzzer starts from: for each kind, some that are accepted and some that are not. The
/// corpus also contains a configuration with every key.
fn seeds() -> Vec<Seed> {
    [signed(), told()].concat()
}

/// Returns seeds that a control plane signs.
fn signed() -> Vec<Seed> {
    let world = World::new();
    let world_records = World::records(2);
    let head = world.head(1, &world_records, T0);
    let kid = world.token.public().kid();
    let bundle = world.bundle(1, &world_records, T0);
    let standard = json!({
        "iss": ISSUER, "sub": "tok_s", "aud": ISSUER, "iat": T0, "nbf": T0, "gen": 3,
    });
    let jws =
        |typ: &str| format!("{{\"alg\":\"EdDSA\",\"typ\":\"{typ}\",\"kid\":\"{kid}\"}}\n{{}}").into_bytes();
    vec![
        ("token", "minted", world.value(0).into_bytes()),
        ("token", "claims", payload(&world.value(0))),
        ("token", "standard-claims", standard.to_string().into_bytes()),
        (
            "token",
            "not-utf-8",
            [&payload(&world.value(0))[..1], b"\"x\":\"\xff\",", &payload(&world.value(0))[1..]].concat(),
        ),
        (
            "token",
            "without-end",
            String::from_utf8(payload(&world.value(0))).unwrap().replace("\"exp\"", "\"end\"").into_bytes(),
        ),
        ("token", "a-head", head.clone().into_bytes()),
        ("head", "signed", head.clone().into_bytes()),
        ("head", "claims", payload(&head)),
        ("head", "array", json!([ISSUER, "dpl_a", 1, GENESIS, 0, T0, T0, 1]).to_string().into_bytes()),
        (
            "head",
            "elsewhere",
            String::from_utf8(payload(&head)).unwrap().replace("dpl_a", "dpl_b").into_bytes(),
        ),
        ("head", "a-token", world.value(0).into_bytes()),
        ("jws", "token", jws("direct-access+jwt")),
        ("jws", "unknown-typ", jws("JWT")),
        ("jws", "array", format!("[\"EdDSA\",\"user+jwt\",\"{kid}\"]\n{{}}").into_bytes()),
        ("keyset", "signed", world.keyset.clone().into_bytes()),
        ("keyset", "chain", chain().into_bytes()),
        ("keyset", "without-old", chain().replacen("\n7", "\n6", 1).into_bytes()),
        ("keyset", "not-enough", chain().replacen("\n7", "\n3", 1).into_bytes()),
        ("keyset", "other-root", chain().replacen('1', "2", 1).into_bytes()),
        ("bundle", "compressed", bundle.clone()),
        ("bundle", "lines", zstd::decode_all(bundle.as_slice()).unwrap()),
        ("bundle", "cut", bundle[..bundle.len() / 2].to_vec()),
        ("record", "replica", records().into_bytes()),
        (
            "record",
            "revoked",
            records().replacen("\"notBefore\"", "\"revokedAt\":1,\"notBefore\"", 1).into_bytes(),
        ),
    ]
}

/// Returns seeds that proxies, peers and administrators send.
fn told() -> Vec<Seed> {
    let made = crate::fuzz::peer_message::MADE.as_str();
    let node_auth = json!({
        "iss": "nod_a", "sub": "nod_a", "aud": "nod_c", "iat": T0, "exp": T0.plus(300), "jti": "call-1",
    });
    let checkpoint = Checkpoint {
        iss: "nod_a".parse().unwrap(),
        iat: T0,
        number: 1,
        sequence: 7,
        hash: GENESIS.into(),
        dropped: true,
    };
    let nginx = [
        "Host: 127.0.0.1:8181",
        "X-Original-Method: GET",
        "X-Original-URI: /api/v2/dags/etl?limit=1",
        "X-Original-Host: A.example:443",
        "X-Real-IP: 192.0.2.7",
    ];
    let caddy = [
        "Host: 127.0.0.1:8181",
        "X-Forwarded-Method: POST",
        "X-Forwarded-Uri: /api/v2/dags/etl/dagRuns",
        "X-Forwarded-Host: a.example",
        "X-Forwarded-For: 198.51.100.1, 192.0.2.9, 10.1.2.3",
    ];
    let both = [&nginx[..], &caddy[1..3]].concat();
    let map = b"[routes.\"/dags/{dag_id}/runs\"]\nGET = [\"deployment.airflow.dagRun.get\"]\nPOST = [\"deployment.airflow.dagRun.create\", \"deployment.airflow.dag.get\"]\n[routes.\"/static/{*file}\"]\nGET = [\"deployment.get\"]\n";
    let route_map = |line: &str| [line.as_bytes(), map].concat();
    vec![
        (
            "archive",
            "entries",
            b"5./\n0./a.py\tx = 1\n0d/e/f\t1\n5d/\nx\t16 path=long/nm;\n0short\t2\nLl\tlong/er\n0c\t"
                .to_vec(),
        ),
        ("archive", "link", b"0a.py\tx\n2b\t".to_vec()),
        ("archive", "leads-out", b"0a.py\tx\n0../b\t".to_vec()),
        ("archive", "between", b"Ll\tb\ng/e\n0a\tx".to_vec()),
        ("archive", "twice", b"0a.py\tx\n0./a.py\ty".to_vec()),
        ("request_facts", "nginx", request("GET /v1/authorize", &nginx)),
        ("request_facts", "caddy", request("GET /v1/authorize/dep_a", &caddy)),
        (
            "request_facts",
            "envoy",
            request("POST /v1/ext_authz/dep_a/api/v2/dags/etl/dagRuns?a=b", &["Host: a.example"]),
        ),
        ("request_facts", "twice", request("GET /v1/authorize/dep_a", &[&nginx[..], &nginx[2..3]].concat())),
        ("request_facts", "both", request("GET /v1/authorize/dep_a", &both)),
        ("path", "plain", b"/api/v2/dags/~/dagRuns?order_by=-id".to_vec()),
        ("path", "encoded", b"/api/v2/dags/caf%C3%A9/my%20dag/%2E%2E%2e".to_vec()),
        ("path", "encoded-separator", b"/api/v2/dags/a%2Fb".to_vec()),
        ("path", "dots", b"/api/v2/%2e%2E/dags".to_vec()),
        ("event", "decision", event().into_bytes()),
        ("event", "odd-method", event().replacen("GET", "G\\\"T", 1).into_bytes()),
        ("event", "checkpoint", serde_json::to_vec(&checkpoint).unwrap()),
        ("event", "of-no-kind", event().replacen("decision", "revolution", 1).into_bytes()),
        (
            "peer_message",
            "revocations",
            json!({ "list": "a", "next": 7, "revocations": [made] }).to_string().into_bytes(),
        ),
        ("peer_message", "revocation", payload(made)),
        ("peer_message", "proof", node_auth.to_string().into_bytes()),
        ("peer_message", "other-audience", node_auth.to_string().replace("nod_c", "nod_d").into_bytes()),
        ("configuration", "control-character", b"\"\\u001b[2J\" = 1\n".to_vec()),
        (
            "configuration",
            "misspelt",
            b"state_dir = \"/var/lib/halligan\"\n[trust]\nroot_key = \"/etc\"\n".to_vec(),
        ),
        ("route_map", "dag", route_map("POST /dags/etl/runs\n")),
        ("route_map", "other-method", route_map("OPTIONS /static/a\n")),
        ("route_map", "rest", route_map("HEAD /static/a/b.css?v=1\n")),
        (
            "route_map",
            "too-many-parameters",
            format!("GET /a\n[routes.\"{}\"]\nGET = [\"deployment.get\"]\n", "/{x}".repeat(26)).into_bytes(),
        ),
        ("route_map", "open", b"GET /a\n[routes.\"/a\"]\nGET = []\n".to_vec()),
    ]
}

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn the_seeds_are_what_this_build_would_write() {
    for (target, name, bytes) in seeds() {
        let path = corpus(target).join(name);
        if std::env::var_os("HALLIGAN_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(corpus(target)).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).is_ok_and(|found| found == bytes), "{}", path.display());
    }
}

/// Runs in each `cargo test`, which does not run libFuzzer.
#[test]
fn every_promise_holds_for_the_corpus() {
    for (target, check) in TARGETS {
        let outcomes: Vec<bool> = inputs(target)
            .iter()
            .map(|(path, bytes)| {
                println!("{}", path.display());
                check(bytes)
            })
            .collect();
        assert!(outcomes.contains(&true) && outcomes.contains(&false), "{target}: {outcomes:?}");
    }
}

/// Checks a few thousand mutations, the same in every run, so that an obvious fault shows without libFuzzer.
#[test]
fn every_promise_holds_near_the_corpus() {
    for (target, check) in TARGETS {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for (_, bytes) in inputs(target) {
            for _ in 0..40 {
                mutate(&mut bytes.clone(), &mut random, check);
            }
        }
    }
}

/// Changes, drops or repeats a few bytes, and checks the result.
fn mutate(bytes: &mut Vec<u8>, random: &mut u64, check: Check) {
    let mut next = |below: usize| {
        // Marsaglia's xorshift, because it needs no library. Any generator would do.
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        usize::try_from(*random >> 33).unwrap() % below.max(1)
    };
    for _ in 0..=next(3) {
        let (at, length) = (next(bytes.len()), next(4) + 1);
        let end = (at + length).min(bytes.len());
        match next(4) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.insert(at, b" \n\0\"{}[]./%:,0\xff"[next(15)]),
            2 => bytes.extend_from_within(at..end),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << next(8)),
        }
    }
    check(bytes);
}
