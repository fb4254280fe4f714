//! Browser sessions, for operators of a host: the list shows sessions in use, an ended session stays ended, and each
//! end is recorded.

#![allow(clippy::unwrap_used, clippy::panic)]

use halligan::platform::exit;
use serde_json::Value;

use crate::rig::{Answer, Rig, curl, until};

const SESSIONS: &str = "[sessions]\n[introspection]\ncache_seconds = 1\n";
const SAME: &str = "Sec-Fetch-Site: same-origin";

/// Starts a daemon that opens browser sessions.
fn rig() -> Rig {
    let mut rig = Rig::start();
    rig.kill_daemon();
    std::fs::write(rig.path("halligand.toml"), rig.daemon_config() + SESSIONS).unwrap();
    rig.start_daemon();
    rig
}

/// Requests a page from the daemon as a proxy would.
fn page(rig: &Rig, name: &str, more: &[&str]) -> Answer {
    let address =
        format!("http://127.0.0.1:{}/v1/pages/{}/.halligan/{name}", rig.daemon_port, rig.deployment);
    curl(&[&["-X", "POST", "-H", SAME], more, &[&*address]].concat())
}

/// Signs in and returns the session cookie.
fn sign_in(rig: &Rig, token: &str) -> String {
    let answer = page(rig, "sign-in", &["--data-urlencode", &format!("token={token}")]);
    assert_eq!(answer.status, 303, "{answer:?}");
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

fn click(rig: &Rig, cookie: &str) -> Answer {
    let question =
        ["X-Original-Method: GET", "X-Original-URI: /api/v2/dags", SAME, &format!("Cookie: {cookie}")];
    let mut arguments: Vec<String> = question.iter().flat_map(|line| ["-H".into(), (*line).into()]).collect();
    arguments.push(format!("http://127.0.0.1:{}/v1/authorize/{}", rig.daemon_port, rig.deployment));
    curl(&arguments)
}

fn listed(rig: &Rig) -> Vec<Value> {
    rig.json(&["session", "list"]).as_array().unwrap().clone()
}

fn ends(rig: &Rig) -> Vec<Value> {
    let log = rig.cli(&["audit", "tail", "-n", "100", "--json"]).stdout;
    let events = String::from_utf8(log).unwrap();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["kind"] == "session-ended").collect()
}

#[test]
fn a_session_is_listed_and_ends_when_an_operator_says_so() {
    let mut rig = rig();
    let (id, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    assert_eq!(listed(&rig), Vec::<Value>::new());
    let (kept, ended) = (sign_in(&rig, &token), sign_in(&rig, &token));
    assert_eq!((click(&rig, &kept).status, click(&rig, &ended).status), (200, 200));
    let sessions = listed(&rig);
    assert_eq!(sessions.len(), 2, "{sessions:?}");
    for session in &sessions {
        assert_eq!(
            (&session["tokenId"], &session["deploymentId"]),
            (&id.clone().into(), &rig.deployment.clone().into())
        );
        assert!(session["until"].as_i64() <= session["endsAt"].as_i64(), "{session}");
    }
    let shown = String::from_utf8(rig.cli(&["session", "list"]).stdout).unwrap();
    assert!(shown.contains("ses_") && !shown.contains(ended.split_once('=').unwrap().1), "{shown}");

    // The events tell the two causes apart.
    let event = click(&rig, &ended).header("x-halligan-event-id").unwrap().to_owned();
    let log = String::from_utf8(rig.cli(&["audit", "tail", "-n", "100", "--json"]).stdout).unwrap();
    let event = log.lines().find(|line| line.contains(&event)).unwrap();
    let event: Value = serde_json::from_str(event).unwrap();
    let session = event["session"].as_str().unwrap();
    let done = rig.json(&["session", "end", session]);
    assert_eq!((&done["id"], &done["written"]), (&session.into(), &true.into()));
    assert_eq!(done["session"]["tokenId"], *id);
    let refused = click(&rig, &ended);
    assert_eq!((refused.status, refused.reason()), (401, "token_missing"));
    assert_eq!(click(&rig, &kept).status, 200);
    assert_eq!(listed(&rig).len(), 1);

    rig.kill_daemon();
    rig.start_daemon();
    assert_eq!(
        (click(&rig, &ended).status, click(&rig, &kept).status),
        (401, 200),
        "a restart forgets nothing"
    );
    let sessions = listed(&rig);
    assert!(
        sessions.len() == 1 && sessions[0]["id"] != session,
        "what is used is listed again: {sessions:?}"
    );
    let ends = ends(&rig);
    let [end] = &*ends else { panic!("{ends:?}") };
    assert_eq!((&end["session"], &end["token"]), (&session.into(), &id.into()));
    assert!(end["operator"].as_str().unwrap().starts_with("uid "), "{end}");
}

#[test]
fn signing_out_is_on_record_once() {
    let rig = rig();
    let (id, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    let cookie = sign_in(&rig, &token);
    for _ in 0..3 {
        assert_eq!(page(&rig, "sign-out", &["-H", &format!("Cookie: {cookie}")]).status, 200);
    }
    let ends = ends(&rig);
    let [end] = &*ends else { panic!("{ends:?}") };
    assert_eq!((&end["token"], &end["because"]), (&id.into(), &"signed out".into()));
    assert_eq!((&end["operator"], &end["client"]), (&Value::Null, &"127.0.0.1".into()));
    assert_eq!(listed(&rig), Vec::<Value>::new());
}

#[test]
fn a_session_that_was_never_seen_is_ended_and_a_host_without_sessions_says_so() {
    let mut rig = rig();
    let done = rig.json(&["session", "end", "ses_elsewhere"]);
    assert_eq!((&done["session"], &done["written"]), (&Value::Null, &true.into()));
    let said = String::from_utf8(rig.cli(&["session", "end", "ses_elsewhere"]).stdout).unwrap();
    assert!(said.contains("has not seen it"), "{said}");
    rig.kill_daemon();
    std::fs::write(rig.path("halligand.toml"), rig.daemon_config()).unwrap();
    rig.start_daemon();
    for arguments in [&["session", "list"][..], &["session", "end", "ses_elsewhere"]] {
        let output = rig.cli_command().args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(i32::from(exit::DATAERR)), "{said}");
        assert!(said.contains("[sessions]"), "{said}");
    }
}

#[test]
fn a_standard_token_signs_in_while_the_control_plane_answers_and_is_kept_in_memory_only() {
    let mut rig = rig();
    let made = rig.json(&["token", "create", "-n", "ci", "--deployment-id", &rig.deployment]);
    let (id, token) = (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned());
    rig.synced();
    let cookie = sign_in(&rig, &token);
    assert!(!cookie.contains(&token));
    assert_eq!(click(&rig, &cookie).reason(), "ok");
    let sessions = listed(&rig);
    assert_eq!(
        (&sessions[0]["tokenId"], &sessions[0]["deploymentId"]),
        (&id.clone().into(), &rig.deployment.clone().into())
    );
    let signature = token.rsplit('.').next().unwrap();
    for file in std::fs::read_dir(rig.path("node")).unwrap().map(|entry| entry.unwrap().path()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let found = bytes.windows(signature.len()).any(|part| part == signature.as_bytes());
        assert!(!found, "{} holds the token", file.display());
    }

    rig.kill_control();
    until("the control plane is missed", || click(&rig, &cookie).reason() == "needs_control_plane");
    let refused = page(&rig, "sign-in", &["--data-urlencode", &format!("token={token}")]);
    assert_eq!((refused.status, refused.reason()), (403, "needs_control_plane"), "{refused:?}");
    rig.start_control(rig.control_port);
    until("the session goes on", || click(&rig, &cookie).status == 200);

    rig.kill_daemon();
    rig.start_daemon();
    assert_eq!(click(&rig, &cookie).reason(), "token_missing", "a restart has forgotten the token");
    let mut answer = None;
    until("it signs in again", || {
        answer = Some(page(&rig, "sign-in", &["--data-urlencode", &format!("token={token}")]));
        answer.as_ref().unwrap().status == 303
    });
    let cookie = answer.unwrap().header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    rig.cli(&["token", "delete", &id, "--force"]);
    until("it is told that the token is gone", || click(&rig, &cookie).reason() == "token_revoked");
}
