//! Chooses the calls of a round, and processes their answers. It needs no network.

use super::{ReconcileError, Reconciler};
use crate::dataplane::audit::{extent, hash_at, readable, set_uploaded};
use crate::dataplane::node::alarm::AlarmKind;
use crate::protocol::event::line_hash;
use crate::protocol::json::object;
use crate::protocol::reconciliation::{MAX_BYTES, MAX_LINES, OutageStatement, Position, RevocationAnswer};
use crate::protocol::time::Time;

/// Maximum number of times in a round that the control plane may send the node back to an earlier event.
const MAX_REWINDS: usize = 3;

/// Content of a call.
#[derive(Clone, Debug)]
enum Sent {
    /// Revocations up to this number.
    Revocations(u64),
    /// Statement of an outage.
    Outage(OutageStatement),
    /// Events of the audit log.
    Events {
        /// Sequence number of the event before the first one that was sent.
        from: u64,
        /// Position of the last one.
        last: Position,
        /// Sequence numbers of the first and the last event before them that can't be read, if there are such events.
        missing: Option<(u64, u64)>,
    },
}

/// Call to the control plane.
#[derive(Clone, Debug)]
pub struct Call {
    /// Path, from `/v1` on.
    pub path: String,
    /// Body of the POST request.
    pub body: Vec<u8>,
    sent: Sent,
}

/// Round: sends everything that waits, once.
#[derive(Debug, Default)]
pub struct Round {
    revocations_after: u64,
    rewinds: usize,
}

impl Round {
    /// Returns the next call, or `None` if nothing is left to send.
    pub fn next(&self, reconciler: &Reconciler, now: Time) -> Result<Option<Call>, ReconcileError> {
        let path =
            |what: &str| format!("/v1/data-planes/{}/{what}", reconciler.prover.identity.data_plane_id);
        if self.revocations_after == 0 {
            reconciler.doubt_answers()?;
        }
        reconciler.revocations.vouch(now)?;
        let revocations = reconciler.revocations.unanswered(self.revocations_after, MAX_LINES / 4)?;
        if let Some(last) = revocations.last() {
            let lines = revocations.iter().flat_map(|held| [held.text.as_str(), "\n"]);
            let body = lines.collect::<String>().into_bytes();
            return Ok(Some(Call { path: path("revocations"), body, sent: Sent::Revocations(last.number) }));
        }
        if let Some(statement) = reconciler.outages.to_report(now)? {
            let body = serde_json::to_vec(&statement)?;
            return Ok(Some(Call { path: path("outages"), body, sent: Sent::Outage(statement) }));
        }
        let log = extent(&reconciler.audit_path)?;
        if log.uploaded >= log.last {
            return Ok(None);
        }
        let mut body = String::new();
        let mut last = None;
        let expected = log.uploaded.max(log.oldest.saturating_sub(1));
        let stretch = readable(&reconciler.audit_path, expected, MAX_LINES);
        let nothing_left = match &stretch {
            Ok(stretch) => stretch.lines.is_empty(),
            Err(error) => error.is_damage(),
        };
        if nothing_left {
            let what = format!(
                "no event of the audit log from {} on can be read, and none is sent to the control plane; run halligan audit verify, \
                 and keep a copy of audit.db",
                expected + 1
            );
            reconciler.alarm_unreadable(&what, now);
        }
        let stretch = stretch?;
        let from = stretch.after;
        // One unreadable block must not prevent that later events are sent. The control plane records the gap, and does not ask for
        // events before `oldest`.
        let missing = (from > expected).then_some((expected + 1, from));
        let oldest = if missing.is_some() { from + 1 } else { log.oldest };
        for (sequence, line) in (from + 1..).zip(stretch.lines) {
            if last.is_some() && body.len() + line.len() >= MAX_BYTES {
                break;
            }
            last = Some(Position { sequence, hash: line_hash(&line) });
            body.push_str(&line);
            body.push('\n');
        }
        let path = path(&format!("events?oldest={oldest}"));
        Ok(last.map(|last| Call {
            path,
            body: body.into_bytes(),
            sent: Sent::Events { from, last, missing },
        }))
    }

    /// Returns true if the control plane asked for earlier events in this round.
    pub(super) fn was_sent_back(&self) -> bool {
        self.rewinds > 0
    }

    /// Processes the answer to a call.
    pub fn answered(
        &mut self,
        reconciler: &Reconciler,
        call: &Call,
        answer: &[u8],
        now: Time,
    ) -> Result<(), ReconcileError> {
        match &call.sent {
            Sent::Revocations(last) => {
                let answers: Vec<RevocationAnswer> = serde_json::from_slice(answer)?;
                reconciler.revocations.answered(&answers)?;
                self.revocations_after = *last;
            }
            Sent::Outage(statement) => reconciler.outages.reported(statement, now)?,
            Sent::Events { from, last, missing } => {
                let above: Position = object(answer)?;
                // The usual answer names the last event of this call, whose hash is known.
                let own = if above.sequence == last.sequence {
                    Some(last.hash.clone())
                } else {
                    match hash_at(&reconciler.audit_path, above.sequence) {
                        Err(error) if error.is_damage() => None,
                        found => found?,
                    }
                };
                if let Some((first, through)) = missing {
                    let what = format!(
                        "events {first} to {through} of the audit log can't be read, and were not sent to the control plane; run \
                         halligan audit verify, and keep a copy of audit.db"
                    );
                    reconciler.live.alarms.raise(AlarmKind::Damaged, &what, now);
                }
                if let Some(own) = own.as_ref().filter(|own| **own != above.hash) {
                    let what = format!(
                        "the control plane holds another event {} of this host's log than this host: {} there, {own} here; one of \
                         the two logs was rewritten, two hosts share this identity, or this log began anew before the control \
                         plane was restored from an older backup",
                        above.sequence, above.hash
                    );
                    reconciler.live.alarms.raise(AlarmKind::Damaged, &what, now);
                }
                // A later position is not one of this log, so only the events of this call are known to have arrived.
                let reached = if above.sequence >= last.sequence {
                    last.clone()
                } else {
                    Position { hash: own.unwrap_or(above.hash), ..above }
                };
                if reached.sequence <= *from {
                    self.rewinds += 1;
                    if self.rewinds > MAX_REWINDS {
                        return Err(ReconcileError::Rewinds);
                    }
                    // Logged once, because two hosts with one identity are asked for earlier events in turn, without end.
                    if reconciler.resending.begin() {
                        tracing::warn!(
                            from,
                            to = reached.sequence,
                            "the control plane lacks events; they are sent again"
                        );
                    }
                }
                set_uploaded(&reconciler.audit_path, &reached)?;
            }
        }
        Ok(())
    }
}
