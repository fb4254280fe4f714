//! Deploys with the real Airflow: it runs the code that was deployed at the control plane, and during an outage the
//! code that was pushed to its host.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::rig::{Rig, until};

/// Creates a folder with one Dag of this id.
fn folder(rig: &Rig, dag: &str) -> PathBuf {
    let folder = rig.path(&format!("dags-{dag}"));
    std::fs::create_dir(&folder).unwrap();
    let text = format!(
        "from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG({dag:?}, schedule=None):
    EmptyOperator(task_id=\"load\")
"
    );
    std::fs::write(folder.join("sample.py"), text).unwrap();
    folder
}

/// Deploys a folder with `halligan deploy` and a token.
fn deploy(rig: &Rig, token: &str, more: &[&str], folder: &Path) {
    let mut command = rig.cli_command();
    command.env("HALLIGAN_API_TOKEN", token).args(["deploy", "--deployment-id", &rig.deployment]);
    let output = command.args(more).arg(folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Airflow's own command line on the host, whose Dag folder is the code of the deployment.
struct Airflow {
    venv: PathBuf,
    home: PathBuf,
    dags: PathBuf,
}

impl Airflow {
    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(self.venv.join("bin/airflow"))
            .args(arguments)
            .env("AIRFLOW_HOME", &self.home)
            .env("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
            .env("AIRFLOW__CORE__DAGS_FOLDER", &self.dags)
            // Airflow's user may have no permission to write into the folder.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "airflow {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns the ids of Airflow's Dags after it has read the folder.
    fn dags(&self) -> Vec<String> {
        self.run(&["dags", "reserialize"]);
        let listed = self.run(&["dags", "list", "--output", "json"]);
        let listed: Value = serde_json::from_str(&listed[listed.find('[').unwrap()..]).unwrap();
        listed.as_array().unwrap().iter().map(|dag| dag["dag_id"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn airflow_sees_a_dag_that_was_deployed_and_one_that_was_pushed_to_the_host_in_an_outage() {
    let Some(venv) = crate::rig::airflow::venv() else { return };
    let _alone = crate::rig::alone();
    let mut rig = Rig::start();
    let made = rig.json(&["token", "create", "-n", "ci", "--deployment-id", &rig.deployment, "-e", "30"]);
    let (_, direct) = rig.direct_access_token("outage", &rig.deployment);
    rig.synced();
    let dags = rig.path(&format!("node/code/{}/current", rig.deployment));
    let airflow = Airflow { venv, home: rig.path("airflow"), dags: dags.clone() };
    airflow.run(&["db", "migrate"]);

    deploy(&rig, made["token"].as_str().unwrap(), &[], &folder(&rig, "nightly"));
    until("the deploy arrives", || dags.join("sample.py").exists());
    assert!(airflow.dags().contains(&"nightly".to_owned()));

    rig.kill_control();
    let host = format!("http://127.0.0.1:{}", rig.daemon_port);
    deploy(&rig, &direct, &["--host", &host], &folder(&rig, "fix"));
    assert!(airflow.dags().contains(&"fix".to_owned()));
    let status = rig.json(&["status"]);
    assert_eq!((&status["code"][0]["source"], &status["alarms"]), (&"host".into(), &serde_json::json!([])));
}
