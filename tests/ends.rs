//! Whatever ends by itself is told thirty days before: nothing that was given a year ends on a day without a word. The real
//! programs run under libfaketime, most of a year later.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod rig;

use std::path::PathBuf;
use std::process::Command;

use rig::{Rig, Running, component, curl, until};

fn faketime() -> Option<PathBuf> {
    component("faketime")?;
    let library = std::fs::read_dir("/usr/lib")
        .unwrap()
        .map(|entry| entry.unwrap().path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.is_file());
    Some(library.expect("faketime is installed, its library is not"))
}

fn later<'c>(command: &'c mut Command, library: &PathBuf, days: &str) -> &'c mut Command {
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME", format!("+{days}d"))
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

fn control(rig: &Rig, verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halligan-control"));
    command.arg("--config").arg(rig.path("control.toml")).arg(verb);
    command
}

fn metric(port: u16, name: &str) -> Option<i64> {
    let told = curl(&[format!("http://127.0.0.1:{port}/metrics")]).body;
    told.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn every_end_that_is_known_is_told_thirty_days_before_by_both_programs() {
    let Some(library) = faketime() else { return };
    let mut rig = Rig::start();
    let metrics = rig::free_port();
    rig.kill_daemon();
    rig.kill_control();
    rig.control_extra = format!("metrics_listen = \"127.0.0.1:{metrics}\"\n");
    // Long before: not a word.
    rig.start_control(rig.control_port);
    rig.start_daemon();
    rig.synced();
    let ready = format!("http://127.0.0.1:{}/readyz", rig.daemon_port);
    until("the daemon is live", || curl(&[&ready]).body == "ready\n");
    let quiet = control(&rig, "check-config").output().unwrap();
    assert!(quiet.status.success() && quiet.stderr.is_empty(), "{quiet:?}");
    assert_eq!(rig.json(&["status"])["ends"].as_array().unwrap().len(), 0);
    assert!(metric(metrics, "halligan_control_end_left_seconds{kind=\"keyset\"}").unwrap() > 360 * 86_400);
    rig.kill_daemon();
    rig.kill_control();

    rig.control = Some(Running::start(
        later(&mut control(&rig, "serve"), &library, "340").stderr(rig.log("control.log")),
    ));
    let healthy = format!("http://127.0.0.1:{}/healthz", rig.control_port);
    until("the control plane answers", || curl(&[&healthy]).status == 200);
    rig.daemon = Some(Running::start(
        later(&mut rig.daemon_command(), &library, "340").stderr(rig.log("halligand.log")),
    ));
    until("the host is ready", || curl(&[&ready]).status == 200);
    let (_, token) = rig.direct_access_token("oncall", &rig.deployment);
    rig.synced();
    until("the token opens", || rig.authorize(&token, "GET", "/api/v2/dags").status == 200);
    until("the host knows what ends", || rig.json(&["status"])["ends"].as_array().unwrap().len() >= 2);
    let status = rig.json(&["status"]);
    for kind in ["keyset", "direct_access_token"] {
        let end = status["ends"].as_array().unwrap().iter().find(|end| end["kind"] == kind);
        let left = end.unwrap_or_else(|| panic!("{status}"))["leftSeconds"].as_i64().unwrap();
        assert!((20 * 86_400..=30 * 86_400).contains(&left), "{status}");
        let told = metric(rig.daemon_port, &format!("halligan_end_left_seconds{{kind=\"{kind}\"}}"));
        assert!((left - 120..=left).contains(&told.unwrap()), "{told:?} {left}");
    }
    let said = String::from_utf8_lossy(&rig.cli(&["status"]).stdout).into_owned();
    assert!(said.contains("ENDS the keyset 1 ends in 24 days"), "{said}");
    let body = curl(&[&ready]).body;
    assert!(body.contains("the keyset 1 ends in 24 days") && !body.contains("tok_"), "{body}");
    until("the host's log tells of both", || {
        let log = rig.read_log("halligand.log");
        log.contains("the keyset 1 ends in 24 days") && log.contains("the direct-access token tok_")
    });

    for kind in ["keyset", "user_token", "direct_access_token"] {
        let left = metric(metrics, &format!("halligan_control_end_left_seconds{{kind=\"{kind}\"}}"));
        assert!((20 * 86_400..=30 * 86_400).contains(&left.unwrap()), "{kind}: {left:?}");
    }
    until("the control plane's log tells of it", || {
        let log = rig.read_log("control.log");
        log.contains("the keyset 1 ends in 24 days") && log.contains("the token of user usr_")
    });
    let warned = later(&mut control(&rig, "check-config"), &library, "340").output().unwrap();
    assert!(warned.status.success(), "{warned:?}");
    assert!(String::from_utf8_lossy(&warned.stderr).contains("the keyset 1 ends in 24 days"), "{warned:?}");

    // A day after its end: it is not signed under silently.
    rig.kill_control();
    let ended = later(&mut control(&rig, "check-config"), &library, "366").output().unwrap();
    assert_eq!(ended.status.code(), Some(78), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("the keyset 1 ended at"), "{ended:?}");
    rig.control = Some(Running::start(
        later(&mut control(&rig, "serve"), &library, "366").stderr(rig.log("control.log")),
    ));
    until("the control plane answers", || curl(&[&healthy]).status == 200);
    until("its log says so", || rig.read_log("control.log").contains("no node believes what is signed"));
    assert!(metric(metrics, "halligan_control_end_left_seconds{kind=\"keyset\"}").unwrap() < 0);
}
