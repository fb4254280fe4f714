//! Measures the time that a page of the list of tokens takes, and the number of tokens created in a second, as the
//! number of tokens grows: the real program over real connections.
//!
//! `cargo bench --bench lists -- 100 100000` measures other numbers of tokens.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "load/client.rs"]
mod client;
#[path = "../tests/rig/mod.rs"]
mod rig;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::Client;
use rig::control::Control;
use serde_json::json;

const TOKENS: [u64; 4] = [100, 1000, 10_000, 100_000];
/// Number of calls for each kind of page. The table shows the median.
const CALLS: usize = 41;
/// Number of clients that create tokens at the same time, and the duration.
const CLIENTS: u64 = 16;
const CREATING: Duration = Duration::from_secs(3);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs this, too, but must not take long.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let asked: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let numbers = if asked.is_empty() { TOKENS.to_vec() } else { asked };
    println!(
        "| tokens | first page ms | last page ms | last page by offset ms | by name, last ms | of a deployment ms | created a second |"
    );
    println!("|{}", " --- |".repeat(7));
    for tokens in numbers {
        println!("{}", measure(tokens));
    }
}

/// Returns the table row for a number of tokens.
fn measure(tokens: u64) -> String {
    let mut control =
        Control::start("[limits]\nconnections_per_client = 1000\ncalls_per_minute = 10000000\n");
    let plane = control.make("/data-planes", &json!({ "name": "cloud" }))["id"].as_str().unwrap().to_owned();
    let workspace =
        control.make("/workspaces", &json!({ "name": "data" }))["id"].as_str().unwrap().to_owned();
    let deployments = [0, 1].map(|number| {
        let body =
            json!({ "name": format!("prod {number}"), "workspaceId": workspace, "dataPlaneId": plane });
        control.make("/deployments", &body)["id"].as_str().unwrap().to_owned()
    });
    let of = |deployment: &str, name: &str| json!({ "name": name, "type": "DEPLOYMENT", "entityId": deployment, "role": "DEPLOYMENT_ADMIN", "kind": "STANDARD" });
    // One deployment has fifty tokens. The other tokens are copies of one token of the other deployment.
    for number in 0..tokens.min(50) {
        control.make("/tokens", &of(&deployments[0], &format!("few {number}")));
    }
    let one = control.make("/tokens", &of(&deployments[1], "many"))["id"].as_str().unwrap().to_owned();
    control.kill();
    copy(&control, &one, tokens.saturating_sub(51));
    control.serve();
    let mut client = Client::connect(&control);
    let mut page = |query: &str| median(&mut client, &format!("/tokens?{query}"));
    let row = [
        page("limit=100"),
        page("limit=100&sorts=createdAt:desc"),
        page(&format!("limit=100&offset={}", tokens.saturating_sub(100))),
        page("limit=100&sorts=name:desc"),
        page(&format!("limit=100&deploymentId={}", deployments[0])),
    ];
    let times: Vec<String> = row.iter().map(|time| format!("{:.1}", time.as_secs_f64() * 1e3)).collect();
    format!("| {tokens} | {} | {:.0} |", times.join(" | "), created(&control, &deployments[1]))
}

/// Returns the median time of the calls.
fn median(client: &mut Client, target: &str) -> Duration {
    let mut times: Vec<Duration> = (0..CALLS).map(|_| client.call("GET", target, "")).collect();
    times.sort();
    times[CALLS / 2]
}

/// Copies a token in the database of a control plane that is stopped.
fn copy(control: &Control, token: &str, copies: u64) {
    let mut connection = rusqlite::Connection::open(control.database()).unwrap();
    let transaction = connection.transaction().unwrap();
    transaction.execute("CREATE TEMP TABLE one AS SELECT * FROM token WHERE id = ?1", [token]).unwrap();
    for number in 0..copies {
        transaction
            .prepare_cached("UPDATE one SET id = ?1, name = ?2, created_at = created_at + 1")
            .unwrap()
            .execute([format!("{token}{number}"), format!("token {}", number * 7919 % 1_000_003)])
            .unwrap();
        transaction.prepare_cached("INSERT INTO token SELECT * FROM one").unwrap().execute([]).unwrap();
    }
    transaction.commit().unwrap();
}

/// Returns the number of tokens that several clients create in a second.
fn created(control: &Control, deployment: &str) -> f64 {
    let done = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let done = &done;
            scope.spawn(move || {
                let mut calling = Client::connect(control);
                for number in 0.. {
                    if began.elapsed() > CREATING {
                        return;
                    }
                    let body = json!({
                        "name": format!("new {client} {number}"), "type": "DEPLOYMENT", "entityId": deployment,
                        "role": "DEPLOYMENT_ADMIN", "kind": "STANDARD",
                    });
                    calling.call("POST", "/tokens", &body.to_string());
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let number = f64::from(u32::try_from(done.into_inner()).unwrap());
    number / began.elapsed().as_secs_f64()
}
