//! Measures the number of events in a second that a control plane takes from many hosts at the same time, and the time
//! that the creation of a token takes meanwhile: the real program over real connections.
//!
//! The hosts are tasks of this process, and share the machine's cores with the control plane. `cargo bench --bench
//! events -- 100 1000` measures other numbers of hosts.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "load/client.rs"]
mod client;
#[path = "load/hosts.rs"]
mod hosts;
#[path = "../tests/rig/mod.rs"]
mod rig;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::Client;
use halligan::platform::clock::wall;
use halligan::protocol::event::{Connectivity, Draft, EventKind, GENESIS, line_hash, place};
use halligan::protocol::id::{DeploymentId, TokenId};
use halligan::protocol::role::RoleRef;
use hosts::{Host, enrol, processor, serve};
use rig::control::Control;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

const HOSTS: [usize; 3] = [10, 100, 1000];
/// Number of events of all hosts together, and number of events in each call.
const EVENTS: usize = 400_000;
const BATCHES: [usize; 2] = [100, 400];
/// Number of direct-access tokens that are used.
const TOKENS: usize = 16;
/// Number of creations that are measured without other load, and interval between the starts of two creations.
const CREATIONS: usize = 100;
const EVERY: Duration = Duration::from_millis(50);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs this, too, but must not take long.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let asked: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let numbers = if asked.is_empty() { HOSTS.to_vec() } else { asked };
    println!(
        "| hosts | events in a call | events a second | CPU of an event µs | creation idle, p50 and p99 ms | meanwhile, p50 and p99 ms |"
    );
    println!("|{}", " --- |".repeat(6));
    for hosts in numbers {
        for batch in BATCHES {
            println!("{}", measure(hosts, batch));
        }
    }
}

/// Returns the table row for a number of hosts and a size of calls.
fn measure(hosts: usize, batch: usize) -> String {
    let mut control =
        Control::start("[limits]\nconnections_per_client = 1000000\ncalls_per_minute = 10000000\n");
    let plane = control.make("/data-planes", &json!({ "name": "cloud" }))["id"].as_str().unwrap().to_owned();
    let workspace =
        control.make("/workspaces", &json!({ "name": "data" }))["id"].as_str().unwrap().to_owned();
    let body = json!({ "name": "prod", "workspaceId": workspace, "dataPlaneId": plane });
    let deployment = control.make("/deployments", &body)["id"].as_str().unwrap().to_owned();
    let new = |name: &str, kind: &str| json!({ "name": name, "type": "DEPLOYMENT", "entityId": deployment, "role": "DEPLOYMENT_ADMIN", "kind": kind, "tokenExpiryPeriodInDays": 30 });
    let tokens: Vec<TokenId> = (0..TOKENS)
        .map(|number| {
            let made = control.make("/tokens", &new(&format!("used {number}"), "DIRECT_ACCESS"));
            made["id"].as_str().unwrap().parse().unwrap()
        })
        .collect();
    control.kill();
    let (enrolled, _) = enrol(&control, &plane, hosts);
    let calls = (EVENTS / hosts / batch).max(1);
    let logs: Vec<Vec<String>> =
        enrolled.iter().map(|host| log(host, &tokens, &deployment.parse().unwrap(), calls, batch)).collect();
    let serving = serve(&control);
    let mut client = Client::connect(&control);
    let mut created = 0;
    let mut create = || {
        created += 1;
        let took = client.call("POST", "/tokens", &new(&format!("new {created}"), "STANDARD").to_string());
        std::thread::sleep(EVERY.saturating_sub(took));
        took
    };
    let idle: Vec<Duration> = (0..CREATIONS).map(|_| create()).collect();

    let address = control.url.strip_prefix("http://").unwrap().to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (begin, done) = (Arc::new(Barrier::new(hosts + 1)), Arc::new(AtomicBool::new(false)));
    let uploads: Vec<_> = enrolled
        .into_iter()
        .zip(logs)
        .map(|(host, log)| runtime.spawn(upload(host, log, address.clone(), Arc::clone(&begin))))
        .collect();
    runtime.block_on(begin.wait());
    let (start, before) = (Instant::now(), processor(serving.id()));
    let watched = Arc::clone(&done);
    let waiting = runtime.spawn(async move {
        for upload in uploads {
            upload.await.unwrap();
        }
        watched.store(true, Ordering::Relaxed);
        Instant::now()
    });
    let mut busy = Vec::new();
    // The wait also ends if an upload fails.
    while !done.load(Ordering::Relaxed) && !waiting.is_finished() {
        busy.push(create());
    }
    let took = runtime.block_on(waiting).unwrap().duration_since(start).as_secs_f64();
    let used = processor(serving.id()) - before;
    let events = f64::from(u32::try_from(hosts * calls * batch).unwrap());
    format!(
        "| {hosts} | {batch} | {:.0} | {:.1} | {} | {} |",
        events / took,
        used * 1e6 / events,
        centiles(idle),
        centiles(busy)
    )
}

/// Returns the times below which 50 and 99 percent of the calls are.
fn centiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let [half, most] = [50, 99].map(|share| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3);
    format!("{half:.1}, {most:.1}")
}

/// Returns the log of a host as the bodies of its calls. Nine of ten requests are allowed.
fn log(
    host: &Host,
    tokens: &[TokenId],
    deployment: &DeploymentId,
    calls: usize,
    batch: usize,
) -> Vec<String> {
    let node = host.id.parse().unwrap();
    let role: RoleRef = "DEPLOYMENT_ADMIN@1".parse().unwrap();
    let (mut prev, now) = (GENESIS.to_owned(), wall());
    let mut number = 0_usize;
    let mut bodies = Vec::new();
    for _ in 0..calls {
        let mut body = String::new();
        for _ in 0..batch {
            number += 1;
            let id = format!("evt_1800000000-{number}");
            let mut draft = Draft::new(EventKind::Decision, &id, now, &node, Connectivity::Offline);
            let allowed = !number.is_multiple_of(10);
            draft.decision = Some(if allowed { "allow" } else { "deny" });
            draft.reason = Some(if allowed { "ok" } else { "permission_missing" });
            draft.token = Some(&tokens[number % tokens.len()]);
            draft.generation = Some(1);
            draft.role = Some(&role);
            draft.deployment = Some(deployment);
            draft.method = Some("GET");
            draft.route = Some("/api/v2/dags/{dag_id}/dagRuns");
            draft.path = Some("/api/v2/dags/etl/dagRuns");
            draft.permission = Some("dag_run.read");
            draft.client = Some([192, 0, 2, 7].into());
            let (mut json, mut line) = (Vec::new(), String::new());
            draft.write(&mut json);
            place(u64::try_from(number).unwrap(), &prev, std::str::from_utf8(&json).unwrap(), &mut line);
            prev = line_hash(&line);
            writeln!(body, "{}", line.trim_end()).unwrap();
        }
        bodies.push(body);
    }
    bodies
}

/// Sends the calls of a host one after the other.
async fn upload(host: Host, bodies: Vec<String>, address: String, begin: Arc<Barrier>) {
    let mut stream = TcpStream::connect(&address).await.unwrap();
    begin.wait().await;
    let mut number = 0;
    for body in bodies {
        // A control plane that is busy states the time to wait before the next attempt.
        while let Some(pause) = send(&host, &mut stream, number, &body).await {
            tokio::time::sleep(pause).await;
            number += 1;
        }
        number += 1;
    }
}

/// Sends a call. Returns the time to wait if the control plane is busy.
async fn send(host: &Host, stream: &mut TcpStream, number: u64, body: &str) -> Option<Duration> {
    let head = format!(
        "POST /v1/data-planes/{}/events?oldest=1 HTTP/1.1\r\nHost: control\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
        host.plane,
        host.proof(number),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The answer is one JSON object, and ends with its last brace.
    while !answer.ends_with(b"}") {
        let read = stream.read_buf(&mut answer).await;
        let whole = matches!(read, Ok(1..));
        assert!(whole, "the connection ended ({read:?}) after {:?}", String::from_utf8_lossy(&answer));
    }
    let text = String::from_utf8(answer).unwrap();
    if text.starts_with("HTTP/1.1 200") {
        return None;
    }
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    let after = text.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
    Some(Duration::from_secs(after.parse().unwrap()))
}
