//! Measures the cost of a decision: cold compared with the bare verification of the signature over the same bytes, hot
//! compared with 500 ns, and by a session compared with hot.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/world/mod.rs"]
mod world;

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use ed25519_dalek::{Signature, VerifyingKey};
use halligan::dataplane::authorize::sessions::Sessions;
use halligan::dataplane::decide::session::seal::SealKeys;
use halligan::dataplane::decide::session::{Durations, Initiator};
use halligan::dataplane::decide::{
    Credential, Now, RequestFacts, Target, decide, decide_introspected, sign_in,
};
use halligan::dataplane::node::state::Live;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use world::{DEPLOYMENT, T0, World};
use zeroize::Zeroizing;

/// Several times the size of the cache, so that each token has left the cache before it is used again.
const TOKENS: usize = 20_000;

const FACTS: RequestFacts<'_> = RequestFacts {
    deployment: Target::Id(DEPLOYMENT),
    method: "GET",
    uri: "/api/v2/dags/etl/dagRuns?limit=10",
    client: None,
};

/// Measures `step`, which receives the number of the iteration. Returns the shortest time of any sample.
fn shortest(criterion: &mut Criterion, name: &str, mut step: impl FnMut(usize)) -> Duration {
    let (best, next) = (Cell::new(Duration::MAX), Cell::new(0));
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let first = next.get();
            let started = Instant::now();
            for number in first..first + usize::try_from(iterations).unwrap() {
                step(number);
            }
            let took = started.elapsed();
            next.set(first + usize::try_from(iterations).unwrap());
            best.set(best.get().min(took / u32::try_from(iterations).unwrap()));
            took
        });
    });
    best.get()
}

fn decisions(criterion: &mut Criterion) {
    let world = World::new();
    let snapshot = world.snapshot(World::records(TOKENS));
    let tokens: Vec<String> = (0..TOKENS).map(|number| world.value(number)).collect();
    let signed: Vec<(usize, Signature)> = tokens
        .iter()
        .map(|token| {
            let (message, signature) = token.rsplit_once('.').unwrap();
            (message.len(), Signature::from_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap())
        })
        .collect();
    let key = VerifyingKey::from_bytes(&world.token.public().to_bytes()).unwrap();
    let now = Now { wall: T0.plus(60), floor: T0 };

    let bare = shortest(criterion, "bare verify_strict", |number| {
        let (length, signature) = &signed[number % TOKENS];
        key.verify_strict(black_box(&tokens[number % TOKENS].as_bytes()[..*length]), signature).unwrap();
    });
    let cold = shortest(criterion, "decision, cold", |number| {
        let decision = decide(Some(black_box(tokens[number % TOKENS].as_bytes())), &FACTS, &snapshot, now);
        assert!(decision.allowed());
    });
    let hot = shortest(criterion, "decision, hot", |_| {
        let decision = decide(Some(black_box(tokens[0].as_bytes())), &FACTS, &snapshot, now);
        assert!(decision.allowed());
    });
    let directory = tempfile::tempdir().unwrap();
    let live = Arc::new(Live::new(snapshot.clone(), T0, T0));
    let keys = SealKeys::new(&[Zeroizing::new([7; 32])]).unwrap();
    let durations = Durations { max: 28_800, idle: 3600 };
    let sessions =
        Sessions::new(keys, durations, &live, (directory.path(), T0), &mut StdRng::seed_from_u64(1));
    let wanted = (sessions.next_id().unwrap(), durations);
    let session = sign_in(tokens[0].as_bytes(), None, wanted, &FACTS, &snapshot, now).1.unwrap();
    let sealed = sessions.seal(&session).unwrap();
    let by_session = shortest(criterion, "decision by session, hot", |_| {
        let session = sessions.open(black_box(sealed.as_bytes())).unwrap();
        let credential = Some(Credential::Session(&session, Initiator::SameOrigin));
        assert!(decide_introspected(credential, None, &FACTS, &snapshot, now).allowed());
    });
    println!("ratio: decision by session / hot decision = {:.3} (at most 1.20)", ratio(by_session, hot));
    println!("ratio: cold decision / bare verify_strict = {:.3} (at most 1.10)", ratio(cold, bare));
    println!("ratio: hot decision / 500 ns = {:.3} (at most 1)", ratio(hot, Duration::from_nanos(500)));
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = decisions
}
criterion_main!(benches);
