//! Samples that the second reader changed at random and answered.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::directory;
use crate::interop::READER;
use crate::rig::component;

/// Number of changed cases for each file, and seed of the changes, unless the environment sets them.
const COUNT: u64 = 200;
const SEED: u64 = 1;

/// Files whose cases are not changed, because their inputs are not values that another party sends.
const UNCHANGED: [&str; 3] = ["deploy_orders.json", "digests.json", "roles.json"];

/// Returns changed cases of a file, with the answers of the second reader. Returns none if that reader is not
/// installed.
pub fn cases(file: &str) -> Vec<Value> {
    if UNCHANGED.contains(&file) {
        return Vec::new();
    }
    let Some(python) = component(READER) else { return Vec::new() };
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).map_or(otherwise, |given| given.parse().unwrap()).to_string()
    };
    let output = Command::new(python)
        .arg("-B")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/mutate.py"))
        .arg(directory())
        .arg(file.strip_suffix(".json").unwrap())
        .args([number("HALLIGAN_CHANGES_SEED", SEED), number("HALLIGAN_CHANGES", COUNT)])
        .output()
        .unwrap();
    assert!(output.status.success(), "mutate.py of {file}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns true if two answers to a case agree. If a case has several faults, the documentation lets a reader report
/// any of them for some kinds of objects.
pub fn agree(file: &str, here: &str, second: &str) -> bool {
    let fault = |answer: &str| answer != "ok";
    let either = match file {
        "logs.json" => true,
        "archives.json" => here == "gzip" || second == "gzip",
        "bundles.json" => here == "malformed" || second == "malformed",
        _ => false,
    };
    here == second || (either && fault(here) && fault(second))
}
