//! Unit tests of late uses and reports.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::protocol::reconciliation::OutageStatement;

fn at(seconds: i64) -> Time {
    Time::from_unix(1_800_000_000 + seconds)
}

fn used(token: &str, generation: u32, seconds: i64) -> Use {
    Use {
        time: at(seconds),
        event_id: format!("evt_{seconds}"),
        token_id: token.parse().unwrap(),
        generation,
        deployment_id: None,
        method: Some("GET".into()),
        path: Some("/api/v2/dags".into()),
        client: None,
    }
}

#[test]
fn a_report_counts_uses_and_tells_those_that_came_too_late() {
    let statement = OutageStatement {
        id: "out_a".into(),
        began_at: at(0),
        ended_at: at(100),
        last_contact_at: Some(at(-5)),
        cause: "connection refused".into(),
        first_sequence: 1,
        last_sequence: 9,
        alarms: vec![],
    };
    let opening = Opening {
        node_id: "nod_a",
        node_name: None,
        data_plane_id: "dpl_a",
        state: OutageState::Closed,
        statement: &statement,
        log_through: 9,
    };
    let mut report = Report::open(opening);
    let uses = [
        used("tok_a", 1, 10),
        used("tok_a", 1, 50),
        used("tok_a", 1, 51),
        used("tok_b", 1, 60),
        used("tok_b", 2, 61),
    ];
    let end = |token: &TokenId, generation: u32| match (token.as_str(), generation) {
        ("tok_a", _) => Some(End { at: at(50), how: Ended::Revoked }),
        ("tok_b", 1) => Some(End { at: at(20), how: Ended::Rotated }),
        _ => None,
    };
    report.add_uses(uses, |_| None, end);
    let report = report.finish();
    assert_eq!((report.uses, report.late_use_count), (5, 2));
    let late: Vec<_> = report.late_uses.iter().map(|late| (late.used.time, late.ended)).collect();
    assert_eq!(late, [(at(51), Ended::Revoked), (at(60), Ended::Rotated)]);
    assert_eq!(report.tokens.iter().map(|token| token.count).collect::<Vec<_>>(), [3, 2]);
    assert!(report.timeline.is_sorted_by_key(|moment| moment.time));
    let kinds: Vec<_> = report.timeline.iter().map(|moment| moment.kind.as_str()).collect();
    assert_eq!(kinds, ["outage", "outage", "use", "late-use", "use", "late-use", "outage"]);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}
