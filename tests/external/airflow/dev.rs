//! `halligan dev --airflow`: a newcomer tries an outage in the browser without any manual setup.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::browser::sign_in;
use crate::rig::until;
use crate::rig::webdriver::Browser;

struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        // SIGTERM lets the program stop Airflow too.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn halligan(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halligan"));
    command.env("XDG_RUNTIME_DIR", home).stdin(Stdio::null());
    command
}

#[test]
fn a_newcomer_clicks_through_an_outage() {
    let Some(venv) = crate::rig::airflow::venv() else { return };
    let Some(browser) = Browser::start() else { return };
    let _alone = crate::rig::alone();
    let home = tempfile::tempdir().unwrap();
    let mut command = halligan(home.path());
    command.args(["dev", "--json", "--airflow"]).arg(&venv).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut announced = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut announced).unwrap();
    let _dev = Dev(child);
    let ready: Value = serde_json::from_str(&announced).unwrap();
    let at = |path: &str| format!("{}{path}", ready["airflow_url"].as_str().unwrap());

    browser.open(&at("dags"));
    sign_in(&browser, ready["direct_access_token"].as_str().unwrap());
    browser.reads("payroll");
    let cut = halligan(home.path()).args(["dev", "outage", "on"]).output().unwrap();
    assert!(cut.status.success(), "{cut:?}");
    until("the pages tell of the outage", || {
        browser.open(&at(".halligan/sign-out"));
        browser.text().contains("an outage")
    });
    browser.open(&at("dags/etl"));
    browser.reads("extract");
}
