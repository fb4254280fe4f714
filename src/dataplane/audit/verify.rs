//! Verifying a log: every line in its place, chained to the one before, and where the node signed that it would be.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::AuditError;
use crate::protocol::event::{Checkpoint, Event, GENESIS, line_hash};
use crate::protocol::jws::{Typ, Unverified};
use crate::protocol::key::PublicKey;

/// What is wrong with the first event that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// The place in the log where it shows.
    pub sequence: u64,
    /// What is wrong there.
    pub what: String,
}

/// The result of verifying a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Events found good, from the first on.
    pub events: u64,
    /// Hash of the last good one.
    pub last: String,
    /// Checkpoints that held.
    pub checkpoints: u64,
    /// The last event a checkpoint covers: what comes after could be cut off unseen.
    pub covered: u64,
    /// The first fault.
    pub fault: Option<Fault>,
}

/// Verifies the log at `path`, also while it is written, against checkpoints signed with `key`.
pub fn verify(path: &Path, key: &PublicKey) -> Result<Report, AuditError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // One read transaction: blocks and checkpoints of one moment.
    let transaction = connection.unchecked_transaction()?;
    let mut report = Report { events: 0, last: GENESIS.into(), checkpoints: 0, covered: 0, fault: None };
    let mut checkpoints = BTreeMap::new();
    let mut statement = transaction.prepare("SELECT sequence, text FROM checkpoint ORDER BY sequence")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (sequence, text): (u64, String) = (row.get(0)?, row.get(1)?);
        let signed = Unverified::parse(text.as_bytes(), 4096)
            .and_then(|checkpoint| checkpoint.verify(Typ::AuditCheckpoint, key))
            .and_then(|checkpoint| checkpoint.claims::<Checkpoint>());
        match signed {
            Ok(signed) if signed.sequence == sequence => {
                checkpoints.insert(sequence, signed.hash);
            }
            Ok(_) => return Ok(report.at(sequence, "its checkpoint was signed for another place")),
            Err(error) => return Ok(report.at(sequence, &format!("its checkpoint does not hold: {error}"))),
        }
    }
    let mut statement = transaction.prepare("SELECT lines FROM block ORDER BY first")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for line in row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?.lines() {
            let (sequence, hash) = (report.events + 1, line_hash(line));
            let what = match serde_json::from_str::<Event>(line) {
                Err(error) => Some(format!("it is no event: {error}")),
                Ok(event) if event.sequence != sequence => {
                    Some(format!("event {} stands in its place", event.sequence))
                }
                Ok(event) if event.prev != report.last => {
                    Some("it is not chained to the event before".into())
                }
                Ok(_) => match checkpoints.get(&sequence) {
                    Some(signed) if *signed != hash => {
                        Some("it is not the event its checkpoint was signed for".into())
                    }
                    Some(_) => {
                        (report.checkpoints, report.covered) = (report.checkpoints + 1, sequence);
                        None
                    }
                    None => None,
                },
            };
            if let Some(what) = what {
                return Ok(report.at(sequence, &what));
            }
            (report.events, report.last) = (sequence, hash);
        }
    }
    match checkpoints.last_key_value() {
        Some((&sequence, _)) if sequence > report.events => {
            let next = report.events + 1;
            Ok(report.at(next, &format!("it is missing: the node signed for {sequence} events")))
        }
        _ => Ok(report),
    }
}

impl Report {
    fn at(mut self, sequence: u64, what: &str) -> Self {
        self.fault = Some(Fault { sequence, what: what.to_owned() });
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::dataplane::audit::{AuditLog, events};
    use crate::protocol::event::{Connectivity, Draft, EventKind};
    use crate::protocol::id::NodeId;
    use crate::protocol::key::SigningKey;
    use crate::protocol::time::Time;

    fn key() -> Arc<SigningKey> {
        Arc::new(SigningKey::from_seed(&[7; 32]))
    }

    fn open(path: &Path) -> AuditLog {
        let clock: crate::dataplane::Clock = Arc::new(|| Time::from_unix(1_800_000_000));
        AuditLog::open(path, NodeId::new("nod_a").unwrap(), key(), clock, 1000).unwrap()
    }

    fn record(log: &AuditLog) -> Result<(), crate::dataplane::audit::AuditUnavailable> {
        let (node, id) = (NodeId::new("nod_a").unwrap(), log.next_id());
        let time = Time::from_unix(1_800_000_000);
        let draft = Draft::new(EventKind::Decision, &id, time, &node, Connectivity::Offline);
        log.record(&draft, false).map(drop)
    }

    fn filled(directory: &tempfile::TempDir) -> PathBuf {
        let path = directory.path().join("audit.db");
        for _ in 0..3 {
            let log = open(&path);
            for _ in 0..4 {
                record(&log).unwrap();
            }
            log.close();
        }
        path
    }

    #[test]
    fn a_log_written_over_three_starts_is_one_chain_and_wholly_covered() {
        let directory = tempfile::tempdir().unwrap();
        let path = filled(&directory);
        let report = verify(&path, key().public()).unwrap();
        assert_eq!((report.events, report.covered, report.checkpoints, report.fault), (12, 12, 3, None));
        let ids: std::collections::HashSet<_> = events(&path, 0, 100)
            .unwrap()
            .iter()
            .map(|line| serde_json::from_str::<Event>(line).unwrap().id)
            .collect();
        assert_eq!(ids.len(), 12);
        assert_eq!(events(&path, -2, 100).unwrap().len(), 2);
        assert_eq!(events(&path, 5, 3).unwrap().len(), 3);
    }

    #[test]
    fn a_log_cut_off_at_its_end_is_found_by_its_checkpoint() {
        let directory = tempfile::tempdir().unwrap();
        let path = filled(&directory);
        Connection::open(&path).unwrap().execute("DELETE FROM block WHERE last = 12", []).unwrap();
        let fault = verify(&path, key().public()).unwrap().fault.unwrap();
        assert_eq!(fault.sequence, 9);
    }

    #[test]
    fn another_nodes_checkpoints_do_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = filled(&directory);
        let other = SigningKey::from_seed(&[8; 32]);
        assert!(verify(&path, other.public()).unwrap().fault.is_some());
    }

    #[test]
    fn a_closed_log_takes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let log = open(&directory.path().join("audit.db"));
        log.close();
        assert!(record(&log).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bit_of_any_line_flipped_is_found(at in 0_usize..4000, bit in 0_u8..7) {
            let directory = tempfile::tempdir().unwrap();
            let path = filled(&directory);
            let connection = Connection::open(&path).unwrap();
            let mut lines: Vec<u8> = connection
                .query_row("SELECT lines FROM block WHERE first = 5", [], |row| row.get::<_, String>(0))
                .unwrap()
                .into();
            let at = at % lines.len();
            lines[at] ^= 1 << bit;
            let text = String::from_utf8(lines).unwrap();
            connection.execute("UPDATE block SET lines = ?1 WHERE first = 5", [text]).unwrap();
            let fault = verify(&path, key().public()).unwrap().fault;
            prop_assert!(fault.is_some_and(|fault| (5..=8).contains(&fault.sequence)));
        }
    }
}
