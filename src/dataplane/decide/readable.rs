//! Describes stored records that this node cannot read. Such a record grants nothing, since its unknown part may remove
//! access. The usual cause is a newer control plane, so operators are told which records they are.

use serde::de::DeserializeOwned;

use crate::protocol::json::object;
use crate::protocol::record::{
    DagTagsRecord, DeploymentRecord, NodeRecord, Record, RecordKind, StandardTokensRecord,
};
use crate::protocol::role::RoleBody;
use crate::protocol::token::TokenRecord;

/// Maximum number of records that are named.
const NAMED: usize = 5;

/// Returns a sentence that names the unreadable ones of `records` and the cause, or `None` if all can be read. `tokens` and `roles`
/// are the numbers already parsed: those kinds are parsed again only if some are missing, since a replica can hold a million of them.
pub(in crate::dataplane) fn explain_unreadable(
    records: &[Record],
    tokens: usize,
    roles: usize,
) -> Option<String> {
    let of = |kind| records.iter().filter(|record| record.kind == kind).count();
    let (tokens, roles) = (of(RecordKind::Token) == tokens, of(RecordKind::Role) == roles);
    let read = |record: &&Record| match record.kind {
        RecordKind::Token => tokens,
        RecordKind::Role => roles,
        _ => false,
    };
    let doubtful = records.iter().filter(|record| !read(record));
    let faults: Vec<_> = doubtful.filter_map(|record| Some((record, check(record).err()?))).collect();
    if faults.is_empty() {
        return None;
    }
    let named =
        faults.iter().take(NAMED).map(|(record, why)| format!("{} {} ({why})", record.kind, record.key));
    let more = faults.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    Some(format!(
        "{} record(s) can't be read and grant nothing: {}{more}; if the control plane is newer than this node, upgrade the node",
        faults.len(),
        named.collect::<Vec<_>>().join(", ")
    ))
}

/// Parses a record as the snapshot does.
fn check(record: &Record) -> Result<(), String> {
    let own = match record.kind {
        RecordKind::Token => read::<TokenRecord>(record)?.id.as_str() == &*record.key,
        RecordKind::Deployment => read::<DeploymentRecord>(record)?.id.as_str() == &*record.key,
        RecordKind::DagTags => read::<DagTagsRecord>(record)?.deployment.as_str() == &*record.key,
        RecordKind::Node => read::<NodeRecord>(record)?.id.as_str() == &*record.key,
        RecordKind::StandardTokens => read::<StandardTokensRecord>(record).map(|_| true)?,
        RecordKind::Role => {
            let role = RoleBody::parse(&record.body).map_err(|error| error.to_string())?;
            let reference = role.reference().map_err(|error| error.to_string())?;
            reference.to_string() == *record.key
        }
    };
    if own { Ok(()) } else { Err("its body is about something else than its key".into()) }
}

fn read<T: DeserializeOwned>(record: &Record) -> Result<T, String> {
    object(record.body.as_bytes()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_cannot_be_read_are_named_with_the_reason() {
        let record = |kind, key: &str, body: &str| Record::new(kind, key, body);
        let good = [
            record(RecordKind::StandardTokens, "dpl_a", r#"{"changes":1}"#),
            record(RecordKind::DagTags, "dep_a", r#"{"deployment":"dep_a","tags":{}}"#),
        ];
        assert_eq!(explain_unreadable(&good, 0, 0), None);
        let newer =
            record(RecordKind::DagTags, "dep_b", r#"{"deployment":"dep_b","tags":{},"colour":"red"}"#);
        let said =
            explain_unreadable(&[&good[..], std::slice::from_ref(&newer)].concat(), 0, 0).unwrap_or_default();
        assert!(
            said.contains("1 record(s)") && said.contains("dag-tags dep_b") && said.contains("colour"),
            "{said}"
        );
        let other = record(RecordKind::DagTags, "dep_c", r#"{"deployment":"dep_b","tags":{}}"#);
        assert!(explain_unreadable(&[other], 0, 0).unwrap_or_default().contains("something else"));
        let many = vec![newer; 9];
        let said = explain_unreadable(&many, 0, 0).unwrap_or_default();
        assert!(said.contains("9 record(s)") && said.contains("and 4 more"), "{said}");
        for kind in [RecordKind::Token, RecordKind::Role, RecordKind::Deployment, RecordKind::Node] {
            for body in ["", "{}", "[]", "null", r#"{"id":"x"}"#] {
                assert!(explain_unreadable(&[record(kind, "x", body)], 0, 0).is_some(), "{kind} {body}");
            }
        }
    }
}
