//! Outages, as strict types decode them: every instant is RFC 3339, in the list and in the report.

#![allow(dead_code, reason = "that a member decodes is what is tested")]

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::decoded;
use super::expected::Instant;
use crate::rig::{Rig, curl, free_port, until};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outages {
    outages: Vec<Outage>,
    total_count: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outage {
    id: String,
    state: String,
    began_at: Instant,
    ended_at: Option<Instant>,
}

/// Report of an outage that is over.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    id: String,
    node_id: String,
    data_plane_id: String,
    began_at: Instant,
    ended_at: Instant,
    last_contact_at: Instant,
    uses: u64,
    tokens: Vec<TokenUses>,
    late_uses: Vec<LateUse>,
    revocations: Vec<Revocation>,
    deploys: Vec<Deploy>,
    alarms: Vec<Moment>,
    log_faults: Vec<LogFault>,
    timeline: Vec<Moment>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenUses {
    token_id: String,
    count: u64,
    first_at: Instant,
    last_at: Instant,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LateUse {
    token_id: String,
    generation: u32,
    time: Instant,
    ended_at: Instant,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Revocation {
    token_id: String,
    revoked_at: Instant,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deploy {
    deploy_id: String,
    time: Instant,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogFault {
    sequence: u64,
    noted_at: Instant,
}

#[derive(Debug, Deserialize)]
struct Moment {
    kind: String,
    what: String,
    time: Instant,
}

fn get<T: DeserializeOwned>(rig: &Rig, path: &str) -> T {
    let url = format!("http://127.0.0.1:{}/v1{path}", rig.control_port);
    decoded(&curl(&["-H", &format!("Authorization: Bearer {}", rig.owner_token), &url]))
}

fn assert_told(report: &Report, id: &str) {
    assert_eq!(report.id, id);
    assert!(!report.tokens.is_empty() && !report.timeline.is_empty(), "{report:?}");
    assert_eq!((report.uses, report.revocations.len()), (2, 1), "{report:?}");
}

#[test]
fn each_instant_of_an_outage_is_written_by_rfc_3339() {
    let mut rig = Rig::start();
    let (late_id, late) = rig.direct_access_token("revoked above", &rig.deployment);
    let (local_id, _) = rig.direct_access_token("revoked on the host", &rig.deployment);
    rig.synced();
    let own = rig.control_port;
    rig.kill_control();
    let mut id = String::new();
    until("the node knows of the outage", || {
        let newest = &rig.json(&["outage", "list"])[0];
        id = newest["id"].as_str().unwrap_or_default().to_owned();
        newest["state"] == "open"
    });
    assert_eq!(rig.authorize(&late, "GET", "/api/v2/dags").status, 200);
    rig.json(&["revoke", &local_id, "--reason", "laptop lost"]);
    // The token is revoked at an address that the node does not know, so the node misses the revocation.
    let other = free_port();
    rig.start_control(other);
    let url = format!("http://127.0.0.1:{other}");
    let deleted =
        rig.cli_command().env("HALLIGAN_URL", url).args(["token", "delete", &late_id, "--force"]).output();
    assert!(deleted.unwrap().status.success());
    rig.kill_control();
    // Times are whole seconds: a use in the second of the revocation is not late.
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(rig.authorize(&late, "GET", "/api/v2/dags").status, 200);
    rig.start_control(own);

    let organizations: Value = get(&rig, "/organizations");
    let path =
        format!("/organizations/{}/outages", organizations["organizations"][0]["id"].as_str().unwrap());
    until("the outage is closed", || {
        let listed: Outages = get(&rig, &path);
        listed.outages.iter().any(|outage| outage.id == id && outage.state == "closed")
    });
    let report: Report = get(&rig, &format!("{path}/{id}"));
    assert_told(&report, &id);
    assert_eq!(report.late_uses.len(), 1, "{report:?}");

    // The command line shows the same members of a host's report.
    for arguments in [&["outage", "show", &id][..], &["outage", "show", &id, "--control-plane"]] {
        assert_told(&serde_json::from_value(rig.json(arguments)).unwrap(), &id);
    }
}
