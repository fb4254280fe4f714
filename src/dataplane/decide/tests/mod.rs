//! The table of decisions: every reason, each by the smallest step away from a request that passes.

#![allow(clippy::unwrap_used)]

mod broken_glass;
mod daemon;
mod dag_roles;
mod denials;
mod known;
pub(in crate::dataplane) mod replica;
mod sessions;
mod snapshots;
mod standard;

use proptest::prelude::*;

use super::glass::Broken;
use super::session::{Durations, Session};
use super::snapshot::{AccessLoss, Granted, Local, Replica, Staleness};
use super::*;
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::glass::GlassMode;
use crate::protocol::head::{Head, SignedHead, sign_head};
use crate::protocol::id::{DeploymentId, TokenId};
use crate::protocol::key::SigningKey;
use crate::protocol::keyset::{KeyUse, Keyset, KeysetBody, KeysetKey, RootSet, sign_keyset};
use crate::protocol::record::{DagTagsRecord, DeploymentRecord, Record, RecordKind};
use crate::protocol::role::{RoleBody, RoleDigest, RoleScope, built_in};
use crate::protocol::time::Time;
use crate::protocol::token::{Claims, DagRole, DagTarget, RoleClaim, TokenKind, TokenRecord, mint};

const T0: Time = Time::from_unix(1_800_000_000);
const ISSUER: &str = "https://control.example";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn role(name: &str) -> (Record, RoleClaim) {
    let role: RoleBody = built_in().into_iter().find(|role| role.name == name).unwrap();
    let claim = RoleClaim { id: role.reference().unwrap(), digest: RoleDigest::compute(&role.to_body()) };
    (Record::new(RecordKind::Role, claim.id.to_string(), role.to_body()), claim)
}

/// Replica, request and clock that lead to an allowed request. A test changes one part of them.
struct World {
    claims: Claims,
    kind: TokenKind,
    signer: SigningKey,
    record: TokenRecord,
    records: Vec<Record>,
    losses: Vec<AccessLoss>,
    local: Local,
    staleness: Staleness,
    now: Now,
    method: &'static str,
    uri: &'static str,
    target: Target<'static>,
    client: Option<IpAddr>,
}

impl World {
    fn new() -> Self {
        let (role_record, claim) = role("DEPLOYMENT_ADMIN");
        let deployment = |id: &str, host: &str| {
            let body = DeploymentRecord {
                id: id.parse().unwrap(),
                workspace: "wsp_a".into(),
                name: id.into(),
                hosts: vec![host.into(), "both.example".into()],
                routes: "airflow-v2".into(),
                glass: GlassMode::Always,
            };
            Record::from_value(RecordKind::Deployment, id, &body)
        };
        Self {
            claims: Claims {
                permissions: Vec::new(),
                iss: ISSUER.into(),
                sub: "tok_a".parse().unwrap(),
                aud: "dep_a".into(),
                iat: T0,
                nbf: T0,
                exp: Some(T0.plus(86_400)),
                generation: 2,
                role: Some(claim.clone()),
            },
            kind: TokenKind::DirectAccess,
            signer: key(2),
            record: TokenRecord {
                id: "tok_a".parse().unwrap(),
                deployment: "dep_a".parse().unwrap(),
                generation: 2,
                role: claim,
                dag_roles: vec![],
                not_before: T0,
                expires_at: T0.plus(86_400),
                sources: vec![],
                rate_limit_per_minute: None,
                revoked_at: None,
            },
            records: vec![
                role_record,
                role("DAG_AUTHOR").0,
                role("DAG_VIEWER").0,
                deployment("dep_a", "a.example"),
                deployment("dep_b", "b.example"),
            ],
            losses: vec![],
            local: Local::default(),
            staleness: Staleness::default(),
            now: Now { wall: T0.plus(60), floor: T0 },
            method: "GET",
            uri: "/api/v2/dags/etl",
            target: Target::Id("dep_a"),
            client: None,
        }
    }

    /// Keyset in which `token` signs tokens.
    fn keyset(token: &SigningKey) -> Keyset {
        let body = KeysetBody {
            iss: None,
            version: 1,
            iat: T0,
            exp: T0.plus(86_400),
            keys: vec![
                KeysetKey { key_use: KeyUse::Token, jwk: token.public().jwk() },
                KeysetKey { key_use: KeyUse::Replica, jwk: key(3).public().jwk() },
            ],
            roots: vec![key(1).public().jwk()],
            threshold: 1,
        };
        let pinned = RootSet::new(vec![key(1).public().clone()], 1).unwrap();
        Keyset::verify_first(&sign_keyset(&body, &[&key(1)]), &pinned).unwrap()
    }

    fn snapshot(&self) -> Snapshot {
        let keyset = Self::keyset(&key(2));
        let mut records = self.records.clone();
        records.push(Record::from_value(RecordKind::Token, "tok_a", &self.record));
        let head = Head {
            iss: ISSUER.into(),
            aud: "dpl_a".parse().unwrap(),
            version: 1,
            digest: records.iter().collect::<ReplicaDigest>().checksum(),
            count: records.len() as u64,
            iat: T0,
            exp: T0.plus(900),
            keyset: 1,
        };
        let head = SignedHead::verify(&sign_head(&head, &key(3)), &keyset, &head.aud).unwrap();
        let replica = Replica { keyset, head, records, losses: self.losses.clone(), retirements: vec![] };
        Snapshot::build(replica, self.staleness.clone(), None).with_local(self.local.clone())
    }

    /// Sets the glass mode of the deployment.
    fn keep(&mut self, glass: GlassMode) {
        let record = self.records.iter_mut().find(|record| &*record.key == "dep_a").unwrap();
        let body: DeploymentRecord = serde_json::from_str(&record.body).unwrap();
        *record = Record::from_value(RecordKind::Deployment, "dep_a", &DeploymentRecord { glass, ..body });
    }

    fn break_until(&mut self, second: i64) {
        let broken = Broken {
            operator: "uid 0".into(),
            reason: "drill".into(),
            broken_at: T0,
            until: T0.plus(second),
        };
        self.local.broken = [("dep_a".parse().unwrap(), broken)].into();
    }

    fn facts(&self) -> RequestFacts<'static> {
        RequestFacts { deployment: self.target, method: self.method, uri: self.uri, client: self.client }
    }

    fn token(&self) -> String {
        mint(self.kind, &self.claims, &self.signer).to_string()
    }

    fn decide_with(&self, token: Option<&[u8]>) -> Decision {
        decide(token, &self.facts(), &self.snapshot(), self.now)
    }

    fn reason(&self) -> Reason {
        self.decide_with(Some(self.token().as_bytes())).reason()
    }
}

fn granted(decision: &Decision) -> Option<Granted> {
    match decision {
        Decision::Allowed(allowed) => Some(allowed.granted),
        Decision::Denied(_) => None,
    }
}

#[test]
fn a_living_token_passes_and_says_what_it_was() {
    let world = World::new();
    let decision = world.decide_with(Some(world.token().as_bytes()));
    assert!(decision.allowed());
    let found = decision.facts();
    assert_eq!(found.token.unwrap().as_str(), "tok_a");
    assert_eq!(found.role.unwrap().to_string(), "DEPLOYMENT_ADMIN@1");
    assert_eq!(&**found.route.unwrap(), "/api/v2/dags/{dag_id}");
    assert_eq!(found.permission.unwrap().as_str(), "deployment.airflow.dag.get");
    assert_eq!((found.generation, found.deployment.unwrap().as_str()), (Some(2), "dep_a"));
    assert!(!found.mutating);
}

#[test]
fn an_allowed_request_tells_all_that_its_token_may_do() {
    let permissions = |name: &str| built_in().into_iter().find(|role| role.name == name).unwrap().permissions;
    let mut world = World::new();
    let on = |name: &str| DagRole { role: role(name).1, target: DagTarget::Dag(name.into()) };
    world.record.dag_roles = vec![on("DAG_AUTHOR"), on("DAG_VIEWER")];
    let granted = |world: &World| granted(&world.decide_with(Some(world.token().as_bytes())));
    let dags = permissions("DAG_AUTHOR").union(permissions("DAG_VIEWER"));
    assert_eq!(granted(&world), Some(Granted { deployment: permissions("DEPLOYMENT_ADMIN"), dags }));
    world.uri = "/api/v2/nothing";
    assert_eq!(granted(&world), None);
}

/// Changes one part of the world.
type Bend = fn(&mut World);

fn check(rows: &[(Reason, Bend)]) {
    for (index, (reason, bend)) in rows.iter().enumerate() {
        let mut world = World::new();
        bend(&mut world);
        assert_eq!(world.reason(), *reason, "row {index}");
    }
}

/// Each reason with a cause of it.
const CAUSES: &[(Reason, Bend)] = &[
    (Reason::Ok, |w| w.target = Target::Host("a.example")),
    (Reason::Ok, |w| w.target = Target::Host("A.Example")),
    (Reason::Ok, |w| w.method = "HEAD"),
    (Reason::KeyUnknown, |w| w.signer = key(9)),
    (Reason::KeyUnknown, |w| w.signer = key(3)),
    (Reason::NeedsControlPlane, |w| (w.kind, w.claims.aud) = (TokenKind::Standard, ISSUER.into())),
    (Reason::TokenUnknown, |w| w.kind = TokenKind::Standard),
    (Reason::TokenMalformed, |w| w.claims.exp = None),
    (Reason::TokenMalformed, |w| w.claims.role = None),
    (Reason::TokenUnknown, |w| w.claims.sub = "tok_b".parse().unwrap()),
    (Reason::TokenUnknown, |w| w.claims.iss = "https://other.example".into()),
    (Reason::TokenUnknown, |w| w.claims.generation = 3),
    (Reason::TokenRotated, |w| w.claims.generation = 1),
    (Reason::TokenMalformed, |w| (w.claims.generation, w.record.generation) = (0, 0)),
    (Reason::Ok, |w| (w.claims.generation, w.record.generation) = (1, 0)),
    (Reason::TokenRotated, |w| {
        w.losses = vec![AccessLoss { generation: 3, ..AccessLoss::none("tok_a".parse().unwrap()) }];
    }),
    // A loss gives nothing: neither the value it ended nor one that the replica does not hold.
    (Reason::TokenUnknown, |w| {
        w.claims.generation = 3;
        w.losses = vec![AccessLoss { generation: 3, ..AccessLoss::none("tok_a".parse().unwrap()) }];
    }),
    (Reason::TokenRevoked, |w| w.record.revoked_at = Some(T0)),
    (Reason::TokenRevoked, |w| {
        w.losses =
            vec![AccessLoss { generation: 1, revoked: true, ..AccessLoss::none("tok_a".parse().unwrap()) }];
    }),
    // If records contradict each other, the latest start and the earliest end of the generation count.
    (Reason::TokenExpired, |w| {
        let end = Some(T0.plus(1));
        w.losses =
            vec![AccessLoss { generation: 2, expires_at: end, ..AccessLoss::none("tok_a".parse().unwrap()) }];
    }),
    (Reason::TokenNotYetValid, |w| {
        let start = Some(T0.plus(61));
        w.losses = vec![AccessLoss {
            generation: 2,
            not_before: start,
            ..AccessLoss::none("tok_a".parse().unwrap())
        }];
    }),
    (Reason::Ok, |w| {
        let end = Some(T0.plus(1));
        w.losses =
            vec![AccessLoss { generation: 1, expires_at: end, ..AccessLoss::none("tok_a".parse().unwrap()) }];
    }),
    (Reason::TokenExpired, |w| w.now.wall = T0.plus(86_400)),
    (Reason::TokenExpired, |w| w.claims.exp = Some(T0.plus(1))),
    (Reason::TokenExpired, |w| w.record.expires_at = T0.plus(1)),
    (Reason::TokenExpired, |w| {
        w.now = Now { wall: T0.plus(86_399), floor: T0.plus(86_400) };
    }),
    (Reason::TokenNotYetValid, |w| w.claims.nbf = T0.plus(61)),
    (Reason::TokenNotYetValid, |w| w.record.not_before = T0.plus(61)),
    // It is valid from the second of its start to the second before its end.
    (Reason::Ok, |w| (w.claims.nbf, w.record.not_before) = (T0.plus(60), T0.plus(60))),
    (Reason::Ok, |w| (w.claims.exp, w.record.expires_at) = (Some(T0.plus(61)), T0.plus(61))),
    (Reason::ClockUntrusted, |w| w.now.wall = Time::from_unix(0)),
    (Reason::WrongDeployment, |w| w.target = Target::Id("dep_b")),
    (Reason::WrongDeployment, |w| w.target = Target::Id("dep_c")),
    (Reason::WrongDeployment, |w| w.target = Target::Host("b.example")),
    (Reason::WrongDeployment, |w| w.target = Target::Host("both.example")),
    (Reason::WrongDeployment, |w| w.claims.aud = "dep_b".into()),
    (Reason::RoleMismatch, |w| w.claims.role.as_mut().unwrap().id = "DAG_VIEWER@1".parse().unwrap()),
    (Reason::RoleMismatch, |w| w.record.role = role("DAG_VIEWER").1),
    (Reason::RoleMismatch, |w| {
        w.records.remove(0);
    }),
    (Reason::RoleMismatch, |w| {
        let body = w.records[0].body.replace("\"version\":1", "\"version\": 1");
        w.records[0].body = body.into();
    }),
    (Reason::SourceNotAllowed, |w| w.record.sources = vec!["10.0.0.0/8".into()]),
    (Reason::SourceNotAllowed, |w| {
        w.record.sources = vec!["10.0.0.0/8".into()];
        w.client = Some("192.0.2.1".parse().unwrap());
    }),
    (Reason::SourceNotAllowed, |w| {
        w.record.sources = vec!["10.0.0.0/8".into(), "everywhere".into()];
        w.client = Some("10.1.2.3".parse().unwrap());
    }),
    (Reason::Ok, |w| {
        w.record.sources = vec!["10.0.0.0/8".into()];
        w.client = Some("::ffff:10.1.2.3".parse().unwrap());
    }),
    (Reason::ReplicaStale, |w| w.staleness.default = 59),
    (Reason::ReplicaStale, |w| {
        w.staleness.roles.insert("DEPLOYMENT_ADMIN".into(), 59);
    }),
    (Reason::PathInvalid, |w| w.uri = "/api/v2/dags/etl/../../connections"),
    (Reason::RouteUnknown, |w| w.uri = "/api/v2/nothing"),
    (Reason::RouteUnknown, |w| w.method = "BREW"),
    (Reason::RouteUnknown, |w| {
        let body = w.records[3].body.replace("airflow-v2", "airflow-v9");
        w.records[3].body = body.into();
    }),
];

#[test]
fn each_reason_has_its_own_cause() {
    check(CAUSES);
}

#[test]
fn without_a_token_or_a_replica_nothing_passes() {
    let world = World::new();
    assert_eq!(world.decide_with(None).reason(), Reason::TokenMissing);
    assert_eq!(world.decide_with(Some(b"")).reason(), Reason::TokenMissing);
    assert_eq!(world.decide_with(Some(b"abc")).reason(), Reason::TokenMalformed);
    assert_eq!(world.decide_with(Some(&[b'a'; 5000])).reason(), Reason::TokenTooLarge);
    let facts = RequestFacts { deployment: world.target, method: "GET", uri: "/", client: None };
    let decision = decide(Some(world.token().as_bytes()), &facts, &Snapshot::absent(), world.now);
    assert_eq!(decision.reason(), Reason::ReplicaMissing);
}

#[test]
fn a_signature_seen_before_spares_no_other_check() {
    let mut world = World::new();
    let (token, snapshot) = (world.token(), world.snapshot());
    let facts = RequestFacts { deployment: world.target, method: world.method, uri: world.uri, client: None };
    let at = |snapshot: &Snapshot, wall| {
        decide(Some(token.as_bytes()), &facts, snapshot, Now { wall, floor: T0 }).reason()
    };
    assert_eq!(at(&snapshot, T0.plus(1)), Reason::Ok);
    assert_eq!(at(&snapshot, T0.plus(86_400)), Reason::TokenExpired);
    world.record.revoked_at = Some(T0);
    assert_eq!(at(&world.snapshot(), T0.plus(1)), Reason::TokenRevoked);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bit_of_a_token_can_be_flipped(position in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let world = World::new();
        let mut token = world.token().into_bytes();
        let index = position.index(token.len());
        token[index] ^= 1 << bit;
        prop_assert!(!world.decide_with(Some(&token)).allowed());
    }

    #[test]
    fn no_input_panics(token in prop::collection::vec(any::<u8>(), 0..200), method in ".{0,8}", uri in ".{0,80}", host in ".{0,20}") {
        let snapshot = World::new().snapshot();
        let facts = RequestFacts { deployment: Target::Host(&host), method: &method, uri: &uri, client: None };
        let now = Now { wall: T0.plus(1), floor: T0 };
        prop_assert!(!decide(Some(&token), &facts, &snapshot, now).allowed());
    }
}
