//! The main promise, with the real programs behind a real proxy: while the control plane is down and after a restart of
//! the daemon, curl gets the right answer with every kind of token.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::rig::proxy::{Proxy, caddy, nginx};
use crate::rig::{Answer, Rig, curl, until};
use halligan::protocol::jws::{Typ, Unverified, sign};
use halligan::protocol::key::SigningKey;
use serde_json::Value;

/// Returns a token with the claims of `token`, changed by `change` and signed with `key`.
fn reminted(token: &str, key: &SigningKey, change: impl FnOnce(&mut Value)) -> String {
    let (claims, typ) = {
        let payload = token.split('.').nth(1).unwrap();
        let bytes =
            base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).unwrap();
        let typ = Unverified::parse(token.as_bytes(), 4096).unwrap().typ();
        (serde_json::from_slice::<Value>(&bytes).unwrap(), typ)
    };
    assert_eq!(typ, Typ::DirectAccess);
    let mut claims = claims;
    change(&mut claims);
    sign(typ, &serde_json::to_vec(&claims).unwrap(), key)
}

fn ask(proxy: &Proxy, token: &str, method: &str, path: &str) -> Answer {
    let url = format!("{}{path}", proxy.url);
    curl(&["-X", method, "-H", &format!("Authorization: Bearer {token}"), &url])
}

/// Tokens of each kind, with the expected answers during the outage.
struct Tokens {
    good_id: String,
    late_id: String,
    /// Accepted tokens: an unchanged one, a rotated one, and one that is revoked while the node is cut off.
    good: String,
    rotated: String,
    late: String,
    /// Denied tokens, each with the expected status and reason.
    denied: Vec<(String, u16, &'static str)>,
}

/// Creates a token of every kind and waits until the daemon has all records.
fn prepare(rig: &Rig) -> Tokens {
    let (good_id, good) = rig.direct_access_token("good", &rig.deployment);
    let (revoked_id, revoked) = rig.direct_access_token("revoked", &rig.deployment);
    let (rotated_id, rotated_away) = rig.direct_access_token("rotated", &rig.deployment);
    let (late_id, late) = rig.direct_access_token("revoked during the outage", &rig.deployment);
    let (_, elsewhere) = rig.direct_access_token("another deployment", &rig.other_deployment);
    let standard = rig.json(&["token", "create", "-n", "standard", "--deployment-id", &rig.deployment]);
    let standard = standard["token"].as_str().unwrap().to_owned();
    rig.cli(&["token", "delete", &revoked_id, "--force"]);
    let rotated =
        rig.json(&["token", "rotate", &rotated_id, "--force"])["token"].as_str().unwrap().to_owned();
    rig.synced();

    let token_key = std::fs::read_to_string(rig.path("control/token.pem")).unwrap();
    let token_key = SigningKey::from_pkcs8_pem(&token_key).unwrap();
    let stranger = SigningKey::from_seed(&[1; 32]);
    let expired = reminted(&good, &token_key, |claims| claims["exp"] = 1_700_000_000.into());
    let early = reminted(&good, &token_key, |claims| claims["nbf"] = 4_000_000_000_u64.into());
    let wrong_role = reminted(&good, &token_key, |claims| claims["role"]["id"] = "DAG_VIEWER@1".into());
    let unknown = reminted(&good, &token_key, |claims| claims["sub"] = "tok_nobody".into());
    let forged = reminted(&good, &stranger, |_| {});
    let mut tampered = good.clone().into_bytes();
    let at = tampered.len() - 20;
    tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
    let tampered = String::from_utf8(tampered).unwrap();

    let denied = vec![
        (expired, 401, "token_expired"),
        (early, 401, "token_not_yet_valid"),
        (revoked, 401, "token_revoked"),
        (rotated_away, 401, "token_rotated"),
        (unknown, 401, "token_unknown"),
        (forged, 401, "key_unknown"),
        (tampered, 401, "signature_invalid"),
        ("not.a.token".into(), 401, "token_malformed"),
        ("x".repeat(5 * 1024), 401, "token_too_large"),
        (elsewhere, 403, "wrong_deployment"),
        (wrong_role, 403, "role_mismatch"),
        (standard, 403, "needs_control_plane"),
    ];
    Tokens { good_id, late_id, good, rotated, late, denied }
}

/// Requests authorization with every token while the control plane is down.
fn ask_about_all(proxy: &Proxy, tokens: &Tokens, round: &str) {
    for (method, path) in
        [("GET", "/api/v2/dags"), ("PATCH", "/api/v2/dags/etl"), ("POST", "/api/v2/dags/etl/dagRuns")]
    {
        let answer = ask(proxy, &tokens.good, method, path);
        let expected = format!("upstream saw {}", tokens.good_id);
        assert_eq!((answer.status, answer.body.as_str()), (200, &*expected), "{round}");
    }
    assert_eq!(ask(proxy, &tokens.rotated, "GET", "/api/v2/dags").status, 200);
    assert_eq!(ask(proxy, &tokens.late, "GET", "/api/v2/dags").status, 200);
    for (token, status, reason) in &tokens.denied {
        let answer = ask(proxy, token, "GET", "/api/v2/dags");
        assert_eq!((answer.status, answer.reason()), (*status, *reason), "{round}");
        assert!(!answer.body.contains("upstream"), "a denied request reached the deployment");
        assert_eq!(answer.header("www-authenticate").is_some(), *status == 401, "{answer:?}");
    }
    for (path, reason) in
        [("/api/v2/nothing/here", "route_unknown"), ("/api/v2/dags/%2e%2e/variables", "path_invalid")]
    {
        let answer = ask(proxy, &tokens.good, "GET", path);
        assert_eq!((answer.status, answer.reason()), (403, reason));
    }
    let url = format!("{}/api/v2/dags", proxy.url);
    assert_eq!(curl(&[&url]).reason(), "token_missing");
    // The client's own forwarding headers must not replace those of the proxy.
    let spoofed = curl(&[
        "-X",
        "DELETE",
        "-H",
        "X-Original-Method: GET",
        "-H",
        "X-Forwarded-Method: GET",
        "-H",
        &format!("Authorization: Bearer {}", tokens.good),
        &format!("{}/api/v2/nothing", proxy.url),
    ]);
    assert_eq!((spoofed.status, spoofed.reason()), (403, "route_unknown"));
}

/// Runs the control plane at an address unknown to the node while an operator revokes a token, then restores the
/// address.
fn revoke_in_the_outage(rig: &mut Rig, proxy: &Proxy, tokens: &Tokens) {
    let (own, other) = (rig.control_port, crate::rig::free_port());
    rig.start_control(other);
    let deleted = rig
        .cli_command()
        .env("HALLIGAN_URL", format!("http://127.0.0.1:{other}"))
        .args(["token", "delete", &tokens.late_id, "--force"])
        .status()
        .unwrap();
    assert!(deleted.success());
    rig.kill_control();
    assert_eq!(ask(proxy, &tokens.late, "GET", "/api/v2/dags").status, 200, "the node can't know yet");
    rig.start_control(own);
    until("the revocation has come", || ask(proxy, &tokens.late, "GET", "/api/v2/dags").status == 401);
    assert_eq!(ask(proxy, &tokens.late, "GET", "/api/v2/dags").reason(), "token_revoked");
    assert_eq!(ask(proxy, &tokens.good, "GET", "/api/v2/dags").status, 200);
}

/// Verifies that the log is intact and holds every use although the daemon was killed twice, and no token value.
fn read_the_log(rig: &Rig, tokens: &Tokens) {
    let report = rig.json(&["audit", "verify"]);
    assert_eq!(report["fault"], Value::Null);
    let log = String::from_utf8(rig.cli(&["audit", "tail", "-n", "1000", "--json"]).stdout).unwrap();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |member: &str, value: &str| events.iter().filter(|event| event[member] == value).count();
    assert_eq!(count("method", "PATCH"), 2);
    assert_eq!(count("route", "/api/v2/dags/{dag_id}/dagRuns"), 2);
    assert!(
        events.iter().any(|event| event["token"] == *tokens.good_id && event["connectivity"] == "offline")
    );
    let programs = ["halligand.log", "control.log"].map(|file| rig.read_log(file)).concat();
    for secret in [&tokens.good, &tokens.rotated, &rig.owner_token] {
        let signature = secret.rsplit('.').next().unwrap();
        assert!(!programs.contains(signature) && !log.contains(signature), "a log holds a token");
    }
}

fn walk(start: impl FnOnce(&Rig) -> Option<Proxy>) {
    let mut rig = Rig::start();
    let Some(proxy) = start(&rig) else { return };
    let tokens = prepare(&rig);
    rig.kill_control();
    // The first round has the state from before the outage, the second one that of a cold start during it.
    for round in ["still running", "started cold"] {
        ask_about_all(&proxy, &tokens, round);
        rig.kill_daemon();
        rig.start_daemon();
    }
    assert_ne!(rig.json(&["status"])["controlPlane"]["connectivity"], "online");
    revoke_in_the_outage(&mut rig, &proxy, &tokens);
    read_the_log(&rig, &tokens);
}

#[test]
fn an_outage_behind_nginx() {
    walk(nginx);
}

#[test]
fn an_outage_behind_caddy() {
    walk(caddy);
}
