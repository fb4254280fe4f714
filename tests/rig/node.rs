//! Further nodes of a rig's data plane, each with its own daemon.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use super::{Answer, Rig, Running, authorize, curl, free_port, until};

/// Further node.
pub struct Node {
    pub port: u16,
    pub peer_port: u16,
    pub directory: PathBuf,
    running: Option<Running>,
}

impl Node {
    /// Enrols a node, which listens for peers but knows none yet.
    pub fn start(rig: &Rig, name: &str) -> Self {
        let directory = rig.path(name);
        std::fs::create_dir(&directory).unwrap();
        rig.give_enrolment_token(&directory.join("enrolment-token"));
        let mut node = Self { port: free_port(), peer_port: free_port(), directory, running: None };
        node.configure(rig, rig.control_port, &[]);
        node.run();
        node
    }

    /// Writes the configuration with the port of the control plane and the node's peers.
    pub fn configure(&self, rig: &Rig, control_port: u16, peers: &[&Node]) {
        let urls: Vec<String> =
            peers.iter().map(|peer| format!("http://127.0.0.1:{}", peer.peer_port)).collect();
        self.configure_urls(rig, control_port, &urls);
    }

    pub fn configure_urls(&self, rig: &Rig, control_port: u16, urls: &[String]) {
        let d = self.directory.display();
        let text = format!(
            "state_dir = '{d}/state'
[trust]
root_keys = '{}'
[control_plane]
urls = [\"http://127.0.0.1:{control_port}\"]
enrolment_token_file = '{d}/enrolment-token'
[listen]
http = [\"127.0.0.1:{}\"]
admin_socket = '{d}/admin.sock'
[peers]
listen = [\"127.0.0.1:{}\"]
urls = {urls:?}
interval_seconds = 1
",
            rig.path("roots").display(),
            self.port,
            self.peer_port,
        );
        std::fs::write(self.directory.join("halligand.toml"), text).unwrap();
    }

    pub fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.directory.join("log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligand"));
        command.arg("--config").arg(self.directory.join("halligand.toml")).stderr(log.unwrap());
        self.running = Some(Running::start(&mut command));
        let ready = format!("http://127.0.0.1:{}/readyz", self.port);
        until("the node is ready", || curl(&[&ready]).status == 200);
    }

    pub fn kill(&mut self) {
        self.running.take().unwrap().kill();
    }

    pub fn restart(&mut self) {
        self.kill();
        self.run();
    }

    pub fn cli(&self, rig: &Rig, arguments: &[&str]) -> Output {
        let mut command = rig.cli_command();
        let output = command
            .env("HALLIGAN_SOCKET", self.directory.join("admin.sock"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "halligan {arguments:?}: {output:?}");
        output
    }

    pub fn json(&self, rig: &Rig, arguments: &[&str]) -> Value {
        serde_json::from_slice(&self.cli(rig, &[arguments, &["--json"]].concat()).stdout).unwrap()
    }

    pub fn synced(&self, rig: &Rig) {
        let published = rig.json(&["data-plane", "show", &rig.data_plane])["version"].clone();
        until("the node is in sync", || self.json(rig, &["status"])["replica"]["version"] == published);
    }

    pub fn authorize(&self, rig: &Rig, token: &str) -> Answer {
        authorize(self.port, &rig.deployment, token, "GET", "/api/v2/dags")
    }
}
