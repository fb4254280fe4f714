//! Computes the digest of records while they are read: one thread reads, others add up what it has read.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::StoreError;
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::record::Record;

/// Size of a share that is handed to a thread, in records and in bytes. A few shares wait at most, which bounds the memory.
const SHARE: (usize, usize) = (1024, 2 << 20);
/// Maximum number of summing threads. Reading keeps no more of them busy.
const MOST: usize = 4;

/// Returns the number of records that `read` hands over, and their digest.
pub(super) fn sum<R>(read: R) -> Result<(u64, ReplicaDigest), StoreError>
where
    R: FnOnce(&mut dyn FnMut(Record)) -> Result<(), StoreError>,
{
    let most = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
    let (sender, shares) = sync_channel(most);
    let shares = Mutex::new(shares);
    std::thread::scope(|scope| {
        let mut summing = Vec::new();
        let (mut share, mut bytes, mut count) = (Vec::new(), 0, 0);
        let outcome = read(&mut |record| {
            count += 1;
            bytes += record.body.len();
            share.push(record);
            if share.len() >= SHARE.0 || bytes >= SHARE.1 {
                if summing.len() < most {
                    summing.push(scope.spawn(|| all(&shares)));
                }
                // This cannot fail: the receiver outlives the sender.
                let _ = sender.send(std::mem::take(&mut share));
                bytes = 0;
            }
        });
        drop(sender);
        let mut total: ReplicaDigest = share.iter().collect();
        // The reading thread helps to sum when it has read everything.
        total.combine(&all(&shares));
        for sum in summing {
            match sum.join() {
                Ok(sum) => total.combine(&sum),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        outcome.map(|()| (count, total))
    })
}

/// Returns the digest of the shares that this thread receives until the channel closes.
fn all(shares: &Mutex<Receiver<Vec<Record>>>) -> ReplicaDigest {
    let next = || shares.lock().unwrap_or_else(PoisonError::into_inner).recv();
    let mut sum = ReplicaDigest::empty();
    while let Ok(share) = next() {
        for record in &share {
            sum.add(record);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::protocol::record::RecordKind;

    fn records(number: usize, body: &str) -> Vec<Record> {
        (0..number).map(|number| Record::new(RecordKind::Token, format!("tok_{number}"), body)).collect()
    }

    fn summed(records: &[Record]) -> (u64, ReplicaDigest) {
        sum(|take| {
            records.iter().cloned().for_each(take);
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn none_is_left_out_whatever_the_shares() {
        let long = "x".repeat(SHARE.1 / 3);
        for records in [0, 1, SHARE.0 - 1, SHARE.0, SHARE.0 * 5 + 7].map(|number| records(number, "{}")) {
            assert_eq!(summed(&records), (records.len() as u64, records.iter().collect()));
        }
        for records in [2, 3, 20].map(|number| records(number, &long)) {
            assert_eq!(summed(&records), (records.len() as u64, records.iter().collect()));
        }
    }

    #[test]
    fn what_could_not_be_read_has_no_sum() {
        let records = records(SHARE.0 * 2, "{}");
        let broken = sum(|take| {
            records.iter().cloned().for_each(take);
            Err(StoreError::Kind)
        });
        assert!(matches!(broken, Err(StoreError::Kind)));
    }
}
