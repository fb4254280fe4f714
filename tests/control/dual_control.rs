//! Dual control: an organization can require two owners for a direct-access token.

#![allow(clippy::unwrap_used)]

use crate::rig::Answer;
use crate::rig::control::Control;
use serde_json::{Value, json};

struct Two {
    control: Control,
    second: String,
    deployment: String,
}

impl Two {
    fn start() -> Self {
        let control = Control::start("");
        let owner = json!({ "email": "two@acme.example", "organizationRole": "ORGANIZATION_OWNER" });
        let alone = control.call("POST", "/dual-control", Some(&json!({ "enabled": true })));
        assert_eq!((alone.status, &alone.json()["code"]), (409, &json!("no_second_owner")));
        let second = control.make("/users", &owner)["token"].as_str().unwrap().to_owned();
        let workspace = control.make("/workspaces", &json!({ "name": "data" }))["id"].clone();
        let plane = control.make("/data-planes", &json!({ "name": "eu" }))["id"].clone();
        let deployment = json!({ "name": "prod", "workspaceId": workspace, "dataPlaneId": plane });
        let deployment = control.make("/deployments", &deployment)["id"].as_str().unwrap().to_owned();
        let on = control.call("POST", "/dual-control", Some(&json!({ "enabled": true })));
        assert_eq!(on.status, 200, "{on:?}");
        Self { control, second, deployment }
    }

    fn token(&self, name: &str) -> Value {
        json!({
            "name": name, "type": "DEPLOYMENT", "kind": "DIRECT_ACCESS", "entityId": self.deployment,
            "tokenExpiryPeriodInDays": 30,
        })
    }

    fn ask(&self) -> String {
        let asked = self.control.call("POST", "/tokens", Some(&self.token("oncall")));
        assert_eq!((asked.status, &asked.json()["state"]), (202, &json!("PENDING")), "{asked:?}");
        asked.json()["id"].as_str().unwrap().to_owned()
    }

    fn decide(&self, who: &str, id: &str, verb: &str) -> Answer {
        let body = (verb == "reject").then(|| json!({ "reason": "not on call" }));
        self.control.call_as(who, "POST", &format!("/token-requests/{id}/{verb}"), body.as_ref(), &[])
    }
}

#[test]
fn a_direct_access_token_is_made_once_another_owner_has_approved_it() {
    let two = Two::start();
    let (first, second) = (two.control.owner.clone(), two.second.clone());
    let id = two.ask();
    assert_eq!(two.control.get("/tokens")["totalCount"], 0);
    let own = two.decide(&first, &id, "approve");
    assert_eq!((own.status, &own.json()["code"]), (403, &json!("own_request")));
    assert_eq!(two.decide(&first, &id, "collect").status, 409, "nobody has approved it yet");
    assert_eq!(two.decide(&second, &id, "approve").json()["state"], "APPROVED");
    let other = two.decide(&second, &id, "collect");
    assert_eq!((other.status, &other.json()["code"]), (403, &json!("not_your_request")));
    let made = two.decide(&first, &id, "collect");
    assert_eq!(made.status, 200, "{made:?}");
    assert!(made.json()["token"].as_str().unwrap().starts_with("eyJ"));
    assert_eq!(two.decide(&first, &id, "collect").status, 409, "it is shown once");
    let request = two.control.get(&format!("/token-requests/{id}"));
    assert_eq!((&request["state"], &request["tokenId"]), (&json!("DONE"), &made.json()["id"]));
    // The audit log records every step.
    let log = two.control.get("/audit-log?limit=1000").to_string();
    for call in ["POST /token-requests/{id}/approve", "POST /token-requests/{id}/collect", "POST /tokens"] {
        assert!(log.contains(call), "{call}");
    }
}

#[test]
fn a_rejected_request_makes_nothing_and_a_token_can_neither_ask_nor_approve() {
    let two = Two::start();
    let owner = json!({ "name": "robot", "type": "ORGANIZATION", "role": "ORGANIZATION_OWNER" });
    let robot = two.control.make("/tokens", &owner)["token"].as_str().unwrap().to_owned();
    let asked = two.control.call_as(&robot, "POST", "/tokens", Some(&two.token("mine")), &[]);
    assert_eq!((asked.status, &asked.json()["code"]), (403, &json!("people_only")));
    let id = two.ask();
    let approved = two.decide(&robot, &id, "approve");
    assert_eq!((approved.status, &approved.json()["code"]), (403, &json!("people_only")));
    let rejected = two.decide(&two.second, &id, "reject").json();
    assert_eq!((&rejected["state"], &rejected["reason"]), (&json!("REJECTED"), &json!("not on call")));
    assert_eq!(two.decide(&two.second, &id, "approve").status, 409);
    assert_eq!(two.decide(&two.control.owner, &id, "collect").status, 409);
    assert_eq!(two.control.get("/token-requests?state=REJECTED")["totalCount"], 1);
    assert_eq!(two.control.get("/token-requests?state=PENDING")["totalCount"], 0);
    // An invalid token is refused before approval is requested, and a standard token needs no approval.
    let mut wrong = two.token("wrong");
    wrong["role"] = json!("NO_SUCH_ROLE");
    assert_eq!(two.control.call("POST", "/tokens", Some(&wrong)).status, 422);
    let mut standard = two.token("ci");
    standard["kind"] = json!("STANDARD");
    assert_eq!(two.control.call("POST", "/tokens", Some(&standard)).status, 200);
}

#[test]
fn it_takes_two_to_end_it() {
    let two = Two::start();
    let ended = two.control.call("POST", "/dual-control", Some(&json!({ "enabled": false })));
    assert_eq!((ended.status, &ended.json()["kind"]), (202, &json!("END_DUAL_CONTROL")), "{ended:?}");
    assert_eq!(two.control.get("/dual-control")["enabled"], true);
    let id = ended.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(two.decide(&two.control.owner, &id, "approve").status, 403);
    assert_eq!(two.decide(&two.second, &id, "approve").json()["state"], "DONE");
    assert_eq!(two.control.get("/dual-control")["enabled"], false);
    assert_eq!(two.control.call("POST", "/tokens", Some(&two.token("oncall"))).status, 200);
}

#[test]
fn a_new_value_of_a_direct_access_token_needs_two_as_well() {
    let two = Two::start();
    let (first, second) = (two.control.owner.clone(), two.second.clone());
    let id = two.ask();
    assert_eq!(two.decide(&second, &id, "approve").status, 200);
    let made = two.decide(&first, &id, "collect").json();
    let path = format!("/tokens/{}", made["id"].as_str().unwrap());
    let rotate = |key: &str| {
        let key = format!("Idempotency-Key: {key}");
        two.control.call_as(&first, "POST", &format!("{path}/rotate"), None, &[&key])
    };
    let asked = rotate("one");
    assert_eq!((asked.status, &asked.json()["kind"]), (202, &json!("DIRECT_ACCESS_ROTATION")), "{asked:?}");
    assert_eq!(asked.json()["request"]["tokenId"], made["id"]);
    assert!(asked.json()["message"].as_str().unwrap().contains("approve"), "{asked:?}");
    let other = rotate("two").json()["id"].as_str().unwrap().to_owned();
    let id = asked.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(two.control.get(&path)["lastRotatedAt"], Value::Null, "nothing has happened yet");
    assert_eq!(two.decide(&first, &id, "approve").status, 403);
    assert_eq!(two.decide(&first, &id, "collect").status, 409);
    assert_eq!(two.decide(&second, &id, "approve").json()["state"], "APPROVED");
    assert_eq!(two.decide(&second, &id, "collect").status, 403);
    let rotated = two.decide(&first, &id, "collect");
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let rotated = rotated.json();
    assert_eq!((&rotated["id"], &rotated["name"]), (&made["id"], &made["name"]));
    assert!(rotated["token"].is_string() && rotated["token"] != made["token"]);
    // A request covers one rotation, and is void after another rotation of the token.
    assert_eq!(two.decide(&second, &other, "approve").status, 200);
    let late = two.decide(&first, &other, "collect");
    assert_eq!((late.status, &late.json()["code"]), (409, &json!("request_state")), "{late:?}");
    assert_eq!(two.control.get(&path)["shortToken"], rotated["shortToken"]);
    // A standard token needs no approval.
    let mut standard = two.token("ci");
    standard["kind"] = json!("STANDARD");
    let standard = two.control.make("/tokens", &standard);
    let path = format!("/tokens/{}/rotate", standard["id"].as_str().unwrap());
    assert_eq!(two.control.call("POST", &path, None).status, 200);
}
