//! Proxies in front of a deployment, each with an upstream that says who came through.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Rig, Running, component, curl, free_port, until};

/// A proxy that asks the daemon about every request.
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

/// Debian's nginx with `auth_request`.
pub fn nginx(rig: &Rig) -> Option<Proxy> {
    let program = component("nginx")?;
    let (port, upstream) = (free_port(), free_port());
    let directory = rig.path("nginx");
    std::fs::create_dir(&directory).unwrap();
    let example =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/nginx.conf"));
    let server = example
        .unwrap()
        .replace("listen 80;", &format!("listen 127.0.0.1:{port};"))
        .replace("127.0.0.1:8181", &format!("127.0.0.1:{}", rig.daemon_port))
        .replace("DEPLOYMENT_ID", &rig.deployment)
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{upstream}"));
    // Workers of a master that root started would run as a user who can't enter the directory.
    let user =
        if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
            "user root;"
        } else {
            ""
        };
    let d = directory.display();
    let config = format!(
        "daemon off; {user} pid {d}/pid; error_log {d}/error.log; events {{ }}
http {{
    access_log off; client_body_temp_path {d}/body; proxy_temp_path {d}/proxy; fastcgi_temp_path {d}/fastcgi;
    uwsgi_temp_path {d}/uwsgi; scgi_temp_path {d}/scgi;
    {server}
    server {{
        listen 127.0.0.1:{upstream};
        location / {{ return 200 \"upstream saw $http_x_halligan_token_id\"; }}
    }}
}}"
    );
    let path = directory.join("nginx.conf");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(&path).arg("-e").arg(directory.join("error.log")).stderr(Stdio::null());
    Some(Proxy::ready(format!("http://127.0.0.1:{port}"), Running::start(&mut command)))
}

/// Caddy with `forward_auth`.
pub fn caddy(rig: &Rig) -> Option<Proxy> {
    let program = component("caddy")?;
    let (port, upstream) = (free_port(), free_port());
    let example =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/Caddyfile"));
    let site = example
        .unwrap()
        .replace("prod.example {", &format!("http://127.0.0.1:{port} {{"))
        .replace("127.0.0.1:8181", &format!("127.0.0.1:{}", rig.daemon_port))
        .replace("DEPLOYMENT_ID", &rig.deployment)
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{upstream}"));
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
