//! Limits of use, with the real programs: a token works only from its networks and within its rate, on a host that is
//! cut off too, and the limits cannot be changed later.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::rig::{Answer, Rig, authorize_with, until};
use halligan::platform::exit;
use serde_json::{Value, json};

fn made(rig: &Rig, limits: &[&str]) -> Value {
    let base = [
        "token",
        "create",
        "-n",
        "limited",
        "--deployment-id",
        &rig.deployment,
        "--direct-access",
        "-e",
        "30",
    ];
    rig.json(&[&base[..], limits].concat())
}

fn ask(rig: &Rig, token: &str, client: &str) -> Answer {
    ask_with(rig, token, &[&format!("X-Real-IP: {client}")])
}

/// Requests authorization as a trusted proxy that forwards these client headers. curl sends a header without a value if
/// it ends with `;`.
fn ask_with(rig: &Rig, token: &str, told: &[&str]) -> Answer {
    authorize_with(rig.daemon_port, &rig.deployment, token, "GET", "/api/v2/dags", told)
}

#[test]
fn a_token_works_from_its_networks_only() {
    let mut rig = Rig::start();
    let made = made(&rig, &["--source", "10.1.2.3/8", "--source", "2001:db8::/32", "--source", "192.0.2.7"]);
    let networks = json!(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"]);
    assert_eq!(made["sources"], networks);
    assert_eq!(rig.json(&["token", "show", made["id"].as_str().unwrap()])["sources"], networks);
    rig.synced();
    rig.kill_control();
    let token = made["token"].as_str().unwrap();
    for (client, reason) in [
        ("10.200.0.1", "ok"),
        ("2001:db8::1", "ok"),
        ("192.0.2.7", "ok"),
        ("192.0.2.8", "source_not_allowed"),
        ("2001:db9::1", "source_not_allowed"),
    ] {
        assert_eq!(ask(&rig, token, client).reason(), reason, "{client}");
    }
}

#[test]
fn a_client_that_was_told_and_cant_be_read_is_nobody_and_never_the_proxy() {
    let mut rig = Rig::start();
    let local = made(&rig, &["--source", "127.0.0.0/8"]);
    let far = made(&rig, &["--source", "203.0.113.0/24", "--source", "2001:db8::/32"]);
    rig.synced();
    rig.kill_control();
    let [local, far] = [&local, &far].map(|made| made["token"].as_str().unwrap());
    for told in [
        &["X-Forwarded-For: 203.0.113.9:4711"][..],
        &["X-Real-IP: 203.0.113.9:443"],
        &["X-Forwarded-For: 127.0.0.1, 203.0.113.9:4711, 127.0.0.2:80"],
        &["X-Forwarded-For: [2001:db8::1]:4711"],
        &["X-Forwarded-For: \"[2001:db8::1]\""],
        &["X-Real-IP: ::ffff:203.0.113.9"],
        &["X-Real-IP: 203.0.113.9", "X-Forwarded-For: 127.0.0.1, 203.0.113.9:1"],
        &["Forwarded: for=\"[2001:db8::1]:80\";proto=https"],
        &["Forwarded: for=127.0.0.1, for=203.0.113.9:80"],
    ] {
        assert_eq!(ask_with(&rig, local, told).reason(), "source_not_allowed", "{told:?}");
        assert_eq!(ask_with(&rig, far, told).reason(), "ok", "{told:?}");
    }
    for told in [
        &["X-Forwarded-For: nonsense"][..],
        &["X-Forwarded-For;"],
        &["X-Real-IP;"],
        &["X-Real-IP: unknown"],
        &["X-Real-IP: 127.0.0.1, 127.0.0.1"],
        &["X-Forwarded-For: 127.0.0.1, 127.0.0.1:port"],
        &["X-Forwarded-For: 203.0.113.9, _hidden"],
        &["Forwarded: for=_hidden"],
        &["Forwarded: proto=https"],
        &["X-Real-IP: 127.0.0.1", "X-Forwarded-For: 203.0.113.9"],
        &["X-Real-IP: 203.0.113.9", "X-Forwarded-For: 127.0.0.1"],
        &["X-Forwarded-For: 203.0.113.9", "Forwarded: for=127.0.0.1"],
    ] {
        for token in [local, far] {
            assert_eq!(ask_with(&rig, token, told).reason(), "source_not_allowed", "{told:?}");
        }
    }
    assert_eq!(ask_with(&rig, local, &[]).reason(), "ok", "a proxy that names nobody asks for itself");
    assert_eq!(ask_with(&rig, local, &["X-Forwarded-For: 127.0.0.9:80"]).reason(), "ok");
    let recorded = |client: &Value| {
        let events = String::from_utf8(rig.cli(&["audit", "tail", "-n", "100", "--json"]).stdout).unwrap();
        events.lines().any(|line| serde_json::from_str::<Value>(line).unwrap()["client"] == *client)
    };
    for client in [json!("203.0.113.9"), json!("2001:db8::1"), json!("127.0.0.9"), Value::Null] {
        until("the event is written", || recorded(&client));
    }
}

#[test]
fn a_network_of_mapped_addresses_is_the_network() {
    let mut rig = Rig::start();
    let mapped = ["::ffff:10.0.0.0/104", "::ffff:c000:200/120", "::ffff:198.51.100.7", "::ffff:0:0/112"];
    let limits = mapped.iter().flat_map(|network| ["--source", network]).collect::<Vec<_>>();
    let made = made(&rig, &limits);
    assert_eq!(made["sources"], json!(["10.0.0.0/8", "192.0.2.0/24", "198.51.100.7/32", "0.0.0.0/16"]));
    rig.synced();
    rig.kill_control();
    let token = made["token"].as_str().unwrap();
    for (client, reason) in [
        ("10.1.2.3", "ok"),
        ("::ffff:10.1.2.3", "ok"),
        ("192.0.2.9", "ok"),
        ("198.51.100.7", "ok"),
        ("198.51.100.8", "source_not_allowed"),
    ] {
        assert_eq!(ask(&rig, token, client).reason(), reason, "{client}");
    }
}

#[test]
fn a_token_works_as_often_as_it_may() {
    let mut rig = Rig::start();
    let limited = made(&rig, &["--rate-limit", "3"]);
    assert_eq!(limited["rateLimitPerMinute"], 3);
    let (_, free) = rig.direct_access_token("without a limit", &rig.deployment);
    rig.synced();
    rig.kill_control();
    let token = limited["token"].as_str().unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&rig, token, "192.0.2.1").status, 200);
    }
    let denied = ask(&rig, token, "192.0.2.1");
    assert_eq!((denied.status, denied.reason()), (403, "rate_limited"), "nginx makes 500 of a 429");
    let wait: u64 = denied.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=21).contains(&wait), "{wait}");
    for _ in 0..10 {
        assert_eq!(ask(&rig, &free, "192.0.2.1").status, 200);
    }
    // With `pass_status` the denial has a status of its own, which a proxy can pass on.
    rig.daemon.take().unwrap().terminate();
    std::fs::write(rig.path("halligand.toml"), rig.daemon_config() + "[proxies]\npass_status = true\n")
        .unwrap();
    rig.start_daemon();
    let statuses: Vec<u16> = (0..4).map(|_| ask(&rig, token, "192.0.2.1").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    // Denials are answered before their events are written, so the log has them a moment later.
    let limited = || {
        let events = String::from_utf8(rig.cli(&["audit", "tail", "-n", "100", "--json"]).stdout).unwrap();
        let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["reason"] == "rate_limited").collect::<Vec<_>>()
    };
    until("both denials are recorded", || limited().len() == 2);
    assert!(limited().iter().all(|event| event["decision"] == "deny"));
}

#[test]
fn limits_that_cant_be_are_refused() {
    let rig = Rig::start();
    let refused = |limits: &[&str], code: u8, word: &str| {
        let base = ["token", "create", "-n", "bad", "--deployment-id", &rig.deployment, "-e", "30"];
        let output = rig.cli_command().args(base).args(limits).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(i32::from(code)), "{limits:?}: {said}");
        assert!(said.contains(word), "{limits:?}: {said}");
    };
    refused(&["--direct-access", "--source", "10.0.0.0/33"], exit::DATAERR, "sources");
    refused(&["--direct-access", "--source", "::ffff:10.0.0.0/90"], exit::DATAERR, "::ffff:10.0.0.0/90");
    refused(&["--direct-access", "--source", "office"], exit::DATAERR, "office");
    refused(&["--direct-access", "--rate-limit", "0"], exit::DATAERR, "rateLimitPerMinute");
    refused(&["--rate-limit", "5"], exit::USAGE, "--direct-access");
    refused(&["--source", "10.0.0.0/8"], exit::USAGE, "--direct-access");
}
