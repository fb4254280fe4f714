//! Measures the cost of a host on the feed to its control plane: the real program, one connection for each host, and
//! one change that all hosts wait for.
//!
//! The hosts are tasks of this process, and share the machine's cores with the control plane. `cargo bench --bench feed
//! -- 100 5000` measures other numbers of hosts.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "load/hosts.rs"]
mod hosts;
#[path = "../tests/rig/mod.rs"]
mod rig;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hosts::{Host, OPEN_FILES, enrol, memory, processor, serve, version};
use rig::control::Control;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, mpsc};

const HOSTS: [usize; 3] = [100, 1000, 10_000];
/// Number of changes for each number of hosts. The table shows the median.
const ROUNDS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs this, too, but must not take long.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    // Each number is measured in its own process, which may open enough files.
    if let Some(hosts) = arguments.iter().find_map(|argument| argument.strip_prefix("--hosts=")) {
        println!("{}", measure(hosts.parse().unwrap()));
        return;
    }
    let asked: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let numbers = if asked.is_empty() { HOSTS.to_vec() } else { asked };
    println!(
        "| hosts | API answers ms | first host ms | median ms | last host ms | CPU of a host µs | KiB of a waiting host | KiB of a host at most |"
    );
    println!("|{}", " --- |".repeat(8));
    for hosts in numbers {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", OPEN_FILES]).arg(std::env::current_exe().unwrap());
        let status = command.args(["--bench", &format!("--hosts={hosts}")]).status().unwrap();
        assert!(status.success());
    }
}

/// Returns the table row for a number of hosts.
fn measure(hosts: usize) -> String {
    let mut control = Control::start("[limits]\nconnections_per_client = 1000000\n");
    let plane = control.make("/data-planes", &json!({ "name": "cloud" }))["id"].as_str().unwrap().to_owned();
    let workspace =
        control.make("/workspaces", &json!({ "name": "data" }))["id"].as_str().unwrap().to_owned();
    control.kill();
    let (enrolled, version) = enrol(&control, &plane, hosts);
    let serving = serve(&control);
    let address = control.url.strip_prefix("http://").unwrap().to_owned();
    let idle = memory(serving.id());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (begin, done) = (Arc::new(Barrier::new(hosts + 1)), Arc::new(AtomicUsize::new(0)));
    let (told, mut arrivals) = mpsc::unbounded_channel();
    for host in enrolled {
        let host = Follower { host, version };
        let (address, begin, done, told) =
            (address.clone(), Arc::clone(&begin), Arc::clone(&done), told.clone());
        runtime.spawn(async move { host.follow(&address, &begin, &done, &told).await });
    }
    let mut rounds: Vec<Row> = Vec::new();
    let mut waiting = 0.0;
    for round in 0..=ROUNDS {
        // All hosts have sent a request, and wait.
        runtime.block_on(begin.wait());
        std::thread::sleep(Duration::from_millis(500 + hosts as u64 / 10));
        let quiet = processor(serving.id());
        if round > 0 {
            let row = rounds.last_mut().unwrap();
            row.processor = quiet - row.processor;
        }
        waiting = memory(serving.id()).0;
        if round == ROUNDS {
            break;
        }
        let body = json!({ "name": format!("prod {round}"), "workspaceId": workspace, "dataPlaneId": plane });
        // Measured from the start of the call, because the answers to the hosts and to curl compete for the same cores.
        let called = Instant::now();
        control.make("/deployments", &body);
        let answered = called.elapsed().as_secs_f64() * 1e3;
        let mut after: Vec<f64> = (0..hosts)
            .map(|_| {
                let arrived: Instant = runtime.block_on(arrivals.recv()).unwrap();
                arrived.saturating_duration_since(called).as_secs_f64() * 1e3
            })
            .collect();
        after.sort_by(f64::total_cmp);
        rounds.push(Row {
            answered,
            first: after[0],
            middle: after[hosts / 2],
            last: after[hosts - 1],
            processor: quiet,
        });
    }
    let median = |of: fn(&Row) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let number = f64::from(u32::try_from(hosts).unwrap());
    let share = |kib: f64| kib / number;
    let (at_rest, at_most) = (share(waiting - idle.0), share(memory(serving.id()).1 - idle.0));
    let processor = share(median(|row| row.processor) * 1e6);
    format!(
        "| {hosts} | {:.0} | {:.0} | {:.0} | {:.0} | {processor:.0} | {at_rest:.1} | {at_most:.1} |",
        median(|row| row.answered),
        median(|row| row.first),
        median(|row| row.middle),
        median(|row| row.last)
    )
}

/// Times in milliseconds since the start of the call, and processor time in seconds.
struct Row {
    answered: f64,
    first: f64,
    middle: f64,
    last: f64,
    processor: f64,
}

/// Host that follows the feed.
struct Follower {
    host: Host,
    version: u64,
}

impl Follower {
    /// Sends a request, waits until all hosts have, and sends another after each answer.
    async fn follow(
        mut self,
        address: &str,
        begin: &Barrier,
        done: &AtomicUsize,
        told: &mpsc::UnboundedSender<Instant>,
    ) {
        // The hosts connect one after the other, because the accept queue is limited.
        tokio::time::sleep(Duration::from_micros(200 * done.fetch_add(1, Ordering::Relaxed) as u64)).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        for round in 0.. {
            let asked = self.request(round);
            stream.write_all(&asked).await.unwrap();
            begin.wait().await;
            self.version = answer(&mut stream).await;
            if told.send(Instant::now()).is_err() {
                return;
            }
        }
    }

    fn request(&self, round: u64) -> Vec<u8> {
        let proof = self.host.proof(round);
        let (plane, version) = (&self.host.plane, self.version);
        let target = format!("/v1/data-planes/{plane}/feed?since={version}&keyset=1&wait=55&nonce=n{round}");
        format!("GET {target} HTTP/1.1\r\nHost: control\r\nAuthorization: Bearer {proof}\r\n\r\n")
            .into_bytes()
    }
}

/// Reads an answer. Returns the version that it leads to, from its entity tag.
async fn answer(stream: &mut TcpStream) -> u64 {
    let mut bytes = Vec::with_capacity(4096);
    let (mut head, mut length) = (0_usize, usize::MAX);
    while bytes.len() < head.saturating_add(length) {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "{}", String::from_utf8_lossy(&bytes));
        if head == 0
            && let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n")
        {
            head = end + 4;
            let text = std::str::from_utf8(&bytes[..head]).unwrap();
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            length = field(text, "content-length").parse().unwrap();
        }
    }
    let text = std::str::from_utf8(&bytes[..head]).unwrap();
    version(field(text, "etag"))
}

fn field<'t>(head: &'t str, name: &str) -> &'t str {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).unwrap().1
}
