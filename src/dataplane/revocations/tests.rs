//! Unit tests of the local revocations: what a host tells of them, and how it starts after a loss.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;
use crate::dataplane::decide::Reason;
use crate::dataplane::node::schema::Unfit;
use crate::nodes::{key, order, prover, reason, record};
use crate::protocol::reconciliation::RevocationAnswer;
use crate::protocol::record::Record;
use crate::world::{T0, World};

fn live(nodes: &[Record]) -> Arc<Live> {
    let records = World::records(3).into_iter().chain(nodes.iter().cloned()).collect();
    Arc::new(Live::new(World::new().snapshot(records), T0, T0))
}

fn open(directory: &Path, live: &Arc<Live>) -> Revocations {
    Revocations::open(&directory.join("revocations.db"), Arc::clone(live), prover("nod_a", 51)).unwrap()
}

/// Revocation of a token by node `nod_b`.
fn signed(token: usize, iat: Time) -> String {
    let revocation = Revocation {
        iss: "nod_b".parse().unwrap(),
        sub: World::token_record(token).id,
        iat,
        jti: format!("{token}-{iat}"),
        operator: "uid 0".into(),
        reason: "drill".into(),
    };
    sign_revocation(&revocation, &key(52))
}

fn nodes() -> [Record; 2] {
    [record("nod_a", 51, None), record("nod_b", 52, None)]
}

fn numbers(listed: &[Numbered]) -> Vec<u64> {
    listed.iter().map(|revocation| revocation.number).collect()
}

#[test]
fn a_second_revocation_of_a_token_by_its_node_says_nothing_new() {
    let (directory, live) = (tempfile::tempdir().unwrap(), live(&nodes()));
    let revocations = open(directory.path(), &live);
    let take = |text: &str| revocations.receive([text], T0).unwrap();
    assert_eq!(take(&signed(0, T0)), ReceivedCounts { new: 1, known: 0, refused: 0 });
    assert_eq!(take(&signed(0, T0.plus(5))), ReceivedCounts { new: 0, known: 1, refused: 0 });
    let (held, new) = revocations.revoke(&order(1), T0).unwrap();
    let (again, second) = revocations.revoke(&order(1), T0.plus(9)).unwrap();
    assert_eq!((new, second, &held.id, held.revoked_at), (true, false, &again.id, again.revoked_at));
    let held = revocations.list().unwrap();
    assert_eq!(held.iter().map(|held| held.revoked_at).collect::<Vec<_>>(), [T0, T0]);
    assert_eq!(held.iter().map(|held| held.node_id.as_str()).collect::<Vec<_>>(), ["nod_b", "nod_a"]);
}

#[test]
fn of_two_nodes_that_revoked_a_token_the_earlier_one_says_when() {
    let (directory, live) = (tempfile::tempdir().unwrap(), live(&nodes()));
    let revocations = open(directory.path(), &live);
    let token = World::token_record(0).id;
    for (iat, earliest) in [(T0.plus(20), 20), (T0.plus(10), 10), (T0.plus(30), 10)] {
        if iat == T0.plus(10) {
            revocations.revoke(&order(0), iat).unwrap();
        } else {
            revocations.receive([signed(0, iat).as_str()], T0).unwrap();
        }
        assert_eq!(live.snapshot().ended(&token), Some(T0.plus(earliest)));
    }
    drop(revocations);
    let again = self::live(&nodes());
    open(directory.path(), &again);
    assert_eq!(again.snapshot().ended(&token), Some(T0.plus(10)), "and after another start");
}

#[test]
fn what_another_node_passes_on_is_counted_and_alarmed_once_a_call() {
    let (directory, live) = (tempfile::tempdir().unwrap(), live(&nodes()));
    let revocations = open(directory.path(), &live);
    let texts = [signed(0, T0), "x".into(), signed(1, T0), "y".into(), signed(0, T0), "z".into()];
    let taken = revocations.receive(texts.iter().map(String::as_str), T0).unwrap();
    assert_eq!(taken, ReceivedCounts { new: 2, known: 1, refused: 3 });
    assert_eq!(live.alarms.count(AlarmKind::Refused), 1);
}

#[test]
fn each_new_revocation_wakes_who_passes_it_on_and_a_known_one_does_not() {
    let (directory, live) = (tempfile::tempdir().unwrap(), live(&nodes()));
    let revocations = open(directory.path(), &live);
    let mut changes = revocations.changes();
    let mut woken = || {
        let woken = changes.has_changed().unwrap();
        changes.mark_unchanged();
        woken
    };
    assert!(!woken());
    revocations.revoke(&order(0), T0).unwrap();
    assert!(woken());
    revocations.receive([signed(1, T0).as_str()], T0).unwrap();
    assert!(woken());
    revocations.receive([signed(1, T0).as_str(), "x"], T0).unwrap();
    assert!(!woken(), "nothing new");
}

#[test]
fn a_node_vouches_for_what_no_node_of_the_replica_signed_if_it_is_named_itself() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), &live(&nodes())).receive([signed(1, T0).as_str()], T0).unwrap();
    let [own, other] = nodes();
    let rows = [(vec![own.clone(), other], false, 1), (vec![], false, 1), (vec![own], true, 2)];
    for (number, (named, woken, held)) in rows.into_iter().enumerate() {
        let live = live(&named);
        let revocations = open(directory.path(), &live);
        let changes = revocations.changes();
        for _ in 0..2 {
            revocations.vouch(T0).unwrap();
            assert_eq!(changes.has_changed().unwrap(), woken, "{number}");
            assert_eq!(revocations.after(0, 9).unwrap().len(), held, "{number}");
        }
    }
    let listed = open(directory.path(), &live(&[])).list().unwrap();
    assert_eq!(listed[1].operator, "uid 0, on node nod_b");
    assert_eq!((listed[1].reason.as_str(), &listed[1].token_id), ("drill", &World::token_record(1).id));
}

#[test]
fn a_list_begun_anew_has_another_identifier() {
    let (one, other, live) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), live(&nodes()));
    let id = |directory: &Path| open(directory, &live).id().to_owned();
    let first = id(one.path());
    assert!(first.len() > 16);
    assert_eq!(id(one.path()), first);
    assert_ne!(id(other.path()), first);
}

#[test]
fn what_the_control_plane_answered_is_not_sent_again_until_it_has_forgotten_it() {
    let (directory, live) = (tempfile::tempdir().unwrap(), live(&nodes()));
    let revocations = open(directory.path(), &live);
    for token in 0..3 {
        revocations.revoke(&order(token), T0).unwrap();
    }
    assert_eq!(numbers(&revocations.after(0, 2).unwrap()), [1, 2]);
    assert_eq!(numbers(&revocations.after(1, 9).unwrap()), [2, 3]);
    assert_eq!(numbers(&revocations.unanswered(0, 2).unwrap()), [1, 2]);
    let outcomes = [Outcome::Revoked, Outcome::Already, Outcome::Refused];
    let answers: Vec<_> = revocations.list().unwrap().into_iter().zip(outcomes).collect();
    let answers: Vec<_> = answers
        .into_iter()
        .map(|(held, outcome)| RevocationAnswer { node: held.node_id, token: held.token_id, outcome })
        .collect();
    revocations.answered(&answers[1..]).unwrap();
    assert_eq!(numbers(&revocations.unanswered(0, 9).unwrap()), [1]);
    revocations.answered(&answers).unwrap();
    assert!(revocations.unanswered(0, 9).unwrap().is_empty());
    let held: Vec<_> = revocations.list().unwrap().iter().map(|held| held.answer).collect();
    assert_eq!(held, outcomes.map(Some));
    // The replica calls all three alive. What was refused is not sent again: the control plane keeps it as evidence.
    let tokens: Vec<_> = answers.iter().map(|answer| answer.token.clone()).collect();
    assert_eq!(revocations.forget_answers(tokens.iter()).unwrap(), 2);
    assert_eq!(revocations.forget_answers(tokens.iter()).unwrap(), 0);
    assert_eq!(numbers(&revocations.unanswered(0, 9).unwrap()), [1, 2]);
    assert_eq!(numbers(&revocations.unanswered(1, 9).unwrap()), [2]);
}

/// The directory of a host whose node revoked token 0 and took the revocation of token 1, after `change`.
fn lost(change: impl FnOnce(&Path)) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let revocations = open(directory.path(), &live(&nodes()));
    revocations.revoke(&order(0), T0).unwrap();
    revocations.receive([signed(1, T0).as_str()], T0).unwrap();
    drop(revocations);
    let path = directory.path().join("revocations.db");
    change(&path);
    (directory, path)
}

fn sql(path: &Path, text: &str) {
    Connection::open(path).unwrap().execute_batch(text).unwrap();
}

#[test]
fn a_loss_stops_the_start_until_an_operator_accepts_it_and_the_rest_is_in_force() {
    type Change = fn(&Path);
    let rows: [(&str, Change, Reason); 5] = [
        ("is missing", |path| std::fs::remove_file(path).unwrap(), Reason::Ok),
        ("is empty", |path| std::fs::write(path, "").unwrap(), Reason::Ok),
        ("not a database", |path| std::fs::write(path, [7; 4096]).unwrap(), Reason::Ok),
        (
            "holds 1 revoked",
            |path| sql(path, "DELETE FROM revocation WHERE number = 2"),
            Reason::TokenRevoked,
        ),
        (
            "row 2 of",
            |path| sql(path, "UPDATE revocation SET token = '/', text = 'x' WHERE number = 2"),
            Reason::TokenRevoked,
        ),
    ];
    for (what, change, first) in rows {
        let (directory, path) = lost(change);
        let refused =
            Revocations::open(&path, live(&nodes()), prover("nod_a", 51)).err().unwrap().to_string();
        assert!(refused.contains(what), "{refused}");
        assert!(
            what == "not a database"
                || refused.contains("halligan accept-loss")
                || refused.contains("halligand accept-loss revocations.db"),
            "{refused}"
        );
        let live = live(&nodes());
        let prover = prover("nod_a", 51);
        drop(Revocations::open_after_loss(&path, &live, &prover, T0.plus(9)).unwrap());
        assert_eq!((reason(&live, 0), reason(&live, 1)), (first, Reason::Ok), "{what}");
        // The next start asks nothing more, and what could not be read is kept.
        drop(open(directory.path(), &self::live(&nodes())));
        let aside = path.with_extension(format!("db.damaged-{}", T0.plus(9).unix()));
        assert_eq!(aside.exists(), matches!(what, "is empty" | "not a database"), "{what}");
        let rows: u64 = Connection::open(&path)
            .unwrap()
            .query_row("SELECT count(*) FROM damaged", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, u64::from(what == "row 2 of"));
    }
}

#[test]
fn a_row_of_a_build_that_kept_no_key_is_in_force_and_is_damaged_only_if_it_contradicts_itself() {
    let [own, other] = nodes();
    let elsewhere = World::token_record(2).id;
    let moved = format!("UPDATE revocation SET key = NULL, token = '{elsewhere}' WHERE number = 2");
    let renamed = format!("UPDATE revocation SET token = '{elsewhere}' WHERE number = 2");
    let rows = [
        ("UPDATE revocation SET key = NULL", vec![own.clone(), other], 0),
        // The replica has lost the node since.
        ("UPDATE revocation SET key = NULL", vec![own.clone()], 0),
        // Its column names another token than its text.
        (&moved, vec![own.clone()], 1),
        // It has a key, and that one does not prove it.
        ("UPDATE revocation SET key = '{}' WHERE number = 2", vec![own.clone()], 1),
        // The node is known, and did not sign it.
        ("UPDATE revocation SET key = NULL", vec![own.clone(), record("nod_b", 53, None)], 1),
        // It is signed rightly, about another token than its column names.
        (&renamed, vec![own], 1),
    ];
    for (number, (text, named, damaged)) in rows.into_iter().enumerate() {
        let (directory, path) = lost(|path| sql(path, text));
        let live = live(&named);
        open(directory.path(), &live).alarm(T0);
        let also = if text.contains("token =") { Reason::TokenRevoked } else { Reason::Ok };
        assert_eq!(reason(&live, 2), also, "row {number}: what it says in any place is denied");
        assert_eq!(live.alarms.count(AlarmKind::Damaged), damaged, "row {number}");
        assert_eq!([0, 1].map(|token| reason(&live, token)), [Reason::TokenRevoked; 2], "row {number}");
        let unkeyed: u64 = Connection::open(&path)
            .unwrap()
            .query_row("SELECT count(*) FROM revocation WHERE key IS NULL", [], |row| row.get(0))
            .unwrap();
        assert_eq!(
            unkeyed,
            u64::from(matches!(number, 1 | 2 | 4)),
            "row {number}: the key that proved it is kept"
        );
    }
}

#[test]
fn in_the_place_of_a_damaged_row_each_token_that_it_denies_is_revoked_anew() {
    let elsewhere = World::token_record(2).id;
    let (directory, path) =
        lost(|path| sql(path, &format!("UPDATE revocation SET token = '{elsewhere}' WHERE number = 2")));
    let live = live(&nodes());
    let revocations = open(directory.path(), &live);
    let (held, new) = revocations.revoke(&order(2), T0.plus(5)).unwrap();
    assert_eq!((held.token_id, new), (elsewhere, true));
    revocations.alarm(T0);
    assert_eq!(live.alarms.count(AlarmKind::Damaged), 0, "it is mended");
    drop(revocations);
    let again = self::live(&nodes());
    let revocations = open(directory.path(), &again);
    let listed = revocations.list().unwrap();
    let mut own: Vec<_> = listed.iter().map(|held| (held.token_id.clone(), held.node_id.as_str())).collect();
    own.sort();
    assert_eq!(own, [0, 1, 2].map(|token| (World::token_record(token).id, "nod_a")));
    assert_eq!([0, 1, 2].map(|token| reason(&again, token)), [Reason::TokenRevoked; 3]);
    revocations.alarm(T0);
    assert_eq!(again.alarms.count(AlarmKind::Damaged), 0, "and after another start");
    let aside: u64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT number FROM damaged", [], |row| row.get(0))
        .unwrap();
    assert_eq!(aside, 2, "and kept");
}

#[test]
fn an_accepted_loss_opens_no_database_of_a_newer_build() {
    let (_directory, path) = lost(|path| sql(path, "PRAGMA user_version = 9"));
    let refused =
        Revocations::open_after_loss(&path, &live(&nodes()), &prover("nod_a", 51), T0).err().unwrap();
    assert!(matches!(refused, LedgerError::Unfit(Unfit::Newer(_))), "{refused}");
    assert!(!refused.to_string().contains("accept-loss"), "{refused}");
}

#[test]
fn a_revocation_that_the_audit_log_tells_of_and_nobody_holds_stops_the_start() {
    let (_directory, path) = lost(|_| ());
    let open =
        |told: &[TokenId]| Revocations::open_told(&path, live(&nodes()), prover("nod_a", 51), told).map(drop);
    let [held, taken, other] = [0, 1, 2].map(|token| World::token_record(token).id);
    open(&[held.clone(), taken]).unwrap();
    let refused = open(&[held, other.clone()]).unwrap_err();
    assert!(matches!(&refused, LedgerError::Untold(missing) if *missing == other), "{refused}");
}
