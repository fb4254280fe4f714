//! decisions.json: the answer of a node to a direct-access token, up to the permission that its route needs.

use std::net::IpAddr;

use halligan::dataplane::decide::snapshot::Snapshot;
use halligan::dataplane::decide::{Now, RequestFacts, Target, decide};
use halligan::protocol::jws::{Typ, sign};
use halligan::protocol::record::{Record, RecordKind};
use halligan::protocol::time::Time;
use halligan::protocol::token::verify;
use serde_json::{Value, json};

use super::digests::listed;
use super::{Vectors, keyset, payload, read, records, replaced, text, time};
use crate::world::{ISSUER, T0, World};

/// Request, and state of the node that decides it.
#[derive(Clone)]
struct Asked {
    token: String,
    records: Vec<Record>,
    /// True if a local revocation names the token.
    revoked_here: bool,
    deployment: &'static str,
    client: Option<&'static str>,
    clock: Time,
    floor: Time,
}

fn answer(common: &Value, case: &Value) -> String {
    assert_eq!(text(common, "issuer"), ISSUER);
    let token = text(case, "token").as_bytes();
    let snapshot: Snapshot = World::new().snapshot(records(case, "records"));
    let mut local = snapshot.local().clone();
    if read(case, "revoked_here")
        && let Ok(token) = verify(token, &keyset(common))
    {
        local.revoked.insert(token.claims().sub.clone(), T0);
    }
    let facts = RequestFacts {
        deployment: Target::Id(text(case, "deployment")),
        method: "GET",
        uri: "/api/v2/dags",
        client: read::<Option<IpAddr>>(case, "client"),
    };
    let now = Now { wall: time(case, "clock"), floor: time(case, "floor") };
    decide(Some(token), &facts, &snapshot.with_local(local), now).reason().code().into()
}

impl Asked {
    /// Replaces text in the token's record.
    fn record(&mut self, from: &str, to: &str) {
        let last = self.records.pop().unwrap();
        self.records.push(Record::new(last.kind, &*last.key, replaced(&last.body, from, to)));
    }
}

#[test]
fn decisions() {
    let world = World::new();
    let mut vectors = Vectors::new(
        "decisions.json",
        "What a node that holds `records` under a head of `issuer`, signed a moment ago, answers to `GET /api/v2/dags` (which needs \
         `needs`) with `token` on `deployment` from `client`, by its `clock` and its time `floor`. `revoked_here`: a local revocation names the token.",
        answer,
    )
    .with("keyset", json!(world.keyset))
    .with("issuer", json!(ISSUER))
    .with("needs", json!("deployment.airflow.dag.get"));
    let good = Asked {
        token: world.value(0),
        records: World::records(1),
        revoked_here: false,
        deployment: "dep_a",
        client: None,
        clock: T0.plus(60),
        floor: T0,
    };
    let mut case = |name: &str, change: &dyn Fn(&mut Asked), expected: &str, why: &str| {
        let mut asked = good.clone();
        change(&mut asked);
        let input = json!({
            "token": asked.token, "records": asked.records.iter().map(listed).collect::<Vec<_>>(),
            "revoked_here": asked.revoked_here, "deployment": asked.deployment, "client": asked.client,
            "clock": asked.clock.unix(), "floor": asked.floor.unix(),
        });
        vectors.case(name, input, expected, why);
    };
    let claims = payload(&good.token);
    let reminted =
        |from: &str, to: &str| sign(Typ::DirectAccess, replaced(&claims, from, to).as_bytes(), &world.token);
    case("a living token", &|_| {}, "ok", "");
    case(
        "the record allows a later end than the token",
        &|asked| asked.record("1802592000", "1802592001"),
        "ok",
        "",
    );
    case(
        "no record",
        &|asked| drop(asked.records.pop()),
        "token_unknown",
        "the replica holds no record of sub",
    );
    case(
        "a record that cannot be read",
        &|asked| asked.record("{", r#"{"x":1.5,"generation":1,"#),
        "token_unknown",
        "a record that cannot be read grants nothing",
    );
    case(
        "another issuer",
        &|asked| asked.token = reminted("control.example", "other.example"),
        "token_unknown",
        "iss is not that of the head",
    );
    case(
        "revoked above",
        &|asked| asked.record(r#""expiresAt""#, r#""revokedAt":1900000000,"expiresAt""#),
        "token_revoked",
        "revokedAt ends a token whatever its time",
    );
    case(
        "revoked on a host",
        &|asked| asked.revoked_here = true,
        "token_revoked",
        "a local revocation names it",
    );
    case(
        "rotated",
        &|asked| asked.record(r#""generation":1"#, r#""generation":2"#),
        "token_rotated",
        "gen is below the record's generation",
    );
    case(
        "a generation that is not there yet",
        &|asked| asked.token = reminted(r#""gen":1"#, r#""gen":2"#),
        "token_unknown",
        "gen is above the record's generation",
    );
    case(
        "a record of generation 0",
        &|asked| asked.record(r#""generation":1"#, r#""generation":0"#),
        "ok",
        "generation 0 counts as 1",
    );
    case(
        "a clock 301 s behind the floor",
        &|asked| asked.floor = asked.clock.plus(301),
        "clock_untrusted",
        "the clock is more than 300 s behind the floor",
    );
    case("a clock 300 s behind the floor", &|asked| asked.floor = asked.clock.plus(300), "ok", "");
    case(
        "the second of its end",
        &|asked| asked.clock = Time::from_unix(1_802_592_000),
        "token_expired",
        "the end is excluded",
    );
    case(
        "the floor is past its end",
        &|asked| {
            asked.clock = Time::from_unix(1_802_591_900);
            asked.floor = Time::from_unix(1_802_592_000);
        },
        "token_expired",
        "the later of clock and floor counts",
    );
    case(
        "its record ends earlier",
        &|asked| asked.record("1802592000", "1800000060"),
        "token_expired",
        "the earlier of exp and expiresAt counts",
    );
    case(
        "before its beginning",
        &|asked| asked.clock = T0.plus(-1),
        "token_not_yet_valid",
        "the clock is before nbf",
    );
    case(
        "before its beginning, with a floor behind it",
        &|asked| {
            asked.clock = T0.plus(-1);
            asked.floor = T0.plus(10);
        },
        "token_not_yet_valid",
        "the clock itself is compared with nbf, not the floor",
    );
    case(
        "its record begins later",
        &|asked| asked.record(r#""notBefore":1800000000"#, r#""notBefore":1800000061"#),
        "token_not_yet_valid",
        "the later of nbf and notBefore counts",
    );
    case(
        "another deployment",
        &|asked| {
            asked.deployment = "dep_b";
            let body =
                replaced(&replaced(&asked.records[1].body, "dep_a", "dep_b"), "a.example", "b.example");
            asked.records.insert(2, Record::new(RecordKind::Deployment, "dep_b", body));
        },
        "wrong_deployment",
        "aud is not the deployment asked for",
    );
    case(
        "a deployment nobody knows",
        &|asked| asked.deployment = "dep_x",
        "wrong_deployment",
        "the replica holds no such deployment",
    );
    case(
        "a record for another deployment",
        &|asked| asked.record("dep_a", "dep_b"),
        "wrong_deployment",
        "the record's deployment is not the one asked for",
    );
    let sources = |asked: &mut Asked, list: &str| {
        asked.record(r#","notBefore""#, &format!(r#","sources":{list},"notBefore""#));
    };
    case(
        "from a network it may come from",
        &|asked| {
            sources(asked, r#"["192.0.2.0/24"]"#);
            asked.client = Some("192.0.2.7");
        },
        "ok",
        "",
    );
    case(
        "an IPv4 address in IPv6 form",
        &|asked| {
            sources(asked, r#"["192.0.2.0/24"]"#);
            asked.client = Some("::ffff:192.0.2.7");
        },
        "ok",
        "it is compared as IPv4",
    );
    case(
        "from another network",
        &|asked| {
            sources(asked, r#"["192.0.2.0/24"]"#);
            asked.client = Some("192.0.3.7");
        },
        "source_not_allowed",
        "the client is in none of the sources",
    );
    case(
        "from nowhere that is known",
        &|asked| sources(asked, r#"["192.0.2.0/24"]"#),
        "source_not_allowed",
        "the client's address is not known",
    );
    case(
        "a source that is no network",
        &|asked| {
            sources(asked, r#"["192.0.2.0/24","everywhere"]"#);
            asked.client = Some("192.0.2.7");
        },
        "source_not_allowed",
        "one source that cannot be read allows none",
    );
    for (name, source) in [
        ("a source whose address has a leading zero", "010.0.0.0/8"),
        ("a source whose length has a leading zero", "10.0.0.0/08"),
        ("a source without a length", "10.0.0.7"),
        ("a source with a netmask", "10.0.0.0/255.0.0.0"),
    ] {
        case(
            name,
            &|asked| {
                sources(asked, &format!(r#"["{source}"]"#));
                asked.client = Some("10.0.0.7");
            },
            "source_not_allowed",
            "a source is ADDRESS/LENGTH without leading zeros",
        );
    }
    case(
        "sealed glass",
        &|asked| {
            let body = replaced(&asked.records[1].body, "}", r#","glass":"sealed"}"#);
            asked.records[1] = Record::new(RecordKind::Deployment, "dep_a", body);
        },
        "glass_sealed",
        "the deployment's glass is sealed",
    );
    case(
        "a role of another digest",
        &|asked| asked.record(r#""digest":"N"#, r#""digest":"O"#),
        "role_mismatch",
        "the token's role is not the record's",
    );
    case(
        "no role record",
        &|asked| drop(asked.records.remove(0)),
        "role_mismatch",
        "the role has no readable record with that digest",
    );
    case(
        "a role record with another content",
        &|asked| {
            let role = asked.records[0].clone();
            asked.records[0] = Record::new(role.kind, &*role.key, role.body.replace(',', ", "));
        },
        "role_mismatch",
        "the role digest runs over the bytes of the body",
    );
    case(
        "a role that does not allow it",
        &|asked| {
            let body = r#"{"name":"DEPLOYMENT_ADMIN","version":1,"scope":"DEPLOYMENT","permissions":["deployment.get"]}"#;
            let digest = halligan::protocol::role::RoleDigest::compute(body).to_string();
            let known = World::role().1.digest.to_string();
            asked.records[0] = Record::new(RecordKind::Role, "DEPLOYMENT_ADMIN@1", body);
            asked.record(&known, &digest);
            asked.token = reminted(&known, &digest);
        },
        "permission_denied",
        "the role does not hold what the route needs",
    );
    vectors.hold();
}
