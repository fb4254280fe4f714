//! Airflow's api-server, and nginx in front of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::tap::Tap;
use crate::rig::proxy::nginx_example;
use crate::rig::{Rig, Running, curl, free_port, nginx, until};

/// Two Dags, each with a tag of its own.
const DAGS: &str = "
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

for dag_id, tag in ((\"etl\", \"finance\"), (\"payroll\", \"hr\")):
    with DAG(dag_id, schedule=None, tags=[tag]):
        EmptyOperator(task_id=\"load\")
";

/// A running api-server with a database of its own.
pub(super) struct Airflow {
    pub(super) url: String,
    pub(super) venv: PathBuf,
    pub(super) home: PathBuf,
    tap: Tap,
    settings: BTreeMap<&'static str, String>,
    _running: Running,
}

fn airflow(venv: &Path, settings: &BTreeMap<&'static str, String>, arguments: &[&str]) -> Command {
    let mut command = Command::new(venv.join("bin/airflow"));
    command.args(arguments).envs(settings).stdin(Stdio::null());
    command
}

impl Airflow {
    /// Starts the api-server, which trusts the keys in `jwks`.
    pub(super) fn start(venv: &Path, home: &Path, jwks: &Path) -> Self {
        Self::start_with(venv, home, jwks, &[])
    }

    /// Does the same with further settings.
    pub(super) fn start_with(venv: &Path, home: &Path, jwks: &Path, more: &[(&'static str, String)]) -> Self {
        std::fs::create_dir_all(home.join("dags")).unwrap();
        std::fs::write(home.join("dags/sample.py"), DAGS).unwrap();
        let port = free_port();
        let mut settings = BTreeMap::from([
            ("AIRFLOW_HOME", home.display().to_string()),
            ("AIRFLOW__CORE__LOAD_EXAMPLES", "False".into()),
            ("AIRFLOW__API_AUTH__TRUSTED_JWKS_URL", jwks.display().to_string()),
            ("AIRFLOW__API_AUTH__JWT_ALGORITHM", "EdDSA".into()),
            ("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", format!("http://127.0.0.1:{port}/execution/")),
        ]);
        settings.extend(more.iter().cloned());
        let command = |arguments: &[&str]| airflow(venv, &settings, arguments);
        for arguments in [&["db", "migrate"][..], &["dags", "reserialize"]] {
            let output = command(arguments).output().unwrap();
            assert!(output.status.success(), "airflow {arguments:?}: {output:?}");
        }
        let log = std::fs::File::create(home.join("api-server.log")).unwrap();
        let listen = ["api-server", "--host", "127.0.0.1", "--port", &port.to_string(), "--workers", "1"];
        let mut server = command(&listen);
        let running = Running::start(server.stderr(log));
        let url = format!("http://127.0.0.1:{port}");
        // Python starts slowly on a busy machine.
        let started = Instant::now();
        while curl(&[format!("{url}/api/v2/version")]).status != 200 {
            assert!(started.elapsed() < Duration::from_mins(2), "Airflow does not come up at {url}");
            std::thread::sleep(Duration::from_millis(200));
        }
        let tap = Tap::start(port);
        Self { tap, url, venv: venv.into(), home: home.into(), settings, _running: running }
    }

    /// Starts a scheduler with its own workers (Airflow's `LocalExecutor`), and without a log server, which would
    /// outlive it.
    pub(super) fn scheduler(&self) -> Running {
        let log = std::fs::File::create(self.home.join("scheduler.log")).unwrap();
        let mut command = airflow(&self.venv, &self.settings, &["scheduler", "--skip-serve-logs"]);
        Running::start(command.stdout(log.try_clone().unwrap()).stderr(log))
    }

    /// Writes the state and a log line of a failed task, as a worker would. No scheduler runs here.
    pub(super) fn failed(&self, dag: &str, run: &str, task: &str, line: &str) {
        let log = self.home.join(format!("logs/dag_id={dag}/run_id={run}/task_id={task}"));
        std::fs::create_dir_all(&log).unwrap();
        let line =
            serde_json::json!({ "timestamp": "2026-11-27T03:00:00Z", "level": "error", "event": line });
        std::fs::write(log.join("attempt=1.log"), format!("{line}\n")).unwrap();
        let script = "import sqlite3, sys
database, run, task = sys.argv[1:]
with sqlite3.connect(database, timeout=30) as connection:
    times = \"state = 'failed', start_date = '2026-11-27 03:00:00', end_date = '2026-11-27 03:00:07'\"
    connection.execute(f'update task_instance set {times}, try_number = 1 where run_id = ? and task_id = ?', (run, task))
    connection.execute(f'update dag_run set {times} where run_id = ?', (run,))
";
        let mut python = Command::new(self.venv.join("bin/python"));
        python.args(["-c", script]).arg(self.home.join("airflow.db")).args([run, task]);
        let output = python.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Returns the port of the tap, which forwards to Airflow and records every byte sent to it.
    pub(super) fn tapped(&self) -> u16 {
        self.tap.port
    }

    /// Returns all bytes sent to Airflow.
    pub(super) fn seen(&self) -> String {
        self.tap.seen()
    }
}

/// Starts nginx with the configuration of the docs in front of an upstream at `port`. Returns its address.
pub(super) fn front(rig: &Rig, port: u16) -> Option<(String, Running)> {
    let listen = free_port();
    let running = nginx::start(rig, "front", "", &nginx_example(rig, listen, port))?;
    let url = format!("http://127.0.0.1:{listen}");
    until("nginx answers", || curl(&[&url]).status != 0);
    Some((url, running))
}
