//! Proxies in front of a deployment, each with an upstream that states the token id it received.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Rig, Running, component, curl, free_port, nginx, until};

/// Proxy that asks the daemon about every request.
pub struct Proxy {
    pub url: String,
    _running: Running,
}

impl Proxy {
    fn ready(url: String, running: Running) -> Self {
        until("the proxy answers", || curl(&[&url]).status != 0);
        Self { url, _running: running }
    }
}

/// Returns an example of the documentation in which only the addresses were replaced by those of the test.
pub fn example(rig: &Rig, upstream: u16, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    text.replace("127.0.0.1:8181", &format!("127.0.0.1:{}", rig.daemon_port))
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{upstream}"))
        .replace("DEPLOYMENT_ID", &rig.deployment)
}

/// Returns the nginx example, listening at `port`.
pub fn nginx_example(rig: &Rig, port: u16, upstream: u16) -> String {
    example(rig, upstream, "nginx.conf").replace("listen 80;", &format!("listen 127.0.0.1:{port};"))
}

/// Starts Debian's nginx with `auth_request`.
pub fn nginx(rig: &Rig) -> Option<Proxy> {
    let (port, upstream) = (free_port(), free_port());
    let server = nginx_example(rig, port, upstream);
    let servers = format!(
        "{server}
    server {{
        listen 127.0.0.1:{upstream};
        location / {{ return 200 \"upstream saw $http_x_halligan_token_id\"; }}
    }}"
    );
    let running = nginx::start(rig, "nginx", "", &servers)?;
    Some(Proxy::ready(format!("http://127.0.0.1:{port}"), running))
}

/// Starts Caddy with `forward_auth`.
pub fn caddy(rig: &Rig) -> Option<Proxy> {
    let program = component("caddy")?;
    let (port, upstream) = (free_port(), free_port());
    let site =
        example(rig, upstream, "Caddyfile").replace("prod.example {", &format!("http://127.0.0.1:{port} {{"));
    let config = format!(
        "{{
    admin off
    auto_https off
}}
{site}
http://127.0.0.1:{upstream} {{
    respond \"upstream saw {{header.X-Halligan-Token-Id}}\"
}}
"
    );
    let path = rig.path("Caddyfile");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(program);
    command
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(&path)
        .env("HOME", rig.directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Some(Proxy::ready(format!("http://127.0.0.1:{port}"), Running::start(&mut command)))
}
