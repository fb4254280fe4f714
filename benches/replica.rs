//! Measures the cost of a start: proving a replica of 100,000 tokens on the disk, and building the snapshot.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/world/mod.rs"]
mod world;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
use halligan::dataplane::replica::store::{Origin, ReplicaStore};
use world::{T0, World};

const TOKENS: usize = 100_000;

fn load(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("replica.db");
    let world = World::new();
    let open = || ReplicaStore::open(&path, World::data_plane(), world.pinned()).unwrap();
    open().apply(&*world.bundle(1, &World::records(TOKENS), T0), Origin::Feed, T0).unwrap();
    let mut best = Duration::MAX;
    criterion.bench_function("verified load of 100,000 tokens", |bencher| {
        bencher.iter_custom(|iterations| {
            let started = Instant::now();
            for _ in 0..iterations {
                let began = Instant::now();
                let snapshot =
                    Snapshot::from_verified(open().index().unwrap().unwrap(), Staleness::default(), None);
                best = best.min(began.elapsed());
                assert_eq!(snapshot.token_count(), TOKENS);
            }
            started.elapsed()
        });
    });
    println!("ratio: verified load / 0.3 s = {:.3} (at most 1)", best.as_secs_f64() / 0.3);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(10));
    targets = load
}
criterion_main!(benches);
