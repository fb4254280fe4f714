//! `halligan dev`: one command gives a newcomer a control plane, a daemon and a token that works, and an outage to try it in.

#![allow(clippy::unwrap_used, clippy::panic)]

mod rig;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rig::{Answer, curl, until};
use serde_json::Value;

/// A running `halligan dev`, and what it announced.
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

    /// The CLI of a user who has nothing but what was announced.
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
    assert!(answer.header("x-halligan-token-id").is_some_and(|id| id.starts_with("tok_")));
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
