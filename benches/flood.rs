//! Measures the time of a good, hot request while other clients send forged tokens as fast as they can: wrk against the
//! daemon, on the same cores.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::path::Path;
use std::process::{Command, Stdio};

use rig::{Rig, component};

const ROUNDS: usize = 5;
/// Number of connections that send good tokens, and of those that send forged ones.
const GOOD: &str = "4";
const FORGING: &str = "64";

/// Script of wrk that sends a different forged signature with each request, because a cached answer would cost nothing.
const FORGE: &str = r#"
local number = 0
request = function()
    number = number + 1
    local forged = TOKEN:sub(1, -60) .. string.format("%010d", number) .. TOKEN:sub(-49)
    return wrk.format("GET", nil, { ["Authorization"] = "Bearer " .. forged, ["X-Original-Method"] = "GET",
        ["X-Original-URI"] = "/api/v2/dags/etl/dagRuns", ["X-Original-Host"] = "prod.example", ["X-Real-IP"] = "192.0.2.8" })
end
"#;

fn main() {
    // `cargo test --benches` runs this, too, but must not take long.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let Some(wrk) = component("wrk") else { return };
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("bench", &rig.deployment);
    rig.synced();
    rig.kill_control();
    let url = format!("http://127.0.0.1:{}/v1/authorize/{}", rig.daemon_port, rig.deployment);
    let script = rig.path("forge.lua");
    std::fs::write(&script, format!("local TOKEN = \"{token}\"\n{FORGE}")).unwrap();

    println!("| good requests | p50 ms | p99 ms | good a second | forged a second |");
    println!("| --- | --- | --- | --- | --- |");
    for round in 0..ROUNDS {
        let idle = good(&wrk, &url, &token);
        println!("| alone, round {round} | {:.2} | {:.2} | {:.0} | |", idle.half, idle.most, idle.rate);
        let mut command = Command::new(&wrk);
        command.args(["-t", "1", "-c", FORGING, "-d", "5s", "-s"]).arg(&script).arg(&url);
        let flood = command.stdout(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(1));
        let beside = good(&wrk, &url, &token);
        let forged = Measured::read(&String::from_utf8(flood.wait_with_output().unwrap().stdout).unwrap());
        assert!(forged.refused > 0, "no forged token was denied");
        println!(
            "| beside the flood | {:.2} | {:.2} | {:.0} | {:.0} |",
            beside.half, beside.most, beside.rate, forged.rate
        );
    }
}

/// Sends good, hot requests for three seconds. Returns the figures of wrk.
fn good(wrk: &Path, url: &str, token: &str) -> Measured {
    let mut command = Command::new(wrk);
    command.args(["-t", "1", "-c", GOOD, "-d", "3s", "--latency"]);
    for header in [
        &format!("Authorization: Bearer {token}"),
        "X-Original-Method: GET",
        "X-Original-URI: /api/v2/dags/etl/dagRuns",
        "X-Original-Host: prod.example",
        "X-Real-IP: 192.0.2.7",
    ] {
        command.args(["-H", header]);
    }
    let measured = Measured::read(&String::from_utf8(command.arg(url).output().unwrap().stdout).unwrap());
    assert!(measured.refused == 0, "a good request was denied");
    measured
}

/// Figures that wrk prints: times in milliseconds, requests in a second, and the number of answers other than 2xx.
struct Measured {
    half: f64,
    most: f64,
    rate: f64,
    refused: u64,
}

impl Measured {
    fn read(output: &str) -> Self {
        let field = |label: &str| output.lines().find_map(|line| line.trim().strip_prefix(label));
        let time = |label: &str| field(label).map_or(0.0, |text| milliseconds(text.trim()));
        Self {
            half: time("50%"),
            most: time("99%"),
            rate: field("Requests/sec:").unwrap_or_else(|| panic!("{output}")).trim().parse().unwrap(),
            refused: field("Non-2xx or 3xx responses:").map_or(0, |text| text.trim().parse().unwrap()),
        }
    }
}

/// Parses a time such as `350.00us`. Returns it in milliseconds.
fn milliseconds(text: &str) -> f64 {
    let number: f64 = text.trim_end_matches(char::is_alphabetic).parse().unwrap();
    match text.trim_start_matches(|sign: char| !sign.is_alphabetic()) {
        "us" => number / 1e3,
        "ms" => number,
        "s" => number * 1e3,
        other => panic!("no unit of time: {other}"),
    }
}
