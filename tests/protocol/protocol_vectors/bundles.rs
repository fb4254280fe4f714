//! bundles.json: bundles that a node applies, and bundles that it rejects.

use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
use halligan::dataplane::decide::{Now, RequestFacts, Target, decide};
use halligan::dataplane::replica::store::{Origin, ReplicaStore, StoreError};
use halligan::protocol::head::Head;
use halligan::protocol::key::{PublicKey, SigningKey};
use halligan::protocol::keyset::KeysetError;
use halligan::protocol::record::{Record, RecordKind};
use halligan::protocol::time::Time;
use halligan::protocol::token::TokenRecord;
use serde_json::{Value, json};

use super::frame::{Shape, frame};
use super::made::{Made, next_keyset, put, remove};
use super::{Vectors, base64, bytes, pinned, read, replaced, text, time};
use crate::world::{DATA_PLANE, DEPLOYMENT, T0, World};

fn named(taken: Result<(), StoreError>) -> &'static str {
    match taken {
        Ok(()) => "ok",
        Err(
            StoreError::Bundle(_) | StoreError::Keyset(KeysetError::Malformed(_) | KeysetError::TooLarge),
        ) => "malformed",
        Err(StoreError::Keyset(_)) => "keyset",
        Err(StoreError::Head(_)) => "head",
        Err(StoreError::KeysetExpired(_)) => "keyset_expired",
        Err(StoreError::KeysetVersion { .. }) => "keyset_version",
        Err(StoreError::Frozen(_)) => "frozen",
        Err(StoreError::Future(_)) => "future",
        Err(StoreError::Rollback { .. }) => "rollback",
        Err(StoreError::Fork(_)) => "fork",
        Err(StoreError::Base { .. }) => "base",
        Err(StoreError::Twice(..)) => "twice",
        Err(StoreError::TooMany(_)) => "too_many",
        Err(StoreError::Digest(_)) => "digest",
        Err(StoreError::History { .. }) => "history",
        Err(StoreError::Invariant { .. }) => "invariant",
        Err(error) => panic!("{error}"),
    }
}

/// Node to which the bundle of a case was given.
struct Node {
    _directory: tempfile::TempDir,
    store: ReplicaStore,
    answer: &'static str,
}

impl Node {
    fn new(common: &Value, case: &Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("replica.db");
        let mut store = ReplicaStore::open(&path, read(common, "data_plane"), pinned(common)).unwrap();
        if !read::<bool>(case, "empty") {
            store.apply(&*bytes(common, "held"), Origin::Feed, T0).unwrap();
        }
        let origin = match text(case, "from") {
            "feed" => Origin::Feed,
            "file" => Origin::File,
            other => panic!("{other} is no origin"),
        };
        let taken = store.apply(&*bytes(case, "bundle"), origin, time(case, "now"));
        Self { answer: named(taken.map(drop)), store, _directory: directory }
    }

    /// Returns the version of the replica, and the time at which its head was signed.
    fn position(&self) -> (u64, Option<i64>) {
        let replica = self.store.load().ok().flatten();
        let signed = replica.map(|replica| replica.head.head().iat.unix());
        (self.store.position().unwrap().0, signed)
    }

    /// Returns the answers to the newest generation of a token whose value has no limits of its own: in the second
    /// before `start`, at `start`, in the second before `end`, and at `end`.
    fn at_the_ends(&self, token: &str, [start, end]: [Time; 2]) -> [&'static str; 4] {
        let replica = self.store.load().unwrap().unwrap();
        let held = replica.records.iter().find(|record| *record.key == *token).unwrap();
        let held: TokenRecord = held.read().unwrap();
        let value = World::new().value_of(&TokenRecord {
            generation: held.generation.max(1),
            not_before: Time::from_unix(0),
            expires_at: Time::from_unix(1 << 40),
            ..held
        });
        let staleness = Staleness {
            default: i64::MAX,
            roles: [("DEPLOYMENT_ADMIN".to_owned(), i64::MAX)].into(),
            ..Staleness::default()
        };
        let snapshot = Snapshot::build(replica, staleness, None);
        let facts = RequestFacts {
            deployment: Target::Id(DEPLOYMENT),
            method: "GET",
            uri: "/api/v2/dags",
            client: None,
        };
        [start.plus(-1), start, end.plus(-1), end].map(|wall| {
            let now = Now { wall, floor: Time::from_unix(0) };
            decide(Some(value.as_bytes()), &facts, &snapshot, now).reason().code()
        })
    }
}

fn answer(common: &Value, case: &Value) -> String {
    let node = Node::new(common, case);
    let (version, signed) = node.position();
    if (json!(version), json!(signed)) != (case["version_after"].clone(), case["signed_after"].clone()) {
        return format!("{}, then holds version {version}, signed at {signed:?}", node.answer);
    }
    for (token, ends) in case.get("valid_after").and_then(Value::as_object).into_iter().flatten() {
        let got = node.at_the_ends(token, serde_json::from_value(ends.clone()).unwrap());
        if got != ["token_not_yet_valid", "ok", "ok", "token_expired"] {
            return format!("{}, then answers {got:?} at the ends of {token}", node.answer);
        }
    }
    node.answer.into()
}

/// Returns the record of token `number` with `from` replaced by `to` in its body.
fn token(number: usize, from: &str, to: &str) -> Record {
    let record = World::record(&World::token_record(number));
    Record::new(RecordKind::Token, &*record.key, replaced(&record.body, from, to))
}

/// Returns the case of a bundle that a node receives from `from` at `now`. The node holds nothing if `empty`, otherwise
/// `held`.
fn given(bytes: &[u8], empty: bool, from: Origin, now: Time) -> Value {
    let source = if from == Origin::Feed { "feed" } else { "file" };
    json!({ "bundle": base64(bytes), "empty": empty, "from": source, "now": now })
}

struct Cases {
    vectors: Vectors,
}

impl Cases {
    fn add(&mut self, name: &str, mut case: Value, expected: &str, why: &str) {
        let (version, signed) = Node::new(&self.vectors.common, &case).position();
        (case["version_after"], case["signed_after"]) = (json!(version), json!(signed));
        self.vectors.case(name, case, expected, why);
    }

    /// Adds the case of a bundle for a node that holds `held`.
    fn next(&mut self, name: &str, made: &Made, expected: &str, why: &str) {
        self.add(name, given(&made.bytes(), false, Origin::Feed, T0.plus(10)), expected, why);
    }

    /// Adds the case of a bundle for a node that holds nothing.
    fn first(&mut self, name: &str, bytes: &[u8], expected: &str, why: &str) {
        self.add(name, given(bytes, true, Origin::Feed, T0), expected, why);
    }

    /// Adds the case of a bundle that is applied, after which a token is valid from `start` until `end`.
    fn valid(&mut self, name: &str, made: &Made, token: &TokenRecord, [start, end]: [Time; 2], why: &str) {
        let mut case = given(&made.bytes(), false, Origin::Feed, T0.plus(10));
        case["valid_after"] = json!({ token.id.as_str(): [start, end] });
        self.add(name, case, "ok", why);
    }
}

#[test]
fn bundles() {
    let world = World::new();
    let two = World::records(2);
    let held = Made::snapshot(7, &two, T0);
    let roots: Vec<_> = world.pinned().keys().iter().map(PublicKey::jwk).collect();
    let vectors = Vectors::new(
        "bundles.json",
        "What a node of `data_plane` that pins the roots `pinned` makes of `bundle` (base64url), which came from a feed or a file at \
         `now`. It has taken `held` before, unless `empty`. After it the node holds version `version_after`, signed at `signed_after`. \
         `valid_after`, where it stands: the time from which and the time until which the newest generation of a token is valid.",
        answer,
    )
    .with("pinned", json!(roots))
    .with("threshold", json!(1))
    .with("data_plane", json!(DATA_PLANE))
    .with("held", json!(base64(held.bytes())));
    let mut cases = Cases { vectors };

    cases.first("a snapshot for a node that holds nothing", &held.bytes(), "ok", "");
    let three = World::records(3);
    let added = vec![put(&three[4])];
    let delta = Made::delta(8, &three, added.clone());
    cases.next("a delta that adds a record", &delta, "ok", "");
    cases.next("a delta that removes a record", &Made::delta(8, &two[..3], vec![remove(&two[3])]), "ok", "");
    cases.next(
        "removing what is not there",
        &Made::delta(8, &two, vec![remove(&three[4])]),
        "ok",
        "a remove of a record that is not there has no effect",
    );
    cases.next(
        "putting what is there already",
        &Made::delta(8, &two, vec![put(&two[3])]),
        "ok",
        "a put stores or replaces",
    );
    cases.next("a heartbeat", &Made::delta(7, &two, vec![]), "ok", "");
    cases.next(
        "a snapshot of a later version",
        &Made { keysets: vec![], ..Made::snapshot(9, &three, T0.plus(10)) },
        "ok",
        "",
    );
    cases.next(
        "a keyset that is known",
        &Made { keysets: vec![world.keyset.clone()], ..delta.clone() },
        "ok",
        "a keyset with the same payload is the same",
    );
    cases.next(
        "a head that names an older keyset",
        &{
            let mut made = delta.clone();
            made.keysets = vec![next_keyset(&world, 2, T0.plus(86_400))];
            made
        },
        "ok",
        "a head may be signed under an older keyset, as long as its key is in the newest",
    );
    let earlier = Made { keysets: vec![], ..Made::snapshot(7, &two, T0.plus(-100)) };
    let mut before = |name: &str, from, now, why: &str| {
        cases.add(name, given(&earlier.bytes(), false, from, T0.plus(now)), "ok", why);
    };
    before(
        "a head signed earlier, from a feed that agrees with a clock behind the head held",
        Origin::Feed,
        -100,
        "an iat within 300 s of the clock replaces a held one that is ahead of the clock",
    );
    before(
        "a head signed earlier, in a file",
        Origin::File,
        -100,
        "nothing is taken: the exception is for a feed",
    );
    before(
        "a head signed earlier, when the clock is past both",
        Origin::Feed,
        0,
        "nothing is taken: the head held is not ahead of the clock",
    );
    cases.next(
        "the same head again",
        &Made { keysets: vec![], ..held.clone() },
        "ok",
        "an iat that is not later says nothing new",
    );

    let broken = "the records are not those of the head";
    cases.next(
        "a snapshot with a record fewer than the head counts",
        &Made {
            keysets: vec![],
            changes: two.iter().map(put).collect(),
            ..Made::snapshot(8, &three, T0.plus(10))
        },
        "digest",
        broken,
    );
    cases.next(
        "a snapshot with a record more than the head counts",
        &Made {
            keysets: vec![],
            changes: three.iter().map(put).collect(),
            ..Made::snapshot(8, &two, T0.plus(10))
        },
        "too_many",
        "a snapshot stores no more records than the head counts",
    );
    cases.next(
        "a snapshot that removes more than there is",
        &{
            let mut made = Made { keysets: vec![], ..Made::snapshot(8, &two, T0.plus(10)) };
            let gone = |number| json!({ "op": "remove", "kind": "token", "key": format!("tok_{number}") });
            made.changes.extend((0..40).map(gone));
            made
        },
        "ok",
        "a remove in a snapshot is skipped, and not counted",
    );
    cases.next(
        "changes that remove what came and went, more often than there are records",
        &Made::delta(8, &two, {
            let gone = |number| json!({ "op": "remove", "kind": "token", "key": format!("tok_{number}") });
            (0..40).map(gone).collect()
        }),
        "ok",
        "a remove of a record that is not there is not counted",
    );
    let broken = "the changes do not lead from the version held to the records of the head: another history";
    cases.next("a record fewer than the head counts", &Made::delta(8, &three, vec![]), "history", broken);
    cases.next(
        "a space more in a body",
        &Made::delta(8, &three, {
            let body = three[4].body.replace(r#","role""#, r#", "role""#);
            vec![put(&Record::new(RecordKind::Token, &*three[4].key, body))]
        }),
        "history",
        broken,
    );
    cases.next(
        "a count that is not the digest's",
        &{
            let mut made = delta.clone();
            made.head.count += 1;
            made
        },
        "history",
        broken,
    );
    cases.next(
        "a record put twice",
        &Made::delta(8, &three, [added.clone(), added.clone()].concat()),
        "twice",
        "a (kind, key) stands in one line",
    );
    cases.next(
        "a record put and removed",
        &Made::delta(8, &two, vec![put(&three[4]), remove(&three[4])]),
        "twice",
        "a (kind, key) stands in one line",
    );
    cases.next(
        "a delta from another version",
        &Made { base: 6, ..delta.clone() },
        "base",
        "base is 0 or the version held",
    );
    cases.next(
        "an older version",
        &Made { base: 0, ..Made::snapshot(6, &two, T0.plus(10)) },
        "rollback",
        "the version is below the one held",
    );
    cases.next(
        "another digest for the version held",
        &Made { base: 0, ..Made::snapshot(7, &three, T0.plus(10)) },
        "fork",
        "two heads of one version contradict each other",
    );
    cases.next(
        "more changes than there can be",
        &Made::delta(8, &[], {
            (0..5)
                .map(|number| json!({ "op": "put", "kind": "token", "key": format!("tok_{number}"), "body": "{}" }))
                .collect()
        }),
        "too_many",
        "records stored and removed are at most as many as the two counts together",
    );

    let mut of = |name: &str, change: &dyn Fn(&mut Head), expected: &str, why: &str| {
        let mut made = delta.clone();
        change(&mut made.head);
        cases.next(name, &made, expected, why);
    };
    of(
        "a head for another data plane",
        &|head| head.aud = "dpl_b".parse().unwrap(),
        "head",
        "aud is not the node's data plane",
    );
    of(
        "a head under a keyset that is not known",
        &|head| head.keyset = 2,
        "keyset_version",
        "the head's keyset is above the newest",
    );
    of(
        "a head that has ended",
        &|head| head.exp = T0.plus(10),
        "frozen",
        "from a feed, the clock is before exp",
    );
    of(
        "a head from the future",
        &|head| head.iat = T0.plus(311),
        "future",
        "iat is at most 300 s ahead of the clock",
    );
    of("a head 300 s ahead", &|head| head.iat = T0.plus(310), "ok", "");
    cases.next(
        "a head signed by the key for tokens",
        &Made { key: world.token.clone(), ..delta.clone() },
        "head",
        "its kid is no replica key of the newest keyset",
    );
    cases.add(
        "a head that has ended, in a file",
        given(&delta.bytes(), false, Origin::File, T0.plus(5000)),
        "ok",
        "exp is compared for a feed only",
    );
    cases.next(
        "a keyset that has ended",
        &Made { keysets: vec![next_keyset(&world, 2, T0.plus(10))], ..delta.clone() },
        "keyset_expired",
        "the newest keyset has expired",
    );
    cases.next(
        "a keyset by a stranger",
        &Made {
            keysets: vec![next_keyset(
                &World { root: SigningKey::from_seed(&[9; 32]), ..World::new() },
                2,
                T0.plus(86_400),
            )],
            ..delta.clone()
        },
        "keyset",
        "the keyset does not follow the one held",
    );
    cases.next(
        "a keyset that drops the key of the head",
        &{
            let other = World { replica: SigningKey::from_seed(&[10; 32]), ..World::new() };
            Made { keysets: vec![next_keyset(&other, 2, T0.plus(86_400))], ..delta.clone() }
        },
        "head",
        "only keys of the newest keyset count; the version held is none from now on",
    );

    let fixed = "a grant that was proved never changes";
    let changed = |record: Record| {
        let records = [two[..3].to_vec(), vec![record.clone()]].concat();
        Made::delta(8, &records, vec![put(&record)])
    };
    let more = |member: &str| token(1, r#","notBefore""#, &format!(r#",{member},"notBefore""#));
    cases.next("a token of another deployment", &changed(token(1, "dep_a", "dep_b")), "invariant", fixed);
    cases.next(
        "a token with another role digest",
        &changed(token(1, r#""digest":"N"#, r#""digest":"O"#)),
        "invariant",
        fixed,
    );
    cases.next(
        "a token with networks it had not",
        &changed(more(r#""sources":["10.0.0.0/8"]"#)),
        "invariant",
        fixed,
    );
    cases.next(
        "a token with a rate limit it had not",
        &changed(more(r#""rateLimitPerMinute":5"#)),
        "invariant",
        fixed,
    );
    cases.next(
        "a role version with other permissions",
        &{
            let role = Record::new(
                RecordKind::Role,
                &*two[0].key,
                replaced(&two[0].body, r#""deployment.get","#, ""),
            );
            let records = [vec![role.clone()], two[1..].to_vec()].concat();
            Made::delta(8, &records, vec![put(&role)])
        },
        "invariant",
        "a role version never changes",
    );
    cases.next(
        "a token that is rotated",
        &changed(token(1, r#""generation":1"#, r#""generation":2"#)),
        "ok",
        "the generation may rise",
    );
    cases.next(
        "a token that is revoked",
        &changed(token(1, r#""expiresAt""#, r#""revokedAt":1800000005,"expiresAt""#)),
        "ok",
        "a revocation may come",
    );

    let known = World::token_record(1);
    let (start, end) = (known.not_before, known.expires_at);
    let mut times = |name: &str, generation: u32, said: [Time; 2], valid: [Time; 2], why: &str| {
        let [not_before, expires_at] = said;
        let record = World::record(&TokenRecord { generation, not_before, expires_at, ..known.clone() });
        cases.valid(name, &changed(record), &known, valid, why);
    };
    let earlier = "of two ends of one generation the earlier counts";
    times("a later end under the same generation", 1, [start, end.plus(60)], [start, end], earlier);
    times(
        "an earlier end under the same generation",
        1,
        [start, end.plus(-60)],
        [start, end.plus(-60)],
        earlier,
    );
    times(
        "a later end under generation 0",
        0,
        [start, end.plus(60)],
        [start, end],
        "generation 0 counts as 1, and of two ends of one generation the earlier counts",
    );
    let moves = "the end moves with the generation, either way";
    times("a later end under the next generation", 2, [start, end.plus(60)], [start, end.plus(60)], moves);
    times(
        "an earlier end under the next generation",
        2,
        [start, end.plus(-60)],
        [start, end.plus(-60)],
        moves,
    );
    let later = "of two starts of one token the later counts";
    times("an earlier start", 1, [start.plus(-60), end], [start, end], later);
    times("a later start", 1, [start.plus(60), end], [start.plus(60), end], later);
    times("an earlier start under the next generation", 2, [start.plus(-60), end], [start, end], later);

    let lines = held.lines();
    let whole = |lines: &str| frame(lines.as_bytes(), Shape::default());
    for (name, lines, why) in [
        ("no line", String::new(), "a bundle has a head"),
        ("keysets alone", lines.lines().next().unwrap().to_owned() + "\n", "a bundle has a head"),
        ("a last line without its LF", lines.trim_end().to_owned(), "each line ends with LF"),
        ("an empty line at the end", format!("{lines}\n"), "there is nothing behind the last line"),
        (
            "an unknown member in a head line",
            replaced(&lines, r#"{"base":0"#, r#"{"x":1,"base":0"#),
            "a line is a closed object",
        ),
        ("base is left out", replaced(&lines, r#""base":0,"#, ""), "every member of a line is required"),
        ("an unknown op", replaced(&lines, r#""op":"put""#, r#""op":"move""#), "an op is put or remove"),
        (
            "a put without a body",
            lines.clone() + r#"{"op":"put","kind":"token","key":"x"}"# + "\n",
            "every member of a line is required",
        ),
    ] {
        cases.first(name, &whole(&lines), "malformed", why);
    }
    let bytes = held.bytes();
    cases.first("a frame that ends early", &bytes[..bytes.len() - 5], "malformed", "the frame is whole");
    cases.first(
        "a checksum that is not the content's",
        &{
            let mut bytes = bytes.clone();
            *bytes.last_mut().unwrap() ^= 1;
            bytes
        },
        "malformed",
        "the frame's checksum holds",
    );
    cases.first(
        "a window of 16 MiB",
        &frame(lines.as_bytes(), Shape { window: Some(24), ..Shape::default() }),
        "malformed",
        "a window is at most 8 MiB",
    );
    cases.first(
        "a window of 8 MiB",
        &frame(lines.as_bytes(), Shape { window: Some(23), ..Shape::default() }),
        "ok",
        "",
    );
    let unchecked = frame(lines.as_bytes(), Shape { unchecked: true, ..Shape::default() });
    cases.first("a frame without a checksum", &unchecked, "malformed", "the frame has a checksum");
    let skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd".to_vec();
    for (name, bytes) in [
        ("two frames", [bytes.clone(), whole("")].concat()),
        ("a skippable frame before", [skippable.clone(), bytes.clone()].concat()),
        ("a skippable frame behind", [bytes.clone(), skippable].concat()),
        ("a byte behind the frame", [bytes.clone(), vec![0]].concat()),
    ] {
        cases.first(name, &bytes, "malformed", "a bundle is exactly one frame");
    }
    let with_cr = whole(&lines.replacen('\n', "\r\n", 1));
    cases.first("a line that ends in CR LF", &with_cr, "malformed", "a line ends in LF alone");
    cases.first("no frame at all", lines.as_bytes(), "malformed", "a bundle is a zstd frame");
    cases.vectors.hold();
}
