//! `halligan dev`: one command gives a newcomer a control plane, a daemon, a working token and an outage to try.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::rig::{Answer, component, curl, free_port, until};
use serde_json::Value;

/// A running `halligan dev` and the values that it printed.
struct Dev {
    child: Child,
    ready: Value,
}

impl Dev {
    fn start(home: &Path, arguments: &[&str]) -> Self {
        let mut child = Self::command(home)
            .args(["dev", "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut announced = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut announced).unwrap();
        let ready = serde_json::from_str(&announced).unwrap_or_else(|error| panic!("{error}: {announced}"));
        Self { child, ready }
    }

    /// Returns the CLI of a user who has only the printed values.
    fn command(home: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligan"));
        command.env("XDG_RUNTIME_DIR", home).env_remove("HALLIGAN_API_TOKEN").env_remove("ASTRO_API_TOKEN");
        command
    }

    fn text(&self, member: &str) -> &str {
        self.ready[member].as_str().unwrap_or_else(|| panic!("{member} is not announced: {}", self.ready))
    }

    fn ask(&self, token: &str, method: &str) -> Answer {
        curl(&[
            "-H",
            &format!("Authorization: Bearer {}", self.text(token)),
            "-H",
            &format!("X-Original-Method: {method}"),
            "-H",
            "X-Original-URI: /api/v2/dags/etl",
            self.text("authorize_url"),
        ])
    }

    fn outage(home: &Path, state: &str) {
        let asked = Self::command(home).args(["dev", "outage", state]).stdout(Stdio::null()).status();
        assert!(asked.unwrap().success());
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

#[test]
fn one_command_gives_a_token_that_outlives_the_control_plane() {
    let home = tempfile::tempdir().unwrap();
    let dev = Dev::start(home.path(), &[]);
    for member in ["control_url", "daemon_url", "organization_id", "data_plane_id", "standard_token"] {
        assert!(!dev.text(member).is_empty());
    }
    assert_eq!(dev.ask("direct_access_token", "PATCH").status, 200);
    let listed = Dev::command(home.path())
        .env("HALLIGAN_URL", dev.text("control_url"))
        .env("HALLIGAN_API_TOKEN", dev.text("owner_token"))
        .args(["token", "list", "--json"])
        .output()
        .unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&listed.stdout).unwrap()["totalCount"], 2);

    Dev::outage(home.path(), "on");
    let health = format!("{}/healthz", dev.text("control_url"));
    assert_eq!(curl(&[&health]).status, 0, "the control plane is still there");
    let answer = dev.ask("direct_access_token", "PATCH");
    assert_eq!((answer.status, answer.reason()), (200, "ok"));
    assert!(answer.header("x-halligan-token-id").is_some_and(|id| id.len() == 25 && id.starts_with('c')));
    until("the daemon knows of the outage", || {
        dev.ask("standard_token", "GET").reason() == "needs_control_plane"
    });
    Dev::outage(home.path(), "off");
    until("the control plane is back", || curl(&[&health]).status == 200);
}

#[test]
fn what_is_kept_in_a_directory_is_there_at_the_next_start() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let arguments = ["--dir", state.to_str().unwrap()];
    let first = Dev::start(home.path(), &arguments);
    let (deployment, address) =
        (first.text("deployment_id").to_owned(), first.text("control_url").to_owned());
    drop(first);
    let again = Dev::start(home.path(), &arguments);
    assert_eq!((again.text("deployment_id"), again.text("control_url")), (&*deployment, &*address));
    assert_eq!(again.ask("direct_access_token", "GET").status, 200);
}

/// Starts `halligan dev` and returns its output up to the end of the introduction.
fn printed(home: &Path) -> (Child, String) {
    let mut child =
        Dev::command(home).arg("dev").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut text = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    while !text.ends_with("Ctrl-C ends it.\n") {
        assert!(lines.read_line(&mut text).unwrap() > 0, "{text}");
    }
    (child, text)
}

#[test]
fn what_it_prints_and_the_page_on_proxies_bring_a_newcomer_through_nginx() {
    let (Some(_), Some(_)) = (component("nginx"), component("python3")) else { return };
    let home = tempfile::tempdir().unwrap();
    let (child, text) = printed(home.path());
    let _dev = Dev { child, ready: Value::Null };
    let page = include_str!("../../docs/proxies.md");
    let (_, section) = page.split_once("## In a few minutes, with `halligan dev`").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let pasted = text.lines().filter(|line| line.starts_with("  export "));
    let typed = section.lines().filter(|line| line.starts_with("    "));
    // Several tests run at once, so this one uses other ports and another directory. It also waits until the upstream
    // listens.
    let (upstream, proxy) = (free_port(), free_port());
    let waits = format!("until curl -s -o /dev/null http://127.0.0.1:{upstream}/; do sleep 0.1; done");
    let script = pasted
        .chain(typed)
        .flat_map(|line| [Some(line), line.contains("http.server").then_some(&*waits)])
        .flatten()
        .collect::<Vec<_>>()
        .join("\n")
        .replace("http.server 8080", &format!("http.server {upstream}"))
        .replace("8088;|", &format!("8088;|; s|127.0.0.1:8080|127.0.0.1:{upstream}|"))
        .replace("127.0.0.1:8088", &format!("127.0.0.1:{proxy}"))
        .replace("/tmp/halligan", home.path().join("nginx").to_str().unwrap());
    let output = Command::new("bash")
        .args(["-c", &format!("halligan() {{ {} \"$@\"; }}\n{script}", env!("CARGO_BIN_EXE_halligan"))])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("XDG_RUNTIME_DIR", home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let statuses: Vec<&str> = said.lines().filter_map(|line| line.trim().strip_prefix("HTTP/1.1 ")).collect();
    assert_eq!(statuses, ["200 OK", "401 Unauthorized", "200 OK"], "{output:?}");
    assert!(
        said.contains("X-Halligan-Reason: ok") && said.contains("X-Halligan-Reason: token_missing"),
        "{said}"
    );
}
