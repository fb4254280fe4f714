//! Signed-out browser sessions on a host that loses a file: none of them is accepted again.

#![allow(clippy::unwrap_used)]

use crate::rig::{Answer, Rig, curl};
use crate::what_can_be_lost::{EVERY, Loss, alarms, copy, start};

const SAME: &str = "Sec-Fetch-Site: same-origin";

fn page(rig: &Rig, page: &str, more: &[&str]) -> Answer {
    let url = format!("http://127.0.0.1:{}/v1/pages/{}/.halligan/{page}", rig.daemon_port, rig.deployment);
    curl(&[&["-X", "POST", "-H", SAME, "-H", "X-Original-Host: prod.example"], more, &[&*url]].concat())
}

/// Signs in and returns the session cookie.
fn sign_in(rig: &Rig, token: &str) -> String {
    let answer = page(rig, "sign-in", &["--data", &format!("to=%2F&token={token}")]);
    assert_eq!(answer.status, 303, "{answer:?}");
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

fn with(rig: &Rig, cookie: &str) -> Answer {
    let url = format!("http://127.0.0.1:{}/v1/authorize/{}", rig.daemon_port, rig.deployment);
    let cookie = format!("Cookie: {cookie}");
    let facts = ["X-Original-Method: GET", "X-Original-URI: /api/v2/dags", "X-Original-Host: prod.example"];
    let headers = facts.into_iter().chain([SAME, &*cookie]).flat_map(|header| ["-H", header]);
    curl(&headers.chain([&*url]).collect::<Vec<_>>())
}

/// Expected behaviour of the next start without a file.
enum Promise {
    /// The daemon serves. Sessions that were not signed out continue or have ended too, and an alarm may report the
    /// loss.
    Serves {
        goes_on: bool,
        alarm: &'static str,
    },
    Stops,
}

fn promise(file: &str, loss: Loss) -> Promise {
    match (file, loss) {
        ("ended-sessions.json", _) => Promise::Serves { goes_on: false, alarm: "has ended" },
        ("session.key", Loss::Missing) | ("databases.json", _) => {
            Promise::Serves { goes_on: false, alarm: "" }
        }
        ("session.key", _) => Promise::Stops,
        _ => Promise::Serves { goes_on: true, alarm: "was begun" },
    }
}

#[test]
fn no_lost_file_opens_a_session_that_was_signed_out() {
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("browser", &rig.deployment);
    rig.synced();
    rig.kill_control();
    rig.daemon.take().unwrap().terminate();
    std::fs::write(rig.path("halligand.toml"), rig.daemon_config() + "[sessions]\n").unwrap();
    start(&mut rig).unwrap();
    copy(&rig.path("node"), &rig.path("before"));
    let [ended, lasting] = [(); 2].map(|()| sign_in(&rig, &token));
    assert_eq!([&ended, &lasting].map(|cookie| with(&rig, cookie).status), [200, 200]);
    assert_eq!(page(&rig, "sign-out", &["-H", &format!("Cookie: {ended}")]).status, 200);
    assert_eq!([&ended, &lasting].map(|cookie| with(&rig, cookie).status), [401, 200]);
    rig.daemon.take().unwrap().terminate();
    copy(&rig.path("node"), &rig.path("kept"));
    let files = ["ended-sessions.json", "session.key", "databases.json", "outages.db"];
    let cases = files.into_iter().flat_map(|file| EVERY.map(|loss| (file, Some(loss))));
    let set_back = [("ended-sessions.json", None)];
    for (file, loss) in cases.filter(|(_, loss)| *loss != Some(Loss::Newer)).chain(set_back) {
        copy(&rig.path("kept"), &rig.path("node"));
        let path = rig.path("node").join(file);
        match loss {
            Some(loss) => loss.of(&path),
            None => {
                std::fs::copy(rig.path("before").join(file), path).unwrap();
            }
        }
        let started = start(&mut rig);
        match promise(file, loss.unwrap_or(Loss::Unreadable)) {
            Promise::Stops => assert_eq!(started.unwrap_err().0, 78, "{file} {loss:?}"),
            Promise::Serves { goes_on, alarm } => {
                started.unwrap();
                assert_eq!(with(&rig, &ended).reason(), "token_missing", "{file} {loss:?}");
                assert_eq!(with(&rig, &lasting).status == 200, goes_on, "{file} {loss:?}");
                let alarms = alarms(&rig);
                assert!(
                    alarms.contains(alarm) && (alarms == "[]") == alarm.is_empty(),
                    "{file} {loss:?}: {alarms}"
                );
                assert_eq!(with(&rig, &sign_in(&rig, &token)).status, 200, "{file} {loss:?}");
                rig.daemon.take().unwrap().terminate();
            }
        }
    }
}
