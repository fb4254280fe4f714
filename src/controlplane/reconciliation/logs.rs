//! Logs of deployments: the decisions in the hosts' audit logs, in the format in which the platform's clients read a log.

use base64::Engine as _;
use rusqlite::params;

use super::recorded::Line;
use crate::api::logs::{LogEntry, LogFilter, LogPage, LogSource};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::accounts::stored_deployments;
use crate::controlplane::error::Error;
use crate::protocol::json::object;
use crate::protocol::jws::BASE64URL;

/// Maximum number of entries of a page, and of all pages.
const MAX_PAGE: u64 = 5000;
const MAX_RESULTS: u64 = 100_000;
/// Default and maximum age of the entries of a log, in seconds.
const DAY: i64 = 86_400;
const MAX_RANGE: i64 = 400 * DAY;
/// Maximum length of a text to search for, in characters.
const MAX_SEARCH: usize = 500;

/// Times of a search: it finds entries dated from `from` until `until` that had arrived before `arrived_before`, so that all
/// pages of a search show the same entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    from: i64,
    until: i64,
    arrived_before: i64,
}

impl Window {
    fn from_filter(filter: &LogFilter, deployment: &str, now: i64) -> Result<Self, Error> {
        if let Some(id) = &filter.search_id {
            return Self::read(id, deployment).ok_or_else(|| {
                Error::invalid(
                    "searchId",
                    "is not an identifier of this deployment's searches; use the one from the previous page",
                )
            });
        }
        let (from, until) = match (filter.start_date, filter.end_date, filter.range) {
            (Some(start), Some(end), None) if start <= end => (start.time().unix(), end.time().unix()),
            (Some(_), Some(_), None) => return Err(Error::invalid("endDate", "is before startDate")),
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                return Err(Error::invalid("range", "use either range, or startDate and endDate"));
            }
            (Some(_), None, None) => return Err(Error::invalid("endDate", "use it together with startDate")),
            (None, Some(_), None) => return Err(Error::invalid("startDate", "use it together with endDate")),
            (None, None, range) => {
                let range = range.unwrap_or(DAY);
                if !(1..=MAX_RANGE).contains(&range) {
                    return Err(Error::invalid("range", format!("use 1 to {MAX_RANGE} seconds")));
                }
                (now - range, now)
            }
        };
        Ok(Self { from, until, arrived_before: now })
    }

    fn read(id: &str, deployment: &str) -> Option<Self> {
        let bytes = BASE64URL.decode(Some(id).filter(|id| id.len() <= MAX_SEARCH)?).ok()?;
        let (of, from, until, arrived_before): (String, i64, i64, i64) =
            serde_json::from_slice(&bytes).ok()?;
        (of == deployment).then_some(Self { from, until, arrived_before })
    }

    fn id(self, deployment: &str) -> String {
        let Self { from, until, arrived_before } = self;
        BASE64URL.encode(serde_json::json!([deployment, from, until, arrived_before]).to_string())
    }
}

fn check(filter: &LogFilter) -> Result<(), Error> {
    let bounds = [("limit", filter.limit, MAX_PAGE), ("maxNumResults", filter.max_num_results, MAX_RESULTS)];
    for (field, value, most) in bounds {
        if !(1..=most).contains(&value) {
            return Err(Error::invalid(field, format!("use 1 to {most}")));
        }
    }
    if filter.offset > MAX_RESULTS {
        return Err(Error::invalid("offset", format!("use at most {MAX_RESULTS}")));
    }
    if filter.search_text.as_ref().is_some_and(|text| text.chars().count() > MAX_SEARCH) {
        return Err(Error::invalid("searchText", format!("use at most {MAX_SEARCH} characters")));
    }
    Ok(())
}

/// Returns the component under which entries are shown, or `None` if no component of web requests was requested.
fn source(sources: &[LogSource]) -> Option<LogSource> {
    let asked = |source| sources.is_empty() || sources.contains(&source);
    [LogSource::Apiserver, LogSource::Webserver].into_iter().find(|source| asked(*source))
}

/// Returns the text of an entry, or `None` for a line that does not record a decision.
fn text(line: &str) -> Option<String> {
    let line: Line = object(line.as_bytes()).ok()?;
    let decision = line.decision?;
    let level = if decision == "allow" { "INFO" } else { "WARN" };
    let known = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let token = known(line.token.map(|token| token.to_string()));
    Some(format!(
        "{level} {decision} {} {} {} token={token} client={} node={} event={}",
        known(line.reason),
        known(line.method),
        known(line.path),
        known(line.client),
        line.node,
        line.id
    ))
}

impl ControlPlane {
    /// Returns a page of the log of a deployment, the newest entry first. The log contains only events that hosts have sent so far.
    pub fn deployment_logs(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        filter: &LogFilter,
    ) -> Result<LogPage, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        self.store.read(|connection| {
            let found = stored_deployments::find(connection, organization, deployment)?;
            actor.may(Operation::ReadLogs, found.scope(organization))?;
            check(filter)?;
            let window = Window::from_filter(filter, deployment, self.now().unix())?;
            let mut results = Vec::new();
            if let Some(source) = source(&filter.sources) {
                let wanted = filter.search_text.as_ref().map(|text| text.to_lowercase());
                let mut rows = connection.prepare_cached(
                    "SELECT time, line FROM event
                     WHERE deployment = ?1 AND time BETWEEN ?2 AND ?3 AND received_at < ?4
                         AND node IN (SELECT id FROM node WHERE data_plane = ?6)
                     ORDER BY time DESC, node, branch, sequence DESC LIMIT ?5",
                )?;
                let Window { from, until, arrived_before } = window;
                let row = params![deployment, from, until, arrived_before, MAX_RESULTS, found.data_plane_id];
                let lines =
                    rows.query_map(row, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
                let last = filter.offset.saturating_add(filter.limit).min(filter.max_num_results);
                let mut passed = 0;
                for line in lines {
                    let (time, line) = line?;
                    let Some(raw) = text(&line) else { continue };
                    if wanted.as_ref().is_some_and(|wanted| !raw.to_lowercase().contains(wanted)) {
                        continue;
                    }
                    if passed >= last {
                        break;
                    }
                    passed += 1;
                    if passed > filter.offset {
                        #[expect(
                            clippy::cast_precision_loss,
                            reason = "seconds of the next centuries are exact"
                        )]
                        results.push(LogEntry { raw, timestamp: time as f64, source });
                    }
                }
            }
            Ok(LogPage {
                limit: filter.limit,
                max_num_results: filter.max_num_results,
                offset: filter.offset,
                result_count: results.len() as u64,
                results,
                search_id: window.id(deployment),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::controlplane::test_world::World;

    impl World {
        /// Stores a decision that a node told, `age` seconds ago.
        fn tell(&self, node: &str, sequence: u64, age: i64, (deployment, decision): (&str, &str)) {
            let time = self.control.now().plus(-age).unix();
            let line = json!({
                "sequence": sequence, "prev": crate::protocol::event::GENESIS, "id": format!("evt_1-{sequence}"), "time": time,
                "node": node, "kind": "decision", "decision": decision, "reason": "ok", "token": "tok_a",
                "deployment": deployment, "method": "GET", "path": format!("/api/v2/dags/{sequence}"), "client": "192.0.2.7",
                "connectivity": "online",
            });
            self.control
                .store
                .write(|transaction| {
                    let insert = "INSERT INTO event
                         (node, branch, sequence, hash, time, kind, decision, token, line, received_at, deployment)
                         VALUES (?1, 0, ?2, ?3, ?4, 'decision', ?5, 'tok_a', ?6, ?4, ?7)";
                    let hash = format!("{node} {sequence}");
                    let row = params![node, sequence, hash, time, decision, line.to_string(), deployment];
                    Ok(transaction.execute(insert, row)?)
                })
                .unwrap();
        }

        fn log_of(&self, deployment: &str, query: serde_json::Value) -> LogPage {
            let filter = serde_json::from_value(query).unwrap();
            let (owner, organization) = (&self.owner, &self.owner.organization);
            self.control.deployment_logs(owner, organization, deployment, &filter).unwrap()
        }
    }

    fn paths(page: &LogPage) -> Vec<&str> {
        page.results
            .iter()
            .map(|entry| entry.raw.split_once("/dags/").unwrap().1.split(' ').next().unwrap())
            .collect()
    }

    #[test]
    fn a_log_has_the_decisions_of_its_deployment_the_newest_first() {
        let world = World::new();
        let deployment = world.with_deployment();
        let id = deployment.as_str();
        for (sequence, age, decision) in
            [(1, 100_000, "allow"), (2, 300, "allow"), (3, 200, "deny"), (4, 100, "allow")]
        {
            world.tell("nod_a", sequence, age, (id, decision));
        }
        world.tell("nod_a", 5, 50, ("dep_other", "allow"));
        // A node of another data plane has nothing to say here.
        world.write(
            "INSERT INTO data_plane (id, organization, name, created_at, version, count, digest)
                 SELECT 'dpl_b', organization, 'b', 0, 0, 0, digest FROM data_plane WHERE id = 'dpl_a';
             INSERT INTO node (id, data_plane, name, key, created_at, kid) VALUES ('nod_b', 'dpl_b', 'b', '{}', 0, 'b');",
        );
        world.tell("nod_b", 6, 40, (id, "allow"));
        let page = world.log_of(id, json!({}));
        assert_eq!((paths(&page), page.result_count), (vec!["4", "3", "2"], 3), "of the last day");
        assert_eq!(
            page.results[1].raw,
            "WARN deny ok GET /api/v2/dags/3 token=tok_a client=192.0.2.7 node=nod_a event=evt_1-3"
        );
        assert!((page.results[0].timestamp - 1_799_999_900.0).abs() < 0.5);
        assert_eq!(page.results[0].source, LogSource::Apiserver);
        assert_eq!(
            world.log_of(id, json!({ "sources": ["webserver"] })).results[0].source,
            LogSource::Webserver
        );
        assert_eq!(world.log_of(id, json!({ "sources": ["scheduler", "worker"] })).result_count, 0);
        assert_eq!(paths(&world.log_of(id, json!({ "range": 100_000 }))), ["4", "3", "2", "1"]);
        assert_eq!(paths(&world.log_of(id, json!({ "searchText": "warn DENY" }))), ["3"]);
        let time = |age: i64| world.control.now().plus(-age).rfc3339();
        let between = json!({ "startDate": time(300), "endDate": time(200) });
        assert_eq!(paths(&world.log_of(id, between)), ["3", "2"]);
        assert_eq!(paths(&world.log_of(id, json!({ "maxNumResults": 2 }))), ["4", "3"]);
        // Events that arrive between two pages move none of them.
        let first = world.log_of(id, json!({ "limit": 2 }));
        world.tell("nod_a", 7, 0, (id, "allow"));
        world.later(10);
        let second = world.log_of(id, json!({ "limit": 2, "offset": 2, "searchId": first.search_id }));
        assert_eq!((paths(&first), paths(&second)), (vec!["4", "3"], vec!["2"]));
        assert_eq!(paths(&world.log_of(id, json!({ "limit": 1 }))), ["7"]);
    }
}
