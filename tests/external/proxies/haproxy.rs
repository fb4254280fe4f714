//! Debian's HAProxy with a Lua action.

use std::path::Path;
use std::process::{Command, Stdio};

use super::contract::{OwnAnswers, Setting};
use super::edges::Front;
use crate::rig::{Running, component, free_port};

#[test]
fn haproxy_asks_about_every_request() {
    let Some(program) = component("haproxy") else { return };
    let mut setting = Setting::new();
    let port = free_port();
    let _haproxy = start(&setting, &program, port);
    setting.holds(Front::Haproxy, port, OwnAnswers { undecided: (503, true), down: 503 });
}

/// Starts HAProxy with its example, listening at `port`.
pub(super) fn start(setting: &Setting, program: &Path, port: u16) -> Running {
    let script = setting.rig.path("haproxy.lua");
    std::fs::write(&script, setting.example("haproxy.lua")).unwrap();
    let config = setting
        .example("haproxy.cfg")
        .replace("/etc/haproxy/halligan.lua", &script.display().to_string())
        .replace("bind :80", &format!("bind 127.0.0.1:{port}"));
    let path = setting.rig.path("haproxy.cfg");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(&path).stderr(Stdio::null());
    Running::start(&mut command)
}
