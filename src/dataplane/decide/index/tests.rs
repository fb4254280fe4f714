//! Tests of the index: what a delta makes of it is what the whole replica would have made.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::dataplane::decide::snapshot::Granted;
use crate::protocol::glass::GlassMode;
use crate::protocol::key::SigningKey;
use crate::protocol::record::{DagTagsRecord, DeploymentRecord, NodeRecord};
use crate::protocol::role::{RoleBody, built_in};
use crate::protocol::token::{DagRole, DagTarget, RoleClaim, TokenRecord};

const AT: Time = Time::from_unix(1_800_000_000);

fn role(number: u8) -> RoleBody {
    let mut role = built_in().swap_remove(usize::from(number % 2) * 2);
    role.version = u32::from(number) + 1;
    role
}

fn claim(number: u8) -> RoleClaim {
    let role = role(number);
    RoleClaim { id: role.reference().unwrap(), digest: RoleDigest::compute(&role.to_body()) }
}

/// One change of a small world: which kind, which of its kind, and in which variant. Of the variants the last one is removal,
/// the one before it is unreadable.
fn change((kind, number, variant): (u8, u8, u8)) -> Change {
    let (key, kind, body) = match kind {
        0 => {
            let role = role(number);
            (role.reference().unwrap().to_string(), RecordKind::Role, role.to_body())
        }
        1 => {
            let record = DeploymentRecord {
                id: format!("dep_{number}").parse().unwrap(),
                workspace: "wsp_a".into(),
                name: format!("variant {variant}"),
                hosts: vec![format!("{number}.example"), format!("shared-{variant}.example")],
                routes: if variant == 1 { "nowhere".into() } else { "airflow-v2".into() },
                glass: GlassMode::Always,
            };
            (record.id.to_string(), RecordKind::Deployment, serde_json::to_string(&record).unwrap())
        }
        2 => {
            let deployment = format!("dep_{number}").parse().unwrap();
            let tags = BTreeMap::from([("etl".to_owned(), vec![format!("team-{variant}")])]);
            let record = DagTagsRecord { deployment, tags };
            (record.deployment.to_string(), RecordKind::DagTags, serde_json::to_string(&record).unwrap())
        }
        3 => {
            let record = NodeRecord {
                id: format!("nod_{number}").parse().unwrap(),
                name: "a".into(),
                key: SigningKey::from_seed(&[number * 4 + variant; 32]).public().jwk(),
                retired_at: None,
            };
            (record.id.to_string(), RecordKind::Node, serde_json::to_string(&record).unwrap())
        }
        _ => {
            let dag = DagRole { role: claim(number | 1), target: DagTarget::Tag("team-1".into()) };
            let record = TokenRecord {
                id: format!("tok_{number}").parse().unwrap(),
                deployment: format!("dep_{number}").parse().unwrap(),
                generation: u32::from(variant),
                role: claim(number & !1),
                dag_roles: if number > 2 { vec![dag] } else { vec![] },
                not_before: AT,
                expires_at: AT.plus(i64::from(variant) * 100),
                sources: if number == 1 { vec!["nonsense".into()] } else { vec![] },
                rate_limit_per_minute: None,
                revoked_at: (variant == 2).then_some(AT),
            };
            (record.id.to_string(), RecordKind::Token, serde_json::to_string(&record).unwrap())
        }
    };
    match variant {
        4.. => Change::Remove { kind, key },
        3 => Change::Put(Record::new(kind, key, body.replacen('{', r#"{"colour":"red","#, 1))),
        _ => Change::Put(Record::new(kind, key, body)),
    }
}

/// Everything that a decision can see of an index.
fn seen(index: &Index) -> String {
    let mut grants: Vec<_> = index
        .grants
        .iter()
        .map(|grant| {
            let (profile, none) = (&grant.profile, Tags::new());
            let granted: Option<Granted> = profile.granted();
            assert_eq!(index.grants.get(grant.token()).map(Grant::token), Some(grant.token()));
            format!(
                "{} {} {} {:?} {:?} {:?} {:?} {granted:?} {:?} {} {} {:?}",
                grant.token(),
                grant.generation,
                grant.superseded,
                grant.revoked,
                grant.not_before,
                grant.expires_at,
                profile.sources,
                profile.permissions(Some("etl"), &none),
                profile.deployment,
                profile.role().id,
                profile.rate_limit_per_minute,
            )
        })
        .collect();
    assert_eq!(grants.len(), index.grants.len());
    grants.sort();
    let directory = index.directory(&RouteMaps::default(), None);
    let mut deployments: Vec<_> = directory
        .deployments
        .values()
        .map(|found| format!("{} {} {:?} {:?}", found.id, found.name, found.routes.is_some(), found.tags))
        .collect();
    deployments.sort();
    let hosts: BTreeMap<_, _> = directory.hosts.iter().collect();
    let roles: BTreeMap<_, _> =
        index.roles.iter().map(|(role, found)| (role, format!("{found:?}"))).collect();
    format!(
        "{grants:?} {deployments:?} {hosts:?} {roles:?} {:?} {:?}",
        index.signers,
        index.explain_unreadable()
    )
}

fn whole(records: &BTreeMap<(RecordKind, String), Record>) -> Index {
    let (tokens, others): (Vec<_>, Vec<_>) =
        records.values().cloned().partition(|record| record.kind == RecordKind::Token);
    let indexer = Indexer::new(others);
    for token in &tokens {
        indexer.add(token);
    }
    indexer.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_delta_makes_the_index_that_the_whole_replica_would_make(
        deltas in prop::collection::vec(prop::collection::vec((0_u8..6, 0_u8..6, 0_u8..5), 1..6), 1..12),
    ) {
        let mut records: BTreeMap<(RecordKind, String), Record> = BTreeMap::new();
        let mut index = Index::default();
        for delta in deltas {
            let mut changes: BTreeMap<(RecordKind, String), Change> = BTreeMap::new();
            for change in delta.into_iter().map(change) {
                changes.insert((change.kind(), change.key().to_owned()), change);
            }
            for (key, change) in &changes {
                match change {
                    Change::Put(record) => drop(records.insert(key.clone(), record.clone())),
                    Change::Remove { .. } => drop(records.remove(key)),
                }
            }
            let before = seen(&index);
            let next = index.with(&Delta { changes: changes.into_values().collect(), losses: vec![], retirements: vec![] }, AT);
            prop_assert_eq!(seen(&next), seen(&whole(&records)));
            prop_assert_eq!(seen(&index), before, "the index before does not change");
            index = next;
        }
    }
}

#[test]
fn a_delta_copies_nothing_that_it_does_not_change() {
    let delta = |changes: &[(u8, u8, u8)]| Delta {
        changes: changes.iter().copied().map(change).collect(),
        losses: vec![],
        retirements: vec![],
    };
    let maps = RouteMaps::default();
    // Tokens 0, 1 and 2 name roles 0 and 2; record 5 of the Dag tags is unreadable.
    let index = Index::default()
        .with(&delta(&[(0, 0, 0), (1, 0, 0), (2, 5, 3), (4, 0, 0), (4, 1, 0), (4, 2, 0)]), AT);
    let directory = index.directory(&maps, None);
    let tokens = [0, 1, 2].map(|number| format!("tok_{number}").parse().unwrap());
    let moved = |next: &Index| {
        tokens
            .iter()
            .filter(|token| !std::ptr::eq(index.grants.get(token).unwrap(), next.grants.get(token).unwrap()))
            .count()
    };
    // A role that no token names yet, and a deployment.
    let next = index.with(&delta(&[(0, 1, 0), (1, 1, 0)]), AT);
    assert_eq!(moved(&next), 0);
    assert!(Arc::ptr_eq(&index.unreadable, &next.unreadable));
    assert!(!Arc::ptr_eq(&directory, &next.directory(&maps, Some(&directory))), "it has a new deployment");
    // A role that tokens name.
    assert!(moved(&index.with(&delta(&[(0, 2, 0)]), AT)) > 0);
    // A token.
    let next = index.with(&delta(&[(4, 3, 0)]), AT);
    assert!(Arc::ptr_eq(&directory, &next.directory(&maps, Some(&directory))));
    assert!(!Arc::ptr_eq(&directory, &next.directory(&RouteMaps::default(), Some(&directory))), "other maps");
}

#[test]
fn a_table_of_many_tokens_holds_each_once() {
    let put = |number: usize, generation: u32| {
        let Change::Put(record) = change((4, 0, 0)) else { unreachable!() };
        let token: TokenRecord = record.read().unwrap();
        let id = format!("tok_{number}").parse().unwrap();
        Change::Put(Record::from_value(
            RecordKind::Token,
            format!("tok_{number}"),
            &TokenRecord { id, generation, ..token },
        ))
    };
    let indexer = Indexer::new(vec![]);
    for number in 0..20_000 {
        let Change::Put(record) = put(number, 1) else { unreachable!() };
        indexer.add(&record);
    }
    let mut index = indexer.finish();
    for number in 19_000..21_000 {
        index = index.with(&Delta { changes: vec![put(number, 2)], losses: vec![], retirements: vec![] }, AT);
    }
    for number in 0..500 {
        let gone = Change::Remove { kind: RecordKind::Token, key: format!("tok_{number}") };
        index =
            index.with(&Delta { changes: vec![gone.clone(), gone], losses: vec![], retirements: vec![] }, AT);
    }
    assert_eq!((index.grants.len(), index.grants.iter().count()), (20_500, 20_500));
    for number in 0..22_000 {
        let generation = match number {
            500..19_000 => Some(1),
            19_000..21_000 => Some(2),
            _ => None,
        };
        let token = format!("tok_{number}").parse().unwrap();
        assert_eq!(index.grants.get(&token).map(|grant| grant.generation), generation, "{number}");
    }
}

#[test]
fn profiles_that_no_token_has_are_dropped() {
    let mut pool = Pool::default();
    let Change::Put(record) = change((4, 0, 0)) else { unreachable!() };
    let token: TokenRecord = record.read().unwrap();
    let kept = pool.profile(&token, &Roles::new());
    for number in 0..100_000 {
        let limited = TokenRecord { rate_limit_per_minute: Some(number), ..token.clone() };
        pool.profile(&limited, &Roles::new());
    }
    assert!(pool.len() < 5_000, "{}", pool.len());
    assert!(Arc::ptr_eq(&kept, &pool.profile(&token, &Roles::new())));
}
