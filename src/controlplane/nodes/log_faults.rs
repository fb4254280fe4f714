//! Faults of the nodes' audit logs: events that do not follow from the stored ones, or contradict what the node signed.
//!
//! A node can cause as many as it likes. The first of each kind in a day are kept, and the others are counted.

use rusqlite::{Connection, params};

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::time::Time;

/// Time for which a node is told of a fault of its log, in seconds.
const TOLD: i64 = 24 * 3600;
/// Maximum number of faults that a node is told of.
const MAX_TOLD: u64 = 16;
/// Time within which faults of one kind are kept up to [`MAX_KEPT`], in seconds.
const DAY: i64 = 24 * 3600;
/// Maximum number of faults of one kind that are kept in a day. The others are counted at the last one.
const MAX_KEPT: usize = 16;
/// Maximum length of an explanation that is stored, in characters. A node's words may be in it.
const MAX_WORDS: usize = 500;

/// Fault of a node's log.
#[derive(Clone, Copy)]
pub(in crate::controlplane) struct Fault<'a> {
    pub(in crate::controlplane) node: &'a str,
    pub(in crate::controlplane) branch: u64,
    /// Sequence number of the event at which it was found.
    pub(in crate::controlplane) sequence: u64,
    /// Code of the fault, for programs.
    pub(in crate::controlplane) kind: &'static str,
    /// Explanation of the fault, for people.
    pub(in crate::controlplane) what: &'a str,
}

impl Fault<'_> {
    /// Returns true if the fault is already stored.
    pub(in crate::controlplane) fn is_known(&self, connection: &Connection) -> Result<bool, Error> {
        let query = "SELECT 1 FROM log_fault WHERE node = ?1 AND branch = ?2 AND sequence = ?3 AND kind = ?4";
        let row = params![self.node, self.branch, self.sequence, self.kind];
        Ok(connection.prepare_cached(query)?.exists(row)?)
    }

    /// Stores the fault. Returns false if there were too many of its kind within a day, so that it was only counted.
    fn keep(&self, transaction: &Transaction<'_>, now: Time) -> Result<bool, Error> {
        let Self { node, branch, sequence, kind, what } = *self;
        // Bounded also for a node that has more, from a time when all were kept.
        let earlier: Vec<(u64, u64)> = transaction
            .prepare_cached(
                "SELECT branch, sequence FROM log_fault WHERE node = ?1 AND kind = ?2 AND noted_at > ?3 AND noted_at <= ?4
                 ORDER BY noted_at DESC LIMIT ?5",
            )?
            .query_map(params![node, kind, now.plus(-DAY).unix(), now.unix(), MAX_KEPT], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<_, _>>()?;
        if let (Some((branch, sequence)), MAX_KEPT..) = (earlier.first(), earlier.len()) {
            transaction
                .prepare_cached(
                    "UPDATE log_fault SET repeated = repeated + 1, last_at = ?5
                     WHERE node = ?1 AND branch = ?2 AND sequence = ?3 AND kind = ?4",
                )?
                .execute(params![node, branch, sequence, kind, now.unix()])?;
            return Ok(false);
        }
        let what: String = what.chars().take(MAX_WORDS).collect();
        transaction
            .prepare_cached(
                "INSERT INTO log_fault (node, branch, sequence, kind, what, noted_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![node, branch, sequence, kind, what, now.unix()])?;
        Ok(true)
    }
}

/// Faults of one kind that a call found.
struct FoundKind {
    kind: &'static str,
    /// Number of them.
    count: u64,
    /// Sequence number and explanation of the first one that was kept, if one was.
    first: Option<(u64, String)>,
}

/// Faults that a call found. They are logged and counted once it has ended: a line for each would let a node fill the log.
#[derive(Default)]
pub(in crate::controlplane) struct FoundFaults(Vec<FoundKind>);

impl FoundFaults {
    /// Stores a fault unless it is already stored.
    pub(in crate::controlplane) fn note(
        &mut self,
        transaction: &Transaction<'_>,
        fault: &Fault<'_>,
        now: Time,
    ) -> Result<(), Error> {
        if !fault.is_known(transaction)? {
            let first = fault.keep(transaction, now)?.then(|| (fault.sequence, fault.what.to_owned()));
            self.add(FoundKind { kind: fault.kind, count: 1, first });
        }
        Ok(())
    }

    fn add(&mut self, more: FoundKind) {
        match self.0.iter_mut().find(|found| found.kind == more.kind) {
            Some(found) => {
                found.count += more.count;
                found.first = found.first.take().or(more.first);
            }
            None => self.0.push(more),
        }
    }

    /// Adds the faults of another transaction of the call.
    pub(in crate::controlplane) fn append(&mut self, others: Self) {
        others.0.into_iter().for_each(|found| self.add(found));
    }

    /// Returns the kinds of which a fault was kept, each with the first one. Of the others the log says nothing.
    fn kept(&self) -> impl Iterator<Item = (&FoundKind, u64, &str)> {
        self.0.iter().filter_map(|found| {
            let (sequence, what) = found.first.as_ref()?;
            Some((found, *sequence, what.as_str()))
        })
    }

    /// Logs one line for each kind of which a fault was kept, and counts all faults.
    pub(in crate::controlplane) fn report(&self, control: &ControlPlane, data_plane: &str, node: &str) {
        for (FoundKind { kind, count, .. }, sequence, what) in self.kept() {
            tracing::warn!(node, sequence, kind, what, count, "a node's log has a fault");
        }
        control.metrics.count_log_faults(data_plane, self.0.iter().map(|found| found.count).sum());
    }
}

/// Returns the explanation of a fault with the number of those that were counted at it.
pub(in crate::controlplane) fn words(what: String, repeated: u64) -> String {
    if repeated == 0 {
        what
    } else {
        format!("{what}; {repeated} more faults of this kind came within a day")
    }
}

impl ControlPlane {
    /// Returns the recent faults of a node's log for its host. A log that was restarted is left out, because the host
    /// knows that.
    pub(in crate::controlplane) fn recent_log_faults(&self, node: &str) -> Result<Vec<String>, Error> {
        let since = self.now().plus(-TOLD).unix();
        self.store.read(|connection| {
            let mut faults = connection.prepare_cached(
                "SELECT kind, sequence, what, noted_at, repeated FROM log_fault
                 WHERE node = ?1 AND coalesce(last_at, noted_at) >= ?2 AND kind <> 'restart'
                 ORDER BY coalesce(last_at, noted_at) DESC LIMIT ?3",
            )?;
            let told = faults.query_map(params![node, since, MAX_TOLD], |row| {
                let (kind, sequence, what) =
                    (row.get::<_, String>(0)?, row.get::<_, u64>(1)?, row.get::<_, String>(2)?);
                let at = Time::from_unix(row.get(3)?).rfc3339();
                let what = words(what, row.get(4)?);
                Ok(format!("{kind} at event {sequence}, found at {at}: {what}"))
            })?;
            Ok(told.collect::<Result<_, _>>()?)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::controlplane::test_world::World;
    use crate::protocol::membership::NodeStatement;

    impl World {
        /// Sends lines that are no events, each a different one.
        fn nonsense(&self, first: u32, count: u32) {
            let lines: Vec<String> =
                (first..first + count).map(|number| format!("nonsense {number}")).collect();
            self.control.take_events("dpl_a", "nod_a", 1, lines.iter().map(String::as_str)).unwrap();
        }

        /// Notes faults as one call does, and returns the kinds that the log names, each with the number of its faults.
        fn log_lines(&self, faults: &[Fault<'_>]) -> Vec<(&'static str, u64)> {
            let mut found = FoundFaults::default();
            for fault in faults {
                let now = self.control.now();
                self.control.store.note(|transaction| found.note(transaction, fault, now)).unwrap();
            }
            found.kept().map(|(found, ..)| (found.kind, found.count)).collect()
        }
    }

    #[test]
    fn a_node_that_sends_nonsense_does_not_fill_the_table() {
        let world = World::new();
        for call in 0..10 {
            world.nonsense(call * 1000, 1000);
        }
        let kept = "SELECT count(*) FROM log_fault";
        let all = "SELECT sum(1 + repeated) FROM log_fault";
        assert_eq!((world.count(kept), world.count(all)), (16, 10_000));
        assert!(world.tells("halligan_control_log_faults_total{data_plane=\"dpl_a\"} 10000"));
        assert_eq!(world.count("SELECT count(*) FROM event"), 10_000, "the lines themselves stay");
    }

    #[test]
    fn a_call_writes_one_line_for_each_kind_of_fault_and_none_for_those_that_are_only_counted() {
        let world = World::new();
        let long = "x".repeat(10_000);
        let fault = |kind, sequence| Fault { node: "nod_a", branch: 0, sequence, kind, what: &long };
        let nonsense = |first: u64| (first..first + 100).map(|sequence| fault("unreadable", sequence));
        assert_eq!(world.log_lines(&nonsense(0).collect::<Vec<_>>()), [("unreadable", 100)]);
        // The same fault again.
        assert_eq!(world.log_lines(&[fault("unreadable", 0)]), []);
        assert_eq!(world.log_lines(&nonsense(100).collect::<Vec<_>>()), []);
        // A fault of another kind is not lost among them.
        let mixed: Vec<Fault<'_>> = nonsense(200).chain([fault("fork", 1)]).collect();
        assert_eq!(world.log_lines(&mixed), [("fork", 1)]);
        assert_eq!(world.count("SELECT max(length(what)) FROM log_fault"), 500);
    }

    #[test]
    fn faults_that_go_on_for_days_are_told_to_the_host_with_their_number() {
        let world = World::new();
        world.nonsense(0, 20);
        world.later(DAY - 1);
        world.nonsense(20, 1);
        let told = |world: &World| world.state(&NodeStatement::default()).log_faults;
        assert!(told(&world)[0].contains("; 5 more faults of this kind"), "{:?}", told(&world));
        world.later(DAY - 1);
        assert_eq!(told(&world).len(), 1, "the last came less than a day ago");
        world.nonsense(21, 1);
        assert_eq!(world.count("SELECT count(*) FROM log_fault"), 17, "the next day");
        world.later(DAY + 1);
        assert!(told(&world).is_empty(), "{:?}", told(&world));
    }
}
