//! Recovery of a host whose clock was wrong for a while: nothing that has ended becomes valid again. The real programs
//! run under libfaketime, which reads each clock's offset from a file at every call.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::nodes::reason;
use crate::rig::clock::{Variables, faketime};
use crate::rig::{Rig, until};
use crate::world::{T0, World};
use halligan::dataplane::decide::Reason;
use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
use halligan::dataplane::node::state::Live;
use halligan::dataplane::replica::replication::Replication;
use halligan::dataplane::replica::store::{Origin, ReplicaStore};
use halligan::dataplane::replica::timekeeper::Watch;
use halligan::protocol::time::Time;
use serde_json::Value;

/// A rig whose programs share a clock that tests can move.
struct Moved {
    rig: Rig,
    faketime: Variables,
}

impl Moved {
    fn start() -> Option<Self> {
        let mut faketime = faketime()?;
        let mut rig = Rig::start();
        faketime.push(("FAKETIME_TIMESTAMP_FILE", rig.path("clock").into()));
        faketime.push(("FAKETIME_NO_CACHE", "1".into()));
        rig.kill_daemon();
        rig.kill_control();
        let mut moved = Self { rig, faketime };
        moved.off_by(0);
        moved.start_control();
        moved.start_daemon();
        Some(moved)
    }

    /// Sets the clocks of both programs ahead by this number of seconds.
    fn off_by(&self, seconds: i64) {
        // The file is replaced atomically, so that a program never reads half of it.
        std::fs::write(self.rig.path("clock.new"), format!("{seconds:+}")).unwrap();
        std::fs::rename(self.rig.path("clock.new"), self.rig.path("clock")).unwrap();
    }

    fn start_control(&mut self) {
        self.rig.start_control_in(&self.faketime);
    }

    fn start_daemon(&mut self) {
        self.rig.start_daemon_in(&self.faketime);
    }

    fn token(&self, name: &str, days: &str) -> (String, String) {
        let at = ["--deployment-id", &self.rig.deployment, "--direct-access", "-e", days];
        let made = self.rig.json(&[&["token", "create", "-n", name], &at[..]].concat());
        let text = |member: &str| made[member].as_str().unwrap().to_owned();
        (text("id"), text("token"))
    }

    fn reason(&self, token: &str) -> String {
        self.rig.authorize(token, "GET", "/api/v2/dags").reason().to_owned()
    }

    fn signed_at(&self) -> i64 {
        self.rig.json(&["status"])["replica"]["signedAt"].as_i64().unwrap()
    }

    /// Changes a record, so that the feed answers, and waits for a head that was signed under the present clock.
    fn another_head(&self) {
        let off: i64 = std::fs::read_to_string(self.rig.path("clock")).unwrap().parse().unwrap();
        self.token("makes the feed answer", "30");
        self.rig.synced();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let apart = self.signed_at() - now - off;
        assert!((-20..=1).contains(&apart), "{apart}");
    }

    fn alarms(&self) -> String {
        self.rig.json(&["status"])["alarms"].to_string()
    }
}

#[test]
fn a_clock_that_was_ahead_while_a_head_was_signed_is_trusted_again_once_it_is_right() {
    let Some(moved) = Moved::start() else { return };
    let (_, token) = moved.token("good", "30");
    moved.rig.synced();
    // The offsets are slightly above the tolerance, an hour, and more than half a year.
    for (ahead, times) in [330, 3_600, 200 * 86_400].into_iter().zip(1..) {
        moved.off_by(ahead);
        moved.another_head();
        moved.off_by(0);
        until("the doubt has ended", || moved.alarms().matches("had taken for proved").count() == times);
        until("the token opens again", || moved.reason(&token) == "ok" || ahead > 30 * 86_400);
        let status = moved.rig.json(&["status"]);
        assert_eq!(status["clockTrusted"], true, "{ahead}: {status}");
        assert!(status["replica"]["ageSeconds"].as_i64().unwrap() >= -5, "{ahead}: {status}");
        if ahead > 30 * 86_400 {
            assert_eq!(moved.reason(&token), "token_expired", "it was dead by the time taken for proved");
        }
    }
}

#[test]
fn what_expired_by_a_clock_that_ran_ahead_stays_expired_and_what_is_made_afterwards_opens() {
    let Some(mut moved) = Moved::start() else { return };
    let (short_id, short) = moved.token("a day", "1");
    let (_, long) = moved.token("a month", "30");
    moved.rig.synced();
    moved.off_by(2 * 86_400);
    moved.another_head();
    until("it has expired", || moved.reason(&short) == "token_expired");
    moved.off_by(0);
    until("the long one opens again", || moved.reason(&long) == "ok");
    assert_eq!(moved.reason(&short), "token_expired");
    // Neither a restart nor a new head revives the token.
    moved.rig.kill_daemon();
    moved.start_daemon();
    until("the daemon is in sync", || moved.reason(&long) == "ok");
    assert_eq!(moved.reason(&short), "token_expired");
    moved.another_head();
    assert_eq!(moved.reason(&short), "token_expired");
    // The new token, and the new generation of the old one, had not ended.
    let (_, new) = moved.token("another day", "1");
    let rotated = moved.rig.json(&["token", "rotate", &short_id, "--force"]);
    moved.rig.synced();
    until("the new token opens", || moved.reason(&new) == "ok");
    assert_eq!(moved.reason(rotated["token"].as_str().unwrap()), "ok");
    assert_eq!(moved.reason(&short), "token_rotated");
}

#[test]
fn in_an_outage_an_administrator_accepts_the_clock_and_the_act_is_on_record() {
    let Some(mut moved) = Moved::start() else { return };
    let (_, short) = moved.token("a day", "1");
    let (_, long) = moved.token("a month", "30");
    moved.rig.synced();
    let accept = |moved: &Moved| {
        let mut command = moved.rig.cli_command();
        command.args(["--json", "clock", "accept", "--reason", "time server was ahead, INC-7"]);
        command.output().unwrap()
    };
    let refused = accept(&moved);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nothing to accept"), "{refused:?}");
    moved.off_by(2 * 86_400);
    moved.another_head();
    moved.rig.kill_control();
    until("an outage begins", || moved.rig.json(&["status"])["controlPlane"]["connectivity"] == "offline");
    until("the outage is noted", || moved.rig.json(&["outage", "list"])[0]["state"] == "open");
    moved.off_by(0);
    until("the clock is in doubt", || moved.reason(&long) == "clock_untrusted");
    let accepted = accept(&moved);
    assert!(accepted.status.success(), "{accepted:?}");
    let accepted: Value = serde_json::from_slice(&accepted.stdout).unwrap();
    assert!(accepted["aheadSeconds"].as_i64().unwrap() > 2 * 86_400 - 60, "{accepted}");
    assert_eq!(accepted["stayExpired"], 1, "{accepted}");
    for _ in 0..2 {
        assert_eq!((moved.reason(&long), moved.reason(&short)), ("ok".into(), "token_expired".into()));
        let age = moved.rig.json(&["status"])["replica"]["ageSeconds"].as_i64().unwrap();
        assert!((0..600).contains(&age), "a head of the future is as old as it was held: {age}");
        // Neither a restart nor elapsed time makes the clock doubtful again.
        moved.rig.kill_daemon();
        moved.start_daemon();
        std::thread::sleep(Duration::from_secs(3));
    }
    let events = moved.rig.cli(&["audit", "tail", "-n", "50", "--json"]);
    let events = String::from_utf8_lossy(&events.stdout).into_owned();
    assert!(events.contains("clock-accepted") && events.contains("INC-7"), "{events}");
    moved.rig.cli(&["audit", "verify"]);
    // When the control plane returns, the host reconciles and is current again.
    moved.start_control();
    until("the host is live", || moved.rig.json(&["status"])["controlPlane"]["state"] == "live");
    let (_, new) = moved.token("new", "30");
    moved.rig.synced();
    assert_eq!(moved.reason(&new), "ok");
    assert_eq!(moved.reason(&short), "token_expired");
}

#[test]
fn the_outage_report_tells_that_a_clock_was_accepted() {
    let Some(mut moved) = Moved::start() else { return };
    moved.off_by(7_200);
    moved.another_head();
    moved.rig.kill_control();
    until("the outage is noted", || moved.rig.json(&["outage", "list"])[0]["state"] == "open");
    moved.off_by(0);
    until("the clock is in doubt", || moved.rig.json(&["status"])["clockTrusted"] == false);
    moved.rig.cli(&["clock", "accept", "--reason", "INC-8"]);
    let report = moved.rig.json(&["outage", "show"]);
    assert!(report["alarms"].to_string().contains("INC-8"), "{report}");
    moved.start_control();
    until("the control plane has the report", || {
        let list = moved.rig.json(&["outage", "list", "--control-plane"]);
        list.as_array().is_some_and(|list| !list.is_empty())
    });
    let report = moved.rig.json(&["outage", "show", "--control-plane"]);
    assert!(report["alarms"].to_string().contains("INC-8"), "{report}");
}

#[test]
fn a_head_that_has_just_come_is_not_as_old_as_the_one_before_it_when_a_clock_is_accepted() {
    let (directory, world, ten_days) = (tempfile::tempdir().unwrap(), World::new(), 10 * 86_400);
    let path = directory.path().join("replica.db");
    let store = ReplicaStore::open(&path, World::data_plane(), world.pinned()).unwrap();
    let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), T0));
    let replication = Replication::new(store, Arc::clone(&live), Staleness::default());
    replication.apply_bundle(&*world.bundle(1, &World::records(1), T0), Origin::Feed, T0).unwrap();
    let mut watch = Watch::new(&live, None, T0, Duration::ZERO);
    watch.look(&live, T0, Duration::ZERO);
    let now = T0.plus(ten_days);
    watch.look(&live, now, Duration::from_secs(ten_days.unsigned_abs()));
    // A head arrives, and the clock is accepted before the next check of the clock.
    replication.apply_bundle(&*world.bundle(2, &World::records(2), now), Origin::Feed, now).unwrap();
    replication.accept_clock(now).unwrap();
    assert_eq!(live.snapshot().signed_at(), Some(now), "it was signed just now");
    // An accepted clock does not make a replica younger than the time for which it has been held.
    watch.look(&live, now.plus(100), Duration::from_secs(ten_days.unsigned_abs() + 100));
    watch.look(&live, now.plus(7_200), Duration::from_secs(ten_days.unsigned_abs() + 7_200));
    replication.accept_clock(now).unwrap();
    assert_eq!(live.snapshot().signed_at(), Some(now.plus(-7_100)));
}

#[test]
fn a_host_without_a_replica_whose_clock_was_ahead_calls_no_token_of_its_first_one_dead() {
    let (directory, world, year) = (tempfile::tempdir().unwrap(), World::new(), 365 * 86_400);
    let path = directory.path().join("replica.db");
    let store = ReplicaStore::open(&path, World::data_plane(), world.pinned()).unwrap();
    let live = Arc::new(Live::new(Snapshot::absent(), T0.plus(year), T0));
    let replication = Replication::new(store, Arc::clone(&live), Staleness::default());
    // The clock was a year ahead before it was corrected.
    assert!(!live.now(T0).trusted());
    let opens = |number| reason(&live, number) == Reason::Ok;
    replication
        .apply_answer(&*world.answer(1, &World::records(1), T0, "n1"), Origin::Feed, Some("n1"), T0)
        .unwrap();
    assert!(live.now(T0).trusted());
    assert!(opens(0));
    // The clock is ahead once more. A token that the host holds meanwhile expires for good; a token that it receives
    // later is valid.
    live.raise_floor(T0.plus(year));
    replication
        .apply_answer(&*world.answer(2, &World::records(2), T0, "n2"), Origin::Feed, Some("n2"), T0)
        .unwrap();
    assert!(live.now(T0).trusted());
    assert_eq!((reason(&live, 0), opens(1)), (Reason::TokenExpired, true));
}
