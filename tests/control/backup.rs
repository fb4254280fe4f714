//! Backups of the control plane's database.

#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rusqlite::{Connection, OpenFlags};

use crate::rig::{Rig, until};

#[test]
fn the_database_of_a_control_plane_that_was_stopped_is_one_file_and_complete() {
    let mut rig = Rig::start();
    rig.control_extra = "[webhook]\nurl = \"http://127.0.0.1:9\"\nsecret_file = 'SECRET'\n"
        .replace("SECRET", rig.path("webhook-secret").to_str().unwrap());
    let secret = rig.path("webhook-secret");
    std::fs::write(&secret, "whsec_aGFsbGlnYW4gdGVzdHMgc2lnbiB3aXRoIHRoaXMuLi4=\n").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(rig.control.take().unwrap().terminate().success());
    rig.start_control(rig.control_port);
    until("the node is connected", || rig.json(&["status"])["controlPlane"]["state"] == "live");

    // The node waits for the next version, a client keeps its connection, and another is in the midst of a request.
    let connect = || TcpStream::connect(("127.0.0.1", rig.control_port)).unwrap();
    let (mut idle, mut slow) = (connect(), connect());
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(idle.read(&mut [0; 1024]).unwrap() > 0);
    slow.write_all(b"POST /v1/organizations HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{").unwrap();
    let made: Vec<String> =
        (0..20).map(|number| rig.made(&["workspace", "create", &format!("late-{number}")])).collect();
    assert!(rig.control.take().unwrap().terminate().success());

    let mut files: Vec<String> = std::fs::read_dir(rig.path("control"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("control.db"))
        .collect();
    files.sort();
    assert_eq!(files, ["control.db"], "{}", std::fs::read_to_string(rig.path("control.log")).unwrap());
    std::fs::copy(rig.path("control/control.db"), rig.path("copy.db")).unwrap();
    let copy = Connection::open_with_flags(rig.path("copy.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    for id in made {
        let found = copy.prepare("SELECT 1 FROM workspace WHERE id = ?1").unwrap().exists([&id]).unwrap();
        assert!(found, "{id}");
    }
}
