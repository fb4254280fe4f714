//! Edge cases of every proxy in tables: requests of a client and their results at nginx, both versions of Caddy,
//! HAProxy, Traefik, Envoy over HTTP and over gRPC, and the gateway. A row names the proxies whose result differs.

use super::contract::Setting;
use super::upstream::Seen;
use super::wire::{ask, exchange, read};
use crate::rig::{Answer, curl, until};

/// Proxy in front of the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    Nginx,
    Caddy,
    Haproxy,
    Traefik,
    EnvoyHttp,
    EnvoyGrpc,
    Gateway,
}

/// Value that a client sends in reserved header fields.
const SPOOFED: &str = "spoofed-by-the-client";

/// Fields that never reach the deployment with a client's value.
const NOT_A_CLIENTS: &[&str] = &[
    "X-Halligan-Token-Id",
    "X-Halligan-Role",
    "X-Halligan-Deployment",
    "X-Halligan-Event-Id",
    "X-Halligan-Reason",
    "X-Halligan-Replica-Age",
    "X-Halligan-Authorization",
    "x-HALLIGAN-replica-age",
    "X-Halligan-Admin",
    "X-Halligan-",
    "X_Halligan_Role",
    "X-Halligan_Role",
    "X_Halligan-Token-Id",
    "x_halligan_admin",
    "X.Halligan.Role",
    "X-Halligan.Role",
    "X~Halligan~Role",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Server",
    "X-Forwarded-Prefix",
    "X-Forwarded-User",
    "X-Forwarded-Ssl",
    "X-Forwarded-Access-Token",
    "X-Forwarded",
    "X_Forwarded_For",
    "X-Forwarded_Proto",
    "X_Forwarded-Host",
    "X.Forwarded.For",
    "Forwarded",
    "X-Real-IP",
    "X_Real_IP",
    "X-Real_IP",
    "X.Real.IP",
    "X-Original-URL",
    "X_Original_URL",
    "X-Original-Host",
    "X-Original-Forwarded-For",
    "X-Rewrite-URL",
    "X_Rewrite_URL",
    "X-HTTP-Method-Override",
    "X_HTTP_Method_Override",
    "X-HTTP-Method",
    "X-Method-Override",
];

/// A target, and the status and reason of the answer.
struct Row {
    target: &'static str,
    expected: Expected,
}

enum Expected {
    /// The request reaches the deployment unchanged.
    Passes,
    /// The daemon refuses it.
    Refused(&'static str),
    /// The daemon refuses the request, or one of these proxies refuses it with status 400 and no reason.
    RefusedOrBy(&'static str, &'static [Front]),
    /// The daemon refuses the request with the first reason, or with another one behind these proxies, which change the
    /// target.
    RefusedOrAs(&'static str, &'static [(Front, &'static str)]),
}
use Expected::{Passes, Refused, RefusedOrAs, RefusedOrBy};

const ENVOY: &[Front] = &[Front::EnvoyHttp, Front::EnvoyGrpc];
const STRICT: &[Front] = &[Front::EnvoyHttp, Front::EnvoyGrpc, Front::Haproxy, Front::Traefik];

const fn row(target: &'static str, expected: Expected) -> Row {
    Row { target, expected }
}

const ROWS: &[Row] = &[
    // Airflow declares that keys of variables, names of pools and keys of XComs may contain slashes.
    row("/api/v2/variables/team/key", Passes),
    row("/api/v2/variables/team%2Fkey", Passes),
    row("/api/v2/variables/a%2fb%2Fc", Passes),
    row("/api/v2/pools/team%2Fpool", Passes),
    row("/api/v2/dags/etl/dagRuns/r/taskInstances/t/xcomEntries/team%2Fkey", Passes),
    row("/api/v2/dags/etl%2Fb", Refused("path_invalid")),
    row("/api/v2/connections/a%2Fb", Refused("path_invalid")),
    row("/api/v2/variables%2Fteam", Refused("path_invalid")),
    row("/api/v2/variables/..%2Fdags", Refused("path_invalid")),
    row("/api/v2/variables/a%2F%2Fb", Refused("path_invalid")),
    row("/api/v2/connections/a/b", Refused("route_unknown")),
    // Control characters of both ranges (C0 and C1), because a terminal also takes C1 for commands.
    row("/api/v2/dags/a%C2%9B31m", Refused("path_invalid")),
    row("/api/v2/dags/a%C2%80", Refused("path_invalid")),
    row("/api/v2/dags/a%c2%9f", Refused("path_invalid")),
    row("/api/v2/dags/a%1B", Refused("path_invalid")),
    row("/api/v2/dags/a%7F", Refused("path_invalid")),
    // RFC 3986 does not allow these characters in a target. Some proxies refuse them by themselves.
    row("/api/v2/dags#b", RefusedOrAs("path_invalid", &[(Front::Caddy, "route_unknown")])),
    row("/api/v2/dags?a=#b", RefusedOrBy("path_invalid", STRICT)),
    row("/api/v2/dags?a=\"b\"", Refused("path_invalid")),
    row("/api/v2/dags?a=<b", Refused("path_invalid")),
    row("/api/v2/dags?a=b>", Refused("path_invalid")),
    row("/api/v2/dags?a=`b`", Refused("path_invalid")),
    row("/api/v2/dags?a=\u{e9}", RefusedOrBy("path_invalid", STRICT)),
    row("/api/v2/dags?a=%22%3C%23%C3%A9", Passes),
    row("/api/v2/dags?a={b}|[c]", Passes),
];

/// Request lines with their `Host`, and the proxies that pass them on. Other proxies refuse them by themselves; the
/// gateway refuses them as it refuses any request that is not for exactly one host.
const HOSTS: &[(&str, &[Front])] = &[
    ("GET /api/v2/dags HTTP/1.1", &[Front::Haproxy]),
    // The older version of Caddy passes this request on, and the newer one does not.
    (
        "GET /api/v2/dags HTTP/1.1\r\nHost:",
        &[Front::Caddy, Front::Haproxy, Front::Traefik, Front::EnvoyHttp, Front::EnvoyGrpc],
    ),
    (
        "GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\nHost: prod.example",
        &[Front::Haproxy, Front::EnvoyHttp, Front::EnvoyGrpc],
    ),
    ("GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\nhost: stage.example", ENVOY),
    ("GET /api/v2/dags HTTP/1.1\r\nHost: prod.example, stage.example", &[Front::Haproxy]),
    ("GET /api/v2/dags HTTP/1.1\r\nHost: prod.example/x", &[Front::Haproxy]),
    ("GET /api/v2/dags HTTP/1.0", &[Front::Nginx, Front::Caddy, Front::Haproxy, Front::Traefik]),
    (
        "GET /api/v2/dags HTTP/1.0\r\nHost: prod.example",
        &[Front::Nginx, Front::Caddy, Front::Haproxy, Front::Traefik],
    ),
    ("CONNECT prod.example:443 HTTP/1.1\r\nHost: prod.example:443", &[]),
    ("CONNECT prod.example HTTP/1.1\r\nHost: prod.example", &[]),
];

/// Trailers of a client, each of which would have a meaning as a header.
const TRAILERS: [&str; 5] = [
    "X-Halligan-Role: spoofed-by-the-client",
    "X_Halligan_Token_Id: spoofed-by-the-client\r\nX-Kept: 1",
    "X-Forwarded-For: spoofed-by-the-client\r\nForwarded: for=spoofed-by-the-client",
    "Authorization: Bearer spoofed-by-the-client",
    "X-HTTP-Method-Override: spoofed-by-the-client",
];

/// Proxies that pass a deployment's trailers on to the client.
const HANDS_TRAILERS_ON: &[Front] = &[Front::Caddy, Front::Haproxy, Front::Traefik];

/// Returns true if a proxy refuses a body without a length, because it cannot remove its trailers.
pub fn refuses_chunks(front: Front) -> bool {
    front == Front::Haproxy
}

/// Verifies every row for the proxy at `port`.
pub fn hold(setting: &Setting, front: Front, port: u16) {
    names_that_are_not_a_clients_do_not_reach_the_deployment(setting, front, port);
    a_deployment_does_not_speak_for_the_daemon(setting, front, port);
    the_client_is_who_connects_whatever_it_says(setting, front, port);
    what_connection_names_arrives_all_the_same(setting, front, port);
    a_bearer_is_read_as_its_grammar_has_it(setting, front, port);
    a_request_may_have_many_headers(setting, front, port);
    what_a_parser_refuses_has_a_reason(front, port);
    a_request_is_for_one_host_where_the_table_says_so(setting, front, port);
    no_trailer_of_a_client_reaches_the_deployment(setting, front, port);
    a_deployments_trailers_are_handed_on_where_the_page_says_so(setting, front, port);
    for Row { target, expected } in ROWS {
        let bearer = setting.bearer();
        let came = setting.upstream.asked();
        let answer = ask(port, "GET", target, &[("Authorization", &bearer)], "");
        let what = format!("{target} at {front:?}: {answer:?}");
        let refused = |reason: &str| {
            assert_eq!((answer.status, answer.header("x-halligan-reason")), (403, Some(reason)), "{what}");
            assert!(answer.header("x-halligan-event-id").is_some(), "{what}");
        };
        if answer.status == 400 && ENVOY.contains(&front) {
            // Envoy itself refused the request, and its configuration adds the daemon's reason.
            assert_eq!(answer.header("x-halligan-reason"), Some("path_invalid"), "{what}");
            assert_eq!(answer.json()["code"], "path_invalid", "{what}");
        }
        match expected {
            Passes => {
                assert_eq!(answer.status, 200, "{what}");
                // Traefik writes percent-encodings with capital letters.
                let seen = Seen::in_answer(&answer).target;
                assert!(seen.eq_ignore_ascii_case(target), "{what}");
            }
            RefusedOrBy(_, fronts) if answer.status == 400 && fronts.contains(&front) => {}
            Refused(reason) | RefusedOrBy(reason, _) => refused(reason),
            RefusedOrAs(..) if answer.status == 400 && STRICT.contains(&front) => {}
            RefusedOrAs(reason, fronts) => {
                let other = fronts.iter().find(|(other, _)| *other == front);
                refused(other.map_or(*reason, |(_, reason)| *reason));
            }
        }
        let expected = came + usize::from(matches!(expected, Passes));
        assert_eq!(setting.upstream.asked(), expected, "{what}");
    }
}

/// Verifies that the daemon's fields about the caller have arrived.
fn named(setting: &Setting, answer: &Answer) -> Seen {
    let seen = Seen::in_answer(answer);
    setting.upstream_knows_who_came(&seen);
    seen
}

fn names_that_are_not_a_clients_do_not_reach_the_deployment(setting: &Setting, front: Front, port: u16) {
    for name in NOT_A_CLIENTS {
        let headers = [("Authorization", &*setting.bearer()), (name, SPOOFED), ("X-Kept", "kept")];
        let answer = ask(port, "GET", "/api/v2/dags", &headers, "");
        let what = format!("{name} at {front:?}: {answer:?}");
        // nginx removes fields only by their names. The daemon refuses a field whose name nginx does not know.
        let by_name = front == Front::Nginx && ["X-Halligan-Admin", "X-Halligan-"].contains(name);
        if by_name {
            assert_eq!((answer.status, answer.reason()), (403, "path_invalid"), "{what}");
            continue;
        }
        // A proxy may refuse an unusual field name.
        if answer.status == 400 && !name.contains('-') {
            continue;
        }
        assert_eq!(answer.status, 200, "{what}");
        let seen = named(setting, &answer);
        assert_eq!(seen.header("x-kept"), Some("kept"), "{what}");
        let values = seen.headers.values().flatten();
        assert!(values.clone().all(|value| !value.contains(SPOOFED)), "{what}");
    }
}

/// The deployment answers with fields under the daemon's names, which must not reach the client.
fn a_deployment_does_not_speak_for_the_daemon(setting: &Setting, front: Front, port: u16) {
    let headers = [("Authorization", &*setting.bearer())];
    let answer = ask(port, "GET", "/api/v2/dags", &headers, "");
    assert_eq!(answer.status, 200, "{front:?}: {answer:?}");
    assert!(answer.headers.to_ascii_lowercase().contains("x-upstream: kept"), "{front:?}: {answer:?}");
    assert!(!answer.headers.contains("spoofed-by-the-deployment"), "{front:?}: {answer:?}");
}

fn the_client_is_who_connects_whatever_it_says(setting: &Setting, front: Front, port: u16) {
    let far = format!("Bearer {}", setting.far);
    for (name, value) in [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-For", "203.0.113.9:4711"),
        ("X-Forwarded-For", "unknown"),
        ("X-Real-IP", "203.0.113.9:443"),
        ("Forwarded", "for=203.0.113.9"),
        ("Forwarded", "for=\"203.0.113.9:4711\";proto=https"),
        ("True-Client-IP", "203.0.113.9"),
        ("Connection", "X-Forwarded-For, X-Real-IP, Forwarded, close"),
    ] {
        let headers = [("Authorization", &*far), (name, value)];
        let answer = ask(port, "GET", "/api/v2/dags", &headers, "");
        if answer.status == 400 && name == "Connection" && ENVOY.contains(&front) {
            continue;
        }
        let found = (answer.status, answer.header("x-halligan-reason"));
        assert_eq!(found, (403, Some("source_not_allowed")), "{name}: {value} at {front:?}");

        let headers = [("Authorization", &*setting.bearer()), (name, value), ("X-Forwarded-Proto", "https")];
        let seen = named(setting, &ask(port, "GET", "/api/v2/dags", &headers, ""));
        assert_eq!(seen.header("x-forwarded-proto"), Some("http"), "{front:?}");
        let client = seen.header("x-forwarded-for").unwrap().to_owned();
        // Envoy treats a client on loopback as its own host.
        let own = matches!(front, Front::EnvoyHttp | Front::EnvoyGrpc);
        let told =
            if own { !client.contains(',') && !client.starts_with("203.") } else { client == "127.0.0.1" };
        assert!(told, "{name}: {value} at {front:?} became {client}");
        let event = seen.header("x-halligan-event-id").unwrap();
        let mut recorded = None;
        until("the event is written", || {
            recorded = setting.events().into_iter().find(|found| found["id"] == event);
            recorded.is_some()
        });
        let recorded = recorded.unwrap()["client"].as_str().unwrap_or("nobody").to_owned();
        assert!(own || recorded == client, "{name}: {value} at {front:?} was recorded as {recorded}");
    }
}

/// A proxy removes the fields that `Connection` names (RFC 9110 section 7.6.1), but not the fields that it adds itself.
fn what_connection_names_arrives_all_the_same(setting: &Setting, front: Front, port: u16) {
    for named_there in [
        "X-Halligan-Token-Id, X-Halligan-Role, close",
        "close, x-halligan-deployment, X-HALLIGAN-EVENT-ID",
        "close, X-Forwarded-For, X-Forwarded-Method, X-Forwarded-Uri, X-Original-URI, X-Original-Method",
        "close, Host, Content-Length, X-Halligan-Authorization",
    ] {
        let lines = format!(
            "GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\nAuthorization: {}\r\nConnection: {named_there}\r\n\r\n",
            setting.bearer()
        );
        let answer = read(&exchange(port, lines.as_bytes()));
        // Envoy refuses a `Connection` field that names a field that Envoy adds.
        if answer.status == 400 && ENVOY.contains(&front) {
            continue;
        }
        assert_eq!(answer.status, 200, "{named_there} at {front:?}: {answer:?}");
        let seen = named(setting, &answer);
        assert!(seen.header("x-forwarded-for").is_some(), "{named_there} at {front:?}");
    }
    // The proxy may drop the token before it asks the daemon, which then denies the request. Otherwise the daemon's
    // fields must arrive.
    let lines = format!(
        "GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\nAuthorization: {}\r\nConnection: Authorization, close\r\n\r\n",
        setting.bearer()
    );
    let answer = read(&exchange(port, lines.as_bytes()));
    match answer.status {
        200 => drop(named(setting, &answer)),
        400 if ENVOY.contains(&front) => {}
        status => assert_eq!((status, answer.reason()), (401, "token_missing"), "{front:?}"),
    }
}

fn a_bearer_is_read_as_its_grammar_has_it(setting: &Setting, front: Front, port: u16) {
    let token = setting.bearer().split_off("Bearer ".len());
    for (value, status) in [
        (format!("bearer {token}"), 200),
        (format!("BEARER {token}"), 200),
        (format!("Bearer  {token}"), 200),
        (format!("Bearer     {token}"), 200),
        (format!("Bearer{token}"), 401),
        (format!("Basic {token}"), 401),
        (format!("Bearer {token}, Bearer {token}"), 401),
        (format!("Bearer \"{token}\""), 401),
    ] {
        let answer = ask(port, "GET", "/api/v2/dags", &[("Authorization", &value)], "");
        assert_eq!(answer.status, status, "{} at {front:?}: {answer:?}", &value[..12]);
    }
}

fn a_request_may_have_many_headers(setting: &Setting, front: Front, port: u16) {
    let names: Vec<String> = (0..200).map(|number| format!("X-Many-{number}")).collect();
    for count in [97, 99, 120, 200] {
        let mut headers = vec![("Authorization", setting.bearer())];
        headers.extend(names[..count].iter().map(|name| (name.as_str(), "1".to_owned())));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = ask(port, "GET", "/api/v2/dags", &headers, "");
        assert_eq!(answer.status, 200, "{count} headers at {front:?}: {answer:?}");
    }
}

fn a_request_is_for_one_host_where_the_table_says_so(setting: &Setting, front: Front, port: u16) {
    for (lines, fronts) in HOSTS {
        let before = setting.upstream.asked();
        let token = setting.bearer();
        let request = format!("{lines}\r\nConnection: close\r\nAuthorization: {token}\r\n\r\n");
        let answer = read(&exchange(port, request.as_bytes()));
        let came = setting.upstream.asked() - before;
        let what = format!("{lines:?} at {front:?}: {answer:?}");
        if front == Front::Gateway {
            assert_eq!(
                (answer.status, answer.header("x-halligan-reason")),
                (403, Some("path_invalid")),
                "{what}"
            );
            assert!(answer.header("x-halligan-event-id").is_some(), "{what}");
        }
        if answer.status == 200 {
            assert!(fronts.contains(&front) && came == 1, "{what}");
            named(setting, &answer);
        } else {
            let older = front == Front::Caddy && lines.ends_with("Host:");
            assert!(answer.status >= 400 && came == 0 && (older || !fronts.contains(&front)), "{what}");
        }
    }
}

/// Some servers (uvicorn with httptools) treat a trailer as a late header.
fn no_trailer_of_a_client_reaches_the_deployment(setting: &Setting, front: Front, port: u16) {
    for fields in TRAILERS {
        // The trailers are sent with and without an announcement.
        for announced in ["", "TE: trailers\r\nTrailer: X-Halligan-Role, X-Forwarded-For, X-Kept\r\n"] {
            let before = setting.upstream.asked();
            let request = format!(
                "PATCH /api/v2/dags/etl HTTP/1.1\r\nHost: prod.example\r\nConnection: close\r\nAuthorization: {}\r\n\
                 Content-Type: application/json\r\n{announced}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n{fields}\r\n\r\n",
                setting.bearer()
            );
            let answer = read(&exchange(port, request.as_bytes()));
            let what = format!("{fields:?} {announced:?} at {front:?}: {answer:?}");
            if refuses_chunks(front) {
                assert_eq!((answer.status, setting.upstream.asked()), (411, before), "{what}");
                continue;
            }
            let seen = named(setting, &answer);
            assert_eq!((&*seen.body, seen.trailers.as_slice()), ("{}", &[][..]), "{what}");
            assert!(seen.headers.values().flatten().all(|value| !value.contains(SPOOFED)), "{what}");
        }
    }
    if refuses_chunks(front) {
        // Over HTTP/2 any request may have trailers, so this proxy refuses HTTP/2.
        let before = setting.upstream.asked();
        let bearer = format!("Authorization: {}", setting.bearer());
        let url = format!("http://127.0.0.1:{port}/api/v2/dags");
        let answer = curl(&["--http2-prior-knowledge", "-H", &bearer, &url]);
        assert_eq!((answer.status, setting.upstream.asked()), (505, before), "{answer:?}");
    }
}

fn a_deployments_trailers_are_handed_on_where_the_page_says_so(setting: &Setting, front: Front, port: u16) {
    let request = format!(
        "GET /api/v2/dags HTTP/1.1\r\nHost: prod.example\r\nConnection: close\r\nAuthorization: {}\r\nTE: trailers\r\n\
         X-Answer-With-Trailers: 1\r\n\r\n",
        setting.bearer()
    );
    let answer = String::from_utf8(exchange(port, request.as_bytes())).unwrap();
    let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("spoofed") && rest.contains("ok"), "{front:?}: {answer}");
    assert_eq!(rest.contains("spoofed"), HANDS_TRAILERS_ON.contains(&front), "{front:?}: {answer}");
}

/// Only Envoy and the gateway give a reason; other proxies answer with their own errors to what their parsers refuse.
fn what_a_parser_refuses_has_a_reason(front: Front, port: u16) {
    if front != Front::Gateway && !ENVOY.contains(&front) {
        return;
    }
    let fields = "X-Many: 1\r\n".repeat(1100);
    for (lines, status) in [
        ("GET /api/v2/dags HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2", 400),
        ("GET /api/v2/dags HTTP/1.1\r\nHost: a\r\nX Y: b", 400),
        ("GET /api/v2/dags HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: foo, chunked", 400),
        (&format!("GET /api/v2/dags HTTP/1.1\r\nHost: a\r\n{}", fields.trim_end()), 431),
    ] {
        let answer = read(&exchange(port, format!("{lines}\r\nConnection: close\r\n\r\n").as_bytes()));
        let what = format!("{} at {front:?}: {answer:?}", &lines[..lines.len().min(90)]);
        // Envoy answers 501 to an unknown transfer coding.
        assert!(answer.status == status || answer.status == 501, "{what}");
        if answer.status != 501 {
            assert_eq!(answer.header("x-halligan-reason"), Some("path_invalid"), "{what}");
        }
    }
}
