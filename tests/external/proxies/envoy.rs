//! Envoy with ext_authz, over HTTP and over gRPC.

use std::path::Path;
use std::process::{Command, Stdio};

use super::contract::{OwnAnswers, Setting};
use super::edges::Front;
use crate::rig::{Running, component, free_port};

/// Starts Envoy with an example, listening at `port`.
pub(super) fn start(setting: &Setting, program: &Path, example: &str, port: u16) -> Running {
    let address = |port: u16| format!("{{ address: 127.0.0.1, port_value: {port} }}");
    let config = setting
        .example(example)
        .replace("{ address: 0.0.0.0, port_value: 80 }", &address(port))
        .replace("{ address: 127.0.0.1, port_value: 8181 }", &address(setting.rig.daemon_port))
        .replace("{ address: 127.0.0.1, port_value: 8182 }", &address(setting.grpc_port))
        .replace("{ address: 127.0.0.1, port_value: 8080 }", &address(setting.upstream.port));
    let path = setting.rig.path("envoy.yaml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(&path).args(["--concurrency", "1", "--disable-hot-restart", "-l", "error"]);
    let log = std::fs::File::create(setting.rig.path("envoy.log")).unwrap();
    Running::start(command.stderr(Stdio::from(log)))
}

#[test]
fn envoy_asks_about_every_request_over_http() {
    let Some(program) = component("envoy") else { return };
    let mut setting = Setting::new();
    let port = free_port();
    let _envoy = start(&setting, &program, "envoy-http.yaml", port);
    setting.holds(Front::EnvoyHttp, port, OwnAnswers { undecided: (503, false), down: 503 });
}

#[test]
fn envoy_asks_about_every_request_over_grpc() {
    let Some(program) = component("envoy") else { return };
    let mut setting = Setting::new();
    let port = free_port();
    let _envoy = start(&setting, &program, "envoy-grpc.yaml", port);
    setting.holds(Front::EnvoyGrpc, port, OwnAnswers { undecided: (503, true), down: 503 });
}
