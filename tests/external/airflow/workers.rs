//! Airflow's workers on a host whose node issues identity tokens: a scheduler runs a task that was triggered during an
//! outage.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::prepare;
use super::server::{Airflow, front};
use crate::rig::{Rig, curl};

/// A Dag whose task needs a worker. An `EmptyOperator` would need none, because the scheduler itself finishes it.
const WORK: &str = "
from airflow.sdk import DAG, task

with DAG(\"work\", schedule=None, is_paused_upon_creation=False):

    @task
    def count():
        return sum(range(10))

    count()
";

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
}

fn call(url: &str, token: &str, method: &str, body: &Value) -> Value {
    let answer = curl(&[
        "-X".to_owned(),
        method.to_owned(),
        "-H".to_owned(),
        format!("Authorization: Bearer {token}"),
        "-H".to_owned(),
        "Content-Type: application/json".to_owned(),
        "-d".to_owned(),
        body.to_string(),
        url.to_owned(),
    ]);
    assert_eq!(answer.status, 200, "{method} {url}: {answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

#[test]
fn a_task_that_was_triggered_in_an_outage_is_run_by_airflows_own_workers() {
    let Some(venv) = crate::rig::airflow::venv() else { return };
    let _alone = crate::rig::alone();
    let mut rig = Rig::start();
    let (private, public) = (rig.path("airflow-jwt.pem"), rig.path("airflow-jwt.pub.pem"));
    let (private, public) = (private.to_str().unwrap(), public.to_str().unwrap());
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", private]);
    openssl(&["pkey", "-in", private, "-pubout", "-out", public]);
    let identity = format!("[upstream_identity]\nairflow_keys = ['{public}']\n");
    std::fs::write(rig.path("halligand.toml"), rig.daemon_config() + &identity).unwrap();
    rig.kill_daemon();
    rig.start_daemon();
    let token = prepare(&rig).admin.1;
    let home = rig.path("airflow");
    std::fs::create_dir_all(home.join("dags")).unwrap();
    std::fs::write(home.join("dags/work.py"), WORK).unwrap();
    let own = [("AIRFLOW__API_AUTH__JWT_PRIVATE_KEY_PATH", private.to_owned())];
    let airflow = Airflow::start_with(&venv, &home, &rig.path("node/jwks.json"), &own);
    let _scheduler = airflow.scheduler();
    let Some((url, _nginx)) = front(&rig, airflow.tapped()) else { return };
    rig.kill_control();

    let runs = format!("{url}/api/v2/dags/work/dagRuns");
    let run = call(&runs, &token, "POST", &json!({ "logical_date": null }));
    let (run, begun) = (run["dag_run_id"].as_str().unwrap(), Instant::now());
    // Airflow starts Python anew for each task, which is slow on a busy machine.
    let state = loop {
        let state = call(&format!("{runs}/{run}"), &token, "GET", &Value::Null)["state"].clone();
        if !["queued", "running"].contains(&state.as_str().unwrap())
            || begun.elapsed() > Duration::from_mins(3)
        {
            break state;
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    let log = std::fs::read_to_string(home.join("scheduler.log")).unwrap();
    assert_eq!(state, "success", "{log}");
}
