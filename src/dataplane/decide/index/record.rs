//! Reads records for the index, and names those that this node cannot read. Such a record grants nothing, since its unknown
//! part may remove access. The usual cause is a newer control plane, so operators are told which records they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::protocol::json::object;
use crate::protocol::permission::PermissionSet;
use crate::protocol::record::{
    DagTagsRecord, DeploymentRecord, NodeRecord, Record, RecordKind, StandardTokensRecord,
};
use crate::protocol::role::{RoleBody, RoleDigest, RoleRef, RoleScope};
use crate::protocol::token::TokenRecord;

/// Maximum number of records that are named.
const NAMED: usize = 5;

/// Content of a readable record.
pub(super) enum Read {
    Token(TokenRecord),
    Role(RoleRef, (RoleDigest, RoleScope, PermissionSet)),
    Deployment(DeploymentRecord),
    DagTags(DagTagsRecord),
    Node(NodeRecord),
    StandardTokens,
}

/// Reads a record. Returns the reason if the body cannot be parsed, or is about something else than the key.
pub(super) fn read(record: &Record) -> Result<Read, String> {
    let (read, own) = match record.kind {
        RecordKind::Token => {
            let token: TokenRecord = parse(record)?;
            let own = token.id.as_str() == &*record.key;
            (Read::Token(token), own)
        }
        RecordKind::Role => {
            let role = RoleBody::parse(&record.body).map_err(|error| error.to_string())?;
            let reference = role.reference().map_err(|error| error.to_string())?;
            let own = *reference.text() == *record.key;
            (Read::Role(reference, (RoleDigest::compute(&record.body), role.scope, role.permissions)), own)
        }
        RecordKind::Deployment => {
            let deployment: DeploymentRecord = parse(record)?;
            let own = deployment.id.as_str() == &*record.key;
            (Read::Deployment(deployment), own)
        }
        RecordKind::DagTags => {
            let tags: DagTagsRecord = parse(record)?;
            let own = tags.deployment.as_str() == &*record.key;
            (Read::DagTags(tags), own)
        }
        RecordKind::Node => {
            let node: NodeRecord = parse(record)?;
            let own = node.id.as_str() == &*record.key;
            (Read::Node(node), own)
        }
        RecordKind::StandardTokens => {
            parse::<StandardTokensRecord>(record)?;
            (Read::StandardTokens, true)
        }
    };
    if own { Ok(read) } else { Err("its body is about something else than its key".into()) }
}

fn parse<T: DeserializeOwned>(record: &Record) -> Result<T, String> {
    object(record.body.as_bytes()).map_err(|error| error.to_string())
}

/// Unreadable records and the reasons, sorted as the database sorts records.
#[derive(Clone, Debug, Default)]
pub(super) struct Unreadable(BTreeMap<(&'static str, Arc<str>), String>);

impl Unreadable {
    /// Returns true if the record of this kind and key is one of them.
    pub(super) fn names(&self, kind: RecordKind, key: &str) -> bool {
        !self.0.is_empty() && self.0.contains_key(&(kind.as_str(), key.into()))
    }

    pub(super) fn insert(&mut self, kind: RecordKind, key: &str, why: String) {
        self.0.insert((kind.as_str(), key.into()), why);
    }

    pub(super) fn remove(&mut self, kind: RecordKind, key: &str) {
        self.0.remove(&(kind.as_str(), key.into()));
    }

    /// Returns a sentence that names the records and the cause, or `None` if there are none.
    pub(super) fn explain(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let named = self.0.iter().take(NAMED).map(|((kind, key), why)| format!("{kind} {key} ({why})"));
        let more = self.0.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        Some(format!(
            "{} record(s) can't be read and grant nothing: {}{more}; if the control plane is newer than this node, upgrade the node",
            self.0.len(),
            named.collect::<Vec<_>>().join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::record as node;
    use crate::world::World;

    fn explain(records: &[Record]) -> Option<String> {
        let mut unreadable = Unreadable::default();
        for record in records {
            if let Err(why) = read(record) {
                unreadable.insert(record.kind, &record.key, why);
            }
        }
        unreadable.explain()
    }

    #[test]
    fn a_record_of_any_kind_is_read_under_its_own_key_alone() {
        let records = World::records(1).into_iter().chain([node("nod_a", 51, None)]);
        for record in records {
            assert_eq!(explain(std::slice::from_ref(&record)), None);
            let key = format!("{}0", record.key);
            let said = explain(&[Record::new(record.kind, key, &*record.body)]).unwrap_or_default();
            assert!(said.contains("something else than its key"), "{}: {said}", record.kind);
        }
    }

    #[test]
    fn records_that_cannot_be_read_are_named_with_the_reason() {
        let record = |kind, key: &str, body: &str| Record::new(kind, key, body);
        let good = [
            record(RecordKind::StandardTokens, "dpl_a", r#"{"changes":1}"#),
            record(RecordKind::DagTags, "dep_a", r#"{"deployment":"dep_a","tags":{}}"#),
        ];
        assert_eq!(explain(&good), None);
        let newer = |key: &str| {
            record(
                RecordKind::DagTags,
                key,
                &format!(r#"{{"deployment":"{key}","tags":{{}},"colour":"red"}}"#),
            )
        };
        let said = explain(&[&good[..], &[newer("dep_b")]].concat()).unwrap_or_default();
        assert!(
            said.contains("1 record(s)") && said.contains("dag-tags dep_b") && said.contains("colour"),
            "{said}"
        );
        let other = record(RecordKind::DagTags, "dep_c", r#"{"deployment":"dep_b","tags":{}}"#);
        assert!(explain(&[other]).unwrap_or_default().contains("something else"));
        let many: Vec<_> = (0..9).map(|number| newer(&format!("dep_{number}"))).collect();
        let said = explain(&many).unwrap_or_default();
        assert!(said.contains("9 record(s)") && said.contains("and 4 more"), "{said}");
        assert!(!explain(&many[..NAMED]).unwrap_or_default().contains("more;"), "all are named");
        for kind in [RecordKind::Token, RecordKind::Role, RecordKind::Deployment, RecordKind::Node] {
            for body in ["", "{}", "[]", "null", r#"{"id":"x"}"#] {
                assert!(explain(&[record(kind, "x", body)]).is_some(), "{kind} {body}");
            }
        }
    }
}
