//! Promises of docs/pipelines.md: a job without a terminal creates, rotates and deletes tokens without a prompt.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};

use crate::rig::control::Control;
use serde_json::json;

/// Runs a job with an environment of its own and an empty standard input.
fn job(control: &Control, variable: &str, token: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_halligan"))
        .args(arguments)
        .env_clear()
        .env("HALLIGAN_URL", &control.url)
        .env(variable, token)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_job_without_a_terminal_rotates_a_token_and_gets_its_value_alone() {
    let control = Control::start("");
    let owner = json!({ "name": "pipeline", "type": "ORGANIZATION", "role": "ORGANIZATION_OWNER" });
    let pipeline = control.make("/tokens", &owner)["token"].as_str().unwrap().to_owned();
    for variable in ["HALLIGAN_API_TOKEN", "ASTRO_API_TOKEN"] {
        let run = |arguments: &[&str]| job(&control, variable, &pipeline, arguments);
        let made = run(&[
            "token",
            "create",
            "-n",
            variable,
            "-r",
            "ORGANIZATION_MEMBER",
            "-e",
            "1",
            "--clean-output",
        ]);
        assert!(made.status.success(), "{made:?}");
        let value = String::from_utf8(made.stdout).unwrap();
        assert!(value.starts_with("eyJ") && value.trim_end().matches('\n').count() == 0, "{value:?}");
        // Without a terminal there is no prompt: an irreversible command requires --force, and its error says so.
        let asked = run(&["token", "rotate", variable]);
        assert_eq!(asked.status.code(), Some(64), "{asked:?}");
        assert!(String::from_utf8_lossy(&asked.stderr).contains("--force"), "{asked:?}");
        let rotated = run(&["token", "rotate", variable, "--force", "--clean-output"]);
        assert!(rotated.status.success(), "{rotated:?}");
        assert_ne!(String::from_utf8(rotated.stdout).unwrap(), value);
        let listed = run(&["token", "list", "--json"]);
        assert!(serde_json::from_slice::<serde_json::Value>(&listed.stdout).is_ok(), "{listed:?}");
        assert!(run(&["token", "delete", variable, "--force"]).status.success());
    }
}

#[test]
fn the_first_variable_counts_and_none_is_a_mistake_that_says_what_to_set() {
    let control = Control::start("");
    let mut both = Command::new(env!("CARGO_BIN_EXE_halligan"));
    both.args(["organization", "list"]).env_clear().env("HALLIGAN_URL", &control.url);
    both.env("HALLIGAN_API_TOKEN", &control.owner).env("ASTRO_API_TOKEN", "another").stdin(Stdio::null());
    assert!(both.output().unwrap().status.success());
    let none = job(&control, "UNRELATED", "x", &["organization", "list"]);
    assert_eq!(none.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&none.stderr).contains("HALLIGAN_API_TOKEN"), "{none:?}");
    let wrong = job(&control, "HALLIGAN_API_TOKEN", "eyJ.x.y", &["organization", "list"]);
    assert_eq!(wrong.status.code(), Some(77), "{wrong:?}");
    assert!(!String::from_utf8_lossy(&wrong.stderr).contains("eyJ.x.y"), "a token is never said back");
}
