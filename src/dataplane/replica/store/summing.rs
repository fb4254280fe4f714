//! Computes the sum of records while they are read: one thread reads, others add up what it has read.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::{StoreError, Which, each_record};
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::head::Head;
use crate::protocol::record::Record;

/// Size of a share that is handed to a thread, in records and in bytes. A few shares wait at most, which bounds the memory.
pub(super) const SHARE: (usize, usize) = (256, 1 << 20);
/// Maximum number of summing threads. Reading keeps no more of them busy.
const MOST: usize = 4;

/// Digest of a set of records, and their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    digest: ReplicaDigest,
    pub(super) count: u64,
}

impl Default for Sum {
    fn default() -> Self {
        Self { digest: ReplicaDigest::empty(), count: 0 }
    }
}

impl Sum {
    pub(super) fn add(&mut self, record: &Record) {
        self.digest.add(record);
        self.count += 1;
    }

    /// Removes a record that was added before.
    pub(super) fn remove(&mut self, record: &Record) {
        self.digest.remove(record);
        self.count = self.count.saturating_sub(1);
    }

    /// Adds the sum of other records.
    pub(super) fn combine(&mut self, other: &Self) {
        self.digest.combine(&other.digest);
        self.count += other.count;
    }

    /// Returns true if `head` was signed for these records.
    pub(super) fn matches(&self, head: &Head) -> bool {
        self.count == head.count && self.digest.checksum() == head.digest
    }
}

/// Returns the sum of stored records. Calls `see` for each in the order of the database, on this thread, and `visit` in any
/// order on several threads.
pub(super) fn sum(
    connection: &Connection,
    which: Which,
    mut see: impl FnMut(&Record),
    visit: impl Fn(&Record) + Sync,
) -> Result<Sum, StoreError> {
    let read = |take: &mut dyn FnMut(Record)| {
        each_record(connection, which, |record| {
            see(&record);
            take(record);
            Ok(())
        })
    };
    sum_read(read, &visit)
}

fn sum_read<R, V>(read: R, visit: &V) -> Result<Sum, StoreError>
where
    R: FnOnce(&mut dyn FnMut(Record)) -> Result<(), StoreError>,
    V: Fn(&Record) + Sync,
{
    let most = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
    let (sender, shares) = sync_channel(most);
    let shares = Mutex::new(shares);
    std::thread::scope(|scope| {
        let mut summing = Vec::new();
        let (mut share, mut bytes) = (Vec::new(), 0);
        let outcome = read(&mut |record| {
            bytes += record.body.len();
            share.push(record);
            if share.len() >= SHARE.0 || bytes >= SHARE.1 {
                if summing.len() < most {
                    summing.push(scope.spawn(|| all(&shares, visit)));
                }
                // This cannot fail: the receiver outlives the sender.
                let _ = sender.send(std::mem::take(&mut share));
                bytes = 0;
            }
        });
        drop(sender);
        let mut total = sum_of_share(&share, visit);
        // The reading thread helps to sum when it has read everything.
        total.combine(&all(&shares, visit));
        for sum in summing {
            match sum.join() {
                Ok(sum) => total.combine(&sum),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        outcome.map(|()| total)
    })
}

/// Returns the sum of the shares that this thread receives until the channel closes.
fn all(shares: &Mutex<Receiver<Vec<Record>>>, visit: &impl Fn(&Record)) -> Sum {
    let next = || shares.lock().unwrap_or_else(PoisonError::into_inner).recv();
    let mut sum = Sum::default();
    while let Ok(share) = next() {
        sum.combine(&sum_of_share(&share, visit));
    }
    sum
}

fn sum_of_share(share: &[Record], visit: &impl Fn(&Record)) -> Sum {
    let mut sum = Sum::default();
    for record in share {
        sum.add(record);
        visit(record);
    }
    sum
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::protocol::record::RecordKind;

    fn records(number: usize, body: &str) -> Vec<Record> {
        (0..number).map(|number| Record::new(RecordKind::Token, format!("tok_{number}"), body)).collect()
    }

    fn summed(records: &[Record]) -> Sum {
        let visited = AtomicUsize::new(0);
        let read = |take: &mut dyn FnMut(Record)| {
            records.iter().cloned().for_each(take);
            Ok(())
        };
        let visit = |_: &Record| {
            visited.fetch_add(1, Ordering::Relaxed);
        };
        let sum = sum_read(read, &visit).unwrap();
        assert_eq!(visited.into_inner(), records.len());
        sum
    }

    fn expected(records: &[Record]) -> Sum {
        Sum { digest: records.iter().collect(), count: records.len() as u64 }
    }

    #[test]
    fn none_is_left_out_whatever_the_shares() {
        let long = "x".repeat(SHARE.1 / 3);
        for records in [0, 1, SHARE.0 - 1, SHARE.0, SHARE.0 * 5 + 7].map(|number| records(number, "{}")) {
            assert_eq!(summed(&records), expected(&records));
        }
        for records in [2, 3, 20].map(|number| records(number, &long)) {
            assert_eq!(summed(&records), expected(&records));
        }
    }

    #[test]
    fn few_records_are_summed_by_the_thread_that_reads_them() {
        let own = std::thread::current().id();
        let records = records(SHARE.0 - 1, "{}");
        let read = |take: &mut dyn FnMut(Record)| {
            records.iter().cloned().for_each(take);
            Ok(())
        };
        let elsewhere = AtomicUsize::new(0);
        let visit = |_: &Record| {
            elsewhere.fetch_add(usize::from(std::thread::current().id() != own), Ordering::Relaxed);
        };
        assert_eq!(sum_read(read, &visit).unwrap(), expected(&records));
        assert_eq!(elsewhere.into_inner(), 0);
    }

    #[test]
    fn long_records_are_handed_on_before_all_are_read() {
        let records = records(3, &"x".repeat(SHARE.1 / 3 + 1));
        let (seen, visited) = std::sync::mpsc::channel();
        let read = |take: &mut dyn FnMut(Record)| {
            records.iter().cloned().for_each(take);
            // All three are out of this thread's hands while it still reads.
            for _ in &records {
                visited.recv_timeout(Duration::from_secs(30)).unwrap();
            }
            Ok(())
        };
        let sum = sum_read(read, &|_: &Record| seen.send(()).unwrap()).unwrap();
        assert_eq!(sum, expected(&records));
    }

    #[test]
    fn what_could_not_be_read_has_no_sum() {
        let records = records(SHARE.0 * 2, "{}");
        let read = |take: &mut dyn FnMut(Record)| {
            records.iter().cloned().for_each(take);
            Err(StoreError::Kind)
        };
        let broken = sum_read(read, &|_| {});
        assert!(matches!(broken, Err(StoreError::Kind)));
    }
}
