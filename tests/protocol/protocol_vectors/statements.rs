//! outages.json and introspection.json: statements of nodes, and answers to them.

use halligan::dataplane::decide::introspection::Introspection;
use halligan::dataplane::decide::{Credential, Now, RequestFacts, Target, decide_introspected};
use halligan::protocol::json::object;
use halligan::protocol::jws::{Typ, sign};
use halligan::protocol::reconciliation::OutageStatement;
use halligan::protocol::token::verify;
use serde_json::{Value, json};

use super::{Vectors, keyset, replaced, text, time};
use crate::world::{DEPLOYMENT, T0, World};

fn judge_outage(_: &Value, case: &Value) -> String {
    let answer = match object::<OutageStatement>(text(case, "statement").as_bytes()) {
        Ok(stated) if stated.check().is_err() => "refused",
        Ok(_) => "ok",
        Err(_) => "malformed",
    };
    answer.into()
}

fn decide_by_answer(common: &Value, case: &Value) -> String {
    let said = Introspection::read(text(case, "answer").as_bytes());
    let facts = RequestFacts {
        deployment: Target::Id(text(common, "deployment")),
        method: "GET",
        uri: "/api/v2/dags/etl",
        client: None,
    };
    let now = Now { wall: time(common, "now"), floor: T0 };
    let credential = Credential::Token(text(common, "token").as_bytes());
    assert!(verify(text(common, "token").as_bytes(), &keyset(common)).is_ok());
    let snapshot = World::new().snapshot(World::records(1));
    decide_introspected(Some(credential), said.as_ref(), &facts, &snapshot, now).reason().code().into()
}

#[test]
fn outages() {
    let about = "Is `statement` a statement of an outage that a control plane takes?";
    let mut vectors = Vectors::new("outages.json", about, judge_outage);
    let mut case = |name: &str, statement: &str, expected: &str, why: &str| {
        vectors.case(name, json!({ "statement": statement }), expected, why);
    };
    let statement = r#"{"id":"out_a","beganAt":1800000000,"endedAt":1800000060,"lastContactAt":1799999990,"cause":"no answer","firstSequence":4,"lastSequence":9,"alarms":[{"time":1800000001,"kind":"refused","what":"x","times":2}]}"#;
    case("with every member", statement, "ok", "");
    case(
        "with the required members alone",
        r#"{"id":"out_a","beganAt":1,"endedAt":1,"firstSequence":1,"lastSequence":0}"#,
        "ok",
        "",
    );
    case(
        "an unknown member",
        &replaced(statement, "{", r#"{"x":1,"#),
        "ok",
        "the statement is an open object",
    );
    case(
        "it ends before it begins",
        &replaced(statement, "1800000060", "1799999999"),
        "refused",
        "endedAt is not before beganAt",
    );
    case(
        "an id that is none",
        &replaced(statement, "out_a", "out a"),
        "refused",
        "an id has letters, digits, _ and - only",
    );
    case(
        "an id of another kind",
        &replaced(statement, "out_a", "evt_a"),
        "refused",
        "the id of an outage begins with out_",
    );
    case(
        "no lastSequence",
        &replaced(statement, r#""lastSequence":9,"#, ""),
        "malformed",
        "a required member is missing",
    );
    case(
        "cause is null",
        &replaced(statement, r#""no answer""#, "null"),
        "malformed",
        "a member with a default is not null",
    );
    case(
        "an array of its members",
        r#"["out_a",1,2,null,"",1,2,[]]"#,
        "malformed",
        "a statement is an object",
    );
    case(
        "a sequence below zero",
        &replaced(statement, r#""firstSequence":4"#, r#""firstSequence":-4"#),
        "malformed",
        "a member is not of its type",
    );
    vectors.hold();
}

#[test]
fn introspection() {
    let world = World::new();
    let claims = r#"{"iss":"https://control.example","sub":"tok_s","aud":"https://control.example","iat":1800000000,"nbf":1800000000,"exp":1800003600,"gen":2}"#;
    let token = sign(Typ::Standard, claims.as_bytes(), &world.token);
    let mut vectors = Vectors::new(
        "introspection.json",
        "May the standard token `token` read `/api/v2/dags/etl` (which needs `needs`) on `deployment`, whose control plane answered \
         `answer` a moment before `now`? The replica is current.",
        decide_by_answer,
    )
    .with("keyset", json!(world.keyset))
    .with("token", json!(token))
    .with("deployment", json!(DEPLOYMENT))
    .with("now", json!(T0.unix() + 60))
    .with("needs", json!("deployment.airflow.dag.get"));
    let mut case = |name: &str, answer: &str, expected: &str, why: &str| {
        vectors.case(name, json!({ "answer": answer }), expected, why);
    };
    let answer = r#"{"active":true,"token_type":"Bearer","iss":"https://control.example","sub":"tok_s","aud":"https://control.example","iat":1800000000,"nbf":1800000000,"exp":1800003600,"gen":2,"deployment":"dep_a","permissions":["deployment.airflow.dag.get"],"dags":[]}"#;
    case("a living token that may", answer, "ok", "");
    case("an unknown member", &replaced(answer, "{", r#"{"x":1,"#), "ok", "the answer is an open object");
    case(
        "a permission on that Dag alone",
        &replaced(
            answer,
            r#"["deployment.airflow.dag.get"],"dags":[]"#,
            r#"[],"dags":[{"dag":"etl","permissions":["deployment.airflow.dag.get"]}]"#,
        ),
        "ok",
        "",
    );
    case("no dags", &replaced(answer, r#","dags":[]"#, ""), "ok", "dags is not required");
    case(
        "a permission on another Dag",
        &replaced(
            answer,
            r#"["deployment.airflow.dag.get"],"dags":[]"#,
            r#"[],"dags":[{"dag":"other","permissions":["deployment.airflow.dag.get"]}]"#,
        ),
        "permission_denied",
        "the Dag role is on another Dag",
    );
    case(
        "no permission",
        &replaced(answer, r#""deployment.airflow.dag.get""#, ""),
        "permission_denied",
        "the permission is missing",
    );
    case("not alive", r#"{"active":false}"#, "token_revoked", "active is false");
    let about = "an answer about something else says nothing";
    case("about another token", &replaced(answer, "tok_s", "tok_t"), "needs_control_plane", about);
    case(
        "about another generation",
        &replaced(answer, r#""gen":2"#, r#""gen":1"#),
        "needs_control_plane",
        about,
    );
    case("about another deployment", &replaced(answer, "dep_a", "dep_b"), "needs_control_plane", about);
    let unreadable = "an answer that cannot be read says nothing";
    case(
        "a permission out of no catalogue",
        &replaced(answer, "dag.get", "dag.fly"),
        "needs_control_plane",
        unreadable,
    );
    case("an array of its members", "[false,null,null,null,null]", "needs_control_plane", unreadable);
    case("no gen", &replaced(answer, r#""gen":2,"#, ""), "needs_control_plane", unreadable);
    case(
        "an entry with dag and tag",
        &replaced(answer, r#""dags":[]"#, r#""dags":[{"dag":"etl","tag":"x","permissions":[]}]"#),
        "needs_control_plane",
        "exactly one of dag and tag",
    );
    vectors.hold();
}
