//! Caddy with `forward_auth`.

use std::path::Path;
use std::process::{Command, Stdio};

use super::contract::{OwnAnswers, Setting};
use super::edges::Front;
use crate::rig::{Running, component, free_port};

/// Debian's version and the newest one differ in how they copy headers.
#[test]
fn caddy_asks_about_every_request() {
    for name in ["caddy", "caddy-newest"] {
        if let Some(program) = component(name) {
            holds(&program);
        }
    }
}

fn holds(program: &Path) {
    let mut setting = Setting::new();
    let port = free_port();
    let _caddy = start(&setting, program, port);
    setting.holds(Front::Caddy, port, OwnAnswers { undecided: (503, true), down: 502 });
}

/// Starts Caddy with its example, listening at `port`.
pub(super) fn start(setting: &Setting, program: &Path, port: u16) -> Running {
    let site = setting.example("Caddyfile").replace("prod.example {", &format!("http://:{port} {{"));
    let path = setting.rig.path("Caddyfile");
    std::fs::write(&path, format!("{{\n\tadmin off\n\tauto_https off\n}}\n{site}")).unwrap();
    let mut command = Command::new(program);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&path);
    command.env("HOME", setting.rig.directory.path()).stderr(Stdio::null());
    Running::start(&mut command)
}
