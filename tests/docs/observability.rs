//! Dashboard and alert rules of docs/observability: they name only exported metrics, and the rules fire as they should.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::{Rig, component, curl, until};
use serde_json::Value;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/observability").join(name)
}

/// Returns the metrics that a text of queries names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("halligan_")).map(str::to_owned).collect()
}

/// Returns the series that a program exports.
fn exported(port: u16) -> BTreeSet<String> {
    let told = crate::rig::metrics(port);
    assert!(told.ends_with("# EOF\n"), "{told}");
    let series = told.lines().filter(|line| !line.starts_with('#'));
    series.filter_map(|line| Some(line.split(['{', ' ']).next()?.to_owned())).collect()
}

#[test]
fn what_is_watched_is_exported() {
    let mut rig = Rig::start();
    let metrics_port = crate::rig::free_port();
    rig.kill_control();
    rig.control_extra = format!("metrics_listen = \"127.0.0.1:{metrics_port}\"\n");
    rig.start_control(rig.control_port);
    let (token_id, token) = rig.direct_access_token("oncall", &rig.deployment);
    rig.synced();
    assert_eq!(rig.authorize(&token, "GET", "/api/v2/dags").status, 200);
    assert_eq!(rig.authorize(&token, "GET", "/api/v2/dags").status, 200);
    assert_eq!(rig.authorize("nonsense", "GET", "/api/v2/dags").status, 401);

    // No node can make a late use while the control plane answers, so the row is written into the database.
    let noted = rusqlite::Connection::open(rig.path("control/control.db")).unwrap().execute(
        "INSERT INTO late_use (node, event, data_plane, token, noted_at)
         SELECT node.id, 'evt_late', node.data_plane, ?1, 1800000000 FROM node",
        [token_id],
    );
    assert_eq!(noted.unwrap(), 1);

    let (daemon, control) = (exported(rig.daemon_port), exported(metrics_port));
    let exported: BTreeSet<String> = daemon.union(&control).cloned().collect();
    for name in ["alerts.yml", "dashboard.json", "README.md"] {
        let text = std::fs::read_to_string(file(name)).unwrap();
        let named = named(&text);
        assert!(named.len() > 10, "{name} names {named:?}");
        let unknown: Vec<_> = named.difference(&exported).collect();
        assert!(unknown.is_empty(), "{name} watches {unknown:?}, which nobody exports");
    }

    // The metrics have the expected counts and no secret.
    let told = crate::rig::metrics(rig.daemon_port);
    for line in [
        "halligan_decisions_total{decision=\"allow\",reason=\"ok\"} 2",
        "halligan_decisions_total{decision=\"deny\",reason=\"token_malformed\"} 1",
        "halligan_authorize_seconds_count 3",
        "halligan_control_plane_reachable 1",
        "halligan_replica_age_limit_seconds{role=\"DEPLOYMENT_ADMIN\"} 86400",
        "halligan_deployments 2",
        "halligan_audit_capacity 65536",
        "halligan_signature_cache_lookups_total{result=\"hit\"} 1",
        "halligan_signature_cache_lookups_total{result=\"miss\"} 2",
    ] {
        assert!(told.lines().any(|told| told == line), "{line} is not in {told}");
    }
    assert!(!told.contains(token.rsplit('.').next().unwrap()));
    let told = crate::rig::metrics(metrics_port);
    for part in [
        "halligan_control_tokens{kind=\"DIRECT_ACCESS\"} 1",
        "route=\"/v1/organizations/{organization}/tokens\",status=\"200\"} 1",
        &format!("halligan_control_nodes{{data_plane=\"{}\"}} 1", rig.data_plane),
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let elsewhere = curl(&[format!("http://127.0.0.1:{}/metrics", rig.control_port)]);
    assert_eq!(elsewhere.status, 404, "the API's listener tells nothing of the estate");
}

/// Returns the value of a metric of the daemon.
fn value(rig: &Rig, name: &str) -> i64 {
    let told = crate::rig::metrics(rig.daemon_port);
    let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in {told}")).parse().unwrap()
}

#[test]
fn what_the_control_plane_has_not_taken_in_shows_until_it_has() {
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("oncall", &rig.deployment);
    rig.synced();
    let (behind, age) = ("halligan_audit_not_uploaded", "halligan_audit_not_uploaded_age_seconds");
    rig.kill_control();
    for _ in 0..3 {
        assert_eq!(rig.authorize(&token, "POST", "/api/v2/dags/etl/dagRuns").status, 200);
    }
    until("it shows", || value(&rig, behind) >= 3);
    until("it grows old", || value(&rig, age) >= 2);
    rig.start_control(rig.control_port);
    until("it has arrived", || value(&rig, behind) == 0);
    assert_eq!(value(&rig, age), 0);
}

#[test]
fn the_rules_fire_when_they_should() {
    let Some(promtool) = component("promtool") else { return };
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let output = Command::new(&promtool).args(arguments).current_dir(file("")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_panel_of_the_dashboard_asks_something() {
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(file("dashboard.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut places = BTreeSet::new();
    for panel in panels {
        assert!(places.insert(panel["id"].as_u64().unwrap()), "{} has another's id", panel["title"]);
        if panel["type"] != "row" {
            let targets = panel["targets"].as_array().unwrap();
            assert!(targets.iter().all(|target| target["expr"].as_str().unwrap().contains("halligan_")));
            assert!(!targets.is_empty(), "{}", panel["title"]);
        }
    }
    assert!(panels.len() > 20);
}
