//! What an answer costs over HTTP: the daemon against nginx answering a bare 204, both under wrk on the same cores.
//!
//! wrk and what it asks share the machine; neither server is given more cores than the other.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::path::Path;
use std::process::{Command, Stdio};

use rig::{Rig, Running, component, curl, free_port, until};

/// Seconds of each measurement, and how often each is made; the best counts.
const SECONDS: &str = "4s";
const ROUNDS: usize = 3;
const CONNECTIONS: &str = "64";

/// Requests a second, and how many were not answered with 2xx.
fn load(wrk: &Path, url: &str, headers: &[String]) -> (f64, u64) {
    let mut command = Command::new(wrk);
    command.args(["-t", "1", "-c", CONNECTIONS, "-d", SECONDS]);
    for header in headers {
        command.args(["-H", header]);
    }
    let output = String::from_utf8(command.arg(url).output().unwrap().stdout).unwrap();
    let number = |label: &str| {
        output.lines().find_map(|line| line.trim().strip_prefix(label)?.trim().parse::<f64>().ok())
    };
    let refused = number("Non-2xx or 3xx responses:").unwrap_or(0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    (number("Requests/sec:").unwrap_or_else(|| panic!("{output}")), refused as u64)
}

fn best(wrk: &Path, url: &str, headers: &[String]) -> f64 {
    let mut best = 0.0_f64;
    for _ in 0..ROUNDS {
        let (rate, refused) = load(wrk, url, headers);
        assert_eq!(refused, 0, "{url} refused");
        best = best.max(rate);
    }
    best
}

fn main() {
    // `cargo test --benches` runs this, too: once is enough to see that it works, and nobody waits for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (Some(nginx), Some(wrk)) = (component("nginx"), component("wrk")) else { return };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("bench", &rig.deployment);
    rig.synced();
    // It has a machine of its own, and does not share the cores of the hosts that ask it.
    rig.kill_control();

    // With reuseport the connections are spread over all workers, as the daemon spreads them. Without it one worker takes them
    // all, on most days: that is one core that serves and one that asks, and says nothing of a server on as many cores.
    let port = free_port();
    let directory = rig.path("bare");
    std::fs::create_dir(&directory).unwrap();
    let d = directory.display();
    let config = format!(
        "daemon off; user root; worker_processes {cores}; pid {d}/pid; error_log {d}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {d}/body; proxy_temp_path {d}/proxy; fastcgi_temp_path {d}/fastcgi;
    uwsgi_temp_path {d}/uwsgi; scgi_temp_path {d}/scgi; keepalive_requests 1000000000;
    server {{ listen 127.0.0.1:{port} reuseport; location / {{ return 204; }} }} }}"
    );
    let path = directory.join("nginx.conf");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(nginx);
    command.arg("-c").arg(&path).arg("-e").arg(directory.join("error.log")).stderr(Stdio::null());
    let _nginx = Running::start(&mut command);
    let bare = format!("http://127.0.0.1:{port}/");
    until("nginx answers", || curl(&[&bare]).status == 204);

    let url = format!("http://127.0.0.1:{}/v1/authorize/{}", rig.daemon_port, rig.deployment);
    let asked = |method: &str| {
        vec![
            format!("Authorization: Bearer {token}"),
            format!("X-Original-Method: {method}"),
            "X-Original-URI: /api/v2/dags/etl/dagRuns".to_owned(),
            "X-Original-Host: prod.example".to_owned(),
            "X-Real-IP: 192.0.2.7".to_owned(),
        ]
    };
    // The same headers to both: parsing them is part of the work.
    let limit = best(&wrk, &bare, &asked("GET"));
    let reads = best(&wrk, &url, &asked("GET"));
    let writes = best(&wrk, &url, &asked("POST"));
    println!("cores: {cores}, connections: {CONNECTIONS}");
    println!(
        "nginx `return 204`: {limit:.0}/s; reads: {reads:.0}/s; durable mutating decisions: {writes:.0}/s"
    );
    println!("ratio: reads / nginx `return 204` = {:.3} (at least 0.90)", reads / limit);
    println!("ratio: durable mutating decisions / 20,000 a second = {:.3} (at least 1)", writes / 20_000.0);
}
