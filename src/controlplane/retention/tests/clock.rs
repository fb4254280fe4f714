//! A clock that is wrong, and ages.

#![allow(clippy::unwrap_used)]

use super::*;

/// Everything that retention deletes by age.
const KEPT: [&str; 5] = [
    "SELECT count(*) FROM event",
    "SELECT count(*) FROM audit_log",
    "SELECT count(*) FROM log_fault",
    "SELECT count(*) FROM deploy WHERE status = 'INITIALIZED'",
    "SELECT count(*) FROM change",
];

impl World {
    /// Writes rows of each kind with the present time: 5000 events, and one of the others.
    fn fill(&self) {
        self.events(1, 5000);
        self.refuse("192.0.2.1", "tok_a", "{}");
        let now = self.clock.load(Ordering::Relaxed);
        self.write(&format!(
            "INSERT INTO log_fault (node, branch, sequence, kind, what, noted_at) VALUES ('nod_a', 0, 1, 'gap', '', {now});
             INSERT INTO workspace (id, organization, name, created_at) SELECT 'wsp_a', id, 'a', 0 FROM organization;
             INSERT INTO deployment (id, organization, workspace, data_plane, name, hosts, created_at)
                 SELECT 'dep_a', id, 'wsp_a', 'dpl_a', 'a', '[]', 0 FROM organization;
             INSERT INTO deploy (id, deployment, status, description, created_at, created_by, updated_at, updated_by)
                 VALUES ('dpy_a', 'dep_a', 'INITIALIZED', '', {now}, 'u', {now}, 'u')"
        ));
        let change = |change| {
            let published =
                self.control.store.write(|transaction| publish::change(transaction, "dpl_a", vec![change]));
            published.unwrap();
        };
        let key = "dep_a".to_owned();
        change(Change::Put(Record::new(RecordKind::DagTags, key.clone(), "{}".to_owned())));
        change(Change::Remove { kind: RecordKind::DagTags, key });
    }

    fn kept(&self) -> Vec<i64> {
        KEPT.iter().map(|query| self.count(query)).collect()
    }
}

#[test]
fn a_clock_that_is_years_ahead_for_a_while_deletes_nothing() {
    let retention = Retention::default();
    // In its first round ever, and after rounds by a clock that was right.
    for rounds in [0, 1] {
        let world = World::new();
        world.fill();
        (0..rounds).for_each(|_| world.prune_after(MINUTE, &retention));
        let before = world.kept();
        world.later(4 * 365 * DAY);
        // A call that comes before the first round is written with the wrong time.
        world.refuse("192.0.2.2", "tok_b", "{}");
        for _ in 0..3 {
            world.prune_after(MINUTE, &retention);
        }
        world.later(-4 * 365 * DAY);
        world.prune_after(MINUTE, &retention);
        let mut after = world.kept();
        after[1] -= 1;
        assert_eq!(after, before, "{rounds}");
        // Ages count by the clock at once, and not only after a week.
        assert_eq!(world.count("SELECT at FROM retention_clock"), world.clock.load(Ordering::Relaxed));
        assert_eq!(world.count("SELECT waited FROM retention_clock"), 0);
    }
}

#[test]
fn rows_grow_old_by_a_clock_that_is_set_right_now_and_then() {
    let world = World::new();
    let retention = Retention::default();
    world.fill();
    // Hours pass between rounds, and some are taken back.
    for _ in 0..420 {
        world.later(DAY);
        world.prune_after(Duration::ZERO, &retention);
        world.later(-3600);
        world.prune_after(Duration::ZERO, &retention);
    }
    assert_eq!(world.kept(), [RECENT_EVENTS, 2, 0, 0, 0], "a line of the audit log is kept for three years");
}

#[test]
fn a_control_plane_that_was_stopped_for_months_deletes_after_a_week() {
    let world = World::new();
    let retention = Retention::default();
    world.fill();
    world.prune_after(MINUTE, &retention);
    let before = world.kept();
    world.later(500 * DAY);
    // Restarts in between lose nothing of the week.
    for _ in 0..7 {
        world.prune_after(Duration::ZERO, &retention);
        world.prune_after(Duration::from_secs(86_000), &retention);
        assert_eq!(world.kept(), before);
        world.later(DAY);
    }
    world.prune_after(Duration::from_hours(2), &retention);
    assert_eq!(world.kept(), [RECENT_EVENTS, 2, 0, 0, 0]);
}

#[test]
fn the_byte_limits_hold_while_the_clock_is_not_trusted() {
    let world = World::new();
    world.fill();
    world.prune_after(MINUTE, &Retention::default());
    world.later(4 * 365 * DAY);
    let small =
        Retention { event_max_bytes: 1, audit_log_max_bytes: 1, change_max_bytes: 1, ..Retention::default() };
    world.prune_after(MINUTE, &small);
    assert_eq!(world.kept(), [RECENT_EVENTS, 0, 1, 1, 0]);
}

#[test]
fn a_clock_that_was_ahead_so_long_that_it_was_trusted_heals() {
    let world = World::new();
    let retention = Retention::default();
    world.prune_after(MINUTE, &retention);
    world.later(300 * DAY);
    world.prune(&retention);
    world.later(-300 * DAY);
    world.fill();
    world.prune_after(MINUTE, &retention);
    let before = world.kept();
    // The next jump has to wait again, and ordinary days do not.
    world.later(450 * DAY);
    world.prune_after(MINUTE, &retention);
    assert_eq!(world.kept(), before);
    world.later(-449 * DAY);
    world.prune_after(MINUTE, &retention);
    assert_eq!(world.count(KEPT[3]), 0, "a deploy that nobody finalized in a day");
}

#[test]
fn what_a_database_of_an_earlier_version_holds_survives_a_clock_that_is_ahead_at_the_first_start() {
    let world = World::new();
    world.fill();
    let before = world.kept();
    // As the migration leaves it.
    world.write("INSERT INTO retention_clock SELECT 1, max(at), 0 FROM audit_log");
    world.later(4 * 365 * DAY);
    world.prune_after(Duration::ZERO, &Retention::default());
    assert_eq!(world.kept(), before);
}
