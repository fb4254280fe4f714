#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};

use rand_core::CryptoRng;
use rusqlite::params;
use tempfile::SpooledTempFile;
use tokio::time::timeout;

use super::*;
use crate::controlplane::replica::publish;
use crate::controlplane::signing::Signing;
use crate::controlplane::store::Store;
use crate::controlplane::store::Transaction;
use crate::protocol::bundle::{BundleReader, Limits};
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::jws::BASE64URL;
use crate::protocol::record::{Record, RecordKind};

const NOW: Time = Time::from_unix(1_800_000_000);
const ID: &str = "dpl_a";

fn rng() -> Box<dyn CryptoRng + Send> {
    Box::new(rand_core::UnwrapErr(getrandom::SysRng))
}

/// Returns a control plane with one data plane, whose records hardly compress and take about two megabytes.
fn control(directory: &std::path::Path) -> ControlPlane {
    Signing::create(directory, NOW, &mut *rng()).unwrap();
    let signing = Signing::load(directory).unwrap();
    let store = Store::in_memory().unwrap();
    let mut bytes = vec![0; 30_000];
    let mut rng = rng();
    let records: Vec<_> = (0..60)
        .map(|number| {
            rng.fill_bytes(&mut bytes);
            let body = format!("\"{}\"", base64::Engine::encode(&BASE64URL, &bytes));
            Record::new(RecordKind::DagTags, format!("dep_{number}"), body)
        })
        .collect();
    store
        .write(|transaction| {
            let lanes = ReplicaDigest::empty().to_bytes();
            transaction
                .execute("INSERT INTO organization (id, name, created_at) VALUES ('org_a', 'a', 0)", [])?;
            transaction.execute(
                "INSERT INTO data_plane (id, organization, name, created_at, version, count, digest)
                 VALUES (?1, 'org_a', 'a', 0, 0, 0, ?2)",
                params![ID, lanes.as_slice()],
            )?;
            publish::put(transaction, ID, &records)
        })
        .unwrap();
    ControlPlane::new(store, signing, "https://control.example".into(), Arc::new(|| NOW), rng)
}

fn whole(answer: &Answer) -> Vec<u8> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < answer.length() {
        bytes.extend(answer.read(bytes.len() as u64, 100_000).unwrap());
    }
    bytes
}

#[test]
fn a_large_answer_is_written_once_and_found_again_by_its_tag() {
    let directory = tempfile::tempdir().unwrap();
    let control = control(directory.path());
    let nothing = Held { version: 0, keyset: 0 };
    let answer = control.feed(ID, nothing).unwrap();
    assert!(answer.length() > 1 << 20);
    assert!(Arc::ptr_eq(&answer, &control.feed(ID, nothing).unwrap()), "another node gets the same bytes");
    let again = control.feed_again(&answer.tag()).unwrap();
    let bytes = whole(&answer);
    assert_eq!(again.read(500_000, 1000).unwrap(), bytes[500_000..501_000]);
    assert!(control.feed_again("dpl_a-0-2-0-1-1800000000").is_none());
    assert_eq!(BundleReader::new(&*bytes, Limits::default()).unwrap().count(), 60);
    // Heartbeats are not kept: they are cheap to make again.
    let heartbeat = control.feed(ID, Held { version: 1, keyset: 1 }).unwrap();
    assert!(heartbeat.length() < 10_000 && control.feed_again(&heartbeat.tag()).is_none());
}

#[test]
fn after_a_recovery_nobody_is_given_a_delta_of_a_history_that_was_lost() {
    let directory = tempfile::tempdir().unwrap();
    let control = control(directory.path());
    let base = |version| {
        let bytes = whole(&control.feed(ID, Held { version, keyset: 1 }).unwrap());
        let mut plain = Vec::new();
        zstd::Decoder::new(&*bytes).unwrap().take(4096).read_to_end(&mut plain).unwrap();
        let text = String::from_utf8_lossy(&plain).into_owned();
        text.split_once("\"base\":").unwrap().1.split_once('}').unwrap().0.parse::<u64>().unwrap()
    };
    assert_eq!((base(0), base(1), base(9)), (0, 1, 0), "a node that is ahead gets a snapshot");
    let raised = control.recover(9, Some(ID)).unwrap();
    assert_eq!((raised[0].from, raised[0].to), (1, 10));
    assert_eq!((base(1), base(9), base(10)), (0, 0, 10));
    let raised = control.recover(9, None).unwrap();
    assert_eq!((raised[0].from, raised[0].to), (10, 11), "nodes may hold another replica of that version");
    assert!(control.recover(9, Some("dpl_b")).is_err());
    assert!(control.recover(u64::MAX, None).is_err());
}

/// Returns a control plane whose database is `file` in `directory`, with two data planes.
fn control_of_two(directory: &std::path::Path) -> Arc<ControlPlane> {
    Signing::create(directory, NOW, &mut *rng()).unwrap();
    let signing = Signing::load(directory).unwrap();
    let store = Store::open(&directory.join("control.db")).unwrap();
    let lanes = ReplicaDigest::empty().to_bytes();
    store
        .write(|transaction| {
            transaction
                .execute("INSERT INTO organization (id, name, created_at) VALUES ('org_a', 'a', 0)", [])?;
            for plane in ["dpl_a", "dpl_b"] {
                transaction.execute(
                    "INSERT INTO data_plane (id, organization, name, created_at, version, count, digest)
                     VALUES (?1, 'org_a', ?1, 0, 0, 0, ?2)",
                    params![plane, lanes.as_slice()],
                )?;
                put(transaction, plane, 1)?;
            }
            Ok(())
        })
        .unwrap();
    let issuer = "https://control.example".into();
    Arc::new(ControlPlane::new(store, signing, issuer, Arc::new(|| NOW), rng()))
}

fn put(transaction: &Transaction<'_>, plane: &str, number: u32) -> Result<(), Error> {
    publish::put(transaction, plane, &[Record::new(RecordKind::DagTags, "dep_a", number.to_string())])
}

#[tokio::test]
async fn a_change_wakes_those_of_its_data_plane_and_a_change_that_was_undone_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let control = control_of_two(directory.path());
    let held = Held { version: 1, keyset: 1 };
    let wait = |plane: &'static str| {
        let control = Arc::clone(&control);
        tokio::spawn(async move { control.wait_for_change(plane, held, 55).await.unwrap() })
    };
    let (mut a, mut b) = (wait("dpl_a"), wait("dpl_b"));
    let short = Duration::from_millis(50);
    let undone = control.store.write(|transaction| {
        put(transaction, "dpl_a", 2)?;
        Err::<(), _>(Error::Stale)
    });
    assert!(undone.is_err());
    assert!(timeout(short, &mut a).await.is_err());
    assert_eq!(control.version("dpl_a").unwrap(), 1);
    control.store.write(|transaction| put(transaction, "dpl_a", 2)).unwrap();
    a.await.unwrap();
    assert_eq!(control.version("dpl_a").unwrap(), 2);
    assert!(timeout(short, &mut b).await.is_err());
    // New keys are for everybody.
    control.sign_with(Signing::load(directory.path()).unwrap()).unwrap();
    assert!(timeout(short, &mut b).await.is_err(), "the keyset is the one that it holds");
    assert!(control.wait_for_change("dpl_c", held, 55).await.is_err(), "there is no such data plane");
    assert!(control.wait_for_change("dpl_b", Held { keyset: 0, ..held }, 55).await.is_ok());
}

#[tokio::test]
async fn what_a_command_on_this_host_has_raised_wakes_those_who_wait() {
    let directory = tempfile::tempdir().unwrap();
    let control = control_of_two(directory.path());
    let other = Store::open(&directory.path().join("control.db")).unwrap();
    let waiting = {
        let control = Arc::clone(&control);
        tokio::spawn(async move {
            control.wait_for_change("dpl_b", Held { version: 1, keyset: 1 }, 55).await.unwrap();
        })
    };
    other.write(|transaction| put(transaction, "dpl_b", 2)).unwrap();
    control.store.refresh().unwrap();
    waiting.await.unwrap();
    assert_eq!(control.version("dpl_b").unwrap(), 2);
    assert_eq!(control.version("dpl_a").unwrap(), 1);
}

#[tokio::test]
async fn a_delta_is_read_once_for_all_who_wait_and_each_head_is_signed_for_its_request() {
    let directory = tempfile::tempdir().unwrap();
    let control = control_of_two(directory.path());
    control.store.write(|transaction| put(transaction, ID, 2)).unwrap();
    let held = Held { version: 1, keyset: 1 };
    let mut answers = Vec::new();
    for nonce in ["a", "b"] {
        answers.push(control.serve_feed(ID, held, Some(nonce)).await.unwrap());
        // Whoever comes later finds the first one's lines: the table is not read again.
        control.store.write(|transaction| Ok(transaction.execute_batch("DELETE FROM change")?)).unwrap();
    }
    let plain = |answer: &Answer| zstd::decode_all(&*whole(answer)).unwrap();
    let text = |answer: &Answer| String::from_utf8(plain(answer)).unwrap();
    let lines = |answer: &Answer| text(answer).split_once('\n').unwrap().1.to_owned();
    assert_eq!(lines(&answers[0]), lines(&answers[1]));
    assert_eq!(lines(&answers[0]).lines().count(), 1);
    assert_ne!(text(&answers[0]).lines().next(), text(&answers[1]).lines().next());
    // Those who have the newest version are given a head alone.
    let heartbeat = control.serve_feed(ID, Held { version: 2, keyset: 1 }, Some("c")).await.unwrap();
    assert_eq!(text(&heartbeat).lines().count(), 1);
    assert!(text(&heartbeat).contains("\"base\":2"));
}

#[tokio::test]
async fn nodes_that_start_from_nothing_share_one_answer_however_small() {
    let directory = tempfile::tempdir().unwrap();
    let control = control_of_two(directory.path());
    let nothing = Held { version: 0, keyset: 0 };
    let first = control.serve_feed(ID, nothing, None).await.unwrap();
    assert!(first.in_memory().is_some());
    assert!(Arc::ptr_eq(&first, &control.serve_feed(ID, nothing, None).await.unwrap()));
    // An answer that was signed for one request is not shared.
    let own = control.serve_feed(ID, nothing, Some("a")).await.unwrap();
    assert!(!Arc::ptr_eq(&own, &control.serve_feed(ID, nothing, Some("a")).await.unwrap()));
    // Nodes that hold what no change follows from, as after a restore, share it too.
    let lost = |version, nonce| {
        let control = Arc::clone(&control);
        async move { control.serve_feed(ID, Held { version, keyset: 0 }, Some(nonce)).await.unwrap() }
    };
    assert!(Arc::ptr_eq(&first, &lost(8, "b").await) && Arc::ptr_eq(&first, &lost(9, "c").await));
    let whole = control.feed_for(ID, Held { version: 9, keyset: 0 }, Some("d")).unwrap();
    assert!(Arc::ptr_eq(&first, &whole));
    control.store.write(|transaction| put(transaction, ID, 2)).unwrap();
    let newer = control.serve_feed(ID, nothing, None).await.unwrap();
    assert_ne!(newer.tag(), first.tag(), "a change is in the next answer");
    // However many there are, the memory for them is bounded, and large ones stay.
    let large = control.spool.keep("dpl_c".to_owned(), NOW, page_of(2 << 20), true).unwrap();
    for number in 0..40 {
        control.spool.keep(format!("dpl_{number}"), NOW, page_of(10), true).unwrap();
    }
    assert!(control.feed_again(&large.tag()).is_some());
    let small =
        (0..40).filter(|number| control.feed_again(&format!("dpl_{number}-{}", NOW.unix())).is_some());
    assert_eq!(small.collect::<Vec<_>>(), (24..40).collect::<Vec<_>>());
}

/// Returns a written buffer of `length` bytes.
fn page_of(length: usize) -> SpooledTempFile {
    let mut page = Spool::page();
    page.write_all(&vec![7; length]).unwrap();
    page
}

#[tokio::test]
async fn nodes_that_start_from_nothing_at_once_share_one_answer() {
    let directory = tempfile::tempdir().unwrap();
    let control = Arc::new(control(directory.path()));
    let nothing = Held { version: 0, keyset: 0 };
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let control = Arc::clone(&control);
            tokio::spawn(async move { control.serve_feed(ID, nothing, None).await.unwrap() })
        })
        .collect();
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.unwrap());
    }
    assert!(answers.iter().all(|answer| Arc::ptr_eq(answer, &answers[0])));
    let mut transfers = Vec::new();
    while let Ok(Ok(transfer)) = timeout(Duration::from_millis(20), control.transfer()).await {
        transfers.push(transfer);
    }
    assert_eq!(transfers.len(), 64, "the others wait for one of these to end");
    drop(transfers.pop());
    assert!(control.transfer().await.is_ok());
}
