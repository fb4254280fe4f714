//! The real programs in a temporary directory: a control plane, a daemon, and proxies in front of a deployment.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

pub mod airflow;
pub mod backup;
pub mod clock;
pub mod control;
pub mod estate;
pub mod network;
pub mod nginx;
pub mod node;
pub mod proxy;
pub mod tls;
pub mod webdriver;

use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Finds a program of another package. Without it the test prints a notice and is skipped; in CI it fails.
pub fn component(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .chain(["/usr/sbin", "/sbin"])
        .map(|directory| Path::new(directory).join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        skipped(&format!("{name} is not installed; run .ci/setup"));
    }
    found
}

/// Prints that a test is skipped, and the reason. Fails in CI.
pub fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    // The test runner would capture `eprintln!`, but a green run must show which tests it skipped.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Waits for the other tests of this program that hold the lock. A test holds it while it loads the machine or builds
/// packages, so that two such tests do not slow down or break each other.
pub fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    // A failed test poisons the lock, which does not affect the others.
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the head of a request byte by byte, so that the rest remains in the stream.
pub fn head_of_request(from: &mut impl Read) -> Vec<u8> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && from.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    head
}

/// Returns a port that nobody listens on. It is below the ports that the kernel uses for outgoing connections, of which
/// a test makes many. A counter ensures that two tests of one program get different ports. Programs that run at the
/// same time have similar process ids, so each starts counting at a distant port: 13597 is 22000 divided by the golden
/// ratio.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let count =
            std::process::id().wrapping_mul(13_597).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + u16::try_from(count % 22_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Child process that ends with the test.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("{command:?}: {error}")),
        )
    }

    /// Kills the process, like a crash: no signal handler runs.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Terminates the process and waits for its end, as systemd does.
    pub fn terminate(mut self) -> std::process::ExitStatus {
        Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        self.0.wait().unwrap()
    }

    /// Sends the process a signal, by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Returns the exit code once the process has ended.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.0.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    pub fn ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM first, because a killed nginx master leaves its workers behind.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).stderr(Stdio::null()).status();
        for _ in 0..100 {
            if self.ended() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `done` returns true, for at most half a minute, because the machine may be busy.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `/healthz` at a port answers with 200.
fn answers(what: &str, port: u16) {
    let healthy = format!("http://127.0.0.1:{port}/healthz");
    until(what, || curl(&[&healthy]).status == 200);
}

/// Answer that curl received.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Answer {
    /// Parses the output of `curl -i`.
    pub fn read(printed: &[u8]) -> Self {
        let text = String::from_utf8_lossy(printed).into_owned();
        let (headers, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, headers: headers.to_owned(), body: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn reason(&self) -> &str {
        self.header("x-halligan-reason").unwrap_or_else(|| panic!("no reason in {self:?}"))
    }
}

/// Sends a request with curl. `arguments` end with the URL.
pub fn curl<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Answer {
    let output =
        Command::new("curl").args(["-s", "-i", "--max-time", "20"]).args(arguments).output().unwrap();
    Answer::read(&output.stdout)
}

/// Sends the daemon a question as nginx does.
pub fn authorize(port: u16, deployment: &str, token: &str, method: &str, uri: &str) -> Answer {
    authorize_with(port, deployment, token, method, uri, &[])
}

/// Sends the daemon a question as a proxy with further headers does.
pub fn authorize_with(
    port: u16,
    deployment: &str,
    token: &str,
    method: &str,
    uri: &str,
    more: &[&str],
) -> Answer {
    let question = [
        format!("Authorization: Bearer {token}"),
        format!("X-Original-Method: {method}"),
        format!("X-Original-URI: {uri}"),
    ];
    let headers = question.iter().map(String::as_str).chain(more.iter().copied());
    let mut arguments: Vec<String> = headers.flat_map(|header| ["-H".into(), header.into()]).collect();
    arguments.push(format!("http://127.0.0.1:{port}/v1/authorize/{deployment}"));
    curl(&arguments)
}

/// Returns the metrics that a program serves at a port.
pub fn metrics(port: u16) -> String {
    let answer = curl(&[format!("http://127.0.0.1:{port}/metrics")]);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// Control plane and daemon, installed as their packages do.
pub struct Rig {
    pub directory: TempDir,
    pub control_port: u16,
    pub daemon_port: u16,
    pub control: Option<Running>,
    pub daemon: Option<Running>,
    pub owner_token: String,
    pub workspace: String,
    pub data_plane: String,
    pub deployment: String,
    pub other_deployment: String,
    /// Additional lines of the control plane's configuration.
    pub control_extra: String,
}

impl Rig {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut rig = Self {
            control_port: free_port(),
            daemon_port: free_port(),
            control: None,
            daemon: None,
            owner_token: String::new(),
            workspace: String::new(),
            data_plane: String::new(),
            deployment: String::new(),
            other_deployment: String::new(),
            control_extra: String::new(),
            directory,
        };
        let config = rig.control_config(rig.control_port);
        let made = Command::new(env!("CARGO_BIN_EXE_halligan-control"))
            .arg("--config")
            .arg(config)
            .args(["init", "--organization", "Acme", "--owner-email", "owner@acme.example", "--json"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        made["token"].as_str().unwrap().clone_into(&mut rig.owner_token);
        rig.start_control(rig.control_port);
        rig.workspace = rig.made(&["workspace", "create", "data"]);
        rig.data_plane = rig.made(&["data-plane", "create", "eu"]);
        let at = ["--workspace-id", &rig.workspace.clone(), "--data-plane-id", &rig.data_plane.clone()];
        rig.deployment =
            rig.made(&[&["deployment", "create", "prod", "--host", "prod.example"], &at[..]].concat());
        rig.other_deployment =
            rig.made(&[&["deployment", "create", "stage", "--host", "stage.example"], &at[..]].concat());
        rig.give_enrolment_token(&rig.path("enrolment-token"));
        std::fs::create_dir(rig.path("roots")).unwrap();
        std::fs::copy(rig.path("control/root.pub.pem"), rig.path("roots/root.pem")).unwrap();
        std::fs::write(rig.path("halligand.toml"), rig.daemon_config()).unwrap();
        rig.start_daemon();
        rig
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn control_config(&self, listen: u16) -> PathBuf {
        let path = self.path("control.toml");
        let text = format!(
            "state_dir = '{}'\nissuer = \"http://127.0.0.1:{}\"\nlisten = \"127.0.0.1:{listen}\"\n{}",
            self.path("control").display(),
            self.control_port,
            self.control_extra,
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes a new enrolment token to a file.
    pub fn give_enrolment_token(&self, file: &Path) {
        let token = self.cli(&["data-plane", "enrolment-token", &self.data_plane, "-c"]);
        std::fs::write(file, token.stdout).unwrap();
    }

    pub fn daemon_config(&self) -> String {
        self.daemon_config_at("node", "admin.sock", self.daemon_port)
    }

    /// Returns the configuration of a daemon with this state directory, admin socket and port.
    pub fn daemon_config_at(&self, state: &str, socket: &str, port: u16) -> String {
        format!(
            "state_dir = '{}'
[trust]
root_keys = '{}'
[control_plane]
urls = [\"http://127.0.0.1:{}\"]
enrolment_token_file = '{}'
[node]
name = \"host-1\"
[listen]
http = [\"127.0.0.1:{}\"]
admin_socket = '{}'
",
            self.path(state).display(),
            self.path("roots").display(),
            self.control_port,
            self.path("enrolment-token").display(),
            port,
            self.path(socket).display(),
        )
    }

    /// Starts the control plane on `port`. On another port than its own, operators can reach it but the daemon cannot.
    pub fn start_control(&mut self, port: u16) {
        self.start_control_saying(port, "info");
    }

    /// Starts the control plane with its log at `level`.
    pub fn start_control_saying(&mut self, port: u16, level: &str) {
        self.control_config(port);
        let mut command = self.control_command("serve");
        command.env("RUST_LOG", level).stderr(self.log("control.log"));
        self.control = Some(Running::start(&mut command));
        answers("the control plane answers", port);
    }

    /// Starts the control plane at its own port with variables in its environment, such as those of a shifted clock.
    pub fn start_control_in(&mut self, environment: &[(&str, OsString)]) {
        let mut command = self.control_command("serve");
        command.envs(environment.iter().cloned()).stderr(self.log("control.log"));
        self.control = Some(Running::start(&mut command));
        answers("the control plane answers", self.control_port);
    }

    /// Returns the command of the control plane with its configuration.
    pub fn control_command(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligan-control"));
        command.arg("--config").arg(self.path("control.toml")).arg(verb);
        command
    }

    pub fn kill_control(&mut self) {
        self.control.take().unwrap().kill();
    }

    pub fn daemon_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligand"));
        command.arg("--config").arg(self.path("halligand.toml"));
        command
    }

    pub fn start_daemon(&mut self) {
        self.start_daemon_saying("info");
    }

    /// Starts the daemon with its log at `level`.
    pub fn start_daemon_saying(&mut self, level: &str) {
        let mut command = self.daemon_command();
        command.env("RUST_LOG", level).stderr(self.log("halligand.log"));
        self.daemon = Some(Running::start(&mut command));
        let ready = format!("http://127.0.0.1:{}/readyz", self.daemon_port);
        until("the daemon is ready", || curl(&[&ready]).status == 200);
    }

    /// Starts the daemon with variables in its environment, and waits until it answers, ready or not.
    pub fn start_daemon_in(&mut self, environment: &[(&str, OsString)]) {
        let mut command = self.daemon_command();
        command.envs(environment.iter().cloned()).stderr(self.log("halligand.log"));
        self.daemon = Some(Running::start(&mut command));
        answers("the daemon answers", self.daemon_port);
    }

    pub fn kill_daemon(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    /// Opens the log file of a program, which is kept for the analysis of a failure.
    pub fn log(&self, name: &str) -> Stdio {
        let file = std::fs::File::options().create(true).append(true).open(self.path(name)).unwrap();
        Stdio::from(file)
    }

    pub fn read_log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Returns the command of the CLI for an operator on this host.
    pub fn cli_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligan"));
        command
            .env("HALLIGAN_URL", format!("http://127.0.0.1:{}", self.control_port))
            .env("HALLIGAN_API_TOKEN", &self.owner_token)
            .env("HALLIGAN_SOCKET", self.path("admin.sock"));
        command
    }

    pub fn cli(&self, arguments: &[&str]) -> Output {
        let output = self.cli_command().args(arguments).output().unwrap();
        assert!(output.status.success(), "halligan {arguments:?}: {output:?}");
        output
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.cli(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Creates an object with the CLI. Returns its id.
    pub fn made(&self, arguments: &[&str]) -> String {
        self.json(arguments)["id"].as_str().unwrap().to_owned()
    }

    /// Creates a direct-access token for a deployment. Returns its id and value.
    pub fn direct_access_token(&self, name: &str, deployment: &str) -> (String, String) {
        let made = self.json(&[
            "token",
            "create",
            "-n",
            name,
            "--deployment-id",
            deployment,
            "--direct-access",
            "-e",
            "30",
        ]);
        (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
    }

    /// Waits until the daemon holds the version that the control plane published last.
    pub fn synced(&self) {
        let published = self.json(&["data-plane", "show", &self.data_plane])["version"].clone();
        until("the daemon is in sync", || self.json(&["status"])["replica"]["version"] == published);
    }

    /// Sends the daemon a question as nginx does.
    pub fn authorize(&self, token: &str, method: &str, uri: &str) -> Answer {
        authorize(self.daemon_port, &self.deployment, token, method, uri)
    }
}
