//! Route maps of other upstreams: a deployment names a map, its hosts store it, and the daemon enforces it.

#![allow(clippy::unwrap_used)]

use crate::rig::Rig;

const GRAFANA: &str = "
[routes.\"/api/dashboards/{uid}\"]
GET = [\"deployment.metrics.get\"]
DELETE = [\"deployment.update\"]
";

#[test]
fn a_deployment_is_guarded_by_the_map_it_names() {
    let mut rig = Rig::start();
    let at = ["--workspace-id", &rig.workspace.clone(), "--data-plane-id", &rig.data_plane.clone()];
    let create = ["deployment", "create", "dashboards", "--routes", "grafana"];
    rig.deployment = rig.made(&[&create[..], &at[..]].concat());
    let (_, token) = rig.direct_access_token("dashboards", &rig.deployment);
    rig.synced();

    let (found, missing) = ("/api/dashboards/home?orgId=1", "/api/v2/dags");
    for path in [found, missing] {
        let answer = rig.authorize(&token, "GET", path);
        assert_eq!((answer.status, answer.reason()), (403, "route_unknown"), "the host has no such map");
    }

    std::fs::create_dir(rig.path("routes")).unwrap();
    std::fs::write(rig.path("routes/grafana.toml"), GRAFANA).unwrap();
    let config = rig.daemon_config() + &format!("[routes]\ndirectory = '{}'\n", rig.path("routes").display());
    std::fs::write(rig.path("halligand.toml"), config).unwrap();
    rig.kill_daemon();
    rig.start_daemon();
    assert_eq!(rig.authorize(&token, "GET", found).status, 200);
    assert_eq!(rig.authorize(&token, "DELETE", "/api/dashboards/home").status, 200);
    for (method, path) in [("POST", found), ("GET", missing)] {
        let answer = rig.authorize(&token, method, path);
        assert_eq!((answer.status, answer.reason()), (403, "route_unknown"), "{method} {path}");
    }

    // The deployment gets another map, and its hosts a new head.
    rig.cli(&["deployment", "update", &rig.deployment, "--routes", "airflow-v2"]);
    rig.synced();
    assert_eq!(rig.authorize(&token, "GET", missing).status, 200);
    assert_eq!(rig.authorize(&token, "GET", found).reason(), "route_unknown");

    let refused = rig
        .cli_command()
        .args(["deployment", "create", "elsewhere", "--routes", "../grafana"])
        .args(at)
        .output()
        .unwrap();
    assert!(!refused.status.success(), "a name that leads out of the directory");
}

#[test]
fn a_daemon_does_not_start_on_a_faulty_map() {
    let mut rig = Rig::start();
    std::fs::create_dir(rig.path("routes")).unwrap();
    std::fs::write(rig.path("routes/grafana.toml"), "[routes.\"/a\"]\nGET = []\n").unwrap();
    let config = rig.daemon_config() + &format!("[routes]\ndirectory = '{}'\n", rig.path("routes").display());
    std::fs::write(rig.path("halligand.toml"), config).unwrap();
    rig.kill_daemon();
    for command in ["run", "check-config"] {
        let output = rig.daemon_command().arg(command).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{error}");
        assert!(error.contains("grafana.toml: GET /a needs no permission"), "{error}");
    }
}
