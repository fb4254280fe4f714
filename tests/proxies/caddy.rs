//! Caddy with `forward_auth`.

use std::process::{Command, Stdio};

use crate::contract::Setting;
use crate::rig::{Running, component, free_port};

#[test]
fn caddy_asks_about_every_request() {
    let Some(program) = component("caddy") else { return };
    let mut setting = Setting::new();
    let port = free_port();
    let site = setting.example("Caddyfile").replace("prod.example {", &format!("http://:{port} {{"));
    let path = setting.rig.path("Caddyfile");
    std::fs::write(&path, format!("{{\n\tadmin off\n\tauto_https off\n}}\n{site}")).unwrap();
    let mut command = Command::new(program);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&path);
    command.env("HOME", setting.rig.directory.path()).stderr(Stdio::null());
    let _caddy = Running::start(&mut command);
    setting.holds(port);
}
