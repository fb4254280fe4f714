//! A host without any network: it is made a node by its public key, and its replica is carried in by hand.

#![allow(clippy::unwrap_used, clippy::panic)]

mod rig;

use std::path::PathBuf;
use std::process::Command;

use rig::{Answer, Rig, Running, curl, free_port, until};
use serde_json::Value;

/// A host that reaches nothing, and is reached by nothing but hands.
struct Island {
    config: PathBuf,
    socket: PathBuf,
    port: u16,
    running: Option<Running>,
}

impl Island {
    fn new(rig: &Rig) -> Self {
        let (state, socket, port) = (rig.path("island"), rig.path("island.sock"), free_port());
        let config = rig
            .daemon_config()
            .replace(&rig.path("node").display().to_string(), &state.display().to_string())
            .replace(&rig.path("admin.sock").display().to_string(), &socket.display().to_string())
            .replace(&format!(":{}", rig.daemon_port), &format!(":{port}"))
            // Nobody listens there, and nobody ever will.
            .replace(&format!("http://127.0.0.1:{}", rig.control_port), "http://127.0.0.1:9");
        let path = rig.path("island.toml");
        std::fs::write(&path, config).unwrap();
        Self { config: path, socket, port, running: None }
    }

    fn daemon(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligand"));
        command.arg("--config").arg(&self.config);
        command
    }

    fn start(&mut self, rig: &Rig) {
        let mut command = self.daemon();
        self.running = Some(Running::start(command.stderr(rig.log("island.log"))));
        until("the island's daemon answers", || self.halligan(&["status", "--json"]).status.success());
    }

    fn halligan(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligan"));
        command.env("HALLIGAN_SOCKET", &self.socket).args(arguments).output().unwrap()
    }

    fn ask(&self, rig: &Rig, token: &str) -> Answer {
        curl(&[
            "-H".to_owned(),
            format!("Authorization: Bearer {token}"),
            "-H".to_owned(),
            "X-Original-Method: POST".to_owned(),
            "-H".to_owned(),
            "X-Original-URI: /api/v2/dags/etl/dagRuns".to_owned(),
            format!("http://127.0.0.1:{}/v1/authorize/{}", self.port, rig.deployment),
        ])
    }
}

#[test]
fn a_replica_carried_to_a_host_without_a_network_is_decided_by_there() {
    let rig = Rig::start();
    let mut island = Island::new(&rig);
    // The key never leaves the host; its public half does.
    let public = island.daemon().arg("public-key").output().unwrap();
    assert!(public.status.success(), "{public:?}");
    assert_eq!(island.daemon().arg("public-key").output().unwrap().stdout, public.stdout);
    std::fs::write(rig.path("island.pem"), &public.stdout).unwrap();
    let pem = rig.path("island.pem");
    let create =
        ["node", "create", "island", "--data-plane-id", &rig.data_plane, "--key", pem.to_str().unwrap()];
    let identity = rig.cli(&create).stdout;
    assert!(!rig.cli_command().args(create).output().unwrap().status.success(), "one key, one node");
    std::fs::write(rig.path("island/node.json"), identity).unwrap();

    let (_, good) = rig.direct_access_token("good", &rig.deployment);
    let (revoked_id, revoked) = rig.direct_access_token("revoked", &rig.deployment);
    rig.cli(&["token", "delete", &revoked_id, "--force"]);
    rig.synced();
    let bundle = rig.path("replica.bundle");
    let bundle = bundle.to_str().unwrap();
    rig.cli(&["replica", "export", bundle]);

    island.start(&rig);
    assert_eq!(island.ask(&rig, &good).reason(), "replica_missing");
    let cut = rig.path("cut.bundle");
    let whole = std::fs::read(bundle).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    assert!(!island.halligan(&["replica", "import", cut.to_str().unwrap()]).status.success());
    assert_eq!(island.ask(&rig, &good).reason(), "replica_missing", "half a bundle is none");

    let taken = island.halligan(&["replica", "import", bundle, "--json"]);
    assert!(taken.status.success(), "{taken:?}");
    let proof: Value = serde_json::from_slice(&taken.stdout).unwrap();
    assert_eq!(proof["version"], rig.json(&["status"])["replica"]["version"]);
    assert_eq!(island.ask(&rig, &good).status, 200);
    assert_eq!(island.ask(&rig, &revoked).reason(), "token_revoked");
    // After a cold start, too: what was carried in is on the disk.
    island.running = None;
    island.start(&rig);
    assert_eq!(island.ask(&rig, &good).status, 200);
    let verified = island.halligan(&["replica", "verify", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&verified.stdout).unwrap()["version"], proof["version"]);
}
