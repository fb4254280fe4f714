//! A control plane without a daemon, called like another program would call it.

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::{Answer, Running, curl, free_port, until};

/// Control plane with its organization, and the token of the owner.
pub struct Control {
    pub directory: TempDir,
    pub url: String,
    pub organization: String,
    pub owner: String,
    pub owner_id: String,
    environment: Vec<(String, String)>,
    running: Option<Running>,
}

impl Control {
    /// Starts a control plane. `more` is added to its configuration.
    pub fn start(more: &str) -> Self {
        Self::start_in(more, &[])
    }

    /// Starts a control plane with variables in its environment.
    pub fn start_in(more: &str, environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (port, state) = (free_port(), directory.path().join("control"));
        let url = format!("http://127.0.0.1:{port}");
        let config = format!(
            "state_dir = \"{}\"\nissuer = {url:?}\nlisten = \"127.0.0.1:{port}\"\n{more}\n",
            state.display()
        );
        std::fs::write(directory.path().join("control.toml"), config).unwrap();
        let mut control = Self {
            directory,
            url,
            organization: String::new(),
            owner: String::new(),
            owner_id: String::new(),
            environment: environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            running: None,
        };
        let made = control
            .program()
            .args(["init", "--organization", "Acme", "--owner-email", "owner@acme.example", "--json"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        for (member, field) in [
            ("organizationId", &mut control.organization),
            ("token", &mut control.owner),
            ("userId", &mut control.owner_id),
        ] {
            made[member].as_str().unwrap().clone_into(field);
        }
        control.serve();
        control
    }

    pub fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligan-control"));
        command.arg("--config").arg(self.directory.path().join("control.toml"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn serve(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        self.running = Some(Running::start(self.program().arg("serve").stderr(log)));
        let health = format!("{}/healthz", self.url);
        until("the control plane answers", || curl(&[&health]).status == 200);
    }

    pub fn kill(&mut self) {
        self.running.take().unwrap().kill();
    }

    /// Stops the control plane, as a service manager does.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        self.running.take().unwrap().terminate()
    }

    pub fn log(&self) -> std::path::PathBuf {
        self.directory.path().join("control.log")
    }

    pub fn database(&self) -> std::path::PathBuf {
        self.directory.path().join("control/control.db")
    }

    /// Calls a path below the organization as its owner.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.call_as(&self.owner, method, path, body, &[])
    }

    /// Calls a path below the organization with a token and further headers.
    pub fn call_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[&str],
    ) -> Answer {
        let mut arguments = vec!["-X".to_owned(), method.to_owned()];
        arguments.extend(["-H".to_owned(), format!("Authorization: Bearer {token}")]);
        arguments.extend(headers.iter().flat_map(|header| ["-H".to_owned(), (*header).to_owned()]));
        if let Some(body) = body {
            arguments.extend(["-H".to_owned(), "Content-Type: application/json".to_owned()]);
            arguments.extend(["-d".to_owned(), body.to_string()]);
        }
        arguments.push(format!("{}/v1/organizations/{}{path}", self.url, self.organization));
        curl(&arguments)
    }

    /// Creates an object. Returns the body of the answer.
    pub fn make(&self, path: &str, body: &Value) -> Value {
        let answer = self.call("POST", path, Some(body));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, None);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
}
