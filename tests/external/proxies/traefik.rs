//! Traefik 3 with `forwardAuth`.

use std::path::Path;
use std::process::{Command, Stdio};

use super::contract::{OwnAnswers, Setting};
use super::edges::Front;
use crate::rig::{Running, component, free_port};

#[test]
fn traefik_asks_about_every_request() {
    let Some(program) = component("traefik") else { return };
    let mut setting = Setting::new();
    let port = free_port();
    let _traefik = start(&setting, &program, port);
    setting.holds(Front::Traefik, port, OwnAnswers { undecided: (503, true), down: 500 });
}

/// Starts Traefik with its example, listening at `port`.
pub(super) fn start(setting: &Setting, program: &Path, port: u16) -> Running {
    let dynamic = setting.rig.path("traefik-dynamic.yml");
    std::fs::write(&dynamic, setting.example("traefik-dynamic.yml")).unwrap();
    let config = setting
        .example("traefik.yml")
        .replace("/etc/traefik/halligan.yml", &dynamic.display().to_string())
        .replace("\":80\"", &format!("\"127.0.0.1:{port}\""));
    let path = setting.rig.path("traefik.yml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(program);
    command.arg(format!("--configfile={}", path.display())).stderr(Stdio::null());
    Running::start(&mut command)
}
