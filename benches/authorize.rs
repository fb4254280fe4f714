//! Measures the cost of an answer over HTTP: the daemon against nginx answering a bare 204, both under wrk on the same
//! cores.
//!
//! wrk and the server share the machine, and no server gets more cores than another. Further servers are measured for
//! comparison: an nginx that logs each request, as the daemon does, and an axum handler that decides nothing. Then
//! nginx asks the daemon, as in docs/examples/nginx.conf, compared with the same nginx asking another nginx for a 204.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::path::Path;
use std::process::Command;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use rig::proxy::nginx_example;
use rig::{Rig, Running, component, curl, free_port, nginx, until};

/// Duration of each measurement, and number of rounds. The targets are measured in turn, and a ratio compares two of
/// the same round, so that a machine that is slow for a while affects both. The median of the rounds counts.
const SECONDS: &str = "2s";
const ROUNDS: usize = 9;
const CONNECTIONS: u32 = 64;
/// Number of connections whose requests may share one wait for the disk. A mutating request is answered when its event
/// is on the disk, so fewer clients, which wait for each other's answers, are slowed down by that write.
const MANY: u32 = 256;

/// Returns the requests in a second, and the number of answers other than 2xx.
fn load(wrk: &Path, connections: u32, url: &str, headers: &[String]) -> (f64, u64) {
    let mut command = Command::new(wrk);
    command.args(["-t", "1", "-c", &connections.to_string(), "-d", SECONDS]);
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

fn median(rounds: impl Iterator<Item = f64>) -> f64 {
    let mut rounds: Vec<f64> = rounds.collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn main() {
    // `cargo test --benches` runs this, too, but must not take long.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (Some(_), Some(wrk)) = (component("nginx"), component("wrk")) else { return };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("bench", &rig.deployment);
    rig.synced();
    // The control plane runs on its own machine in practice, and does not share the cores of its hosts.
    rig.kill_control();

    // With reuseport the connections are spread over all workers, as the daemon spreads them. Without it one worker
    // usually takes all of them: the figures would be those of one core, not of a server on all cores.
    let silent = bare_nginx(&rig, "silent", cores, "off").unwrap();
    // nginx logs each request by default, as the daemon does.
    let log = rig.path("access.log");
    let logging = bare_nginx(&rig, "logging", cores, &log.to_string_lossy()).unwrap();
    let handler = bare_handler();
    let asks_daemon = nginx_that_asks(&rig, "asks_daemon", rig.daemon_port);
    let asks_nginx = nginx_that_asks(&rig, "asks_nginx", silent.2);

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
    // All targets get the same headers, because parsing them is part of the work.
    let (get, post) = (asked("GET"), asked("POST"));
    let front = vec![format!("Authorization: Bearer {token}"), "Host: prod.example".to_owned()];
    let targets = [
        (CONNECTIONS, &url, &get),
        (CONNECTIONS, &url, &post),
        (CONNECTIONS, &silent.0, &get),
        (CONNECTIONS, &logging.0, &get),
        (CONNECTIONS, &handler, &get),
        (CONNECTIONS, &asks_daemon.0, &front),
        (CONNECTIONS, &asks_nginx.0, &front),
        (MANY, &url, &get),
        (MANY, &url, &post),
    ];
    let rounds: Vec<[f64; 9]> = (0..ROUNDS)
        .map(|_| {
            targets.map(|(connections, url, headers)| {
                let (rate, refused) = load(&wrk, connections, url, headers);
                assert_eq!(refused, 0, "{url} refused");
                rate
            })
        })
        .collect();
    let rate = |target: usize| median(rounds.iter().map(|round| round[target]));
    let ratio = |above: usize, below: usize| {
        let mut ratios: Vec<f64> = rounds.iter().map(|round| round[above] / round[below]).collect();
        ratios.sort_by(f64::total_cmp);
        format!("{:.3} ({:.3} to {:.3})", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1])
    };
    let [reads, writes, silent, logging, handler, asks_daemon, asks_nginx] = [0, 1, 2, 3, 4, 5, 6].map(rate);
    println!("cores: {cores}, connections: {CONNECTIONS}");
    println!("reads: {reads:.0}/s; durable mutating decisions: {writes:.0}/s");
    println!(
        "nginx `return 204`: {silent:.0}/s, with its log {logging:.0}/s; a bare axum handler: {handler:.0}/s"
    );
    println!("through nginx: {asks_daemon:.0}/s; the same nginx that asks another nginx: {asks_nginx:.0}/s");
    println!("median ratio of {ROUNDS} rounds, and its range:");
    println!("reads / nginx `return 204`: {} (goal 0.9)", ratio(0, 2));
    println!("reads / nginx `return 204` with its log: {}", ratio(0, 3));
    println!("reads / a bare axum handler: {} (at least 1.2)", ratio(0, 4));
    println!("durable mutating decisions / reads: {} (at least 0.9)", ratio(1, 0));
    println!("durable mutating decisions / reads, {MANY} connections: {}", ratio(8, 7));
    println!("through nginx / the same nginx that asks another nginx: {} (at least 0.9)", ratio(5, 6));
}

/// Starts the nginx example in front of a deployment that answers 204. nginx asks the server at `port`. Returns the URL
/// and the process.
fn nginx_that_asks(rig: &Rig, name: &str, port: u16) -> (String, Running) {
    let (front, upstream) = (free_port(), free_port());
    let asking = format!("127.0.0.1:{}", rig.daemon_port);
    let server = nginx_example(rig, front, upstream).replace(&asking, &format!("127.0.0.1:{port}"));
    let deployment = format!(
        "server {{ listen 127.0.0.1:{upstream}; keepalive_requests 1000000000; location / {{ return 204; }} }}"
    );
    let running = nginx::start(rig, name, "worker_processes 1;", &format!("{server}\n{deployment}")).unwrap();
    let url = format!("http://127.0.0.1:{front}/api/v2/dags/etl/dagRuns");
    until("nginx answers", || [204, 401].contains(&curl(&[&url]).status));
    (url, running)
}

/// Starts an nginx that answers 204 to everything. Returns the URL, the process and the port.
fn bare_nginx(rig: &Rig, name: &str, cores: usize, log: &str) -> Option<(String, Running, u16)> {
    let port = free_port();
    let server = format!(
        "server {{ listen 127.0.0.1:{port} reuseport; access_log {log}; keepalive_requests 1000000000;
        location / {{ return 204; }} }}"
    );
    let running = nginx::start(rig, name, &format!("worker_processes {cores};"), &server)?;
    let url = format!("http://127.0.0.1:{port}/");
    until("nginx answers", || curl(&[&url]).status == 204);
    Some((url, running, port))
}

/// Starts an axum handler that checks for a token and answers with as many headers as the daemon, to measure the cost
/// of hyper and tokio alone. Returns the URL.
fn bare_handler() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let answer = |headers: HeaderMap| async move {
            let status =
                if headers.contains_key("authorization") { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            let told = [
                ("x-halligan-reason", "ok"),
                ("x-halligan-event-id", "evt_1800000000-1000000"),
                ("x-halligan-token-id", "tok_aaaaaaaaaaaaaaaaaaaaaaaaaa"),
                ("x-halligan-role", "DEPLOYMENT_ADMIN@1"),
                ("x-halligan-deployment", "dep_aaaaaaaaaaaaaaaaaaaaaaaaaa"),
                ("authorization", ""),
            ];
            (status, told)
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, Router::new().fallback(answer)).await.unwrap();
        });
    });
    url
}
