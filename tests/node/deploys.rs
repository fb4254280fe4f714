//! Distribution of code from the control plane to hosts, and in an outage from a client to a host, to its peers, and
//! back to the control plane.

#![allow(clippy::unwrap_used)]

mod broken;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::rig::node::Node;
use crate::rig::{Answer, Rig, curl, free_port, metrics, until};

/// Makes an archive of one file with the real tar, and returns its path.
fn pack(rig: &Rig, name: &str, content: &str) -> PathBuf {
    let folder = rig.path(&format!("folder-{name}"));
    std::fs::create_dir_all(folder.join("lib")).unwrap();
    std::fs::write(folder.join("dag.py"), content).unwrap();
    std::fs::write(folder.join("lib/more.py"), "pass").unwrap();
    let path = rig.path(&format!("{name}.tar.gz"));
    let made = Command::new("tar").arg("-czf").arg(&path).arg("-C").arg(&folder).arg(".").status().unwrap();
    assert!(made.success());
    path
}

/// Deploys of the rig's deployment at its control plane.
struct Above {
    authorization: String,
    /// Path of the deploys, without scheme and host.
    path: String,
    /// Port at which operators reach the control plane now.
    port: u16,
    /// Port that the control plane names in its URLs.
    named: u16,
}

impl Above {
    fn of(rig: &Rig) -> Self {
        let organization = rig.json(&["organization", "list"])[0]["id"].as_str().unwrap().to_owned();
        Self {
            authorization: format!("Authorization: Bearer {}", rig.owner_token),
            path: format!("v1/organizations/{organization}/deployments/{}/deploys", rig.deployment),
            port: rig.control_port,
            named: rig.control_port,
        }
    }

    /// Calls a path below the deploys, with POST if there is a body.
    fn call(&self, path: &str, body: Option<&Value>) -> Value {
        let mut arguments = vec!["-H".to_owned(), self.authorization.clone()];
        if let Some(body) = body {
            arguments
                .extend(["-H", "Content-Type: application/json", "-d", &body.to_string()].map(str::to_owned));
        }
        arguments.push(format!("http://127.0.0.1:{}/{}{path}", self.port, self.path));
        let answer = curl(&arguments);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    fn list(&self) -> Vec<Value> {
        self.call("", None)["deploys"].as_array().unwrap().clone()
    }

    /// Makes a deploy and returns its id.
    fn deploy(&self, archive: &Path) -> String {
        let made = self.call("", Some(&json!({ "type": "DAG_ONLY" })));
        let url = made["dagsUploadUrl"].as_str().unwrap();
        let url = url.replace(&format!(":{}", self.named), &format!(":{}", self.port));
        let uploaded = curl(&["-T", archive.to_str().unwrap(), "-H", "Expect:", &url]);
        assert_eq!(uploaded.status, 201, "{uploaded:?}");
        let id = made["id"].as_str().unwrap().to_owned();
        self.call(&format!("/{id}/finalize"), Some(&json!({})));
        id
    }
}

/// Pushes an archive to the host at `port`.
fn push(rig: &Rig, port: u16, token: &str, archive: &Path) -> Answer {
    let url = format!("http://127.0.0.1:{port}/v1/deploys/{}", rig.deployment);
    let authorization = format!("Authorization: Bearer {token}");
    curl(&["-T", archive.to_str().unwrap(), "-H", "Expect:", "-H", &authorization, &url])
}

/// Returns the content of the deployment's Dag file on the host with this state directory.
fn runs(rig: &Rig, state: &str) -> String {
    let path = rig.path(&format!("{state}/code/{}/current/dag.py", rig.deployment));
    std::fs::read_to_string(path).unwrap_or_default()
}

fn arrives(rig: &Rig, state: &str, content: &str) {
    until(&format!("{content} arrives in {state}"), || runs(rig, state) == content);
}

fn code(status: &Value) -> &Value {
    &status["code"][0]
}

/// Returns a rig whose host has a direct-access token, and the token.
fn with_token() -> (Rig, String) {
    let rig = Rig::start();
    let (_, token) = rig.direct_access_token("deployer", &rig.deployment);
    rig.synced();
    (rig, token)
}

#[test]
fn a_deploy_reaches_each_host_and_a_rollback_switches_back() {
    let mut rig = Rig::start();
    let (above, other) = (Above::of(&rig), Node::start(&rig, "other"));
    let (one, two) = (pack(&rig, "one", "1"), pack(&rig, "two", "2"));
    let first = above.deploy(&one);
    for state in ["node", "other/state"] {
        arrives(&rig, state, "1");
    }
    let second = above.deploy(&two);
    for state in ["node", "other/state"] {
        arrives(&rig, state, "2");
    }
    let status = rig.json(&["status"]);
    assert_eq!(code(&status)["current"], second);
    assert_eq!(
        (&code(&status)["source"], &code(&status)["problem"]),
        (&json!("control-plane"), &Value::Null)
    );
    above.call(&format!("/{first}/rollback"), Some(&json!({})));
    for state in ["node", "other/state"] {
        arrives(&rig, state, "1");
    }
    // The host repairs damaged files without the control plane.
    rig.kill_control();
    rig.kill_daemon();
    let current = rig.path(&format!("node/code/{}/current", rig.deployment));
    std::fs::write(current.join("dag.py"), "9").unwrap();
    rig.start_daemon();
    arrives(&rig, "node", "1");
    assert_eq!(rig.json(&["status"])["alarms"][0]["kind"], "damaged");
    drop(other);
}

#[test]
fn a_push_in_an_outage_holds_reaches_the_other_hosts_and_goes_up_when_it_is_over() {
    let (mut rig, token) = with_token();
    let above = Above::of(&rig);
    let mut other = Node::start(&rig, "other");
    let mut third = Node::start(&rig, "third");
    other.configure(&rig, rig.control_port, &[]);
    // The first host has no peers: the third polls the second, and the second polls the first.
    let config = rig.daemon_config();
    let port = free_port();
    std::fs::write(rig.path("halligand.toml"), format!("{config}[peers]\nlisten = [\"127.0.0.1:{port}\"]\n"))
        .unwrap();
    rig.kill_daemon();
    rig.start_daemon();
    other.configure_urls(&rig, rig.control_port, &[format!("http://127.0.0.1:{port}")]);
    third.configure(&rig, rig.control_port, &[&other]);
    let base = above.deploy(&pack(&rig, "one", "1"));
    for state in ["node", "other/state", "third/state"] {
        arrives(&rig, state, "1");
    }
    for node in [&mut other, &mut third] {
        node.restart();
        node.synced(&rig);
    }
    rig.synced();
    let version = code(&rig.json(&["status"]))["version"].clone();
    rig.kill_control();
    let pushed = push(&rig, rig.daemon_port, &token, &pack(&rig, "two", "2"));
    assert_eq!(pushed.status, 200, "{pushed:?}");
    let made = pushed.json();
    assert_eq!((&made["seq"], &made["base"]), (&json!(1), &version));
    assert_eq!(runs(&rig, "node"), "2");
    // The event is on disk and names the allowed action.
    let event = pushed.header("x-halligan-event-id").unwrap().to_owned();
    let found = rig.json(&["audit", "tail"]).to_string();
    assert!(found.contains(&event) && found.contains("deployment.deploys.create"), "{found}");
    for state in ["other/state", "third/state"] {
        arrives(&rig, state, "2");
    }
    rig.kill_daemon();
    rig.start_daemon();
    assert_eq!(runs(&rig, "node"), "2");
    let status = rig.json(&["status"]);
    assert_eq!((&code(&status)["deploy"], &code(&status)["source"]), (&made["deploy"], &json!("host")));
    assert_eq!(code(&status)["host"]["eventId"], event);
    assert!(metrics(rig.daemon_port).contains("\nhalligan_host_deploys_waiting 1\n"));
    // A second push, on another host, is based on the first one.
    let again = push(&rig, third.port, &token, &pack(&rig, "three", "3")).json();
    assert_eq!((&again["seq"], &again["base"]), (&json!(2), &version));
    rig.start_control(rig.control_port);
    until("the push is the deployment's deploy", || {
        above.list().iter().any(|deploy| deploy["id"] == again["deploy"] && deploy["isInForce"] == true)
    });
    assert!(above.list().iter().any(|deploy| deploy["id"] == base.as_str() && deploy["isInForce"] == false));
    // The hosts keep their code, which the control plane's records now name.
    until("the hosts hold the control plane's deploy", || {
        [rig.json(&["status"]), other.json(&rig, &["status"]), third.json(&rig, &["status"])].iter().all(
            |status| {
                code(status)["source"] != "host"
                    && code(status)["waiting"] == 0
                    && code(status)["version"].as_u64() > version.as_u64()
            },
        )
    });
    assert_eq!(runs(&rig, "third/state"), "3");
}

#[test]
fn a_later_deploy_of_the_control_plane_stands_and_the_hosts_is_named() {
    let (mut rig, token) = with_token();
    let mut above = Above::of(&rig);
    above.deploy(&pack(&rig, "one", "1"));
    arrives(&rig, "node", "1");
    rig.kill_control();
    // Only an outage that the host has noted is reported.
    until("the outage is noted", || rig.json(&["outage", "list"])[0]["state"] == "open");
    let pushed = push(&rig, rig.daemon_port, &token, &pack(&rig, "two", "2")).json();
    assert_eq!(runs(&rig, "node"), "2");
    // The control plane returns at another address, so operators reach it before the host does.
    above.port = free_port();
    rig.start_control(above.port);
    let standing = above.deploy(&pack(&rig, "three", "3"));
    above.port = rig.control_port;
    rig.kill_control();
    rig.start_control(rig.control_port);
    arrives(&rig, "node", "3");
    until("the host's deploy is answered", || code(&rig.json(&["status"]))["superseded"].is_object());
    let status = rig.json(&["status"]);
    let superseded = &code(&status)["superseded"];
    assert_eq!((&superseded["deploy"], &superseded["by"]), (&pushed["deploy"], &json!(standing)));
    assert!(metrics(rig.daemon_port).contains("\nhalligan_host_deploys_superseded_total 1\n"));
    assert!(status["alarms"].as_array().unwrap().is_empty(), "{}", status["alarms"]);
    let listed = above.list();
    let of_host = listed.iter().find(|deploy| deploy["id"] == pushed["deploy"]);
    assert_eq!(of_host.unwrap()["supersededById"], standing.as_str());
    let said = String::from_utf8(rig.cli(&["status"]).stdout).unwrap();
    assert!(said.contains("was not taken; the control plane keeps"), "{said}");
    // The report of the outage names both.
    until("the outage is reported", || {
        rig.json(&["outage", "list", "--control-plane"])[0]["state"] == "closed"
    });
    let report = rig.json(&["outage", "show", "--control-plane"]);
    let told = &report["deploys"][0];
    assert_eq!(
        (&told["deployId"], &told["state"], &told["supersededById"]),
        (&pushed["deploy"], &json!("superseded"), &json!(standing)),
        "{report}"
    );
    let said = String::from_utf8(rig.cli(&["outage", "show", "--control-plane"]).stdout).unwrap();
    assert!(said.contains(&standing) && said.contains(pushed["deploy"].as_str().unwrap()), "{said}");
}

#[test]
fn what_may_not_deploy_or_is_no_archive_switches_nothing() {
    let (mut rig, token) = with_token();
    let (_, foreign) = rig.direct_access_token("foreign", &rig.other_deployment);
    let accessor = rig.json(&[
        "token",
        "create",
        "-n",
        "accessor",
        "--deployment-id",
        &rig.deployment,
        "--direct-access",
        "-e",
        "30",
        "-r",
        "DEPLOYMENT_ACCESSOR",
    ]);
    let standard = |name: &str| {
        let made = rig.json(&["token", "create", "-n", name, "--deployment-id", &rig.deployment, "-e", "30"]);
        made["token"].as_str().unwrap().to_owned()
    };
    let (standard, unheard) = (standard("ci"), standard("unheard"));
    rig.synced();
    let one = pack(&rig, "one", "1");
    // A standard token may deploy while the control plane confirms it.
    assert_eq!(push(&rig, rig.daemon_port, &standard, &one).status, 200);
    rig.kill_control();
    assert_eq!(push(&rig, rig.daemon_port, &token, &one).status, 200);
    let two = pack(&rig, "two", "2");
    for (token, status, reason) in [
        ("", 401, "token_missing"),
        ("a.b.c", 401, "token_malformed"),
        (&*foreign, 403, "wrong_deployment"),
        (accessor["token"].as_str().unwrap(), 403, "permission_denied"),
        (&*unheard, 403, "needs_control_plane"),
    ] {
        let answer = push(&rig, rig.daemon_port, token, &two);
        assert_eq!((answer.status, answer.reason()), (status, reason), "{answer:?}");
    }
    // Every host refuses to unpack these archives.
    let link = rig.path("link");
    std::fs::create_dir(&link).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", link.join("dag.py")).unwrap();
    let pack_with = |name: &str, arguments: &[&str]| {
        let path = rig.path(name);
        let made = Command::new("tar").arg("-czPf").arg(&path).args(arguments).status().unwrap();
        assert!(made.success());
        path
    };
    let folder = rig.path("folder-two");
    let folder = folder.to_str().unwrap();
    let whole = std::fs::read(&two).unwrap();
    let written = |name: &str, bytes: &[u8]| {
        let path = rig.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    for (archive, detail) in [
        (pack_with("link.tar.gz", &["-C", link.to_str().unwrap(), "."]), "link"),
        (pack_with("absolute.tar.gz", &[folder]), "absolute"),
        (pack_with("above.tar.gz", &["-C", folder, "--transform", "s,^,../,", "dag.py"]), "\\\"..\\\""),
        (pack_with("twice.tar.gz", &["-C", folder, "dag.py", "dag.py", "--hard-dereference"]), "same name"),
        (written("cut.tar.gz", &whole[..whole.len() / 2]), "ends early"),
        (written("more.tar.gz", &[&whole[..], b"more"].concat()), "behind its end"),
        (written("empty.tar.gz", b""), "ends early"),
        (written("text.tar.gz", b"print(\"a Dag, and no archive\")"), "gzip"),
    ] {
        let answer = push(&rig, rig.daemon_port, &token, &archive);
        assert_eq!((answer.status, &answer.json()["code"]), (422, &json!("archive_refused")), "{answer:?}");
        assert!(answer.body.contains(detail), "{}", answer.body);
        assert_eq!(runs(&rig, "node"), "1", "{}", archive.display());
    }
    let url = format!("http://127.0.0.1:{}/v1/deploys/{}", rig.daemon_port, rig.deployment);
    let authorization = format!("Authorization: Bearer {token}");
    assert_eq!(curl(&["-H", &authorization, &url]).status, 405);
    assert_eq!(broken::begin(&rig, &token, 1 << 31, b"").1, 413);
    let status = rig.json(&["status"]);
    assert_eq!(status["alarms"], json!([]), "a bad archive is no alarm of the host");
}
