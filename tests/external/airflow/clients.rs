//! Airflow's own clients: its Python library and `airflowctl`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::server::Airflow;

/// Result of a client's call.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Passed(Value),
    Refused { status: u16, reason: String },
}

impl Answer {
    pub(super) fn passed(self) -> Value {
        match self {
            Self::Passed(value) => value,
            Self::Refused { .. } => panic!("{self:?}"),
        }
    }
}

/// Makes a call with the Python library (`client.py` beside this file).
pub(super) fn python(airflow: &Airflow, url: &str, token: &str, arguments: &[&str]) -> Answer {
    let output = Command::new(airflow.venv.join("bin/python"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/external/airflow/client.py"))
        .args(arguments)
        .env("AIRFLOW_URL", url)
        .env("AIRFLOW_TOKEN", token)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    match answer["status"].as_u64() {
        Some(status) => Answer::Refused {
            status: u16::try_from(status).unwrap(),
            reason: answer["reason"].as_str().unwrap_or_default().to_owned(),
        },
        None => Answer::Passed(answer["result"].clone()),
    }
}

/// Makes a call with `airflowctl`, logged in with the token.
pub(super) fn airflowctl(airflow: &Airflow, url: &str, token: &str, arguments: &[&str]) -> Answer {
    let home = airflow.home.join("airflowctl");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(airflow.venv.join("bin/airflowctl"));
        command.args(arguments).env("AIRFLOW_HOME", &home).env("AIRFLOW_CLI_TOKEN", token);
        command.output().unwrap()
    };
    let login = run(&["auth", "login", "--api-url", url, "--skip-keyring"]);
    assert!(login.status.success(), "{login:?}");
    let output = run(arguments);
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    if output.status.success() {
        Answer::Passed(serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{text}")))
    } else {
        let status = if text.contains("403") { 403 } else { 0 };
        Answer::Refused { status, reason: text.into_owned() }
    }
}
