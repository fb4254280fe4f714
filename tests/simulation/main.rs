//! A whole estate in one deterministic test: a control plane and its hosts, on a network, with disks and clocks that a
//! seed drives. After every step an oracle that knows the truth judges the hosts' answers. At the end all faults stop,
//! and every host must recover.
//!
//! `HALLIGAN_SEEDS=5000 cargo test --test simulation` plays more stories, from `HALLIGAN_FIRST_SEED` on.
//! `HALLIGAN_SEED=17` plays one story and prints it. With `HALLIGAN_SHRINK=1` as well, it prints the shortest part
//! found that still fails. With `HALLIGAN_STOP=1` the run ends at the first broken promise, and prints the number of
//! stories that it took.

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

/// Number of stories that are played unless `HALLIGAN_SEEDS` is set.
const STORIES: u64 = 100;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Plays some steps of a story. Returns the first broken promise, and the transcript up to it.
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

/// Returns a message of a failed story without its numbers, which differ between two failures of one kind.
fn kind(wrong: &str) -> String {
    wrong.chars().filter(|char| !char.is_ascii_digit()).collect()
}

/// Returns the steps that remain when all steps are left out without which the story still fails in the same way.
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
            transcript.push(format!("the steps {steps:?} of seed {seed} are enough to fail"));
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
            assert!(
                checked.status.success(),
                "{}: the patch does not apply to the present code: {why}",
                path.display()
            );
        }
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 4] {
        assert_eq!(play(seed, &whole()), play(seed, &whole()), "seed {seed}");
    }
}
