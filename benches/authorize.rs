//! What an answer costs over HTTP: the daemon against nginx answering a bare 204, both under wrk on the same cores.
//!
//! wrk and what it asks share the machine; neither server is given more cores than the other. An nginx that keeps a
//! record of each request, as the daemon does, and an axum handler that decides nothing stand beside it.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::path::Path;
use std::process::Command;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use rig::{Rig, Running, component, curl, free_port, nginx, until};

/// How long each measurement is, and how often each is made. All are made in turn, and a ratio is of two of the same round:
/// a machine that is slower for a while is so for both. The median of the rounds counts.
const SECONDS: &str = "2s";
const ROUNDS: usize = 9;
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

fn median(rounds: impl Iterator<Item = f64>) -> f64 {
    let mut rounds: Vec<f64> = rounds.collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn main() {
    // `cargo test --benches` runs this, too: once is enough to see that it works, and nobody waits for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (Some(_), Some(wrk)) = (component("nginx"), component("wrk")) else { return };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("bench", &rig.deployment);
    rig.synced();
    // It has a machine of its own, and does not share the cores of the hosts that ask it.
    rig.kill_control();

    // With reuseport the connections are spread over all workers, as the daemon spreads them. Without it one worker takes them
    // all, on most days: that is one core that serves and one that asks, and says nothing of a server on as many cores.
    let silent = bare_nginx(&rig, "silent", cores, "off").unwrap();
    // As it comes, it writes down each request, as the daemon does.
    let log = rig.path("access.log");
    let logging = bare_nginx(&rig, "logging", cores, &log.to_string_lossy()).unwrap();
    let handler = bare_handler();

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
    // The same headers to all: parsing them is part of the work.
    let (get, post) = (asked("GET"), asked("POST"));
    let targets = [(&url, &get), (&url, &post), (&silent.0, &get), (&logging.0, &get), (&handler, &get)];
    let rounds: Vec<[f64; 5]> = (0..ROUNDS)
        .map(|_| {
            targets.map(|(url, headers)| {
                let (rate, refused) = load(&wrk, url, headers);
                assert_eq!(refused, 0, "{url} refused");
                rate
            })
        })
        .collect();
    let rate = |target: usize| median(rounds.iter().map(|round| round[target]));
    let ratio = |target: usize| median(rounds.iter().map(|round| round[0] / round[target]));
    let [reads, writes, silent, logging, handler] = [0, 1, 2, 3, 4].map(rate);
    println!("cores: {cores}, connections: {CONNECTIONS}");
    println!("reads: {reads:.0}/s; durable mutating decisions: {writes:.0}/s");
    println!(
        "nginx `return 204`: {silent:.0}/s, with its log {logging:.0}/s; a bare axum handler: {handler:.0}/s"
    );
    println!("ratio: reads / nginx `return 204` = {:.3} (at least 0.90)", ratio(2));
    println!("ratio: reads / nginx `return 204` with its log = {:.3}", ratio(3));
    println!("ratio: reads / a bare axum handler = {:.3}", ratio(4));
    println!("ratio: durable mutating decisions / 20,000 a second = {:.3} (at least 1)", writes / 20_000.0);
}

/// An nginx that answers 204 to everything: where, and the process.
fn bare_nginx(rig: &Rig, name: &str, cores: usize, log: &str) -> Option<(String, Running)> {
    let port = free_port();
    let server = format!(
        "server {{ listen 127.0.0.1:{port} reuseport; access_log {log}; keepalive_requests 1000000000;
        location / {{ return 204; }} }}"
    );
    let running = nginx::start(rig, name, &format!("worker_processes {cores};"), &server)?;
    let url = format!("http://127.0.0.1:{port}/");
    until("nginx answers", || curl(&[&url]).status == 204);
    Some((url, running))
}

/// What hyper and tokio cost by themselves: an axum handler that looks at the token and answers with as many headers as the
/// daemon does; its address.
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
