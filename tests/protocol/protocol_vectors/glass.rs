//! glass.json: how a deployment's glass stands.

use halligan::dataplane::decide::glass::{Broken, state};
use halligan::protocol::glass::GlassMode;
use serde_json::json;

use super::Vectors;
use crate::world::T0;

#[test]
fn glass() {
    let mut vectors = Vectors::new(
        "glass.json",
        "How the glass of a deployment stands at `now`: `mode` is its record's, `broken_until` the end of an operator's act on the \
         host, `outage` whether the control plane is judged unreachable. `sealed` refuses direct access.",
    );
    let mut case = |name: &str, mode, broken_until: Option<i64>, outage, expected: &str, why: &str| {
        let broken = broken_until.map(|after| Broken {
            operator: "uid 0".into(),
            reason: "drill".into(),
            broken_at: T0.plus(-60),
            until: T0.plus(after),
        });
        let got = state(mode, broken.as_ref(), outage, T0).as_str();
        let until = broken.map(|broken| broken.until.unix());
        let input =
            json!({ "mode": mode.as_str(), "broken_until": until, "outage": outage, "now": T0.unix() });
        vectors.case(name, input, got, expected, why);
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
