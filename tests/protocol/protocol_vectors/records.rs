//! records.json: record bodies that can be read, and bodies that grant nothing.

use halligan::protocol::record::{
    DagTagsRecord, DeploymentRecord, NodeRecord, Record, RecordKind, StandardTokensRecord,
};
use halligan::protocol::role::RoleBody;
use halligan::protocol::signer::Signers;
use halligan::protocol::token::TokenRecord;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::digests::listed;
use super::{Vectors, base64, record, replaced};
use crate::world::World;

fn read<T: DeserializeOwned>(record: &Record, key: impl Fn(&T) -> String) -> Option<T> {
    record.read().filter(|body| key(body) == *record.key)
}

/// Returns the answer of this implementation to a record.
fn answer(_: &Value, case: &Value) -> String {
    let record = &record(case);
    let readable = match record.kind {
        RecordKind::Token => {
            let read = read::<TokenRecord>(record, |token| token.id.to_string()).is_some();
            let snapshot = World::new().snapshot(vec![record.clone()]);
            let known = record.key.parse().is_ok_and(|id| snapshot.knows(&id));
            assert_eq!(read, known, "{}", record.body);
            read
        }
        RecordKind::Role => {
            read::<RoleBody>(record, |role| role.reference().map_or(String::new(), |role| role.to_string()))
                .is_some()
        }
        RecordKind::Deployment => read::<DeploymentRecord>(record, |found| found.id.to_string()).is_some(),
        RecordKind::DagTags => read::<DagTagsRecord>(record, |found| found.deployment.to_string()).is_some(),
        RecordKind::Node => match read::<NodeRecord>(record, |node| node.id.to_string()) {
            Some(node) => {
                let signers: Signers = [&node].into_iter().collect();
                return if signers.is_empty() { "signs_nothing".into() } else { "ok".into() };
            }
            None => false,
        },
        RecordKind::StandardTokens => record.read::<StandardTokensRecord>().is_some(),
    };
    if readable { "ok".into() } else { "unreadable".into() }
}

#[test]
fn records() {
    let mut vectors = Vectors::new(
        "records.json",
        "Can the body of a record be read? One that is `unreadable` is stored, hashed and passed on, and grants nothing.",
        answer,
    );
    let mut case = |name: &str, kind, key: &str, body: String, expected: &str, why: &str| {
        vectors.case(name, listed(&Record::new(kind, key, body)), expected, why);
    };
    let claim = serde_json::to_string(&World::role().1).unwrap();
    let token = format!(
        r#"{{"id":"tok_a","deployment":"dep_a","generation":2,"role":{claim},"dagRoles":[{{"role":{claim},"dag":"etl"}},{{"role":{claim},"tag":"team-a"}}],"notBefore":1800000000,"expiresAt":1802592000,"sources":["10.0.0.0/8","2001:db8::/32"],"rateLimitPerMinute":60,"revokedAt":1800000060}}"#
    );
    let tokens = RecordKind::Token;
    let least = format!(
        r#"{{"id":"tok_a","deployment":"dep_a","generation":1,"role":{claim},"notBefore":1800000000,"expiresAt":1802592000}}"#
    );
    case("a token with every member", tokens, "tok_a", token.clone(), "ok", "");
    case("a token with the required members alone", tokens, "tok_a", least.clone(), "ok", "");
    case(
        "a token of generation 0",
        tokens,
        "tok_a",
        replaced(&least, r#""generation":1"#, r#""generation":0"#),
        "ok",
        "it counts as generation 1",
    );
    case(
        "revokedAt is null",
        tokens,
        "tok_a",
        replaced(&token, "1800000060", "null"),
        "ok",
        "null is the same as none",
    );
    case(
        "a source that is no network",
        tokens,
        "tok_a",
        replaced(&token, "10.0.0.0/8", "10.0.0.0"),
        "ok",
        "the token is known, and may be used from nowhere",
    );
    case(
        "another id than the key",
        tokens,
        "tok_b",
        least.clone(),
        "unreadable",
        "the id in the body is the key",
    );
    for (name, from, to, why) in [
        ("an unknown member of a token", "{", r#"{"x":1,"#, "the body is a closed object"),
        (
            "a member of a token twice",
            r#""generation":2"#,
            r#""generation":2,"generation":2"#,
            "a member stands twice",
        ),
        ("a token without a deployment", r#""deployment":"dep_a","#, "", "a required member is missing"),
        ("a token without expiresAt", r#""expiresAt":1802592000,"#, "", "a required member is missing"),
        ("sources are null", r#"["10.0.0.0/8","2001:db8::/32"]"#, "null", "an array is not null"),
        (
            "a generation with a fraction",
            r#""generation":2"#,
            r#""generation":2.0"#,
            "a member is not of its type",
        ),
        (
            "a generation beyond 32 bits",
            r#""generation":2"#,
            r#""generation":4294967296"#,
            "a member is not of its type",
        ),
        (
            "a rate limit below zero",
            r#""rateLimitPerMinute":60"#,
            r#""rateLimitPerMinute":-1"#,
            "a member is not of its type",
        ),
        (
            "an unknown member in the role of a token",
            r#""role":{"#,
            r#""role":{"x":1,"#,
            "role is a closed object",
        ),
        (
            "a Dag role with dag and tag",
            r#""dag":"etl""#,
            r#""dag":"etl","tag":"x""#,
            "exactly one of dag and tag",
        ),
        (
            "a Dag role with dag twice",
            r#""dag":"etl""#,
            r#""dag":"etl","dag":"etl""#,
            "a member stands twice",
        ),
        ("a Dag role without dag and tag", r#","dag":"etl""#, "", "exactly one of dag and tag"),
    ] {
        case(name, tokens, "tok_a", replaced(&token, from, to), "unreadable", why);
    }
    case("no JSON", tokens, "tok_a", "tok_a".into(), "unreadable", "the body is a JSON object");
    case(
        "text behind the body",
        tokens,
        "tok_a",
        format!("{least} x"),
        "unreadable",
        "the body is one JSON object",
    );

    let role = r#"{"name":"X","version":2,"scope":"DEPLOYMENT","permissions":["deployment.get"]}"#;
    let roles = RecordKind::Role;
    case("a role", roles, "X@2", role.into(), "ok", "");
    case("a role that allows nothing", roles, "X@2", replaced(role, r#""deployment.get""#, ""), "ok", "");
    case(
        "a permission that stands twice",
        roles,
        "X@2",
        replaced(role, "[", r#"["deployment.get","#),
        "ok",
        "permissions are a set",
    );
    case("a role under another key", roles, "X@1", role.into(), "unreadable", "NAME@VERSION is the key");
    for (name, from, to, why) in [
        (
            "a permission out of no catalogue",
            "deployment.get",
            "deployment.fly",
            "a name that is not in the catalogue makes the role unreadable",
        ),
        ("an unknown scope", "DEPLOYMENT", "PLANET", "a scope is one of four"),
        ("an unknown member of a role", "{", r#"{"x":1,"#, "the body is a closed object"),
    ] {
        case(name, roles, "X@2", replaced(role, from, to), "unreadable", why);
    }
    case(
        "a role of version 0",
        roles,
        "X@0",
        replaced(role, r#""version":2"#, r#""version":0"#),
        "unreadable",
        "versions begin at 1",
    );

    let deployment = r#"{"id":"dep_a","workspace":"wsp_a","name":"a","hosts":["a.example"],"routes":"airflow-v2","glass":"sealed"}"#;
    let deployments = RecordKind::Deployment;
    case("a deployment with every member", deployments, "dep_a", deployment.into(), "ok", "");
    case(
        "a deployment with the required members alone",
        deployments,
        "dep_a",
        r#"{"id":"dep_a","workspace":"w","name":""}"#.into(),
        "ok",
        "",
    );
    case(
        "a deployment under another key",
        deployments,
        "dep_b",
        deployment.into(),
        "unreadable",
        "the id in the body is the key",
    );
    for (name, from, to, why) in [
        ("a deployment with another glass", "sealed", "open", "glass is always, outage or sealed"),
        ("glass is null", r#""sealed""#, "null", "a member with a default is not null"),
        ("routes are null", r#""airflow-v2""#, "null", "a member with a default is not null"),
        ("an unknown member of a deployment", "{", r#"{"x":1,"#, "the body is a closed object"),
    ] {
        case(name, deployments, "dep_a", replaced(deployment, from, to), "unreadable", why);
    }

    let tags = r#"{"deployment":"dep_a","tags":{"etl":["team-a","daily"],"empty":[]}}"#;
    case("Dag tags", RecordKind::DagTags, "dep_a", tags.into(), "ok", "");
    case(
        "Dag tags of another deployment",
        RecordKind::DagTags,
        "dep_b",
        tags.into(),
        "unreadable",
        "the deployment in the body is the key",
    );
    case(
        "tags that are a text",
        RecordKind::DagTags,
        "dep_a",
        replaced(tags, "[]", r#""x""#),
        "unreadable",
        "a Dag's tags are an array of texts",
    );

    let jwk = serde_json::to_string(&World::new().root.public().jwk()).unwrap();
    let node = format!(r#"{{"id":"nod_a","name":"host-1","key":{jwk},"retiredAt":1800000060}}"#);
    case("a node that was retired", RecordKind::Node, "nod_a", node.clone(), "ok", "");
    case("a node", RecordKind::Node, "nod_a", replaced(&node, r#","retiredAt":1800000060"#, ""), "ok", "");
    case(
        "a node under another key",
        RecordKind::Node,
        "nod_b",
        node.clone(),
        "unreadable",
        "the id in the body is the key",
    );
    case(
        "a node with a key of small order",
        RecordKind::Node,
        "nod_a",
        {
            let x = World::new().root.public().jwk().x;
            replaced(&node, &x, &base64([0; 32]))
        },
        "signs_nothing",
        "its key is refused",
    );
    case(
        "a node without a key",
        RecordKind::Node,
        "nod_a",
        replaced(&node, &format!(r#","key":{jwk}"#), ""),
        "unreadable",
        "a required member is missing",
    );

    let array = "a body is an object, not an array of its members";
    case(
        "an array in place of a token",
        tokens,
        "tok_a",
        format!(r#"["tok_a","dep_a",1,{claim},[],1,2,[],null,null]"#),
        "unreadable",
        array,
    );
    case(
        "an array in place of a role",
        roles,
        "X@2",
        r#"["X",2,"DEPLOYMENT",[]]"#.into(),
        "unreadable",
        array,
    );
    case(
        "an array in place of a deployment",
        deployments,
        "dep_a",
        r#"["dep_a","w","",[],"airflow-v2","always"]"#.into(),
        "unreadable",
        array,
    );

    let standard = RecordKind::StandardTokens;
    case("standard tokens have changed", standard, "dpl_a", r#"{"changes":3}"#.into(), "ok", "");
    case(
        "changes below zero",
        standard,
        "dpl_a",
        r#"{"changes":-3}"#.into(),
        "unreadable",
        "a member is not of its type",
    );
    vectors.hold();
}
