//! The real Airflow behind the gateway of `halligan dev`: its api-server, with two sample Dags and no scheduler.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::failed;
use crate::cli::failure::Failure;
use crate::platform::net::provider;

/// Where `.ci/setup` installs Airflow.
pub(super) const INSTALLED: &str = "/opt/halligan-ci/airflow";

/// Dags that a newcomer finds.
const DAGS: &str = "\
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

for dag_id, tag in ((\"etl\", \"finance\"), (\"payroll\", \"hr\")):
    with DAG(dag_id, schedule=None, tags=[tag]):
        EmptyOperator(task_id=\"extract\") >> EmptyOperator(task_id=\"load\")
";

/// Time within which Airflow has to answer. Its start takes 5 seconds on an idle machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// Airflow that can be started.
#[derive(Debug)]
pub(super) struct Airflow {
    program: PathBuf,
    home: PathBuf,
    port: u16,
}

impl Airflow {
    /// Finds Airflow in a virtual environment. What it keeps lies in `state`.
    pub(super) fn find(environment: &Path, state: &Path) -> Result<Self, Failure> {
        let program = environment.join("bin/airflow");
        if !program.is_file() {
            return Err(Failure::Usage(format!(
                "there is no Airflow in {}: name a Python virtual environment that has one, --airflow DIR",
                environment.display()
            )));
        }
        Ok(Self { program, home: state.join("airflow"), port: free_port()? })
    }

    /// Returns the address of the api-server.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Prepares its database and starts the api-server, which trusts the keys in `jwks`. Returns once it answers.
    pub(super) async fn start(self, jwks: PathBuf) -> Result<Running, Failure> {
        let url = format!("{}/api/v2/version", self.url());
        let log = self.home.join("api-server.log");
        let starting = tokio::task::spawn_blocking(move || self.spawn(&jwks));
        let mut running = starting.await.map_err(|error| failed("Airflow can't start", error))??;
        provider::install();
        let client = reqwest::Client::builder().no_proxy().build();
        let client = client.map_err(|error| failed("Airflow can't be asked", error))?;
        let stopped = || failed("Airflow stopped", format!("{} says why", log.display()));
        let answers = async {
            loop {
                let answer = client.get(&url).timeout(Duration::from_secs(5)).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return Ok(());
                }
                if !matches!(running.0.try_wait(), Ok(None)) {
                    return Err(stopped());
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let late = |_| failed("Airflow does not answer", format!("{} says why", log.display()));
        tokio::time::timeout(PATIENCE, answers).await.map_err(late)??;
        Ok(running)
    }

    fn spawn(&self, jwks: &Path) -> Result<Running, Failure> {
        let broken = |path: &Path| {
            let path = path.to_owned();
            move |source| Failure::File { path, source }
        };
        let dags = self.home.join("dags");
        std::fs::create_dir_all(&dags).map_err(broken(&dags))?;
        let sample = dags.join("sample.py");
        std::fs::write(&sample, DAGS).map_err(broken(&sample))?;
        for arguments in [&["db", "migrate"][..], &["dags", "reserialize"]] {
            let output = self.command(arguments, jwks).output().map_err(broken(&self.program))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(failed(&format!("airflow {} failed", arguments.join(" ")), said.trim()));
            }
        }
        let log = self.home.join("api-server.log");
        let (out, port) = (File::create(&log).map_err(broken(&log))?, self.port.to_string());
        let listen = ["api-server", "--host", "127.0.0.1", "--port", &port, "--workers", "1"];
        let mut server = self.command(&listen, jwks);
        server.stdout(out.try_clone().map_err(broken(&log))?).stderr(out);
        server.spawn().map(Running).map_err(broken(&self.program))
    }

    fn command(&self, arguments: &[&str], jwks: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .env("AIRFLOW_HOME", &self.home)
            .env("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
            .env("AIRFLOW__API_AUTH__TRUSTED_JWKS_URL", jwks)
            .env("AIRFLOW__API_AUTH__JWT_ALGORITHM", "EdDSA");
        command
    }
}

/// A running api-server. It ends with this value.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a port of loopback on which nobody listens.
pub(super) fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| failed("no port is free", error))
}
