//! glass.json: the state of a deployment's glass.

use halligan::dataplane::decide::glass::{Broken, state};
use halligan::protocol::glass::GlassMode;
use halligan::protocol::time::Time;
use serde_json::{Value, json};

use super::{Vectors, read, text, time};
use crate::world::T0;

fn answer(_: &Value, case: &Value) -> String {
    let mode = GlassMode::ALL.into_iter().find(|mode| mode.as_str() == text(case, "mode")).unwrap();
    let broken = read::<Option<Time>>(case, "broken_until").map(|until| Broken {
        operator: "uid 0".into(),
        reason: "drill".into(),
        broken_at: T0.plus(-60),
        until,
    });
    state(mode, broken.as_ref(), read(case, "outage"), time(case, "now")).as_str().into()
}

#[test]
fn glass() {
    let mut vectors = Vectors::new(
        "glass.json",
        "How the glass of a deployment stands at `now`: `mode` is its record's, `broken_until` the end of an operator's act on the \
         host, `outage` whether the control plane is judged unreachable. `sealed` refuses direct access.",
        answer,
    );
    let mut case =
        |name: &str, mode: GlassMode, broken_until: Option<i64>, outage: bool, expected: &str, why: &str| {
            let until = broken_until.map(|after| T0.plus(after));
            let input =
                json!({ "mode": mode.as_str(), "broken_until": until, "outage": outage, "now": T0.unix() });
            vectors.case(name, input, expected, why);
        };
    let (always, in_outage, sealed) = (GlassMode::Always, GlassMode::Outage, GlassMode::Sealed);
    case("no glass", always, None, false, "always", "mode always has no glass");
    case("no glass in an outage", always, None, true, "always", "mode always has no glass");
    case(
        "outage glass, control plane reachable",
        in_outage,
        None,
        false,
        "sealed",
        "it opens only in an outage",
    );
    case("outage glass in an outage", in_outage, None, true, "outage", "it opens in an outage");
    case("outage glass broken", in_outage, Some(1), false, "broken", "broken until a time that has not come");
    case(
        "outage glass broken, in an outage",
        in_outage,
        Some(1),
        true,
        "broken",
        "broken comes before outage",
    );
    case(
        "outage glass whose break has ended",
        in_outage,
        Some(0),
        false,
        "sealed",
        "the break ends with the second `broken_until`",
    );
    case("sealed glass", sealed, None, false, "sealed", "it opens only when it is broken");
    case("sealed glass in an outage", sealed, None, true, "sealed", "an outage does not open it");
    case("sealed glass broken", sealed, Some(1), false, "broken", "broken until a time that has not come");
    case("sealed glass whose break has ended", sealed, Some(-1), true, "sealed", "the break is over");
    vectors.hold();
}
