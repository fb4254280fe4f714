//! logs.json: a node's log on the disk, intact or damaged.

use std::sync::Arc;

use halligan::dataplane::audit::{AuditLog, verify};
use halligan::protocol::event::{Checkpoint, Connectivity, Draft, EventKind, GENESIS, line_hash, place};
use halligan::protocol::id::{NodeId, TokenId};
use halligan::protocol::jws::{Typ, sign};
use halligan::protocol::key::SigningKey;
use halligan::protocol::time::Time;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::{Vectors, base64, bytes, public_key, read, replaced, text};
use crate::world::T0;

fn key() -> SigningKey {
    SigningKey::from_seed(&[21; 32])
}

fn node() -> NodeId {
    "nod_a".parse().unwrap()
}

/// Returns `count` chained events after `start`.
pub fn lines(count: u64, start: Time) -> Vec<String> {
    let (node, token): (NodeId, TokenId) = (node(), "tok_a".parse().unwrap());
    let mut prev = GENESIS.to_owned();
    let mut lines = Vec::new();
    for number in 1..=count {
        let id = format!("evt_1800000000-{number}");
        let at = start.plus(i64::try_from(number).unwrap());
        let draft = Draft {
            decision: Some("deny"),
            reason: Some("path_invalid"),
            token: Some(&token),
            generation: Some(1),
            method: Some("GET"),
            path: Some("/a\"b\\ü\u{7f}\u{1}"),
            client: Some([192, 0, 2, 1].into()),
            ..Draft::new(EventKind::Decision, &id, at, &node, Connectivity::Offline)
        };
        let (mut json, mut line) = (Vec::new(), String::new());
        draft.write(&mut json);
        place(number, &prev, std::str::from_utf8(&json).unwrap(), &mut line);
        prev = line_hash(&line);
        lines.push(line);
    }
    lines
}

/// Returns lines as a block: their length, and LZ4 that consists of literals only.
fn block(lines: &[String]) -> Vec<u8> {
    let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    let mut block = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
    let mut rest = text.len().checked_sub(15).unwrap();
    block.push(0xf0);
    while rest >= 255 {
        block.push(255);
        rest -= 255;
    }
    block.push(u8::try_from(rest).unwrap());
    block.extend(text.as_bytes());
    block
}

/// Content of a log's database.
#[derive(Clone)]
struct Log {
    blocks: Vec<(u64, u64, Vec<u8>)>,
    checkpoints: Vec<(u64, String)>,
    anchor: Option<String>,
    uploaded: Option<(u64, String)>,
}

fn checkpoint(number: u64, sequence: u64, hash: &str, dropped: bool, key: &SigningKey) -> String {
    let checkpoint =
        Checkpoint { iss: node(), iat: T0.plus(1), number, sequence, hash: hash.into(), dropped };
    sign(Typ::AuditCheckpoint, &serde_json::to_vec(&checkpoint).unwrap(), key)
}

impl Log {
    /// Returns a log of six events in two blocks, with checkpoints for the first and the fourth event.
    fn new(lines: &[String]) -> Self {
        let signed = |number, sequence: usize| {
            let hash = line_hash(&lines[sequence - 1]);
            (sequence as u64, checkpoint(number, sequence as u64, &hash, false, &key()))
        };
        Self {
            blocks: vec![(1, 3, block(&lines[..3])), (4, 6, block(&lines[3..]))],
            checkpoints: vec![signed(1, 1), signed(2, 4)],
            anchor: None,
            uploaded: Some((4, line_hash(&lines[3]))),
        }
    }

    fn json(&self) -> Value {
        let blocks = self.blocks.iter();
        let checkpoints = self.checkpoints.iter();
        json!({
            "blocks": blocks.map(|(first, last, lines)| json!({ "first": first, "last": last, "lines": base64(lines) })).collect::<Vec<_>>(),
            "checkpoints": checkpoints.map(|(sequence, text)| json!({ "sequence": sequence, "text": text })).collect::<Vec<_>>(),
            "anchor": self.anchor,
            "uploaded": self.uploaded.as_ref().map(|(sequence, hash)| json!({ "sequence": sequence, "hash": hash })),
        })
    }
}

/// Writes the log of a case to a disk. Returns the first event at which it is damaged.
fn answer(common: &Value, case: &Value) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    drop(AuditLog::open(&path, read(common, "node"), Arc::new(key()), Arc::new(|| T0), 10).unwrap());
    let database = Connection::open(&path).unwrap();
    let number = |value: &Value, member: &str| read::<i64>(value, member);
    for block in case["blocks"].as_array().unwrap() {
        let row = params![number(block, "first"), number(block, "last"), bytes(block, "lines")];
        database.execute("INSERT INTO block VALUES (?1, ?2, ?3)", row).unwrap();
    }
    for checkpoint in case["checkpoints"].as_array().unwrap() {
        let row = params![number(checkpoint, "sequence"), text(checkpoint, "text")];
        database.execute("INSERT INTO checkpoint VALUES (?1, ?2)", row).unwrap();
    }
    if let Some(anchor) = case["anchor"].as_str() {
        database.execute("INSERT INTO anchor VALUES (1, ?1)", [anchor]).unwrap();
    }
    if let uploaded @ Value::Object(_) = &case["uploaded"] {
        let row = params![number(uploaded, "sequence"), text(uploaded, "hash")];
        database.execute("INSERT INTO uploaded VALUES (1, ?1, ?2)", row).unwrap();
    }
    drop(database);
    let fault = verify(&path, &read(common, "node"), &public_key(common, "key")).unwrap().fault;
    fault.map_or("ok".to_owned(), |fault| format!("fault at {}", fault.sequence))
}

#[test]
fn logs() {
    let lines = lines(6, T0);
    let good = Log::new(&lines);
    let mut vectors = Vectors::new(
        "logs.json",
        "Is a node's log whole? Else the first event at which it is not. `uploaded` is the last event that the control plane took in.",
        answer,
    )
    .with("key", json!(key().public().jwk()))
    .with("node", json!("nod_a"))
    .with("lines", json!(lines));
    let mut case = |name: &str, change: &dyn Fn(&mut Log), expected: &str, why: &str| {
        let mut log = good.clone();
        change(&mut log);
        vectors.case(name, log.json(), expected, why);
    };
    let hash = |sequence: usize| line_hash(&lines[sequence - 1]);
    case("as the node wrote it", &|_| {}, "ok", "");
    case("in one block", &|log| log.blocks = vec![(1, 6, block(&lines))], "ok", "blocks are packing");
    case("without an upload", &|log| log.uploaded = None, "ok", "");
    case(
        "empty",
        &|log| *log = Log { blocks: vec![], checkpoints: vec![], anchor: None, uploaded: None },
        "ok",
        "",
    );
    case(
        "cut off behind the last checkpoint",
        &|log| log.blocks[1] = (4, 4, block(&lines[3..4])),
        "ok",
        "what no checkpoint covers, and was not taken in above, can be cut off unseen",
    );
    case(
        "with its beginning dropped by the node",
        &|log| {
            log.blocks.remove(0);
            log.blocks[0] = (5, 6, block(&lines[4..]));
            log.checkpoints = vec![(6, checkpoint(3, 6, &hash(6), false, &key()))];
            log.anchor = Some(checkpoint(2, 4, &hash(4), true, &key()));
        },
        "ok",
        "the anchor vouches for the beginning",
    );

    case(
        "a byte of an event changed",
        &|log| {
            let changed: Vec<String> =
                lines[..3].iter().map(|line| line.replace("1800000002", "1800000009")).collect();
            log.blocks[0].2 = block(&changed);
        },
        "fault at 3",
        "the next event's prev is the hash of the line as it was",
    );
    case(
        "an event left out",
        &|log| log.blocks[0] = (1, 2, block(&[lines[0].clone(), lines[2].clone()])),
        "fault at 2",
        "sequences have no gap",
    );
    case(
        "two events in another order",
        &|log| log.blocks[0].2 = block(&[lines[0].clone(), lines[2].clone(), lines[1].clone()]),
        "fault at 2",
        "sequences rise by one",
    );
    case(
        "a block left out",
        &|log| drop(log.blocks.remove(1)),
        "fault at 4",
        "a checkpoint covers an event that is not there",
    );
    case(
        "a block said to end elsewhere",
        &|log| log.blocks[0].1 = 2,
        "fault at 1",
        "a block's last is the sequence of its last event",
    );
    case(
        "a block that claims to be longer than its content",
        &|log| log.blocks[0].2[0] ^= 1,
        "fault at 1",
        "the length in front of a block is its content's",
    );
    case(
        "the last event changed and chained anew",
        &|log| {
            let changed = replaced(&lines[3], "1800000004", "1800000005");
            log.blocks[1] = (4, 4, block(&[changed]));
        },
        "fault at 4",
        "a checkpoint's hash is that of the event's line",
    );
    case(
        "cut off in front of a checkpoint",
        &|log| log.blocks.truncate(1),
        "fault at 4",
        "a checkpoint covers an event that is not there",
    );
    case(
        "cut off, with its checkpoint, in front of what was taken in above",
        &|log| {
            log.blocks.truncate(1);
            log.checkpoints.truncate(1);
        },
        "fault at 4",
        "the control plane has taken in an event that is not there",
    );
    case(
        "a checkpoint left out",
        &|log| drop(log.checkpoints.remove(0)),
        "fault at 4",
        "checkpoints are numbered from 1 without gap",
    );
    case(
        "a checkpoint signed by another key",
        &|log| log.checkpoints[1].1 = checkpoint(2, 4, &hash(4), false, &SigningKey::from_seed(&[9; 32])),
        "fault at 4",
        "a checkpoint is signed with the node's key",
    );
    case(
        "a checkpoint under another event",
        &|log| log.checkpoints[1].0 = 5,
        "fault at 5",
        "a checkpoint stands under the event it was signed for",
    );
    case(
        "a beginning cut off without an anchor",
        &|log| drop(log.blocks.remove(0)),
        "fault at 1",
        "a log that does not begin with event 1 has an anchor",
    );
    case(
        "an anchor that does not say dropped",
        &|log| {
            log.blocks.remove(0);
            log.anchor = Some(checkpoint(1, 3, &hash(3), false, &key()));
        },
        "fault at 3",
        "an anchor has dropped true",
    );
    case(
        "an anchor of another event",
        &|log| {
            log.blocks.remove(0);
            log.checkpoints.remove(0);
            log.anchor = Some(checkpoint(1, 3, &hash(2), true, &key()));
        },
        "fault at 4",
        "the first event that is left has the anchor's hash as prev",
    );
    let unknown = |line: &str| replaced(line, r#","kind""#, r#","x":1,"kind""#);
    case(
        "an unknown member in an event",
        &|log| log.blocks[0].2 = block(&[unknown(&lines[0]), lines[1].clone(), lines[2].clone()]),
        "fault at 1",
        "the node reads an event as a closed object",
    );
    vectors.hold();
}
