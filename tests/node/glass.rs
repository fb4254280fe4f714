//! Break-glass access, with the real programs: a sealed deployment opens only when an operator breaks its glass, for
//! the stated time, and each change is recorded. A deployment that is kept for outages opens in one and closes after
//! it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Command;
use std::time::{Duration, Instant};

use crate::rig::Rig;
use halligan::platform::exit;
use serde_json::Value;

/// Waits for a condition that takes whole seconds, on a machine that may be busy.
fn patiently(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(40), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn reason(rig: &Rig, token: &str) -> String {
    rig.authorize(token, "GET", "/api/v2/dags").reason().to_owned()
}

/// Returns the glass of the rig's deployment as `glass status` shows it.
fn pane(rig: &Rig) -> Value {
    let panes = rig.json(&["glass", "status"]);
    panes
        .as_array()
        .unwrap()
        .iter()
        .find(|pane| pane["deploymentId"] == rig.deployment.as_str())
        .unwrap()
        .clone()
}

/// Returns the events of this node's log that are not decisions.
fn acts(rig: &Rig) -> Vec<Value> {
    let text = rig.cli(&["audit", "tail", "-n", "1000", "--json"]).stdout;
    let events = String::from_utf8(text).unwrap();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["kind"] != "decision").collect()
}

fn refused(rig: &Rig, arguments: &[&str], code: u8, word: &str) {
    let output = rig.cli_command().args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(i32::from(code)), "{said}");
    assert!(said.contains(word), "{said}");
}

#[test]
fn sealed_glass_opens_when_it_is_broken_and_only_for_its_time() {
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    assert_eq!(reason(&rig, &token), "ok", "unless it is asked for, there is no glass");
    refused(
        &rig,
        &["glass", "break", &rig.deployment, "--reason", "drill", "--for", "1h"],
        exit::DATAERR,
        "glass_always",
    );
    let shown = rig.json(&["deployment", "update", &rig.deployment, "--glass", "sealed"]);
    assert_eq!(shown["glass"], "sealed");
    rig.synced();
    rig.kill_control();
    let denied = rig.authorize(&token, "GET", "/api/v2/dags");
    assert_eq!((denied.status, denied.reason()), (403, "glass_sealed"), "an outage alone opens nothing");
    assert_eq!(pane(&rig)["state"], "sealed");

    let broken = |rig: &Rig, reason: &str, time: &str| {
        rig.cli(&["glass", "break", &rig.deployment, "--reason", reason, "--for", time]);
    };
    broken(&rig, "INC-1 drill", "1h");
    assert_eq!(reason(&rig, &token), "ok");
    // Neither a crash nor a restart closes the glass or extends its time.
    let until = pane(&rig)["until"].clone();
    rig.kill_daemon();
    rig.start_daemon();
    assert_eq!((reason(&rig, &token).as_str(), &pane(&rig)["until"]), ("ok", &until));
    rig.cli(&["glass", "seal", &rig.deployment]);
    assert_eq!(reason(&rig, &token), "glass_sealed");
    refused(&rig, &["glass", "seal", &rig.deployment], exit::DATAERR, "glass_whole");

    broken(&rig, "INC-2 drill", "3s");
    assert_eq!(reason(&rig, &token), "ok");
    let metrics = crate::rig::metrics(rig.daemon_port);
    assert!(metrics.contains("halligan_glass_broken 1"), "{metrics}");
    patiently("it is sealed by itself", || reason(&rig, &token) == "glass_sealed");
    patiently("its end is recorded", || acts(&rig).len() == 4);

    let acts = acts(&rig);
    let told: Vec<_> = acts
        .iter()
        .map(|act| {
            let text = |member: &str| act[member].as_str().unwrap_or("-");
            (text("kind"), text("glass"), text("because"), act["operator"].is_string())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("glass-broken", "broken", "INC-1 drill", true),
            ("glass-sealed", "sealed", "sealed by an operator", true),
            ("glass-broken", "broken", "INC-2 drill", true),
            ("glass-sealed", "sealed", "its time is over", false),
        ]
    );
    assert!(acts.iter().all(|act| act["deployment"] == rig.deployment.as_str()));
    let text = String::from_utf8(rig.cli(&["audit", "tail", "-n", "1000", "--json"]).stdout).unwrap();
    let states: std::collections::BTreeSet<_> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["kind"] == "decision")
        .map(|event| event["glass"].as_str().unwrap_or("-").to_owned())
        .collect();
    assert_eq!(states.into_iter().collect::<Vec<_>>(), ["always", "broken", "sealed"]);
    assert_eq!(rig.json(&["audit", "verify"])["fault"], Value::Null);
}

#[test]
fn what_cant_be_broken_is_refused_in_a_sentence() {
    let rig = Rig::start();
    rig.json(&["deployment", "update", &rig.deployment, "--glass", "sealed"]);
    rig.synced();
    let asked = |deployment: &str, reason: &str, time: &str, code: u8, word: &str| {
        refused(&rig, &["glass", "break", deployment, "--reason", reason, "--for", time], code, word);
    };
    asked("dep_nobody", "drill", "1h", exit::DATAERR, "dep_nobody");
    asked(&rig.deployment, " ", "1h", exit::DATAERR, "reason");
    asked(&rig.deployment, "drill", "25h", exit::DATAERR, "86400");
    asked(&rig.deployment, "drill", "0s", exit::DATAERR, "seconds");
    asked(&rig.deployment, "drill", "soon", exit::USAGE, "30m");
    refused(&rig, &["deployment", "update", &rig.deployment, "--glass", "open"], exit::USAGE, "sealed");
    assert_eq!(acts(&rig), Vec::<Value>::new());
    // Only an owner may open a deployment wider.
    let member = rig.json(&[
        "user",
        "create",
        "admin@acme.example",
        "--workspace-role",
        &format!("{}=WORKSPACE_OWNER", rig.workspace),
    ]);
    let output = Command::new(env!("CARGO_BIN_EXE_halligan"))
        .env("HALLIGAN_URL", format!("http://127.0.0.1:{}", rig.control_port))
        .env("HALLIGAN_API_TOKEN", member["token"].as_str().unwrap())
        .args(["deployment", "update", &rig.deployment, "--glass", "always"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(i32::from(exit::NOPERM)), "{output:?}");
}

#[test]
fn glass_kept_for_outages_opens_in_one_and_shuts_after_it() {
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.json(&["deployment", "update", &rig.deployment, "--glass", "outage"]);
    rig.synced();
    rig.daemon.take().unwrap().terminate();
    let quick = "[glass]\noutage_after_seconds = 2\nrestored_after_seconds = 3\n";
    std::fs::write(rig.path("halligand.toml"), rig.daemon_config() + quick).unwrap();
    rig.start_daemon();
    rig.synced();
    assert_eq!(reason(&rig, &token), "glass_sealed");
    let cut = Instant::now();
    rig.kill_control();
    assert_eq!(reason(&rig, &token), "glass_sealed", "a moment without it is no outage");
    patiently("the outage is judged", || reason(&rig, &token) == "ok");
    assert!(cut.elapsed() >= Duration::from_secs(2));
    assert_eq!(pane(&rig)["state"], "outage");
    // A restart during the outage does not end access.
    rig.kill_daemon();
    rig.start_daemon();
    assert_eq!(reason(&rig, &token), "ok");
    rig.start_control(rig.control_port);
    patiently("the outage is over", || reason(&rig, &token) == "glass_sealed");
    patiently("both changes are recorded", || acts(&rig).len() == 2);
    let kinds: Vec<_> = acts(&rig).iter().map(|act| act["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["glass-broken", "glass-sealed"]);
}
