//! Services can query whether a standard token is active and which keys sign tokens.

#![allow(clippy::unwrap_used)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::rig::control::Control;
use crate::rig::{Answer, curl};

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn ask(control: &Control, client: &str, form: &[(&str, &str)]) -> Answer {
    let mut arguments = vec!["-u".to_owned(), client.to_owned()];
    for (name, value) in form {
        arguments.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
    }
    arguments.push(format!("{}/v1/introspect", control.url));
    curl(&arguments)
}

fn client(token: &Value) -> String {
    format!("{}:{}", text(&token["id"]), text(&token["token"]))
}

#[test]
fn a_service_with_client_credentials_learns_what_a_standard_token_is() {
    let control = Control::start("");
    let estate = control.estate();
    let service = control.make(
        "/tokens",
        &json!({ "name": "registry", "scope": "ORGANIZATION", "role": "ORGANIZATION_MEMBER" }),
    );
    let service = client(&service);
    let new = json!({ "name": "ci", "scope": "DEPLOYMENT", "entityId": estate.deployment, "role": "DEPLOYMENT_ADMIN",
        "tokenExpiryPeriodInDays": 1 });
    let made = control.make("/tokens", &new);
    let value = text(&made["token"]);
    let answer = ask(&control, &service, &[("token", value)]);
    assert_eq!(answer.status, 200, "{answer:?}");
    let found = answer.json();
    assert_eq!(
        (&found["active"], &found["sub"], &found["username"]),
        (&json!(true), &made["id"], &json!("ci"))
    );
    assert_eq!(found["organizationId"], control.organization);
    assert!(found["exp"].is_i64() && found["permissions"].is_null(), "{found}");
    assert_eq!(
        found["roles"][0],
        json!({ "entityType": "DEPLOYMENT", "entityId": estate.deployment, "role": "DEPLOYMENT_ADMIN" })
    );
    let here = ask(&control, &service, &[("token", value), ("deployment", &estate.deployment)]).json();
    assert!(here["permissions"].to_string().contains("deployment.environmentVariables.create"), "{here}");
    let there = ask(&control, &service, &[("token", value), ("deployment", &estate.elsewhere)]).json();
    assert_eq!((&there["active"], &there["permissions"]), (&json!(true), &json!([])));
    assert_eq!(ask(&control, &service, &[("token", value), ("deployment", "c0")]).status, 404);
    // For every value that is not an active standard token, the answer is `active: false` without a reason.
    let new = json!({ "name": "d", "scope": "DEPLOYMENT", "kind": "DIRECT_ACCESS", "entityId": estate.deployment,
        "tokenExpiryPeriodInDays": 1 });
    let direct = control.make("/tokens", &new);
    assert_eq!(control.call("POST", &format!("/tokens/{}/rotate", text(&made["id"])), None).status, 200);
    for token in [text(&direct["token"]), &control.owner, value, "a.b.c", ""] {
        let answer = ask(&control, &service, &[("token", token)]);
        assert_eq!((answer.status, answer.json()), (200, json!({ "active": false })), "{token}");
    }
}

#[test]
fn who_is_no_client_learns_nothing() {
    let control = Control::start("");
    let estate = control.estate();
    let standard = |name: &str, body: Value| {
        let mut new = json!({ "name": name });
        new.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        control.make("/tokens", &new)
    };
    let member = standard("m", json!({ "scope": "ORGANIZATION", "role": "ORGANIZATION_MEMBER" }));
    let on_deployment = standard("d", json!({ "scope": "DEPLOYMENT", "entityId": estate.deployment }));
    let value = text(&member["token"]).to_owned();
    let other = format!("{}:{value}", text(&on_deployment["id"]));
    for client in [other.as_str(), &format!(":{value}"), "x:y", &format!("{}:wrong", text(&member["id"]))] {
        let answer = ask(&control, client, &[("token", &value)]);
        assert_eq!(answer.status, 401, "{answer:?}");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Basic"), "{answer:?}");
        assert!(!answer.body.contains("active"));
    }
    let refused = ask(&control, &client(&on_deployment), &[("token", &value)]);
    assert_eq!(refused.status, 403, "a deployment's token is no member of the organization: {refused:?}");
    assert_eq!(ask(&control, &client(&member), &[("tokn", &value)]).status, 422);
    // A call without client credentials is handled as a node's call.
    let url = format!("{}/v1/introspect", control.url);
    let bearer = format!("Authorization: Bearer {value}");
    assert_eq!(curl(&["-H", &bearer, "-d", "token=x&deployment=y", &url]).status, 401);
}

#[test]
fn the_keys_that_sign_tokens_are_public() {
    let control = Control::start("");
    let made = control
        .make("/tokens", &json!({ "name": "ci", "scope": "ORGANIZATION", "role": "ORGANIZATION_MEMBER" }));
    let answer = curl(&[format!("{}/.well-known/jwks.json", control.url)]);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.header("cache-control").unwrap().contains("max-age"));
    let header = text(&made["token"]).split('.').next().unwrap().to_owned();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    let set = answer.json();
    let key = set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).unwrap();
    assert_eq!((&key["kty"], &key["crv"], &key["use"]), (&json!("OKP"), &json!("Ed25519"), &json!("sig")));
    assert_eq!((&key["alg"], &key["d"]), (&json!("EdDSA"), &Value::Null));
    let keyset = std::fs::read_to_string(control.directory.path().join("control/keysets.ndjson")).unwrap();
    let keyset: Value = serde_json::from_str(keyset.lines().last().unwrap()).unwrap();
    let body = URL_SAFE_NO_PAD.decode(text(&keyset["payload"])).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let of_tokens = body["keys"].as_array().unwrap().iter().filter(|key| key["use"] == "token").count();
    assert_eq!(set["keys"].as_array().unwrap().len(), of_tokens, "the keys of heads are not among them");
}
