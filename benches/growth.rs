//! Measures the cost of one change and of one token to a host whose replica holds 100, 10,000, 100,000 and 1,000,000
//! tokens.
//!
//! Each size is measured in its own processes, because a process keeps memory that an earlier size needed. They run the
//! parts of a host that follow a replica (store, replication, snapshot) and apply bundles that a control plane signed;
//! sockets are not part of it. `cargo bench --bench growth -- 1000 50000` measures other sizes.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "../tests/world/mod.rs"]
mod world;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
use halligan::dataplane::decide::{Now, Reason, RequestFacts, Target, decide};
use halligan::dataplane::node::state::Live;
use halligan::dataplane::replica::replication::Replication;
use halligan::dataplane::replica::store::{Origin, ReplicaStore};
use halligan::protocol::bundle::{BundleWriter, Change, write_bundle};
use halligan::protocol::digest::ReplicaDigest;
use halligan::protocol::head::{Head, sign_head};
use halligan::protocol::record::Record;
use halligan::protocol::time::Time;
use halligan::protocol::token::TokenRecord;
use world::{DEPLOYMENT, ISSUER, T0, World};

const SIZES: [usize; 4] = [100, 10_000, 100_000, 1_000_000];
/// Duration for which changes, and heartbeats, are applied at each size. The kernel counts processor time in hundredths
/// of a second.
const LONG_ENOUGH: Duration = Duration::from_secs(3);
/// Maximum number of changes. Each is of another token, as long as there are enough tokens.
const CHANGES: usize = 2000;

const FACTS: RequestFacts<'_> =
    RequestFacts { deployment: Target::Id(DEPLOYMENT), method: "GET", uri: "/api/v2/dags", client: None };

/// Figures of one process, by name.
type Measured = BTreeMap<String, f64>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, tokens, directory] = &*arguments
        && let Some(part) = role.strip_prefix("--part=")
    {
        let measured = run_part(part, tokens.parse().unwrap(), Path::new(directory));
        for (name, value) in measured {
            println!("{name} {value}");
        }
        return;
    }
    // `cargo test --benches` runs this, too, but must not take long.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let asked: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if asked.is_empty() { SIZES.to_vec() } else { asked };
    let columns = [
        ("start ms", "startMs"),
        ("MB started", "startedMb"),
        ("MB followed", "followedMb"),
        ("B/token started", "startedBytes"),
        ("B/token followed", "followedBytes"),
        ("change CPU ms", "changeCpuMs"),
        ("to denial p50 ms", "denialMs"),
        ("heartbeat CPU ms", "heartbeatCpuMs"),
    ];
    let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    println!("| tokens | {} |", titles.join(" | "));
    println!("|{}", " --- |".repeat(titles.len() + 1));
    let mut rows: Vec<Measured> = Vec::new();
    for tokens in sizes {
        let row = measure(tokens);
        let figures: Vec<String> = columns.iter().map(|(_, name)| format!("{:.2}", row[*name])).collect();
        println!("| {tokens} | {} |", figures.join(" | "));
        rows.push(row);
    }
    if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
        for (what, name) in [("processor of a change", "changeCpuMs"), ("time to denial", "denialMs")] {
            println!("ratio: {what}, most tokens / fewest = {:.2} (at most 1.30)", last[name] / first[name]);
        }
    }
}

/// Measures one size, each part in its own process.
fn measure(tokens: usize) -> Measured {
    let directory = tempfile::tempdir().unwrap();
    let part = |name: &str| -> Measured {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([&format!("--part={name}"), &tokens.to_string()])
            .arg(directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        lines
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    };
    part("write");
    let mut all = part("follow");
    all.extend(part("start"));
    #[expect(clippy::cast_precision_loss, reason = "a number of tokens")]
    let count = tokens as f64;
    for (total, each) in [("startedMb", "startedBytes"), ("followedMb", "followedBytes")] {
        let bytes = (all[total] - all["emptyMb"]) * 1e6 / count;
        all.insert(each.into(), bytes);
    }
    all
}

fn run_part(part: &str, tokens: usize, directory: &Path) -> Measured {
    match part {
        "write" => write(tokens, directory),
        "follow" => follow(tokens, directory),
        "start" => start(tokens, directory),
        other => panic!("no part is called {other}"),
    }
}

/// Returns a record like [`World::token_record`], which looks up the role anew each time.
fn token_record(number: usize) -> TokenRecord {
    static FIRST: LazyLock<TokenRecord> = LazyLock::new(|| World::token_record(0));
    TokenRecord { id: format!("tok_{number:026}").parse().unwrap(), ..FIRST.clone() }
}

fn token(number: usize) -> Record {
    World::record(&token_record(number))
}

fn revoked(number: usize, at: Time) -> Record {
    World::record(&TokenRecord { revoked_at: Some(at), ..token_record(number) })
}

fn head(world: &World, version: u64, count: usize, digest: &ReplicaDigest, at: Time) -> String {
    let head = Head {
        iss: ISSUER.into(),
        aud: World::data_plane(),
        version,
        digest: digest.checksum(),
        count: count as u64,
        iat: at,
        exp: at.plus(900),
        keyset: 1,
    };
    sign_head(&head, &world.replica)
}

/// Writes the bundle of version 1 and its digest.
fn write(tokens: usize, directory: &Path) -> Measured {
    let world = World::new();
    let fixed = World::records(0);
    let mut digest: ReplicaDigest = fixed.iter().collect();
    for number in 0..tokens {
        digest.add(&token(number));
    }
    let head = head(&world, 1, fixed.len() + tokens, &digest, T0);
    let file = File::create(directory.join("bundle")).unwrap();
    let mut writer = BundleWriter::new(file, &[&world.keyset], &head, 0).unwrap();
    for record in fixed.into_iter().chain((0..tokens).map(token)) {
        writer.change(Change::Put(record)).unwrap();
    }
    writer.finish().unwrap();
    std::fs::write(directory.join("digest"), digest.to_bytes()).unwrap();
    Measured::new()
}

struct Host {
    replication: Replication,
    live: Arc<Live>,
}

impl Host {
    /// Starts with the replica on the disk, as the daemon does.
    fn start(directory: &Path) -> Self {
        let path = directory.join("replica.db");
        let store = ReplicaStore::open(&path, World::data_plane(), World::new().pinned()).unwrap();
        let live = Arc::new(Live::new(Snapshot::absent(), T0, T0));
        if let Some(verified) = store.index().unwrap() {
            live.persisted(verified.head.head().version, T0);
            live.replace(|absent| Snapshot::from_verified(verified, Staleness::default(), Some(absent)));
        }
        let replication = Replication::new(store, Arc::clone(&live), Staleness::default());
        Self { replication, live }
    }

    fn decides(&self, token: &str, now: Time) -> Reason {
        decide(Some(token.as_bytes()), &FACTS, &self.live.snapshot(), Now { wall: now, floor: T0 }).reason()
    }
}

/// Measures a host without a replica that applies the whole replica of a control plane.
fn follow(tokens: usize, directory: &Path) -> Measured {
    let host = Host::start(directory);
    let empty = resident();
    let bundle = BufReader::new(File::open(directory.join("bundle")).unwrap());
    host.replication.apply_bundle(bundle, Origin::Feed, T0).unwrap();
    assert_eq!(host.live.snapshot().token_count(), tokens);
    Measured::from([("emptyMb".into(), empty), ("followedMb".into(), resident())])
}

/// Measures a start with the replica on the disk, and then changes and heartbeats.
fn start(tokens: usize, directory: &Path) -> Measured {
    let began = Instant::now();
    let host = Host::start(directory);
    let took = began.elapsed();
    assert_eq!(host.live.snapshot().token_count(), tokens);
    let mut measured = Measured::from([("startMs".into(), ms(took)), ("startedMb".into(), resident())]);
    let world = World::new();
    let mut digest = ReplicaDigest::from_bytes(&std::fs::read(directory.join("digest")).unwrap()).unwrap();
    let count = World::records(0).len() + tokens;
    let mut version = 1;
    let bundle = |from: u64, to: u64, digest: &ReplicaDigest, changes: Vec<Change>, at: Time| {
        write_bundle(&[&world.keyset], &head(&world, to, count, digest, at), from, changes).unwrap()
    };

    let (mut spent, mut denials) = (0.0, Vec::new());
    let began = Instant::now();
    for number in 0..CHANGES.min(tokens) {
        if began.elapsed() > LONG_ENOUGH {
            break;
        }
        let now = T0.plus(i64::try_from(number).unwrap() / 100);
        let value = world.value(number);
        assert_eq!(host.decides(&value, now), Reason::Ok);
        let gone = revoked(number, now);
        digest.remove(&token(number));
        digest.add(&gone);
        let delta = bundle(version, version + 1, &digest, vec![Change::Put(gone)], now);
        version += 1;
        let (before, began) = (processor(), Instant::now());
        host.replication.apply_bundle(&*delta, Origin::Feed, now).unwrap();
        assert_eq!(host.decides(&value, now), Reason::TokenRevoked);
        denials.push(ms(began.elapsed()));
        spent += processor() - before;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    measured.insert("changeCpuMs".into(), spent / denials.len() as f64);
    denials.sort_by(f64::total_cmp);
    measured.insert("denialMs".into(), denials[denials.len() / 2]);

    let (mut beats, mut spent) = (0, 0.0);
    let began = Instant::now();
    while began.elapsed() < LONG_ENOUGH && beats < i32::try_from(CHANGES).unwrap() {
        beats += 1;
        let now = T0.plus(100 + i64::from(beats));
        let beat = bundle(version, version, &digest, Vec::new(), now);
        let before = processor();
        host.replication.apply_bundle(&*beat, Origin::Feed, now).unwrap();
        spent += processor() - before;
    }
    measured.insert("heartbeatCpuMs".into(), spent / f64::from(beats));
    measured
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns the resident memory of this process, in MB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / 1e6
}

/// Returns the processor time of this process so far, in ms.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The program's name, in parentheses, may contain spaces.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |place: usize| fields[place].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) * 10.0
}
