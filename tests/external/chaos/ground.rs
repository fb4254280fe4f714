//! Environment of the faults: a control plane, a daemon in its own network namespace, a veth pair and a relay between
//! them, and a client that sends requests constantly.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::relay::Relay;
use crate::rig::network::Namespace;
use crate::rig::{Answer, Rig, Running, component};

/// A daemon alone on a network.
pub struct Ground {
    pub rig: Rig,
    pub relay: Relay,
    pub namespace: Namespace,
    /// Token that must be accepted throughout.
    pub good: String,
}

impl Ground {
    /// Builds the environment. Returns `None` without root, `ip` or `nft`.
    pub fn new(seed: u64) -> Option<Self> {
        component("nft")?;
        let mut rig = Rig::start();
        let (_, good) = rig.direct_access_token("good", &rig.deployment);
        rig.synced();
        rig.daemon.take().unwrap().terminate();
        let namespace = Namespace::new()?;
        // The namespace knows only the names in its hosts file; no DNS server answers.
        let names = format!("/etc/netns/{}", namespace.name);
        std::fs::create_dir_all(&names).unwrap();
        std::fs::write(
            format!("{names}/resolv.conf"),
            "nameserver 127.0.0.2\noptions timeout:1 attempts:1\n",
        )
        .unwrap();
        let control = SocketAddr::from(([127, 0, 0, 1], rig.control_port));
        let relay = Relay::start(IpAddr::V4(namespace.here), control, seed);
        let mut ground = Self { rig, relay, namespace, good };
        ground.name_the_control_plane(true);
        let config = ground.rig.daemon_config();
        let own = format!("http://127.0.0.1:{}", ground.rig.control_port);
        let far = format!("http://control.localhost:{}", ground.relay.address.port());
        std::fs::write(ground.rig.path("halligand.toml"), config.replace(&own, &far)).unwrap();
        ground.start_daemon(&[]);
        ground.synced();
        Some(ground)
    }

    /// Sets whether the daemon's namespace can resolve the control plane's name.
    pub fn name_the_control_plane(&self, known: bool) {
        let line =
            if known { format!("{} control.localhost\n", self.relay.address.ip()) } else { String::new() };
        // The file is written in place, because the namespace has this inode mounted.
        std::fs::write(
            format!("/etc/netns/{}/hosts", self.namespace.name),
            format!("127.0.0.1 localhost\n{line}"),
        )
        .unwrap();
    }

    /// Starts the daemon in its namespace through these programs. With any of them it need not become ready, only
    /// answer.
    pub fn start_daemon(&mut self, through: &[&str]) {
        let daemon = self.rig.daemon_command();
        let mut command = self.namespace.command_through(through);
        command.arg(daemon.get_program()).args(daemon.get_args()).stderr(self.rig.log("halligand.log"));
        self.rig.daemon = Some(Running::start(&mut command));
        let url = format!("http://127.0.0.1:{}/readyz", self.rig.daemon_port);
        let started = Instant::now();
        let up = |status: u16| if through.is_empty() { status == 200 } else { status != 0 };
        while !up(self.curl(&[&url]).status) {
            let log = self.rig.read_log("halligand.log");
            let end: Vec<&str> = log.lines().rev().take(5).collect();
            assert!(started.elapsed() < Duration::from_secs(30), "the daemon does not get ready: {end:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn run_inside(&self, command: &str) {
        self.namespace.run(command);
    }

    pub fn link(&self, state: &str) {
        self.namespace.link(state);
    }

    fn curl<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Answer {
        curl_in(&self.namespace.name, arguments)
    }

    /// Requests authorization as the proxy on the daemon's host.
    pub fn ask(&self, token: &str, method: &str) -> Answer {
        self.curl(&question(&self.rig, token, method))
    }

    /// Waits until the daemon has the latest version. Returns the time that took.
    pub fn synced(&self) -> Duration {
        let published = self.rig.json(&["data-plane", "show", &self.rig.data_plane])["version"].clone();
        within(Duration::from_secs(100), "the daemon follows", || {
            self.rig.json(&["status"])["replica"]["version"] == published
        })
    }

    /// Returns the id and the value of a new token that the daemon accepts.
    pub fn token_to_revoke(&self) -> (String, String) {
        let made = self.rig.direct_access_token("to be revoked", &self.rig.deployment);
        self.synced();
        assert_eq!(self.ask(&made.1, "GET").status, 200);
        made
    }

    /// Waits until a revoked token is denied. Returns the time that took.
    pub fn denied(&self, token: &str, limit: Duration) -> Duration {
        within(limit, "the revocation arrives", || self.ask(token, "GET").status == 401)
    }

    /// Sends requests with the good token until the load is stopped.
    pub fn load(&self) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let counts: Arc<[AtomicU64; 3]> = Arc::default();
        let (arguments, namespace) = (question(&self.rig, &self.good, "PATCH"), self.namespace.name.clone());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&counts));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let status = curl_in(&namespace, &arguments).status;
                let kind = match status {
                    200 => 0,
                    0 => 2,
                    _ => 1,
                };
                counted[kind].fetch_add(1, Ordering::Relaxed);
            }
        });
        Load { stop, counts, thread }
    }

    /// Returns the number of mutating uses of the good token in the log, which must be intact.
    pub fn recorded(&self) -> u64 {
        let report = self.rig.json(&["audit", "verify"]);
        assert!(report["fault"].is_null(), "{report}");
        let lines = self.rig.cli(&["audit", "tail", "-n", "1000000", "--json"]).stdout;
        let lines = String::from_utf8(lines).unwrap();
        lines.lines().filter(|line| line.contains("\"PATCH\"") && line.contains("\"allow\"")).count() as u64
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(daemon) = self.rig.daemon.take() {
            daemon.kill();
        }
    }
}

/// Waits for a condition. Returns the time that took.
pub fn within(limit: Duration, what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    started.elapsed()
}

/// Client that sends requests constantly.
pub struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; 3]>,
    thread: std::thread::JoinHandle<()>,
}

/// Counts of the answers that a client got.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    pub allowed: u64,
    pub denied: u64,
    /// Requests without an answer, because no daemon was listening.
    pub unanswered: u64,
}

impl Load {
    pub fn stop(self) -> Answered {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        let [allowed, denied, unanswered] =
            [0, 1, 2].map(|kind: usize| self.counts[kind].load(Ordering::Relaxed));
        Answered { allowed, denied, unanswered }
    }
}

fn curl_in<S: AsRef<std::ffi::OsStr>>(namespace: &str, arguments: &[S]) -> Answer {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, "curl", "-s", "-i", "--max-time", "10"]).args(arguments);
    Answer::read(&command.stderr(Stdio::null()).output().unwrap().stdout)
}

fn question(rig: &Rig, token: &str, method: &str) -> Vec<String> {
    vec![
        "-H".into(),
        format!("Authorization: Bearer {token}"),
        "-H".into(),
        format!("X-Original-Method: {method}"),
        "-H".into(),
        "X-Original-URI: /api/v2/dags/etl".into(),
        format!("http://127.0.0.1:{}/v1/authorize/{}", rig.daemon_port, rig.deployment),
    ]
}
