//! A whole estate in one deterministic test: a control plane and its hosts, on a network, with disks and clocks that a seed
//! drives. After every step an oracle that knows the truth judges what the hosts answered; at the end faults are over, and
//! every host must find its way back.
//!
//! `HALLIGAN_SEEDS=5000 cargo test --test simulation` plays more stories, from `HALLIGAN_FIRST_SEED` on. `HALLIGAN_SEED=17`
//! plays one, and prints it; with `HALLIGAN_SHRINK=1` as well, the shortest part of it that still fails. With
//! `HALLIGAN_STOP=1` the first broken promise ends the run, and after how many stories is printed.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::cast_precision_loss
)]

mod attack;
mod control;
mod doors;
mod files;
mod heal;
mod host;
mod links;
mod losses;
mod network;
mod peers;
mod reach;
mod steps;
mod story;
mod truth;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use story::{STEPS, Story};

/// How many stories are played when nobody says.
const STORIES: u64 = 100;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Plays some steps of a story; what is wrong in it, and what happened up to there.
fn play(seed: u64, steps: &[u64]) -> (Result<(), String>, Vec<String>) {
    let mut story = Story::new(seed);
    let outcome = catch_unwind(AssertUnwindSafe(|| story.play(steps)));
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.into())).unwrap_or_default())
    });
    (outcome, story.transcript)
}

fn whole() -> Vec<u64> {
    (0..STEPS).collect()
}

/// The sentence of what is wrong, without what differs from story to story.
fn kind(wrong: &str) -> String {
    wrong.chars().filter(|char| !char.is_ascii_digit()).collect()
}

/// Leaves steps out as long as the same thing is wrong in the end.
fn shrink(seed: u64, wrong: &str) -> Vec<u64> {
    let mut steps = whole();
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            if play(seed, &fewer).0.is_err_and(|still| kind(&still) == kind(wrong)) {
                steps = fewer;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    steps
}

#[test]
fn no_story_breaks_an_invariant() {
    if let Some(seed) = number("HALLIGAN_SEED") {
        let (mut outcome, mut transcript) = play(seed, &whole());
        if let (Err(wrong), Some(_)) = (&outcome, number("HALLIGAN_SHRINK")) {
            let steps = shrink(seed, wrong);
            (outcome, transcript) = play(seed, &steps);
            transcript.push(format!("of seed {seed} the steps {steps:?} are enough"));
        }
        println!("{}", transcript.join("\n"));
        return outcome.unwrap();
    }
    let first = number("HALLIGAN_FIRST_SEED").unwrap_or(0);
    let end = first + number("HALLIGAN_SEEDS").unwrap_or(STORIES);
    let stop = number("HALLIGAN_STOP").is_some();
    let (next, failed, begun) = (AtomicU64::new(first), Mutex::new(Vec::new()), Instant::now());
    let note = |seed, wrong| failed.lock().unwrap_or_else(PoisonError::into_inner).push((seed, wrong));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    if let (Err(wrong), _) = play(seed, &whole()) {
                        note(seed, wrong);
                        if stop {
                            next.store(end, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort();
    for (seed, wrong) in failed.iter().take(300) {
        println!(
            "seed {seed}: {wrong}\n  replay: HALLIGAN_SEED={seed} cargo test --test simulation -- --nocapture"
        );
    }
    if let (true, Some((seed, _))) = (stop, failed.first()) {
        println!("found after {} stories", seed - first + 1);
    } else {
        let (stories, seconds) = (end - first, begun.elapsed().as_secs_f64());
        let pace = stories as f64 / seconds;
        println!("{stories} stories from seed {first} on, {} broken, {pace:.1} a second", failed.len());
    }
    assert!(failed.is_empty());
}

#[test]
fn every_mutant_still_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(root.join("tests/simulation/mutants")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            let checked =
                Command::new("git").arg("-C").arg(root).args(["apply", "--check"]).arg(&path).output();
            let checked = checked.unwrap();
            let why = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success(), "{}: put this fault back anew: {why}", path.display());
        }
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 4] {
        assert_eq!(play(seed, &whole()), play(seed, &whole()), "seed {seed}");
    }
}
