//! Measures a control plane while all hosts of a data plane need the whole replica at the same time, because they have
//! none or because the control plane was restored from a backup: the real program, one connection for each host, and
//! many tokens.
//!
//! The hosts are tasks of this process, and share the machine's cores with the control plane. `cargo bench --bench herd
//! -- 100 10000` measures 100 hosts and 10,000 tokens.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "load/hosts.rs"]
mod hosts;
#[path = "../tests/rig/mod.rs"]
mod rig;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use halligan::controlplane::ControlPlane;
use hosts::{Host, OPEN_FILES, enrol, memory, open, processor, serve};
use rig::control::Control;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

/// Numbers of hosts and of tokens.
const HERDS: [(usize, usize); 3] = [(100, 100_000), (1000, 10_000), (1000, 100_000)];
/// Replicas that the hosts hold at the start.
const HELD: [&str; 2] = ["nothing", "a lost history"];
/// Number of threads that create the tokens.
const MAKERS: usize = 8;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs this, too, but must not take long.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let asked: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    // Each herd is measured in its own process, which may open enough files.
    if arguments.iter().any(|argument| argument == "--one") {
        println!("{}", measure(asked[0], asked[1], HELD[asked[2]]));
        return;
    }
    let herds = if let [hosts, tokens] = *asked { vec![(hosts, tokens)] } else { HERDS.to_vec() };
    println!(
        "| hosts | hold | tokens | MB of the replica | first host s | last host s | asked to come later | CPU of a host ms | MB before | MB at most |"
    );
    println!("|{}", " --- |".repeat(10));
    for (hosts, tokens) in herds {
        for held in 0..HELD.len() {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", OPEN_FILES]).arg(std::env::current_exe().unwrap()).args(["--bench", "--one"]);
            let status =
                command.args([hosts, tokens, held].map(|number| number.to_string())).status().unwrap();
            assert!(status.success());
        }
    }
}

/// Returns the table row for a herd.
fn measure(hosts: usize, tokens: usize, hold: &str) -> String {
    let mut control = Control::start("[limits]\nconnections_per_client = 1000000\n");
    let plane = control.make("/data-planes", &json!({ "name": "cloud" }))["id"].as_str().unwrap().to_owned();
    let workspace =
        control.make("/workspaces", &json!({ "name": "data" }))["id"].as_str().unwrap().to_owned();
    let body = json!({ "name": "prod", "workspaceId": workspace, "dataPlaneId": plane });
    let deployment = control.make("/deployments", &body)["id"].as_str().unwrap().to_owned();
    control.kill();
    create(&control, &deployment, tokens);
    let (enrolled, version) = enrol(&control, &plane, hosts);
    let query = if hold == HELD[0] {
        "since=0&keyset=1".to_owned()
    } else {
        open(&control).recover(version, None).unwrap();
        format!("since={version}&keyset=1")
    };
    let serving = serve(&control);
    let address = control.url.strip_prefix("http://").unwrap().to_owned();
    let (idle, before) = (memory(serving.id()).0, processor(serving.id()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (gate, later) = (Arc::new(Barrier::new(hosts + 1)), Arc::new(AtomicUsize::new(0)));
    let starting: Vec<_> = enrolled
        .into_iter()
        .map(|host| {
            runtime.spawn(start(host, address.clone(), query.clone(), Arc::clone(&gate), Arc::clone(&later)))
        })
        .collect();
    runtime.block_on(gate.wait());
    let began = Instant::now();
    let mut ends: Vec<(Duration, usize)> = starting
        .into_iter()
        .map(|host| {
            let (ended, bytes) = runtime.block_on(host).unwrap();
            (ended.saturating_duration_since(began), bytes)
        })
        .collect();
    ends.sort();
    let used = processor(serving.id()) - before;
    let number = f64::from(u32::try_from(hosts).unwrap());
    let megabytes = f64::from(u32::try_from(ends[0].1).unwrap()) / 1e6;
    format!(
        "| {hosts} | {hold} | {tokens} | {megabytes:.1} | {:.1} | {:.1} | {} | {:.1} | {:.0} | {:.0} |",
        ends[0].0.as_secs_f64(),
        ends[hosts - 1].0.as_secs_f64(),
        later.load(Ordering::Relaxed),
        used * 1e3 / number,
        idle / 1024.0,
        memory(serving.id()).1 / 1024.0
    )
}

/// Creates direct-access tokens in the database of a control plane that is stopped.
fn create(control: &Control, deployment: &str, tokens: usize) {
    let opened: ControlPlane = open(control);
    let owner = opened.authenticate(control.owner.as_bytes()).unwrap();
    thread::scope(|scope| {
        for maker in 0..MAKERS {
            let (opened, owner) = (&opened, &owner);
            scope.spawn(move || {
                for number in (maker..tokens).step_by(MAKERS) {
                    let new = json!({ "name": format!("token {number}"), "type": "DEPLOYMENT", "entityId": deployment, "role": "DEPLOYMENT_ADMIN", "kind": "DIRECT_ACCESS", "tokenExpiryPeriodInDays": 30 });
                    let new = serde_json::from_value(new).unwrap();
                    opened.create_token(owner, &control.organization, new, None).unwrap();
                }
            });
        }
    });
}

/// Requests the whole replica, and repeats the request when the control plane says so. Returns the time of arrival, and
/// the length in bytes.
async fn start(
    host: Host,
    address: String,
    query: String,
    gate: Arc<Barrier>,
    later: Arc<AtomicUsize>,
) -> (Instant, usize) {
    gate.wait().await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    for number in 0.. {
        let (plane, proof) = (&host.plane, host.proof(number));
        // A request from a host that holds a replica contains a nonce.
        let nonce = if query.starts_with("since=0") { String::new() } else { format!("&nonce={}", host.id) };
        let request = format!(
            "GET /v1/data-planes/{plane}/feed?{query}{nonce} HTTP/1.1\r\nHost: control\r\nAuthorization: Bearer {proof}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, mut length) = read_head(&mut stream).await;
        let value = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse::<usize>().unwrap()
        };
        let whole = value("content-length: ");
        let mut piece = vec![0; 1 << 16];
        while length < whole {
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0, "the answer ended after {length} of {whole} bytes");
            length += read;
        }
        if head.starts_with("HTTP/1.1 200") {
            return (Instant::now(), whole);
        }
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        later.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(value("retry-after: ") as u64)).await;
    }
    unreachable!("a host asks until it has the replica")
}

/// Reads the head of an answer. Returns it, and the number of bytes of the body that came with it.
async fn read_head(stream: &mut TcpStream) -> (String, usize) {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end + 2].to_vec()).unwrap();
            return (head, bytes.len() - end - 4);
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "{}", String::from_utf8_lossy(&bytes));
    }
}
