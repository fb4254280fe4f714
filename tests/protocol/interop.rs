//! Other implementations. PyJWT and openssl verify what is signed here, and signatures of PyJWT are verified here. The
//! reader in tests/interop shares no code with src and follows docs/protocol.md. It gives the expected answers to the
//! sample vectors, proves the output of the real programs, and finds the changes that it makes to that output.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::rig::{Rig, component, until};
use crate::world::{DATA_PLANE, DEPLOYMENT, T0, World};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use halligan::dataplane::decide::{Decision, Now, RequestFacts, Target, decide};
use halligan::dataplane::faces::upstream_identity::UpstreamIdentity;
use halligan::dataplane::faces::upstream_identity::UpstreamIdentityConfig;
use halligan::platform::clock::wall;
use halligan::protocol::key::SigningKey;
use halligan::protocol::token::verify;
use serde_json::{Value, json};

/// Returns a Python that has PyJWT with cryptography.
fn python() -> Option<PathBuf> {
    let system = PathBuf::from("/usr/bin/python3");
    let python = if system.is_file() { system } else { component("python3")? };
    let has = Command::new(&python)
        .args(["-c", "import jwt, cryptography"])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    if has.success() {
        return Some(python);
    }
    component("python3 with jwt and cryptography")
}

/// Runs a script with JSON on its standard input. Returns the JSON on its standard output.
fn run(python: &Path, script: &str, input: &Value) -> Value {
    let mut child = Command::new(python)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns the first signature of a JWS in general JSON form (RFC 7515 section 7.2.1) in compact form.
fn compact(general: &str) -> String {
    let general: Value = serde_json::from_str(general).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let first = &general["signatures"][0];
    format!("{}.{}.{}", text(&first["protected"]), text(&general["payload"]), text(&first["signature"]))
}

#[test]
fn pyjwt_believes_tokens_heads_and_keysets() {
    let Some(python) = python() else { return };
    let world = World::new();
    let script = "
import json, sys, jwt
given = json.load(sys.stdin)
checks = {'verify_exp': False, 'verify_iat': False, 'verify_nbf': False, 'verify_aud': False}
answers = []
for text, key in given:
    header = jwt.get_unverified_header(text)
    claims = jwt.decode(text, key, algorithms=['EdDSA'], options=checks)
    answers.append([header['typ'], claims])
json.dump(answers, sys.stdout)
";
    let given = json!([
        [world.value(0), world.token.public().to_pem()],
        [world.head(1, &World::records(1), T0), world.replica.public().to_pem()],
        [compact(&world.keyset), world.root.public().to_pem()],
    ]);
    let answers = run(&python, script, &given);
    assert_eq!(answers[0][0], "direct-access+jwt");
    assert_eq!(answers[0][1]["aud"], DEPLOYMENT);
    assert_eq!(answers[1][0], "replica-head+jwt");
    assert_eq!(answers[1][1]["aud"], DATA_PLANE);
    assert_eq!(answers[2][0], "keyset+jwt");
    assert_eq!(answers[2][1]["threshold"], 1);
}

#[test]
fn a_token_minted_by_pyjwt_is_believed() {
    let Some(python) = python() else { return };
    let world = World::new();
    let script = "
import json, sys, jwt
claims, key, kid = json.load(sys.stdin)
headers = {'typ': 'direct-access+jwt', 'kid': kid}
json.dump(jwt.encode(claims, key, algorithm='EdDSA', headers=headers), sys.stdout)
";
    let own = world.value(0);
    let claims = URL_SAFE_NO_PAD.decode(own.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let pem = world.token.to_pkcs8_pem();
    let minted = run(&python, script, &json!([claims, &*pem, world.token.public().kid().as_str()]));
    let minted = minted.as_str().unwrap();
    let verified = verify(minted.as_bytes(), &world.keyset()).unwrap();
    assert_eq!(verified.claims().sub, World::token_record(0).id);
    assert_ne!(minted, own, "another implementation orders its header its own way");
}

#[test]
fn openssl_believes_every_signed_kind() {
    let Some(openssl) = component("openssl") else { return };
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    for (name, text, key) in [
        ("token", world.value(0), &world.token),
        ("head", world.head(1, &World::records(1), T0), &world.replica),
        ("keyset", compact(&world.keyset), &world.root),
    ] {
        let (message, signature) = text.rsplit_once('.').unwrap();
        let path = |what: &str| directory.path().join(format!("{name}.{what}"));
        std::fs::write(path("message"), message).unwrap();
        std::fs::write(path("signature"), URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        std::fs::write(path("pem"), key.public().to_pem()).unwrap();
        let verified = |message: PathBuf| {
            Command::new(&openssl)
                .args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"])
                .arg(path("pem"))
                .arg("-in")
                .arg(message)
                .arg("-sigfile")
                .arg(path("signature"))
                .output()
                .unwrap()
                .status
                .success()
        };
        assert!(verified(path("message")), "{name}");
        std::fs::write(path("other"), message.replace('a', "b")).unwrap();
        assert!(!verified(path("other")), "{name}: openssl refuses nothing here");
    }
}

#[test]
fn openssl_makes_keys_that_are_read_here_and_reads_those_made_here() {
    let Some(openssl) = component("openssl") else { return };
    let made = Command::new(&openssl).args(["genpkey", "-algorithm", "ed25519"]).output().unwrap();
    let key = SigningKey::from_pkcs8_pem(std::str::from_utf8(&made.stdout).unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    std::fs::write(&path, key.to_pkcs8_pem().as_bytes()).unwrap();
    let public = Command::new(&openssl).args(["pkey", "-pubout", "-in"]).arg(&path).output().unwrap();
    assert_eq!(String::from_utf8(public.stdout).unwrap().trim(), key.public().to_pem().trim());
}

/// Airflow selects the key from the set by `kid`, requires three claims, and compares the audience. The script does the
/// same.
#[test]
fn pyjwt_believes_an_upstream_identity() {
    let Some(python) = python() else { return };
    let world = World::new();
    let (snapshot, value) = (world.snapshot(World::records(1)), world.value(0));
    let facts =
        RequestFacts { deployment: Target::Id(DEPLOYMENT), method: "GET", uri: "/api/v2/dags", client: None };
    let decision = decide(Some(value.as_bytes()), &facts, &snapshot, Now { wall: T0, floor: T0 });
    let key = SigningKey::from_seed(&[9; 32]);
    let identity = UpstreamIdentity::new(key, UpstreamIdentityConfig::default(), Arc::new(wall));
    let script = "
import json, sys, jwt
given = json.load(sys.stdin)
keys = {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(json.loads(given['jwks'])).keys}
scheme, token = given['authorization'].split(' ')
header = jwt.get_unverified_header(token)
claims = jwt.decode(token, keys[header['kid']], algorithms=['EdDSA'], audience='apache-airflow',
                    options={'require': ['exp', 'iat', 'nbf']}, leeway=10)
json.dump([scheme, header, claims], sys.stdout)
";
    let Decision::Allowed(allowed) = decision else { panic!("{decision:?}") };
    let authorization = identity.authorization(&allowed).unwrap();
    let given = json!({ "jwks": identity.jwks(), "authorization": authorization.to_str().unwrap() });
    let answer = run(&python, script, &given);
    assert_eq!((&answer[0], &answer[1]["alg"]), (&json!("Bearer"), &json!("EdDSA")));
    assert_eq!((&answer[2]["sub"], &answer[2]["role"]), (&json!(World::token_record(0).id), &json!("OP")));
}

/// Runs a script of tests/interop with JSON on its standard input. Returns its standard output.
fn reader(python: &Path, script: &str, argument: Option<&Path>, input: &Value) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let mut child = Command::new(python)
        .arg("-B")
        .arg(directory.join(script))
        .args(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{script}: {said}");
    said
}

/// Path of the Python with BLAKE3 and zstd that `.ci/setup` installs for the reader.
pub(crate) const READER: &str = "/opt/halligan-interop/bin/python";

#[test]
fn a_second_implementation_answers_every_vector_as_it_says() {
    let Some(python) = component(READER) else { return };
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let said = reader(&python, "vectors.py", Some(&vectors), &json!({}));
    let count: usize = said.split(' ').next().unwrap().parse().unwrap();
    assert!(count >= 150, "{said}");
}

#[test]
fn a_second_implementation_proves_what_the_real_programs_produce_and_finds_tamperings() {
    let Some(python) = component(READER) else { return };
    let mut rig = Rig::start();
    let deployment = rig.deployment.clone();
    let (_, token) = rig.direct_access_token("kept", &deployment);
    let (id, revoked) = rig.direct_access_token("lost", &deployment);
    rig.synced();
    for uri in ["/api/v2/dags", "/api/v2/dags/%22etl%22", "/nowhere", "/api/v2/variables"] {
        rig.authorize(&token, "GET", uri);
    }
    rig.cli(&["revoke", &id, "--reason", "laptop lost"]);
    assert_eq!(rig.authorize(&revoked, "GET", "/api/v2/dags").reason(), "token_revoked");
    until("the control plane knows of the revocation", || {
        rig.json(&["revoke", "--list"])[0]["answer"] == "revoked"
    });
    rig.synced();
    rig.cli(&["replica", "export", rig.path("export").to_str().unwrap()]);
    // The node signs a last checkpoint when it stops, which the reader must find.
    assert!(rig.daemon.take().unwrap().terminate().success());
    let asked = json!({
        "state": rig.path("node"), "roots": rig.path("roots"), "export": rig.path("export"),
        "url": format!("http://127.0.0.1:{}", rig.control_port), "token": token, "revoked": revoked,
        "deployment": deployment, "now": wall().unix(),
    });
    let said: Value = serde_json::from_str(&reader(&python, "produced.py", None, &asked)).unwrap();
    assert_eq!(said["decisions"], json!(["ok", "token_revoked"]), "{said}");
    assert_eq!(said["unseen"], json!([]), "{said}");
    assert_eq!(said["revocations"], 1, "{said}");
    assert!(said["events"].as_u64() >= Some(6) && said["checkpoints"].as_u64() >= Some(2), "{said}");
    assert!(said["tamperings"].as_u64() > Some(200), "{said}");
}
