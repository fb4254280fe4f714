//! Warnings before expiry: keysets and tokens of every kind are reported thirty days before they expire. The real
//! programs run under libfaketime, most of a year later.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::rig::clock::shifted;
use crate::rig::{Rig, curl, until};

fn metric(port: u16, name: &str) -> Option<i64> {
    crate::rig::metrics(port).lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn ends_of_keysets_and_of_every_kind_of_token_are_told_thirty_days_before_by_both_programs() {
    let (Some(most_of_a_year_later), Some(after_a_year)) = (shifted("+340d"), shifted("+366d")) else {
        return;
    };
    let mut rig = Rig::start();
    let metrics = crate::rig::free_port();
    rig.kill_daemon();
    rig.kill_control();
    rig.control_extra = format!("metrics_listen = \"127.0.0.1:{metrics}\"\n");
    // Long before the expiry there is no warning.
    rig.start_control(rig.control_port);
    rig.start_daemon();
    rig.synced();
    let ready = format!("http://127.0.0.1:{}/readyz", rig.daemon_port);
    until("the daemon is live", || curl(&[&ready]).body == "ready\n");
    let quiet = rig.control_command("check-config").output().unwrap();
    assert!(quiet.status.success() && quiet.stderr.is_empty(), "{quiet:?}");
    let quiet = rig.daemon_command().arg("check-config").output().unwrap();
    assert!(quiet.status.success() && quiet.stderr.is_empty(), "{quiet:?}");
    assert_eq!(rig.json(&["status"])["ends"].as_array().unwrap().len(), 0);
    assert!(metric(metrics, "halligan_control_end_left_seconds{kind=\"keyset\"}").unwrap() > 360 * 86_400);
    rig.kill_daemon();
    rig.kill_control();

    rig.start_control_in(&most_of_a_year_later);
    rig.start_daemon_in(&most_of_a_year_later);
    until("the host is ready", || curl(&[&ready]).status == 200);
    let (id, token) = rig.direct_access_token("oncall", &rig.deployment);
    let standard = ["token", "create", "-n", "ci", "--deployment-id", &rig.deployment, "-e", "30"];
    rig.made(&standard);
    rig.give_enrolment_token(&rig.path("another-host"));
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
    assert!(body.contains("the keyset 1 ends in 24 days") && !body.contains(&id), "{body}");
    until("the host's log tells of both", || {
        let log = rig.read_log("halligand.log");
        log.contains("the keyset 1 ends in 24 days") && log.contains(&format!("the direct-access token {id}"))
    });

    for (kind, soonest) in [
        ("keyset", 20 * 86_400),
        ("user_token", 20 * 86_400),
        ("direct_access_token", 20 * 86_400),
        ("standard_token", 20 * 86_400),
        // An enrolment token is valid for an hour unless another lifetime was requested.
        ("enrolment_token", 1),
    ] {
        let left = metric(metrics, &format!("halligan_control_end_left_seconds{{kind=\"{kind}\"}}"));
        assert!(left.is_some_and(|left| (soonest..=30 * 86_400).contains(&left)), "{kind}: {left:?}");
    }
    until("the control plane's log tells of it", || {
        let log = rig.read_log("control.log");
        [
            "the keyset 1 ends in 24 days",
            "the token of user c",
            "the standard token c",
            "the enrolment token for data plane dpl_",
        ]
        .iter()
        .all(|told| log.contains(told))
    });
    let warned = rig.control_command("check-config").envs(most_of_a_year_later.clone()).output().unwrap();
    assert!(warned.status.success(), "{warned:?}");
    assert!(String::from_utf8_lossy(&warned.stderr).contains("the keyset 1 ends in 24 days"), "{warned:?}");

    let warned =
        rig.daemon_command().arg("check-config").envs(most_of_a_year_later.clone()).output().unwrap();
    assert!(warned.status.success(), "{warned:?}");
    assert!(String::from_utf8_lossy(&warned.stderr).contains("the keyset 1 ends in 24 days"), "{warned:?}");

    // A day after the keyset's expiry, the control plane must not sign under it silently.
    rig.kill_control();
    let ended = rig.control_command("check-config").envs(after_a_year.clone()).output().unwrap();
    assert_eq!(ended.status.code(), Some(78), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("the keyset 1 ended at"), "{ended:?}");
    rig.start_control_in(&after_a_year);
    until("its log says so", || {
        rig.read_log("control.log").contains("nodes reject everything that is signed")
    });
    assert!(metric(metrics, "halligan_control_end_left_seconds{kind=\"keyset\"}").unwrap() < 0);
}
