//! Faults with real programs, a real network namespace, real signals, disks and clocks.
//!
//! `cargo test --test external chaos -- --nocapture` prints a table of each fault, its promise and the result. Random
//! choices follow a seed, which is printed. `HALLIGAN_SEED=N` repeats a run, and `HALLIGAN_FAULT=disk` runs only the
//! faults with that name.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

mod faults;
mod ground;
mod relay;

use std::panic::{AssertUnwindSafe, catch_unwind};

use faults::FAULTS;
use ground::Ground;

#[test]
fn every_fault_ends_as_promised() {
    let seed = std::env::var("HALLIGAN_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}: HALLIGAN_SEED={seed} cargo test --test external chaos -- --nocapture");
    let _alone = crate::rig::alone();
    let Some(mut ground) = Ground::new(seed) else { return };
    println!("| fault | promised | seen |\n| --- | --- | --- |");
    let mut broken = Vec::new();
    let only = std::env::var("HALLIGAN_FAULT").unwrap_or_default();
    for (fault, promise, happen) in FAULTS.into_iter().filter(|(fault, ..)| fault.contains(&only)) {
        let ended = catch_unwind(AssertUnwindSafe(|| happen(&mut ground, seed)));
        let ended = ended.unwrap_or_else(|panic| {
            broken.push(fault);
            let text = panic.downcast_ref::<String>().cloned();
            format!("BROKEN: {}", text.unwrap_or_else(|| "see above".into()))
        });
        println!("| {fault} | {promise} | {ended} |");
    }
    assert!(broken.is_empty(), "{broken:?}");
}
