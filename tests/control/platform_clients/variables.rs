//! Environment variables of deployments: as the platform's clients read and set them, and with `halligan`.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::expected::{Deployment, Deployments};
use super::{BASES, call, decoded};
use crate::rig::control::Control;
use crate::rig::estate::Estate;
use crate::rig::{Answer, curl};

/// Values that no log, answer or file of the control plane may hold.
const SECRET: &str = "s3cret-741852963";

fn organization(control: &Control) -> String {
    format!("/v1/organizations/{}", control.organization)
}

/// Makes a token of the deployment with a role, and returns its value.
fn deployment_token(control: &Control, estate: &Estate, role: &str) -> String {
    let new = json!({ "name": role, "scope": "DEPLOYMENT", "entityId": estate.deployment, "role": role });
    control.make("/tokens", &new)["token"].as_str().unwrap().to_owned()
}

/// Posts a body that is too long for a command line.
fn post_file(control: &Control, path: &str, body: &Value) -> Answer {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(body.to_string().as_bytes()).unwrap();
    let (bearer, data) =
        (format!("Authorization: Bearer {}", control.owner), format!("@{}", file.path().display()));
    let url = format!("{}{path}", control.url);
    curl(&[
        "-X",
        "POST",
        "-H",
        &bearer,
        "-H",
        "Expect:",
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        &data,
        &url,
    ])
}

#[test]
fn a_deployment_token_sets_variables_with_the_calls_of_the_platforms_command_line() {
    let control = Control::start("");
    let estate = control.estate();
    let token = deployment_token(&control, &estate, "DEPLOYMENT_ADMIN");
    let organization = organization(&control);
    let get = |path: &str| call(&control, &token, "GET", &format!("{organization}{path}"), None);
    let one = format!("/deployments/{}", estate.deployment);
    // The command line lists the deployments, gets this one, reads the choices, and sends everything it has read with
    // the change.
    let modify = |change: &dyn Fn(&mut Vec<Value>)| -> Deployment {
        let page: Deployments =
            decoded(&get(&format!("/deployments?limit=1000&workspaceIds={}", estate.workspace)));
        assert_eq!(page.deployments.len(), 1);
        let shown: Deployment = decoded(&get(&one));
        let options: Value = decoded(&get("/deployment-options"));
        assert_eq!(options["executors"], json!(["CELERY", "KUBERNETES", "ASTRO"]));
        let read = shown.environment_variables.unwrap();
        let mut variables: Vec<Value> = read
            .iter()
            .map(|variable| json!({ "key": variable.key, "value": variable.value, "isSecret": variable.is_secret }))
            .collect();
        change(&mut variables);
        let body = json!({ "name": shown.name, "description": shown.description, "type": "STANDARD",
            "workspaceId": shown.workspace_id.0, "executor": "CELERY", "schedulerSize": shown.scheduler_size,
            "isCicdEnforced": shown.is_cicd_enforced, "isDagDeployEnabled": shown.is_dag_deploy_enabled,
            "isHighAvailability": shown.is_high_availability, "isDevelopmentMode": shown.is_development_mode,
            "defaultTaskPodCpu": shown.default_task_pod_cpu, "defaultTaskPodMemory": shown.default_task_pod_memory,
            "resourceQuotaCpu": shown.resource_quota_cpu, "resourceQuotaMemory": shown.resource_quota_memory,
            "environmentVariables": variables });
        let _: Deployment =
            decoded(&call(&control, &token, "POST", &format!("{organization}{one}"), Some(&body)));
        decoded(&get(&one))
    };
    let added = modify(&|all| {
        all.push(json!({ "key": "A", "value": "1", "isSecret": false }));
        all.push(json!({ "key": "S", "value": SECRET, "isSecret": true }));
    });
    let added = added.environment_variables.unwrap();
    assert_eq!((&*added[0].key, added[0].value.as_deref()), ("A", Some("1")));
    assert_eq!((&*added[1].key, added[1].is_secret, &added[1].value), ("S", true, &None));
    let changed = modify(&|all| all[0]["value"] = json!("2")).environment_variables.unwrap();
    assert_eq!((changed.len(), changed[0].value.as_deref()), (2, Some("2")));
    let left = modify(&|all| drop(all.remove(0))).environment_variables.unwrap();
    assert_eq!((left.len(), &*left[0].key), (1, "S"), "the secret stayed");
    // This token can't create an alert, because no such permission is among its own.
    let caller: Value = decoded(&call(
        &control,
        &token,
        "GET",
        &format!("/v1/users/self?deploymentId={}", estate.deployment),
        None,
    ));
    let permissions = caller["permissions"].to_string();
    assert!(
        permissions.contains("environmentVariables.create") && !permissions.contains("alerts.create"),
        "{permissions}"
    );
    assert!(caller["operations"].to_string().contains("CREATE_ENVIRONMENT_VARIABLES"), "{caller}");
    // An update that names another value of a fixed member is refused, not ignored.
    for (member, value) in [("type", "HYBRID"), ("workspaceId", &estate.other_workspace)] {
        let refused =
            call(&control, &token, "POST", &format!("{organization}{one}"), Some(&json!({ member: value })));
        assert_eq!((refused.status, &refused.json()["fieldErrors"][0]["field"]), (422, &json!(member)));
    }
}

#[test]
fn variables_are_shown_under_each_base_path_to_those_who_may_see_them() {
    let control = Control::start("");
    let estate = control.estate();
    let one = format!("/organizations/{}/deployments/{}", control.organization, estate.deployment);
    let member = control.user("WORKSPACE_MEMBER", &estate.workspace);
    let author = control.user("WORKSPACE_AUTHOR", &estate.workspace);
    for (number, base) in BASES.into_iter().enumerate() {
        let path = format!("{base}{one}");
        let body = json!({ "environmentVariables": [
            { "key": "A", "value": number.to_string() }, { "key": "S", "value": SECRET, "isSecret": true }] });
        let set = call(&control, &control.owner, "POST", &path, Some(&body));
        assert!(!set.body.contains(SECRET), "{set:?}");
        let _: Deployment = decoded(&set);
        let shown: Deployment = decoded(&call(&control, &author, "GET", &path, None));
        assert_eq!(shown.environment_variables.unwrap()[0].value, Some(number.to_string()));
        let hidden = call(&control, &member, "GET", &path, None);
        let _: Deployment = decoded(&hidden);
        assert_eq!(hidden.json().get("environmentVariables"), None, "{hidden:?}");
        // Permission to read variables does not include permission to change them.
        assert_eq!(
            call(&control, &author, "POST", &path, Some(&json!({ "environmentVariables": [] }))).status,
            403
        );
    }
}

#[test]
fn what_no_variable_can_be_is_refused_by_its_field_and_nothing_is_written() {
    let control = Control::start("");
    let estate = control.estate();
    let path = format!("{}/deployments/{}", organization(&control), estate.deployment);
    let one = |key: &str, value: &str| json!([{ "key": key, "value": value }]);
    let many: Vec<Value> = (0..501).map(|n| json!({ "key": format!("V{n}"), "value": "" })).collect();
    for (variables, field) in [
        (one("PATH=", SECRET), "environmentVariables"),
        (one("PATH", SECRET), "environmentVariables"),
        (one("LD_PRELOAD", SECRET), "environmentVariables"),
        (one("HALLIGAN_URL", SECRET), "environmentVariables"),
        (one("AIRFLOW__API_AUTH__TRUSTED_JWKS_URL", SECRET), "environmentVariables"),
        (one("", SECRET), "environmentVariables"),
        (one("A-B", SECRET), "environmentVariables"),
        (one("A", &"x".repeat(1 << 20)), "environmentVariables"),
        (one("A", &format!("{SECRET}\0")), "environmentVariables"),
        (json!([{ "key": "A" }]), "environmentVariables"),
        (json!([{ "key": "A", "value": SECRET }, { "key": "A", "value": "" }]), "environmentVariables"),
        (json!(many), "environmentVariables"),
        (json!([{ "key": "A", "value": 741_852_963 }]), "environmentVariables[0].value"),
        (json!([{ "key": "A", "value": SECRET, "secret": true }]), "environmentVariables[0].secret"),
        (json!([{ "value": SECRET }]), "environmentVariables[0]"),
        (json!({ "A": SECRET }), "environmentVariables"),
    ] {
        let answer =
            post_file(&control, &path, &json!({ "name": "wrong", "environmentVariables": variables }));
        assert_eq!(answer.status, 422, "{field}: {answer:?}");
        assert_eq!(answer.json()["fieldErrors"][0]["field"], field, "{answer:?}");
        assert!(!answer.body.contains("741852963"), "{answer:?}");
    }
    let shown = control.get(&format!("/deployments/{}", estate.deployment));
    assert_eq!((&shown["name"], &shown["environmentVariables"]), (&json!("prod"), &json!([])));
    assert!(!control.directory.path().join("control/environment.key").exists());
}

/// Runs `halligan deployment variable` with the owner's token, and `input` at its standard input.
fn variable(control: &Control, words: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_halligan"))
        .args(["deployment", "variable"])
        .args(words)
        .env_clear()
        .env("HALLIGAN_URL", &control.url)
        .env("ASTRO_API_TOKEN", &control.owner)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn halligan_lists_adds_changes_and_deletes_variables_and_no_secret_is_left_anywhere() {
    let mut control = Control::start("");
    let estate = control.estate();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("prod.env");
    let file = file.to_str().unwrap();
    std::fs::write(file, format!("# ours\nB=two words\nexport C=\"3\\n\"\nT={SECRET}\n")).unwrap();
    let id = estate.deployment.as_str();
    let done = |control: &Control, words: &[&str], input: &str| -> Vec<(String, String)> {
        let output = variable(control, &[words, &["--json"]].concat(), input);
        assert!(output.status.success(), "{words:?}: {output:?}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains(SECRET), "{words:?}");
        let list: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let value = |one: &Value| one["value"].as_str().unwrap_or("?").to_owned();
        list.iter().map(|one| (one["key"].as_str().unwrap().to_owned(), value(one))).collect()
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(done(&control, &["create", "-d", id, "A=1", "D=a=b"], ""), pairs(&[("A", "1"), ("D", "a=b")]));
    let secret = ["create", "--deployment-name", "prod", "--key", "S", "--secret", "--value-file", "-"];
    assert_eq!(
        done(&control, &secret, &format!("{SECRET}\n")),
        pairs(&[("A", "1"), ("D", "a=b"), ("S", "?")])
    );
    let load = ["update", "--deployment-id", id, "--load", "--env", file, "--secret"];
    assert_eq!(done(&control, &load, "").len(), 6);
    let changed = done(&control, &["update", "-d", id, "--key", "A", "--value", "", "S=other"], "");
    assert_eq!((&*changed[0].1, &*changed[4].1), ("", "?"), "a secret stays one: {changed:?}");
    let saved = directory.path().join("saved.env");
    let saved = saved.to_str().unwrap();
    done(&control, &["list", "-d", id, "--save", "--env", saved], "");
    assert_eq!(
        std::fs::read_to_string(saved).unwrap(),
        "A=\n# B is secret\n# C is secret\nD=\"a=b\"\n# S is secret\n# T is secret\n"
    );
    assert_eq!(done(&control, &["list", "-d", id, "--key", "D"], ""), pairs(&[("D", "a=b")]));
    assert_eq!(done(&control, &["delete", "-d", id, "B", "C", "--key", "T"], "").len(), 3);
    let table = variable(&control, &["list", "-d", id], "");
    assert!(String::from_utf8_lossy(&table.stdout).contains("****"), "{table:?}");
    for words in [
        vec!["create", "-d", id, "A=2"],
        vec!["create", "-d", id, "PATH=2"],
        vec!["create", "-d", id, "X"],
        vec!["create", "-d", id, "X=1", "X=2"],
        vec!["create", "-d", id, "--key", "X"],
        vec!["create", "-d", id],
        vec!["create", "X=1"],
        vec!["delete", "-d", id, "X"],
        vec!["delete", "-d", id],
        vec!["list", "--deployment-name", "nothing"],
        vec!["list", "-d", id, "--save", "--env", saved],
    ] {
        let output = variable(&control, &words, "");
        assert!([Some(64), Some(66)].contains(&output.status.code()), "{words:?}: {output:?}");
    }
    assert_eq!(done(&control, &["list", "-d", id], "").len(), 3);

    let log = control.get("/audit-log?call=POST%20/deployments/%7Bid%7D");
    let kept = log["entries"][0]["request"].to_string();
    assert!(kept.contains(r#""key":"A""#) && !kept.contains("a=b"), "{log}");
    control.kill();
    for found in std::fs::read_dir(control.directory.path().join("control")).unwrap() {
        let found = found.unwrap().path();
        if found.is_file() {
            let bytes = std::fs::read(&found).unwrap();
            let holds = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            assert!(!holds, "{}", found.display());
        }
    }
    assert!(!std::fs::read_to_string(control.log()).unwrap().contains(SECRET));
}

#[test]
fn a_lost_key_of_the_variables_is_named_and_stops_nothing_else() {
    let mut control = Control::start("");
    let estate = control.estate();
    let one = format!("/deployments/{}", estate.deployment);
    let body = json!({ "environmentVariables": [{ "key": "A", "value": "1" }] });
    let set = control.call("POST", &one, Some(&body));
    assert_eq!(set.status, 200);
    let version = set.json()["environmentVariablesVersion"].clone();
    assert!(version.as_u64().unwrap() > 0, "{set:?}");
    let key = control.directory.path().join("control/environment.key");
    let kept = std::fs::read(&key).unwrap();
    control.kill();
    std::fs::remove_file(&key).unwrap();
    control.serve();
    let another = json!({ "environmentVariables": [{ "key": "B", "value": "1" }] });
    let refused = control.call("POST", &one, Some(&another));
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("environment_key_unusable")));
    // Without the key, answers still list the variable and say that its value cannot be read.
    let page: Deployments = decoded(&control.call("GET", "/deployments", None));
    assert_eq!(page.deployments.len(), 2);
    let shown = control.get(&one);
    let variable = &shown["environmentVariables"][0];
    assert_eq!((&variable["key"], variable.get("value")), (&json!("A"), None));
    assert_eq!(
        (&variable["isUnreadable"], &variable["isSecret"], &shown["environmentVariablesVersion"]),
        (&json!(true), &json!(false), &version)
    );
    let listed = self::variable(&control, &["list", "-d", &estate.deployment], "");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("(unreadable)"), "{listed:?}");
    // A client sends back the variable as it read it, without its value, and changes the description. The value stays.
    let update =
        json!({ "description": "without", "environmentVariables": [{ "key": "A", "isSecret": false }] });
    let renamed = control.call("POST", &one, Some(&update));
    assert_eq!((renamed.status, &renamed.json()["description"]), (200, &json!("without")), "{renamed:?}");
    assert_eq!(control.call("GET", "/tokens", None).status, 200);
    let ready = curl(&[&format!("{}/readyz", control.url)]);
    let named = ready.body.contains(&format!("{}, the key of the stored", key.display()));
    assert!(ready.status == 200 && named && ready.body.contains("forget-variables"), "{ready:?}");
    let log = std::fs::read_to_string(control.log()).unwrap();
    assert!(log.contains("environment.key") && log.contains("forget-variables"), "{log}");
    assert_eq!(log.matches("shown without their values").count(), 1, "once, not at each call: {log}");
    assert!(!key.exists());
    control.kill();
    std::fs::write(&key, kept).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    control.serve();
    assert_eq!(control.get(&one)["environmentVariables"][0]["value"], "1");
    assert_eq!(curl(&[&format!("{}/readyz", control.url)]).body, "ok\n");
    // The loss of a key is reported while the control plane runs, before the next start fails.
    std::fs::remove_file(&key).unwrap();
    assert!(curl(&[&format!("{}/readyz", control.url)]).body.contains("environment.key"));
    assert_eq!(control.get(&one)["environmentVariables"][0]["value"], "1");
}
