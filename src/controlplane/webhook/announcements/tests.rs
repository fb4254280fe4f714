#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::controlplane::signing::Signing;
use crate::controlplane::store::Store;
use crate::protocol::outage::Ended;

const NOW: Time = Time::from_unix(1_800_000_000);

/// Control plane with a clock that the test sets, and numbered uses.
struct Above {
    control: ControlPlane,
    clock: Arc<AtomicI64>,
    _directory: tempfile::TempDir,
}

impl Above {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
        Signing::create(directory.path(), NOW, &mut rng).unwrap();
        let signing = Signing::load(directory.path()).unwrap();
        let clock = Arc::new(AtomicI64::new(NOW.unix()));
        let read = Arc::clone(&clock);
        let read = Arc::new(move || Time::from_unix(read.load(Ordering::SeqCst)));
        let store = Store::in_memory().unwrap();
        let issuer = "https://control.example".to_owned();
        let control = ControlPlane::new(store, signing, issuer, read, Box::new(rng)).announcing();
        Self { control, clock, _directory: directory }
    }

    fn set_clock(&self, time: Time) {
        self.clock.store(time.unix(), Ordering::SeqCst);
    }

    fn late_use(&self, number: u32) {
        let used = Use {
            time: NOW,
            event_id: format!("evt_{number}"),
            token_id: "tok_a".parse().unwrap(),
            generation: 1,
            deployment_id: None,
            method: None,
            path: None,
            client: None,
        };
        let place = Place { data_plane: "dpl_a", node: "nod_a", outage: None };
        let late = LateUse { used, ended_at: NOW.plus(-10), ended: Ended::Revoked };
        let announce =
            |transaction: &Transaction<'_>| self.control.announce_late_use(transaction, place, &late);
        self.control.store.write(announce).unwrap();
    }

    fn due(&self) -> Vec<Announcement> {
        let now = self.control.now();
        self.control.due_announcements(1000, now, now.plus(600)).unwrap()
    }

    fn came_of(&self, id: &str, outcome: Outcome) {
        let trusted_time = self.control.trusted_time().unwrap();
        self.control.announced(&[Attempt { id: id.into(), outcome }], trusted_time).unwrap();
    }

    fn text(&self) -> String {
        self.control.metrics_text().unwrap()
    }
}

fn error() -> String {
    "it answered 500".into()
}

#[test]
fn what_came_about_once_is_announced_once_under_one_id() {
    let (above, elsewhere) = (Above::new(), Above::new());
    above.late_use(1);
    above.late_use(1);
    let due = above.due();
    assert_eq!(due.len(), 1);
    elsewhere.late_use(1);
    assert_eq!(elsewhere.due()[0].id, due[0].id, "also to a control plane that has forgotten it");
    above.came_of(&due[0].id, Outcome::Delivered);
    above.late_use(1);
    assert!(above.due().is_empty(), "nor again after it was delivered");
}

#[test]
fn what_failed_is_due_again_at_its_time_with_the_same_body() {
    let above = Above::new();
    above.late_use(1);
    let first = above.due().remove(0);
    above.came_of(&first.id, Outcome::Again { at: NOW.plus(30), error: error() });
    assert!(above.due().is_empty());
    assert_eq!(above.control.next_announcement_at().unwrap(), Some(NOW.plus(30)));
    above.set_clock(NOW.plus(30));
    let again = above.due().remove(0);
    assert_eq!((again.id, again.body, again.attempts), (first.id, first.body, 1));
    assert_eq!(again.made_at, NOW);
}

#[test]
fn a_clock_that_was_wrong_keeps_nothing_back() {
    let above = Above::new();
    above.set_clock(NOW.plus(1_000_000_000));
    above.late_use(1);
    let id = above.due().remove(0).id;
    above.came_of(&id, Outcome::Again { at: NOW.plus(1_000_000_300), error: error() });
    above.set_clock(NOW);
    assert_eq!(above.due().len(), 1);
}

#[test]
fn what_is_given_up_is_counted_and_nobody_waits_for_it() {
    let above = Above::new();
    above.late_use(1);
    above.late_use(2);
    above.set_clock(NOW.plus(90));
    let text = above.text();
    assert!(text.contains("halligan_control_announcements_waiting 2\n"), "{text}");
    assert!(text.contains("halligan_control_announcement_age_seconds 90\n"), "{text}");
    assert!(text.contains("halligan_control_announcements_lost_total{reason=\"given_up\"} 0\n"), "{text}");
    let ids: Vec<_> = above.due().into_iter().map(|due| due.id).collect();
    above.came_of(&ids[0], Outcome::GivenUp { error: error() });
    above.came_of(&ids[1], Outcome::Delivered);
    let text = above.text();
    for line in [
        "halligan_control_announcements_waiting 0\n",
        "halligan_control_announcement_age_seconds 0\n",
        "halligan_control_announcements_lost_total{reason=\"given_up\"} 1\n",
        "halligan_control_deliveries_total{outcome=\"delivered\"} 1\n",
        "halligan_control_deliveries_total{outcome=\"failed\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[test]
fn what_waits_is_bounded_and_what_is_dropped_is_counted() {
    let above = Above::new();
    above.late_use(0);
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1)
        INSERT INTO announcement (id, key, body, made_at, attempts, next_at) SELECT 'x' || i, i, '', 0, 0, 0 FROM n";
    above.control.store.write(|transaction| Ok(transaction.execute(fill, [MAX_WAITING])?)).unwrap();
    above.late_use(0);
    assert!(above.text().contains("lost_total{reason=\"full\"} 0\n"), "it waits already");
    above.late_use(1);
    let text = above.text();
    assert!(text.contains("lost_total{reason=\"full\"} 1\n"), "{text}");
    assert!(text.contains("halligan_control_announcements_waiting 100000\n"), "{text}");
}

#[test]
fn what_is_done_with_is_forgotten_after_a_month() {
    let above = Above::new();
    above.late_use(1);
    above.late_use(2);
    let ids: Vec<_> = above.due().into_iter().map(|due| due.id).collect();
    above.came_of(&ids[0], Outcome::Delivered);
    above.set_clock(NOW.plus(REMEMBERED + 1));
    above.came_of(&ids[1], Outcome::Delivered);
    let left = |connection: &rusqlite::Connection| {
        Ok(connection.query_row("SELECT count(*) FROM announcement", [], |row| row.get::<_, u32>(0))?)
    };
    assert_eq!(above.control.store.read(left).unwrap(), 1);
}
