//! Samples that the second reader changed at random and answered.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::directory;
use crate::interop::READER;
use crate::rig::component;

/// How many cases of each file are changed, and the seed of the changes, unless the environment says otherwise.
const COUNT: u64 = 200;
const SEED: u64 = 1;

/// Questions of which the samples are not changed: their inputs are values that no one else writes.
const UNCHANGED: [&str; 3] = ["deploy_orders.json", "digests.json", "roles.json"];

/// Returns changed cases of a file, with the answers of the second reader. There are none where that reader can't run.
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

/// Compares the two answers to a case. Where a case has several faults, the pages leave it to the reader in some kinds of objects
/// which one it names.
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
