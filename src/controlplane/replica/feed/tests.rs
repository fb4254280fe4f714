#![allow(clippy::unwrap_used)]

use std::io::Read as _;

use rand_core::CryptoRng;

use super::*;
use crate::controlplane::replica::publish;
use crate::controlplane::signing::Signing;
use crate::controlplane::store::Store;
use crate::protocol::bundle::{BundleReader, Limits};
use crate::protocol::jws::BASE64URL;
use crate::protocol::time::Time;

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
    // Small answers are not kept: they are cheap to make again.
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
