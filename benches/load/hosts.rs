//! Hosts that call a control plane, for benches. They are enrolled in its database, and simulated by one process.

use std::process::Command;
use std::sync::Arc;

use halligan::api::node::NewNode;
use halligan::controlplane::ControlPlane;
use halligan::controlplane::feed::Held;
use halligan::controlplane::signing::Signing;
use halligan::controlplane::store::Store;
use halligan::platform::clock::wall;
use halligan::protocol::jws::{Typ, sign};
use halligan::protocol::key::SigningKey;
use rand_core::UnwrapErr;
use serde_json::json;

use crate::rig::control::Control;
use crate::rig::{Running, curl, until};

/// Shell command that starts a program with the limit of open files that systemd sets, or with the highest limit
/// allowed here.
pub(crate) const OPEN_FILES: &str =
    "ulimit -n 65536 2>/dev/null || ulimit -n $(ulimit -H -n); exec \"$0\" \"$@\"";

/// Host of a data plane.
pub(crate) struct Host {
    pub(crate) id: String,
    pub(crate) key: SigningKey,
    pub(crate) plane: String,
    /// URL of the control plane.
    pub(crate) issuer: String,
}

impl Host {
    /// Returns the proof of identity that a host sends with each call. `number` must differ from call to call.
    pub(crate) fn proof(&self, number: u64) -> String {
        let now = wall();
        let id = &self.id;
        let claims = json!({
            "iss": id, "sub": id, "aud": self.issuer, "iat": now, "exp": now.plus(299),
            "jti": format!("{id}-{number}"), "instance": id,
        });
        sign(Typ::NodeAuth, claims.to_string().as_bytes(), &self.key)
    }
}

/// Opens the database and the keys of a control plane that is stopped.
pub(crate) fn open(control: &Control) -> ControlPlane {
    let state = control.directory.path().join("control");
    ControlPlane::new(
        Store::open(&state.join("control.db")).unwrap(),
        Signing::load(&state).unwrap(),
        control.url.clone(),
        Arc::new(wall),
        Box::new(UnwrapErr(getrandom::SysRng)),
    )
}

/// Enrols hosts in the database of a control plane that is stopped. Returns the hosts, and the version of the replica.
pub(crate) fn enrol(control: &Control, plane: &str, hosts: usize) -> (Vec<Host>, u64) {
    let opened = open(control);
    let owner = opened.authenticate(control.owner.as_bytes()).unwrap();
    let made = (0..hosts)
        .map(|number| {
            let mut seed = [7; 32];
            seed[..8].copy_from_slice(&number.to_be_bytes());
            let key = SigningKey::from_seed(&seed);
            let new = NewNode { name: format!("host-{number}"), key: key.public().jwk() };
            let node = opened.create_node(&owner, &control.organization, plane, &new).unwrap();
            Host { id: node.node_id.to_string(), key, plane: plane.to_owned(), issuer: control.url.clone() }
        })
        .collect();
    let tag = opened.feed(plane, Held { version: 0, keyset: 1 }).unwrap().tag();
    (made, version(&tag))
}

/// Starts a control plane with a limit for many connections.
pub(crate) fn serve(control: &Control) -> Running {
    let program = control.program();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", OPEN_FILES]).arg(program.get_program()).args(program.get_args()).arg("serve");
    let log = std::fs::File::create(control.log()).unwrap();
    let running = Running::start(command.stderr(log));
    let health = format!("{}/healthz", control.url);
    until("the control plane answers", || curl(&[&health]).status == 200);
    running
}

/// Returns the version that an answer leads to, from its entity tag `PLANE-BASE-VERSION-…`.
pub(crate) fn version(tag: &str) -> u64 {
    tag.split('-').nth(2).unwrap().parse().unwrap()
}

/// Returns the processor time that a process has used, in seconds.
pub(crate) fn processor(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let ticks: f64 =
        stat.rsplit_once(')').unwrap().1.split(' ').skip(12).take(2).map(|n| n.parse::<f64>().unwrap()).sum();
    // The kernel counts in hundredths of a second.
    ticks / 100.0
}

/// Returns the memory of a process in KiB: its present size, and its largest.
#[allow(dead_code, reason = "the benchmark of events does not measure memory")]
pub(crate) fn memory(process: u32) -> (f64, f64) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let of = |name: &str| -> f64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (of("VmRSS:"), of("VmHWM:"))
}
