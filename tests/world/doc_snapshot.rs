// Snapshot, request and session for the examples in the doc comments of `src/dataplane/decide`. They include this file behind
// `doc_examples.rs`, in the same module.

use halligan::dataplane::decide::session::{Durations, Session};
use halligan::dataplane::decide::snapshot::{Replica, Snapshot, Staleness};
use halligan::dataplane::decide::{Now, RequestFacts, Target, sign_in};

/// Returns a verified replica with these records.
pub fn replica(version: u64, records: Vec<Record>) -> Replica {
    let head = head(version, &records);
    Replica { keyset: keyset(), head, records, losses: Vec::new(), retirements: Vec::new() }
}

/// Returns the snapshot of version 1.
pub fn snapshot() -> Snapshot {
    Snapshot::build(replica(1, records()), Staleness::default(), None)
}

/// Returns the facts of a request to deployment `dep_sales`.
pub fn request<'a>(method: &'a str, uri: &'a str) -> RequestFacts<'a> {
    RequestFacts { deployment: Target::Id("dep_sales"), method, uri, client: None }
}

/// Returns the session that token `tok_etl` begins two minutes after [`NOW`].
pub fn session(durations: Durations) -> Session {
    let wall = NOW.plus(120);
    let wanted = ("ses_a".parse().unwrap(), durations);
    let facts = request("POST", "/.halligan/sign-in");
    let now = Now { wall, floor: wall };
    sign_in(token().as_bytes(), None, wanted, &facts, &snapshot(), now).1.unwrap()
}
