//! Report of an outage, and how it is built from uses, revocations, deploys and faults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    End, Ended, LateUse, LogFault, MAX_NAMED, MergedRevocation, Moment, OutageState, TokenUses, Use,
};
use crate::protocol::deploy::exchange::OutageDeploy;
use crate::protocol::id::TokenId;
use crate::protocol::reconciliation::{AlarmNote, OutageStatement};
use crate::protocol::time::Time;

/// Report of one outage of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Identifier of the outage (`out_…`).
    pub id: String,
    /// Node whose outage it is.
    pub node_id: String,
    /// Name of the node, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Data plane of the node.
    pub data_plane_id: String,
    /// Progress of the outage.
    pub state: OutageState,
    /// Time at which the node first found the control plane unreachable.
    pub began_at: Time,
    /// Time at which the control plane answered again. No value while the outage is open.
    pub ended_at: Option<Time>,
    /// Time of the last answer before the outage.
    pub last_contact_at: Option<Time>,
    /// First error, in one sentence.
    pub cause: String,
    /// Number of allowed requests.
    pub uses: u64,
    /// Summary of the uses of each token.
    pub tokens: Vec<TokenUses>,
    /// Number of uses of tokens that the control plane had revoked, deleted or rotated before.
    pub late_use_count: u64,
    /// The first [`MAX_NAMED`] of these late uses.
    pub late_uses: Vec<LateUse>,
    /// Revocations that operators made on hosts during the outage, at most [`MAX_NAMED`].
    pub revocations: Vec<MergedRevocation>,
    /// Deploys that the host took during the outage, as far as they were reported, at most [`MAX_NAMED`].
    #[serde(default)]
    pub deploys: Vec<OutageDeploy>,
    /// Alarms of the node during the outage.
    pub alarms: Vec<AlarmNote>,
    /// Faults of the node's log. If there are none, the control plane has received every recorded event up to
    /// `log_through`.
    pub log_faults: Vec<LogFault>,
    /// Number of the node's last event that has been received.
    pub log_through: u64,
    /// Entries of all kinds, in order of time.
    pub timeline: Vec<Moment>,
}

/// Facts with which a report begins.
#[derive(Clone, Debug)]
pub struct Opening<'a> {
    /// Node whose outage it is.
    pub node_id: &'a str,
    /// Name of the node, if known.
    pub node_name: Option<String>,
    /// Data plane of the node.
    pub data_plane_id: &'a str,
    /// Progress of the outage.
    pub state: OutageState,
    /// The node's statement, or the statement it would make now.
    pub statement: &'a OutageStatement,
    /// Number of the node's last event that has been received.
    pub log_through: u64,
}

impl Report {
    /// Returns a report without uses, revocations and faults.
    ///
    /// ```
    /// use halligan::protocol::outage::{Opening, OutageState, Report};
    /// # use halligan::protocol::reconciliation::OutageStatement;
    /// # use halligan::protocol::time::Time;
    ///
    /// # let began_at = Time::from_unix(1_800_000_000);
    /// # let statement = OutageStatement {
    /// #     id: "out_7".into(),
    /// #     began_at,
    /// #     ended_at: began_at.plus(3600),
    /// #     last_contact_at: None,
    /// #     cause: "connection refused".into(),
    /// #     first_sequence: 101,
    /// #     last_sequence: 180,
    /// #     alarms: Vec::new(),
    /// # };
    /// let opening = Opening {
    ///     node_id: "nod_eu1",
    ///     node_name: Some("eu-1".into()),
    ///     data_plane_id: "dpl_eu",
    ///     state: OutageState::Closed,
    ///     statement: &statement,
    ///     log_through: 180,
    /// };
    /// let report = Report::open(opening).finish();
    /// assert_eq!((report.state, report.ended_at), (OutageState::Closed, Some(began_at.plus(3600))));
    /// let entries: Vec<_> = report.timeline.iter().map(|moment| moment.what.as_str()).collect();
    /// assert_eq!(
    ///     entries,
    ///     ["the control plane could not be reached: connection refused", "the control plane answered again"]
    /// );
    /// ```
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
            deploys: Vec::new(),
            alarms: statement.alarms.clone(),
            log_faults: Vec::new(),
            log_through: opening.log_through,
            timeline,
        }
    }

    /// Adds allowed requests. `end` returns the end of a generation of a token, as far as the caller knows one.
    ///
    /// ```
    /// use halligan::protocol::outage::{End, Ended, Opening, OutageState, Report, Use};
    /// # use halligan::protocol::reconciliation::OutageStatement;
    /// # use halligan::protocol::time::Time;
    ///
    /// # let began_at = Time::from_unix(1_800_000_000);
    /// # let statement = OutageStatement {
    /// #     id: "out_7".into(),
    /// #     began_at,
    /// #     ended_at: began_at.plus(3600),
    /// #     last_contact_at: None,
    /// #     cause: "connection refused".into(),
    /// #     first_sequence: 101,
    /// #     last_sequence: 180,
    /// #     alarms: Vec::new(),
    /// # };
    /// let opening = Opening {
    ///     node_id: "nod_eu1",
    ///     node_name: Some("eu-1".into()),
    ///     data_plane_id: "dpl_eu",
    ///     state: OutageState::Closed,
    ///     statement: &statement,
    ///     log_through: 180,
    /// };
    /// let use_at = |seconds| Use {
    ///     time: began_at.plus(seconds),
    ///     event_id: "evt_1-1".into(),
    ///     token_id: "tok_etl".parse().unwrap(),
    ///     generation: 1,
    ///     deployment_id: None,
    ///     method: Some("GET".into()),
    ///     path: Some("/api/v2/dags".into()),
    ///     client: None,
    /// };
    /// // The control plane revoked the token in the outage, and the node did not know it.
    /// let end = |_: &_, _| Some(End { at: began_at.plus(60), how: Ended::Revoked });
    /// let mut report = Report::open(opening);
    /// report.add_uses([use_at(30), use_at(90)], |_| Some("etl".into()), end);
    /// assert_eq!((report.uses, report.late_use_count), (2, 1));
    /// assert_eq!(report.late_uses[0].used, use_at(90));
    /// ```
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

    /// Adds only the late uses among `uses`.
    pub fn add_late_uses(
        &mut self,
        uses: impl IntoIterator<Item = Use>,
        end: impl Fn(&TokenId, u32) -> Option<End>,
    ) {
        for used in uses {
            let ended = end(&used.token_id, used.generation);
            let Some(late) = LateUse::detect(used, ended) else { continue };
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

    /// Adds a deploy.
    pub fn add_deploy(&mut self, deploy: OutageDeploy) {
        let what = deploy.sentence();
        self.timeline.push(Moment { time: deploy.time, kind: "deploy".into(), what });
        self.deploys.push(deploy);
    }

    /// Adds a revocation, unless the report lists [`MAX_NAMED`] already.
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

    /// Sorts the timeline and returns the finished report.
    ///
    /// ```
    /// use halligan::protocol::outage::{LogFault, MergedRevocation, Opening, OutageState, Report};
    /// # use halligan::protocol::reconciliation::OutageStatement;
    /// # use halligan::protocol::time::Time;
    ///
    /// # let began_at = Time::from_unix(1_800_000_000);
    /// # let statement = OutageStatement {
    /// #     id: "out_7".into(),
    /// #     began_at,
    /// #     ended_at: began_at.plus(3600),
    /// #     last_contact_at: None,
    /// #     cause: "connection refused".into(),
    /// #     first_sequence: 101,
    /// #     last_sequence: 180,
    /// #     alarms: Vec::new(),
    /// # };
    /// # let mut report = Report::open(Opening {
    /// #     node_id: "nod_eu1",
    /// #     node_name: None,
    /// #     data_plane_id: "dpl_eu",
    /// #     state: OutageState::Closed,
    /// #     statement: &statement,
    /// #     log_through: 180,
    /// # });
    /// report.add_fault(LogFault {
    ///     sequence: 150,
    ///     kind: "gap".into(),
    ///     what: "events 141 to 149 are missing".into(),
    ///     noted_at: began_at.plus(4000),
    /// });
    /// report.add_revocation(MergedRevocation {
    ///     token_id: "tok_etl".parse()?,
    ///     node_id: "nod_eu1".into(),
    ///     revoked_at: began_at.plus(600),
    ///     operator: "uid 0".into(),
    ///     reason: "laptop stolen".into(),
    ///     outcome: None,
    /// });
    /// let report = report.finish();
    /// let kinds: Vec<_> = report.timeline.iter().map(|moment| moment.kind.as_str()).collect();
    /// assert_eq!(kinds, ["outage", "revocation", "outage", "log"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn finish(mut self) -> Self {
        // In one second, the first use of a token precedes the entry that it was late.
        self.timeline.sort_by_key(|moment| (moment.time, moment.kind == "late-use"));
        self
    }
}
