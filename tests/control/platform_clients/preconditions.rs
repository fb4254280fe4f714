//! A change of a deployment or its variables that sends a tag is refused if the object has changed since.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::rig::Answer;
use crate::rig::control::Control;

fn tag(answer: &Answer) -> String {
    answer.header("etag").unwrap().to_owned()
}

#[test]
fn a_deployment_that_has_changed_since_it_was_seen_is_left_as_it_is() {
    let control = Control::start("");
    let estate = control.estate();
    let one = format!("/deployments/{}", estate.deployment);
    let send = |method: &str, body: Option<&Value>, tag: &str| {
        control.call_as(&control.owner, method, &one, body, &[&format!("If-Match: {tag}")])
    };
    let variables =
        |value: &str| json!({ "environmentVariables": [{ "key": "S", "value": value, "isSecret": true }] });
    let first = tag(&control.call("GET", &one, None));
    let set = send("POST", Some(&variables("1")), &first);
    assert_eq!(set.status, 200, "{set:?}");
    let second = tag(&set);
    assert_eq!(tag(&control.call("GET", &one, None)), second);
    // Answers hide secret values, and two changes within a second have the same time. The tag must change all the same.
    let third = tag(&send("POST", Some(&variables("2")), &second));
    let seen = [first, second, third.clone()];
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2], "{seen:?}");
    for stale in &seen[..2] {
        for (method, body) in [
            ("POST", Some(json!({ "environmentVariables": [] }))),
            ("POST", Some(json!({ "name": "changed" }))),
            ("DELETE", None),
        ] {
            let refused = send(method, body.as_ref(), stale);
            assert_eq!((refused.status, &refused.json()["code"]), (412, &json!("stale")), "{method}");
        }
    }
    let shown = control.get(&one);
    assert_eq!((&shown["name"], &shown["environmentVariables"][0]["key"]), (&json!("prod"), &json!("S")));
    // Renaming its workspace does not change the deployment's tag.
    let workspace = format!("/workspaces/{}", estate.workspace);
    assert_eq!(control.call("POST", &workspace, Some(&json!({ "name": "renamed" }))).status, 200);
    assert_eq!(control.get(&one)["workspaceName"], "renamed");
    let fourth = send("POST", Some(&json!({ "description": "changed" })), &third);
    assert_eq!(fourth.status, 200, "{fourth:?}");
    // The header If-Match is optional.
    assert_eq!(control.call("POST", &one, Some(&json!({ "description": "again" }))).status, 200);
    assert_eq!(send("DELETE", None, &tag(&fourth)).status, 412);
    assert_eq!(send("DELETE", None, &tag(&control.call("GET", &one, None))).status, 204);
}

#[test]
fn changes_of_variables_that_are_made_at_a_time_are_all_kept() {
    let control = Control::start("");
    let estate = control.estate();
    let children: Vec<_> = (0..8)
        .map(|number| {
            Command::new(env!("CARGO_BIN_EXE_halligan"))
                .args(["deployment", "variable", "create", "-d", &estate.deployment])
                .arg(format!("V{number}={number}"))
                .env_clear()
                .env("HALLIGAN_URL", &control.url)
                .env("ASTRO_API_TOKEN", &control.owner)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let shown = control.get(&format!("/deployments/{}", estate.deployment));
    assert_eq!(shown["environmentVariables"].as_array().unwrap().len(), 8, "{shown}");
}
