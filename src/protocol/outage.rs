//! The report of an outage: what happened on a node while it could not reach its control plane. Both planes tell it in the
//! same form: the node from what it knows itself, the control plane from what arrived, and what it knew meanwhile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::id::TokenId;
use super::reconciliation::{AlarmNote, OutageStatement, Outcome};
use super::time::Time;

/// How many late uses and revocations a report names; the rest is counted.
pub const MAX_NAMED: usize = 1000;

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OutageState {
    /// The control plane can't be reached.
    Open,
    /// It can; not all events have arrived there yet.
    Reconciling,
    /// All that happened is known above.
    Closed,
}

/// A use of a token: a request that was allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Use {
    /// When.
    pub time: Time,
    /// The id of its event.
    pub event_id: String,
    /// The token.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub token_id: TokenId,
    /// Its generation.
    pub generation: u32,
    /// The deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// The request's method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// Why a use came too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// The token had been revoked or deleted.
    Revoked,
    /// The token had been rotated.
    Rotated,
}

/// What ended a token, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Time,
    /// How.
    pub how: Ended,
}

/// A use of a token after it had been ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LateUse {
    /// The use.
    #[serde(flatten)]
    pub used: Use,
    /// When the token had been ended.
    pub ended_at: Time,
    /// How.
    pub ended: Ended,
}

impl LateUse {
    /// Whether a use came too late. Times are whole seconds: one in the same second as the end is not called late, since
    /// nobody can tell.
    #[must_use]
    pub fn of(used: Use, end: Option<End>) -> Option<Self> {
        let end = end.filter(|end| used.time > end.at)?;
        Some(Self { used, ended_at: end.at, ended: end.how })
    }
}

/// How a token was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TokenUses {
    /// The token.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub token_id: TokenId,
    /// Its name, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Requests that were allowed.
    pub count: u64,
    /// The first.
    pub first_at: Time,
    /// The last.
    pub last_at: Time,
}

/// A local revocation that was made meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct MergedRevocation {
    /// The token.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub token_id: TokenId,
    /// The node it was made on.
    pub node_id: String,
    /// When.
    pub revoked_at: Time,
    /// By whom.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// What became of it above; none while the control plane has not been told.
    pub outcome: Option<Outcome>,
}

/// Something wrong with the log a node sent: a gap, a fork, a beginning anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LogFault {
    /// The place in the log where it shows.
    pub sequence: u64,
    /// What kind of fault.
    pub kind: String,
    /// In a sentence.
    pub what: String,
    /// When it was noticed.
    pub noted_at: Time,
}

/// A line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// When.
    pub time: Time,
    /// What kind of thing: `outage`, `use`, `late-use`, `revocation`, `alarm`, `log`.
    pub kind: String,
    /// What, in a sentence.
    pub what: String,
}

/// The report of an outage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its id.
    pub id: String,
    /// The node.
    pub node_id: String,
    /// The node's name, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The data plane.
    pub data_plane_id: String,
    /// How far it has come.
    pub state: OutageState,
    /// When the control plane was first found not to answer.
    pub began_at: Time,
    /// When it answered again.
    pub ended_at: Option<Time>,
    /// When it had last answered before.
    pub last_contact_at: Option<Time>,
    /// What went wrong first, in a sentence.
    pub cause: String,
    /// Requests that were allowed.
    pub uses: u64,
    /// The same by token.
    pub tokens: Vec<TokenUses>,
    /// Uses of tokens after they had been revoked or rotated above.
    pub late_use_count: u64,
    /// The first of them.
    pub late_uses: Vec<LateUse>,
    /// Tokens that were revoked on hosts meanwhile.
    pub revocations: Vec<MergedRevocation>,
    /// Alarms of the node.
    pub alarms: Vec<AlarmNote>,
    /// Faults of the node's log. None: what the node recorded has arrived whole, as far as `log_through`.
    pub log_faults: Vec<LogFault>,
    /// The node's last event that has arrived.
    pub log_through: u64,
    /// All of it in the order of time.
    pub timeline: Vec<Moment>,
}

/// What a report begins with.
#[derive(Clone, Debug)]
pub struct Opening<'a> {
    /// The node.
    pub node_id: &'a str,
    /// Its name.
    pub node_name: Option<String>,
    /// The data plane.
    pub data_plane_id: &'a str,
    /// How far it has come.
    pub state: OutageState,
    /// What the node stated, or would state now.
    pub statement: &'a OutageStatement,
    /// How far the node's log has arrived.
    pub log_through: u64,
}

impl Report {
    /// A report in which nothing has happened yet.
    #[must_use]
    pub fn open(opening: Opening<'_>) -> Self {
        let statement = opening.statement;
        let ended_at = (opening.state != OutageState::Open).then_some(statement.ended_at);
        let mut timeline = Vec::new();
        let mut outage = |time, what: String| timeline.push(Moment { time, kind: "outage".into(), what });
        if let Some(time) = statement.last_contact_at {
            outage(time, "the control plane answered for the last time".into());
        }
        outage(statement.began_at, format!("the control plane could not be reached: {}", statement.cause));
        if let Some(time) = ended_at {
            outage(time, "the control plane answered again".into());
        }
        timeline.extend(statement.alarms.iter().map(|alarm| Moment {
            time: alarm.time,
            kind: "alarm".into(),
            what: format!("{}: {}", alarm.kind, alarm.what),
        }));
        Self {
            id: statement.id.clone(),
            node_id: opening.node_id.to_owned(),
            node_name: opening.node_name,
            data_plane_id: opening.data_plane_id.to_owned(),
            state: opening.state,
            began_at: statement.began_at,
            ended_at,
            last_contact_at: statement.last_contact_at,
            cause: statement.cause.clone(),
            uses: 0,
            tokens: Vec::new(),
            late_use_count: 0,
            late_uses: Vec::new(),
            revocations: Vec::new(),
            alarms: statement.alarms.clone(),
            log_faults: Vec::new(),
            log_through: opening.log_through,
            timeline,
        }
    }

    /// Adds what was allowed; `end` tells what ended a generation of a token, as far as it is known where this is told.
    pub fn add_uses(
        &mut self,
        uses: impl IntoIterator<Item = Use>,
        name: impl Fn(&TokenId) -> Option<String>,
        end: impl Fn(&TokenId, u32) -> Option<End>,
    ) {
        let mut tokens: BTreeMap<TokenId, TokenUses> = BTreeMap::new();
        for used in uses {
            self.uses += 1;
            let token = tokens.entry(used.token_id.clone()).or_insert_with(|| TokenUses {
                token_id: used.token_id.clone(),
                name: name(&used.token_id),
                count: 0,
                first_at: used.time,
                last_at: used.time,
            });
            token.count += 1;
            token.first_at = token.first_at.min(used.time);
            token.last_at = token.last_at.max(used.time);
            self.add_late_uses([used], &end);
        }
        for token in tokens.values() {
            let called = token.name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
            let what = format!("first use of {}{called}, of {} in all", token.token_id, token.count);
            self.timeline.push(Moment { time: token.first_at, kind: "use".into(), what });
        }
        self.tokens = tokens.into_values().collect();
    }

    /// Adds, of what was allowed, only what came too late.
    pub fn add_late_uses(
        &mut self,
        uses: impl IntoIterator<Item = Use>,
        end: impl Fn(&TokenId, u32) -> Option<End>,
    ) {
        for used in uses {
            let ended = end(&used.token_id, used.generation);
            let Some(late) = LateUse::of(used, ended) else { continue };
            self.late_use_count += 1;
            if self.late_uses.len() >= MAX_NAMED {
                continue;
            }
            let how = match late.ended {
                Ended::Revoked => "revoked",
                Ended::Rotated => "rotated",
            };
            let request = [&late.used.method, &late.used.path].map(|part| part.as_deref().unwrap_or("-"));
            let what = format!(
                "{} was used after it had been {how} at {}: {}",
                late.used.token_id,
                late.ended_at,
                request.join(" ")
            );
            self.timeline.push(Moment { time: late.used.time, kind: "late-use".into(), what });
            self.late_uses.push(late);
        }
    }

    /// Adds a revocation that was made meanwhile.
    pub fn add_revocation(&mut self, revocation: MergedRevocation) {
        if self.revocations.len() >= MAX_NAMED {
            return;
        }
        let MergedRevocation { token_id, node_id, operator, reason, .. } = &revocation;
        let what = format!("{operator} revoked {token_id} on {node_id}: {reason}");
        self.timeline.push(Moment { time: revocation.revoked_at, kind: "revocation".into(), what });
        self.revocations.push(revocation);
    }

    /// Adds a fault of the log.
    pub fn add_fault(&mut self, fault: LogFault) {
        self.timeline.push(Moment {
            time: fault.noted_at,
            kind: "log".into(),
            what: format!("the log at event {}: {}", fault.sequence, fault.what),
        });
        self.log_faults.push(fault);
    }

    /// Puts the timeline in order.
    #[must_use]
    pub fn finish(mut self) -> Self {
        // Of one moment, that a token was first used is told before that it should not have been.
        self.timeline.sort_by_key(|moment| (moment.time, moment.kind == "late-use"));
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
}
