//! Measures what a page of the list of tokens takes, and how many tokens a second are created, as the number of tokens grows:
//! the real program over real connections.
//!
//! `cargo bench --bench lists -- 100 100000` measures other numbers of tokens.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rig::control::Control;
use serde_json::json;

const TOKENS: [u64; 4] = [100, 1000, 10_000, 100_000];
/// Number of calls for each kind of page. The median counts.
const CALLS: usize = 41;
/// Clients that create tokens at once, and for how long.
const CLIENTS: u64 = 16;
const CREATING: Duration = Duration::from_secs(3);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs this, too: nobody waits for it.
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

/// Returns the row of a number of tokens.
fn measure(tokens: u64) -> String {
    let mut control = Control::start("[limits]\nconnections_per_client = 1000\n");
    let plane = control.make("/data-planes", &json!({ "name": "cloud" }))["id"].as_str().unwrap().to_owned();
    let workspace =
        control.make("/workspaces", &json!({ "name": "data" }))["id"].as_str().unwrap().to_owned();
    let deployments = [0, 1].map(|number| {
        let body =
            json!({ "name": format!("prod {number}"), "workspaceId": workspace, "dataPlaneId": plane });
        control.make("/deployments", &body)["id"].as_str().unwrap().to_owned()
    });
    let of = |deployment: &str, name: &str| json!({ "name": name, "type": "DEPLOYMENT", "entityId": deployment, "role": "DEPLOYMENT_ADMIN", "kind": "STANDARD" });
    // Fifty of one deployment; the rest are copies of one token of the other.
    for number in 0..tokens.min(50) {
        control.make("/tokens", &of(&deployments[0], &format!("few {number}")));
    }
    let one = control.make("/tokens", &of(&deployments[1], "many"))["id"].as_str().unwrap().to_owned();
    control.kill();
    copy(&control, &one, tokens.saturating_sub(51));
    control.serve();
    let mut client = Client::of(&control);
    let mut page = |query: &str| client.median(query);
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

/// Copies a token in the database of a control plane that does not run.
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

/// Returns how many tokens a second several clients create.
fn created(control: &Control, deployment: &str) -> f64 {
    let done = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let done = &done;
            scope.spawn(move || {
                let mut calling = Client::of(control);
                for number in 0.. {
                    if began.elapsed() > CREATING {
                        return;
                    }
                    let body = json!({
                        "name": format!("new {client} {number}"), "type": "DEPLOYMENT", "entityId": deployment,
                        "role": "DEPLOYMENT_ADMIN", "kind": "STANDARD",
                    });
                    calling.call("POST", "", &body.to_string());
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let number = f64::from(u32::try_from(done.into_inner()).unwrap());
    number / began.elapsed().as_secs_f64()
}

/// Connection that is used again and again.
struct Client {
    stream: BufReader<TcpStream>,
    path: String,
    owner: String,
}

impl Client {
    fn of(control: &Control) -> Self {
        let stream = TcpStream::connect(control.url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
            path: format!("/v1/organizations/{}/tokens", control.organization),
            owner: control.owner.clone(),
        }
    }

    fn median(&mut self, query: &str) -> Duration {
        let mut times: Vec<Duration> = (0..CALLS)
            .map(|_| {
                let began = Instant::now();
                self.call("GET", &format!("?{query}"), "");
                began.elapsed()
            })
            .collect();
        times.sort();
        times[CALLS / 2]
    }

    fn call(&mut self, method: &str, query: &str, body: &str) {
        let Self { path, owner, .. } = self;
        let length = body.len();
        let request = format!(
            "{method} {path}{query} HTTP/1.1\r\nHost: control\r\nAuthorization: Bearer {owner}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut length) = (String::new(), 0);
        self.stream.read_line(&mut status).unwrap();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}{}", String::from_utf8_lossy(&answer));
    }
}
