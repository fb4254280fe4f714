//! An nginx for one test, in the directory of a rig.

use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use super::{Rig, Running, component};

/// Starts nginx with `main` in its main context and `servers` in its `http` block. Its files are in the directory
/// `name`. Returns `None` if nginx is not installed.
pub fn start(rig: &Rig, name: &str, main: &str, servers: &str) -> Option<Running> {
    let program = component("nginx")?;
    let directory = rig.path(name);
    std::fs::create_dir(&directory).unwrap();
    let d = directory.display();
    // Workers of a master that root started would run as a user who cannot enter the directory.
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let user = if root { "user root;" } else { "" };
    let config = format!(
        "daemon off; {user} {main} pid {d}/pid; error_log {d}/error.log; events {{ }}
http {{
    access_log off; client_body_temp_path {d}/body; proxy_temp_path {d}/proxy; fastcgi_temp_path {d}/fastcgi;
    uwsgi_temp_path {d}/uwsgi; scgi_temp_path {d}/scgi;
    {servers}
}}"
    );
    let path = directory.join("nginx.conf");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(&path).arg("-e").arg(directory.join("error.log")).stderr(Stdio::null());
    Some(Running::start(&mut command))
}
