//! Promises of the control plane's API that hold for every call.

#![allow(clippy::unwrap_used)]

use crate::rig::control::Control;
use crate::rig::curl;
use serde_json::{Value, json};

fn token(name: &str, description: &str) -> Value {
    json!({ "name": name, "description": description, "type": "ORGANIZATION", "role": "ORGANIZATION_MEMBER" })
}

#[test]
fn every_change_is_on_record_with_who_from_where_and_what_came_of_it() {
    let control = Control::start("");
    let made = control.make("/workspaces", &json!({ "name": "data" }));
    let member = control
        .make("/users", &json!({ "email": "m@acme.example", "organizationRole": "ORGANIZATION_MEMBER" }));
    let refused = control.call_as(
        member["token"].as_str().unwrap(),
        "POST",
        "/workspaces",
        Some(&json!({ "name": "mine" })),
        &[],
    );
    assert_eq!(refused.status, 403);
    assert_eq!(
        control.call("DELETE", &format!("/workspaces/{}", made["id"].as_str().unwrap()), None).status,
        204
    );
    assert_eq!(control.call("POST", "/workspaces", Some(&json!({ "nam": "x" }))).status, 422);

    let log = control.get("/audit-log");
    let mut lines = log["entries"].as_array().unwrap().clone();
    // The first line records the initialization of the control plane.
    assert_eq!(lines.pop().unwrap()["call"], "init");
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["call"].as_str().unwrap(),
                line["outcome"].as_str().unwrap(),
                line["status"].as_u64().unwrap(),
                &line["target"],
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("POST /workspaces", "REFUSED", 422, &Value::Null),
            ("DELETE /workspaces/{id}", "DONE", 204, &made["id"]),
            ("POST /workspaces", "REFUSED", 403, &Value::Null),
            ("POST /users", "DONE", 200, &member["id"]),
            ("POST /workspaces", "DONE", 200, &made["id"]),
        ]
    );
    assert_eq!(lines[2]["actor"], member["id"]);
    assert_eq!(lines[2]["actorName"], "m@acme.example");
    assert_eq!(lines[2]["code"], "role_insufficient");
    assert_eq!(lines[2]["request"], Value::Null, "a refused call keeps no body");
    assert_eq!(lines[4]["request"], json!({ "name": "data" }));
    assert_eq!(lines[4]["actor"], control.owner_id);
    assert!(lines.iter().all(|line| line["address"] == "127.0.0.1"));

    for (filter, count) in [
        ("outcome=REFUSED", 2),
        ("outcome=UNKNOWN", 0),
        ("call=POST%20%2Fworkspaces", 3),
        (&format!("actor={}", control.owner_id), 4),
        (&format!("target={}", made["id"].as_str().unwrap()), 2),
        ("until=2020-01-01T00:00:00Z", 0),
        ("since=2020-01-01T00:00:00Z&outcome=DONE", 4),
    ] {
        let page = control.get(&format!("/audit-log?limit=1&{filter}"));
        assert_eq!(page["totalCount"], count, "{filter}");
        assert_eq!(page["entries"].as_array().unwrap().len(), count.min(1), "{filter}");
    }
    let asked = control.call_as(member["token"].as_str().unwrap(), "GET", "/audit-log", None, &[]);
    assert_eq!(asked.status, 403, "only owners read it");
}

#[test]
fn a_call_is_on_record_with_the_client_behind_the_proxy_or_with_nobody() {
    let control = Control::start("trusted_proxies = [\"127.0.0.0/8\"]");
    let calls: [(&[&str], Value); 8] = [
        (&[], json!("127.0.0.1")),
        (&["X-Forwarded-For: 203.0.113.9"], json!("203.0.113.9")),
        (&["X-Forwarded-For: 127.0.0.1, 203.0.113.9:4711, 127.0.0.5"], json!("203.0.113.9")),
        (&["X-Forwarded-For: \"[2001:db8::1]:80\""], json!("2001:db8::1")),
        (&["Forwarded: for=\"[2001:db8::2]:80\""], json!("2001:db8::2")),
        (&["X-Real-IP: 203.0.113.8:80"], json!("203.0.113.8")),
        (&["X-Forwarded-For: 203.0.113.9, nonsense"], Value::Null),
        (&["X-Real-IP: 203.0.113.8", "X-Forwarded-For: 203.0.113.9"], Value::Null),
    ];
    for (number, (headers, _)) in calls.iter().enumerate() {
        let body = json!({ "name": format!("w{number}") });
        let answer = control.call_as(&control.owner, "POST", "/workspaces", Some(&body), headers);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let log = control.get("/audit-log?call=POST%20%2Fworkspaces");
    let told: Vec<_> =
        log["entries"].as_array().unwrap().iter().rev().map(|line| line["address"].clone()).collect();
    assert_eq!(told, calls.map(|(_, address)| address));
}

#[test]
fn a_bearer_is_one_field_with_a_scheme_in_any_case_and_spaces() {
    let control = Control::start("");
    let url = format!("{}/v1/organizations/{}/tokens", control.url, control.organization);
    let status = |lines: &[&str]| {
        let lines =
            lines.iter().map(|line| format!("Authorization: {}", line.replace("TOKEN", &control.owner)));
        let mut arguments: Vec<String> = lines.flat_map(|line| ["-H".to_owned(), line]).collect();
        arguments.push(url.clone());
        curl(&arguments).status
    };
    for good in ["Bearer TOKEN", "bearer TOKEN", "BEARER   TOKEN", "bEARER  TOKEN"] {
        assert_eq!(status(&[good]), 200, "{good}");
    }
    for bad in
        ["TOKEN", "Bearer", "BearerTOKEN", "Bearer\tTOKEN", "Basic TOKEN", "Bearer TOKEN, Bearer TOKEN"]
    {
        assert_eq!(status(&[bad]), 401, "{bad}");
    }
    assert_eq!(status(&["Bearer TOKEN", "Bearer TOKEN"]), 401);
    assert_eq!(status(&["Bearer TOKEN", "Basic eA=="]), 401);
    assert_eq!(status(&["Basic eA==", "Bearer TOKEN"]), 401);
}

/// Invisible characters and control characters of terminals are refused in names and reach no terminal.
#[test]
fn what_people_read_gives_no_commands_to_their_terminal() {
    let control = Control::start("");
    for name in [
        "a\u{1b}[31m",
        "a\u{9b}31m",
        "a\u{202e}b",
        "a\u{200b}b",
        "a\u{2028}b",
        "\u{feff}a",
        "a\u{ad}b",
        "a\u{e0041}",
    ] {
        for (path, body) in [
            ("/workspaces", json!({ "name": name })),
            ("/teams", json!({ "name": name, "organizationRole": "ORGANIZATION_MEMBER" })),
            ("/tokens", token(name, "")),
        ] {
            let answer = control.call("POST", path, Some(&body));
            assert_eq!(
                (answer.status, answer.json()["code"].as_str().unwrap()),
                (422, "invalid"),
                "{path} {name:?}"
            );
        }
    }
    let description = "see\u{1b}]0;title\u{7}\u{9b}31m \u{202e}gpj\u{2028}\r\nFAKE  line \u{e9}";
    let made = control.make("/tokens", &token("plain", description));
    for arguments in [
        &["token", "show", made["id"].as_str().unwrap()][..],
        &["token", "show", made["id"].as_str().unwrap(), "--json"],
        &["token", "list", "--json"],
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_halligan"))
            .args(arguments)
            .env("HALLIGAN_URL", &control.url)
            .env("HALLIGAN_API_TOKEN", &control.owner)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains('\u{e9}'), "{arguments:?}: {text}");
        let seen = |character: char| character == '\n' || !halligan::platform::text::is_unseen(character);
        assert!(text.chars().all(seen), "{arguments:?}: {text:?}");
        assert!(!text.lines().any(|line| line.trim_start().starts_with("FAKE")), "{text}");
        if arguments[1..] == ["show", made["id"].as_str().unwrap(), "--json"] {
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["description"], description);
        }
    }
}

#[test]
fn every_refusal_is_a_problem_that_says_what_to_do() {
    let control = Control::start("");
    let organization = format!("{}/v1/organizations/{}", control.url, control.organization);
    let bearer = format!("Authorization: Bearer {}", control.owner);
    let large = "x".repeat(70 * 1024);
    let cases: [(&[&str], u16, &str); 12] = [
        (&["/nothing"], 404, "not_found"),
        (&["-X", "PUT", "/tokens"], 405, "method_not_allowed"),
        (&["/tokens?limit=many"], 400, "malformed"),
        (&["/tokens?limit=1001"], 422, "invalid"),
        (&["/tokens?sorts=shoe-size"], 400, "malformed"),
        (&["/tokens?limit=1&limit=2"], 400, "malformed"),
        (&["/tokens?color=red"], 400, "unknown_parameter"),
        (&["-X", "POST", "/tokens?name=x"], 400, "unknown_parameter"),
        (&["-d", "name=x", "/workspaces"], 415, "not_json"),
        (&["-H", "Content-Type: application/json", "-d", "{", "/workspaces"], 400, "malformed"),
        (&["-H", "Content-Type: application/json", "-d", &large, "/workspaces"], 413, "too_large"),
        (&["-H", "Authorization: Basic eA==", "/tokens"], 401, "unauthenticated"),
    ];
    for (arguments, status, code) in cases {
        let (path, options) = arguments.split_last().unwrap();
        let mut all: Vec<&str> = options.to_vec();
        if !options.iter().any(|option| option.starts_with("Authorization")) {
            all.extend(["-H", &bearer]);
        }
        let url = format!("{organization}{path}");
        all.push(&url);
        let answer = curl(&all);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        let problem = answer.json();
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{path}");
        assert!(problem["detail"].as_str().unwrap().len() > 10, "{problem}");
        assert_eq!(
            (&problem["message"], &problem["statusCode"]),
            (&problem["detail"], &json!(status)),
            "{problem}"
        );
        assert_eq!(problem["requestId"].as_str().unwrap().len(), 25, "{problem}");
        assert!(problem["fieldErrors"].is_array(), "{problem}");
        assert_eq!(answer.header("allow").is_some(), status == 405);
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
    }
}

#[test]
fn who_calls_too_often_is_told_when_to_come_back() {
    let control = Control::start("[limits]\ncalls_per_minute = 5\nfailures_per_minute = 3");
    let url = format!("{}/v1/organizations", control.url);
    let statuses: Vec<u16> =
        (0..4).map(|_| curl(&["-H", "Authorization: Bearer wrong", &url]).status).collect();
    assert_eq!(statuses, [401, 401, 401, 429]);
    // A valid token is still accepted from this address, until it exceeds its own limit.
    let bearer = format!("Authorization: Bearer {}", control.owner);
    let answers: Vec<_> = (0..6).map(|_| curl(&["-H", &bearer, &url])).collect();
    assert!(answers[..5].iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(answers[5].status, 429);
    let seconds: u64 = answers[5].header("retry-after").unwrap().parse().unwrap();
    assert!((1..=13).contains(&seconds), "{seconds}");
    assert_eq!(answers[5].json()["code"], "rate_limited");
}

#[test]
fn a_list_gives_what_was_asked_for_a_page_at_a_time() {
    let control = Control::start("");
    for (name, description) in [("b", ""), ("a", "50% done"), ("c_1", ""), ("cx1", "")] {
        control.make("/tokens", &token(name, description));
    }
    let names = |query: &str| -> Vec<String> {
        let page = control.get(&format!("/tokens?{query}"));
        let tokens = page["tokens"].as_array().unwrap();
        tokens.iter().map(|token| token["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("sorts=name:asc"), ["a", "b", "c_1", "cx1"]);
    assert_eq!(names("sorts=name:desc&limit=2&offset=1"), ["c_1", "b"]);
    assert_eq!(names("sorts=description:desc&sorts=name:desc"), ["a", "cx1", "c_1", "b"]);
    assert_eq!(names("sorts=tokenStartAt:asc&sorts=updatedAt:desc&sorts=name:asc&limit=0").len(), 0);
    assert_eq!(names("search=C_"), ["c_1"], "what is searched for is no pattern");
    assert_eq!(names("search=50%25"), ["a"]);
    assert_eq!(names(&format!("createdBy={}&scope=ORGANIZATION&kind=STANDARD", control.owner_id)).len(), 4);
    assert_eq!(names("kind=DIRECT_ACCESS").len(), 0);
    assert_eq!(control.get("/tokens?search=c&limit=1")["totalCount"], 2);
    // A member gets neither the organization's tokens nor their number.
    let member = control.make("/tokens", &token("looks on", ""));
    let seen = control.call_as(member["token"].as_str().unwrap(), "GET", "/tokens", None, &[]);
    assert_eq!(seen.json()["totalCount"], 0);
}

fn key(key: &str) -> [String; 1] {
    [format!("Idempotency-Key: \"{key}\"")]
}

#[test]
fn a_repeated_call_makes_one_token_and_shows_the_same_value() {
    let control = Control::start("");
    let call = |path: &str, body: Option<&Value>, key: &[String]| {
        let fields: Vec<&str> = key.iter().map(String::as_str).collect();
        control.call_as(&control.owner, "POST", path, body, &fields)
    };
    let (one, two) = (token("ci", ""), token("ci", "another"));
    let first = call("/tokens", Some(&one), &key("a"));
    // A second later, a new token would have another `iat`; the retry must return the token of the first call.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let repeat = call("/tokens", Some(&one), &key("a"));
    assert_eq!((first.status, repeat.status), (200, 200), "{repeat:?}");
    assert_eq!(first.json(), repeat.json());
    assert_eq!(control.get("/tokens")["totalCount"], 1);
    let other = call("/tokens", Some(&two), &key("a"));
    assert_eq!((other.status, &other.json()["code"]), (422, &json!("idempotency_key_reused")));
    assert_eq!(call("/tokens", Some(&two), &key("b")).status, 200);

    let rotate = format!("/tokens/{}/rotate", first.json()["id"].as_str().unwrap());
    let (rotated, repeat) = (call(&rotate, None, &key("c")), call(&rotate, None, &key("c")));
    assert_eq!(rotated.json(), repeat.json());
    assert_ne!(rotated.json()["token"], first.json()["token"]);
    // The first value is revoked, so a retry must not return it.
    let late = call("/tokens", Some(&one), &key("a"));
    assert_eq!((late.status, &late.json()["code"]), (409, &json!("idempotency_key_superseded")));
    assert!(!late.body.contains("eyJ"), "{late:?}");
    // A call without a key, or with another caller's key, is executed each time.
    assert_eq!(call(&rotate, None, &[]).status, 200);
    assert_eq!(call("/tokens", Some(&one), &["Idempotency-Key: sp ace".into()]).status, 400);
}

#[test]
fn what_has_changed_since_it_was_seen_is_left_as_it_is() {
    let control = Control::start("");
    let made = control.make("/tokens", &token("ci", ""));
    let path = format!("/tokens/{}", made["id"].as_str().unwrap());
    let tag = control.call("GET", &path, None).header("etag").unwrap().to_owned();
    let update = |name: &str, tag: &str| {
        let field = format!("If-Match: {tag}");
        control.call_as(&control.owner, "POST", &path, Some(&json!({ "name": name })), &[&field])
    };
    let first = update("mine", &tag);
    assert_eq!(first.status, 200);
    let second = update("yours", &tag);
    assert_eq!((second.status, &second.json()["code"]), (412, &json!("stale")));
    assert_eq!(control.get(&path)["name"], "mine");
    assert_eq!(update("yours", first.header("etag").unwrap()).status, 200);
    // The header If-Match is optional.
    assert_eq!(control.call("POST", &path, Some(&json!({ "name": "hers" }))).status, 200);
    let used = control.call_as(made["token"].as_str().unwrap(), "GET", "/workspaces", None, &[]);
    assert_eq!(used.status, 200, "{used:?}");
    let seen = control.call("GET", &path, None);
    assert!(
        seen.json()["lastUsedAt"].is_string() && seen.json()["lastUsedOn"] == "control-plane",
        "{seen:?}"
    );
}

#[test]
fn no_call_ignores_a_condition_that_does_not_hold() {
    let control = Control::start("");
    let workspace =
        control.make("/workspaces", &json!({ "name": "data" }))["id"].as_str().unwrap().to_owned();
    let plane = control.make("/data-planes", &json!({ "name": "eu" }))["id"].as_str().unwrap().to_owned();
    let deployment =
        control
            .make("/deployments", &json!({ "name": "prod", "workspaceId": workspace, "dataPlaneId": plane }))
            ["id"]
            .as_str()
            .unwrap()
            .to_owned();
    let made = control.make("/tokens", &token("ci", ""));
    let path = format!("/tokens/{}", made["id"].as_str().unwrap());
    let seen = |tag: &str| format!("If-Match: {tag}");
    let call = |method: &str, path: &str, body: Option<&Value>, tag: &str| {
        control.call_as(&control.owner, method, path, body, &[&seen(tag)])
    };
    let assignment = json!({ "tokenId": made["id"], "role": "DEPLOYMENT_ADMIN" });
    control.make(&format!("/deployments/{deployment}/tokens"), &assignment);
    let assigned = format!("/deployments/{deployment}{path}");
    let role = json!({ "role": "DEPLOYMENT_ADMIN" });
    let roles = json!({ "roles": [{ "entityType": "ORGANIZATION", "entityId": control.organization, "role": "ORGANIZATION_MEMBER" }] });
    // Each call sends an outdated tag, also for objects that have no tag.
    for (method, path, body) in [
        ("POST", path.clone(), Some(json!({ "name": "mine" }))),
        ("DELETE", path.clone(), None),
        ("POST", format!("{path}/rotate"), None),
        ("POST", format!("{path}/roles"), Some(roles)),
        ("POST", assigned.clone(), Some(role.clone())),
        ("DELETE", assigned.clone(), None),
        ("DELETE", format!("/deployments/{deployment}"), None),
        ("POST", format!("/deployments/{deployment}"), Some(json!({ "name": "x" }))),
        ("DELETE", format!("/workspaces/{workspace}"), None),
        ("DELETE", format!("/users/{}", control.owner_id), None),
        ("POST", format!("/users/{}/token", control.owner_id), None),
        ("POST", "/workspaces".to_owned(), Some(json!({ "name": "more" }))),
        ("POST", "/tokens".to_owned(), Some(token("more", ""))),
    ] {
        let answer = call(method, &path, body.as_ref(), "\"AAAAAAAAAAAAAAAAAAAAAA\"");
        assert_eq!((answer.status, &answer.json()["code"]), (412, &json!("stale")), "{method} {path}");
        let none = path == "/tokens" || path.starts_with("/workspaces") || path.starts_with("/users");
        let said = answer.json()["detail"].as_str().unwrap().contains("has no ETag");
        assert_eq!(said, none, "{method} {path}: {answer:?}");
    }
    assert_eq!(control.get(&path)["name"], "ci", "nothing has changed");
    assert_eq!(control.get("/workspaces")["totalCount"], 1);
    // The same calls with the current tag succeed.
    let tag = |path: &str| control.call("GET", path, None).header("etag").unwrap().to_owned();
    let before = tag(&path);
    assert_eq!(call("POST", &format!("{path}/rotate"), None, &before).status, 200);
    assert_eq!(call("DELETE", &path, None, &before).status, 412, "it was rotated meanwhile");
    assert_eq!(call("POST", &assigned, Some(&role), &tag(&path)).status, 200);
    assert_eq!(call("DELETE", &assigned, None, &tag(&path)).status, 204);
    assert_eq!(call("DELETE", &path, None, &tag(&path)).status, 204);
    assert_eq!(call("DELETE", &format!("/deployments/{deployment}"), None, "*").status, 204);
}

#[test]
fn who_follows_cursors_sees_each_item_once_while_others_insert() {
    let control = Control::start("");
    let name = |number: usize| format!("{:04}", number * 10);
    for number in 0..8 {
        control.make("/tokens", &token(&name(number), ""));
        control.make("/teams", &json!({ "name": name(number), "organizationRole": "ORGANIZATION_MEMBER" }));
    }
    for (list, member, query) in [
        ("/tokens", "tokens", "sorts=name:asc"),
        ("/tokens", "tokens", "sorts=name:desc"),
        ("/tokens", "tokens", "sorts=createdAt:desc"),
        ("/tokens", "tokens", "sorts=endAt:asc"),
        ("/tokens", "tokens", "sorts=updatedAt:desc"),
        ("/teams", "teams", ""),
        ("/audit-log", "entries", "call=POST%20/teams"),
    ] {
        let before = control.get(&format!("{list}?limit=1000&{query}"));
        let ids = |page: &Value| -> Vec<Value> {
            page[member].as_array().unwrap().iter().map(|item| item["id"].clone()).collect()
        };
        let (mut seen, mut cursor, mut round) = (Vec::new(), String::new(), 0);
        loop {
            let page = control.get(&format!("{list}?limit=3&{query}{cursor}"));
            seen.extend(ids(&page));
            // Rows are inserted before and after the page that was returned.
            for place in ["0000", "9999"].iter().filter(|_| round < 20) {
                let name = format!("{place} {member} {query} {round}");
                control.make("/tokens", &token(&name, ""));
                control.make("/teams", &json!({ "name": name, "organizationRole": "ORGANIZATION_MEMBER" }));
            }
            round += 1;
            assert!(round < 400);
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let once: std::collections::BTreeSet<String> = seen.iter().map(Value::to_string).collect();
        assert_eq!(once.len(), seen.len(), "{list} {query}: an item was shown twice");
        assert!(ids(&before).iter().all(|id| seen.contains(id)), "{list} {query}: an item was left out");
    }
    for name in ["a", "b", "c"] {
        let role = json!({ "name": name, "scopeType": "DAG", "permissions": ["deployment.airflow.dag.get"] });
        control.make("/roles", &role);
    }
    let roles = control.get("/roles?limit=2");
    let next = control.get(&format!("/roles?limit=1000&cursor={}", roles["nextCursor"].as_str().unwrap()));
    let total = usize::try_from(roles["totalCount"].as_u64().unwrap()).unwrap();
    assert_eq!(next["roles"].as_array().unwrap().len(), total - 2);
    let cursor = control.get("/tokens?limit=1")["nextCursor"].as_str().unwrap().to_owned();
    for bad in [
        format!("/tokens?cursor={cursor}&offset=1"),
        format!("/tokens?cursor={cursor}&sorts=name:asc"),
        format!("/teams?cursor={cursor}"),
        "/tokens?cursor=AAAA".to_owned(),
    ] {
        assert_eq!(control.call("GET", &bad, None).status, 422, "{bad}");
    }
}

#[test]
fn no_deployment_takes_the_host_of_another_in_any_spelling() {
    let control = Control::start("");
    let id = |made: Value| made["id"].as_str().unwrap().to_owned();
    let plane = id(control.make("/data-planes", &json!({ "name": "eu" })));
    let deploy = |name: &str, host: &[&str]| {
        let workspace = id(control.make("/workspaces", &json!({ "name": name })));
        let new = json!({ "name": name, "workspaceId": workspace, "dataPlaneId": plane, "hosts": host });
        control.call("POST", "/deployments", Some(&new))
    };
    let first = deploy("a", &["Prod.Example.", "prod.example"]);
    assert_eq!((first.status, &first.json()["hosts"]), (200, &json!(["prod.example"])));
    for (name, host) in [("b", "prod.example."), ("c", "PROD.example"), ("d", "prod.example")] {
        let taken = deploy(name, &[host]);
        assert_eq!((taken.status, &taken.json()["code"]), (409, &json!("host_taken")), "{host}");
    }
    for (name, host) in [("e", "prod.example.."), ("f", "."), ("g", "a..b"), ("h", "prod.example:443")] {
        assert_eq!(deploy(name, &[host]).status, 422, "{host}");
    }
}

#[test]
fn a_key_that_does_not_fit_its_certificate_is_found_before_the_start() {
    let control = Control::start("");
    let directory = control.directory.path();
    for name in ["one", "two"] {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
        let made = crate::rig::tls::certificate(directory, "DNS:control.example", &key, &certificate);
        let Some(()) = made else { return };
    }
    let path = directory.join("control.toml");
    let base = std::fs::read_to_string(&path).unwrap();
    let run = |verb: &str, certificate: &str, key: &str| {
        let [certificate, key] = [certificate, key].map(|name| directory.join(name));
        let tls = format!("[tls]\ncertificate = '{}'\nkey = '{}'\n", certificate.display(), key.display());
        std::fs::write(&path, format!("{base}{tls}")).unwrap();
        let output = control.program().arg(verb).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run("check-config", "one.pem", "one.key").0, Some(0));
    for (certificate, key, words) in [
        ("one.pem", "two.key", "can't be used together"),
        ("one.key", "one.key", "can't be used together"),
        ("one.pem", "one.pem", "one.pem can't be used"),
        ("none.pem", "one.key", "none.pem can't be used"),
    ] {
        // `serve` exits with a code that systemd retries, because the certificate may be about to be renewed.
        for (verb, refused) in [("check-config", 78), ("serve", 69)] {
            let (code, said) = run(verb, certificate, key);
            assert!(code == Some(refused) && said.contains(words), "{certificate} {key}: {code:?} {said}");
        }
    }
}
