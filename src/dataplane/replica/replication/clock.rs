//! The time floor and the age of the head, as the replica's database keeps them. The floor falls only if a fresh head and the
//! clock contradict it, or if an administrator of this host accepts the clock.

use super::Replication;
use crate::dataplane::decide::{HeadAge, clocks_agree};
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::replica::store::{AHEAD, Ended, ReplicaStore, StoreError};
use crate::protocol::time::Time;

impl Replication {
    /// Lowers a time floor that a head signed just now, at `signed`, and the clock both contradict. `ended` are the tokens
    /// that the floor had expired.
    pub(super) fn settle_doubt(
        &self,
        store: &mut ReplicaStore,
        ended: &[Ended],
        signed: Time,
        now: Time,
    ) -> Result<(), StoreError> {
        let time = self.live.now(now);
        if time.trusted() || !clocks_agree(signed.since(now)) {
            return Ok(());
        }
        let to = signed.min(now);
        let stay = self.take_back(store, ended, to, None, now)?;
        let what = format!(
            "the time this node had taken for proved was {} s ahead: the control plane's clock and this host's agree on {to} \
             by now; {stay} tokens that had expired by it stay expired",
            time.floor.since(to)
        );
        self.live.alarms.raise(AlarmKind::Clock, &what, now);
        Ok(())
    }

    /// Accepts `now` as the time, by order of an administrator of this host, if the time floor is ahead of it. Returns the
    /// number of seconds by which the floor was ahead, and the number of expired tokens that stay expired.
    pub fn accept_clock(&self, now: Time) -> Result<(i64, usize), StoreError> {
        let mut store = self.store();
        let floor = self.live.now(now).floor;
        let ahead = floor.since(now);
        let ended = store.ended_by(floor, now)?;
        let age = self.live.head_age().map(|age| age.accepted(now));
        let stay = self.take_back(&mut store, &ended, now, age, now)?;
        Ok((ahead, stay))
    }

    /// Lowers the time floor to `to`. The tokens `ended`, which it had expired, are marked dead, on disk and in memory,
    /// before the floor falls.
    fn take_back(
        &self,
        store: &mut ReplicaStore,
        ended: &[Ended],
        to: Time,
        age: Option<HeadAge>,
        now: Time,
    ) -> Result<usize, StoreError> {
        self.live.take_back_floor(to, || {
            let stay = store.take_back_floor(ended, to, age)?;
            if age.is_some() {
                self.live.change_local(|local| local.accepted = age);
            }
            self.read_again(store, now)?;
            Ok(stay)
        })
    }

    /// Stores the time floor. A value that was computed before the floor was lowered is not stored.
    pub fn write_floor(&self, floor: Time) -> Result<(), StoreError> {
        let store = self.store();
        if floor > self.live.now(floor).floor.plus(AHEAD) {
            return Ok(());
        }
        store.raise_floor(floor)
    }

    /// Returns the stored age of a head.
    pub fn head_age(&self) -> Result<Option<HeadAge>, StoreError> {
        self.store().head_age()
    }

    /// Stores the age of the head in force.
    pub fn write_head_age(&self, age: HeadAge) -> Result<(), StoreError> {
        self.store().keep_head_age(age)
    }
}
