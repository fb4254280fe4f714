//! Debian's nginx with `auth_request`.

use std::process::{Command, Stdio};

use crate::contract::{OwnAnswers, Setting};
use crate::rig::{Running, component, free_port};

#[test]
fn nginx_asks_about_every_request() {
    let Some(program) = component("nginx") else { return };
    let mut setting = Setting::new();
    let port = free_port();
    let server = setting.example("nginx.conf").replace("listen 80;", &format!("listen 127.0.0.1:{port};"));
    let directory = setting.rig.path("nginx");
    std::fs::create_dir(&directory).unwrap();
    let d = directory.display();
    // Workers of a master that root started would run as a user who can't enter the directory.
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let user = if root { "user root;" } else { "" };
    let config = format!(
        "daemon off; {user} pid {d}/pid; error_log {d}/error.log; events {{ }}
http {{
    access_log off; client_body_temp_path {d}/body; proxy_temp_path {d}/proxy; fastcgi_temp_path {d}/fastcgi;
    uwsgi_temp_path {d}/uwsgi; scgi_temp_path {d}/scgi;
    {server}
}}"
    );
    let path = directory.join("nginx.conf");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(&path).arg("-e").arg(directory.join("error.log")).stderr(Stdio::null());
    let _nginx = Running::start(&mut command);
    setting.holds(port, OwnAnswers { undecided: (500, false), down: 500 });
}
