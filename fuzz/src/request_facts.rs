//! Facts about a request that a proxy states. The input is the head of an HTTP/1.1 request, parsed by the parser that
//! hyper uses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use halligan::dataplane::decide::routes::{CanonicalPath, RouteMap};
use halligan::dataplane::decide::snapshot::Snapshot;
use halligan::dataplane::decide::{Now, RequestFacts, Target, decide};
use halligan::dataplane::faces::http::{Original, Question, Reading, Room};
use halligan::platform::net::fields::Fields as _;
use halligan::platform::net::{bearer, forwarded};
use halligan::protocol::permission::deployment_admin;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Request};
use ipnet::IpNet;

use super::WORLD;
use super::world::{DEPLOYMENT, T0, World};

const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const ENVOY: &str = "/v1/ext_authz/dep_a";

static TRUSTED: LazyLock<[IpNet; 2]> =
    LazyLock::new(|| ["127.0.0.0/8", "10.0.0.0/8"].map(|network| network.parse().unwrap()));
static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| WORLD.snapshot(World::records(1)));
static TOKEN: LazyLock<String> = LazyLock::new(|| WORLD.value(0));

/// Checks that only a trusted peer can state facts, each once and all in one family of headers. An allowed request has
/// a canonical path, a route, a permission of the role, and the only valid token. The fast path must read the same
/// facts.
pub fn check(data: &[u8]) -> bool {
    let (request, mut room) = (request(data), Room::default());
    if let Reading::Question(question) = Question::read(data, &mut room) {
        let Some(request) = &request else { panic!("a question that is no request") };
        same(&question, request);
    }
    let Some(request) = request else { return false };
    let headers = &request.headers;
    assert!(Original::read(headers, STRANGER, &*TRUSTED).is_err(), "a stranger tells");
    assert!(Original::behind(0, &request, STRANGER, &*TRUSTED).is_err(), "a stranger tells");
    named(headers);
    let told = Original::read(headers, PROXY, &*TRUSTED).ok().inspect(|original| once(headers, original));
    let asked = request.uri.path().starts_with(ENVOY).then(|| behind(&request)).flatten();
    let by_host = told.as_ref().is_some_and(|told| decided(headers, told, Target::Host(&told.host_name())));
    let by_id = told.iter().chain(&asked).any(|told| decided(headers, told, Target::Id(DEPLOYMENT)));
    by_host || by_id
}

fn request(data: &[u8]) -> Option<Parts> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut read = httparse::Request::new(&mut headers);
    if !read.parse(data).ok()?.is_complete() {
        return None;
    }
    let mut request = Request::builder().method(read.method?).uri(read.path?);
    for header in read.headers.iter() {
        request = request.header(header.name, header.value);
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// Checks that the fast path, which reads in place, finds the same as the parsed request.
fn same(question: &Question<'_, '_>, request: &Parts) {
    let path = question.deployment.map_or("/v1/authorize".to_owned(), |id| format!("/v1/authorize/{id}"));
    assert_eq!((request.uri.to_string(), request.method.as_str()), (path, Question::METHOD));
    assert!(
        !request.headers.contains_key("content-length") && !request.headers.contains_key("transfer-encoding")
    );
    assert_eq!(bearer::token_of(question.fields), bearer::token_of(&request.headers));
    assert_eq!(question.fields.only("traceparent"), request.headers.only("traceparent"));
    for peer in [PROXY, STRANGER] {
        let read = Original::read(question.fields, peer, &*TRUSTED);
        assert_eq!(read, Original::read(&request.headers, peer, &*TRUSTED));
        let client = forwarded::client(question.fields, peer, &*TRUSTED);
        assert_eq!(client, forwarded::client(&request.headers, peer, &*TRUSTED));
    }
}

/// Checks the facts against the number of headers of each name.
fn once(headers: &HeaderMap, original: &Original<'_>) {
    let mut stands: BTreeMap<&str, Vec<&[u8]>> = BTreeMap::new();
    for (name, value) in headers {
        stands.entry(name.as_str()).or_default().push(value.as_bytes());
    }
    let count = |name: &str| stands.get(name).map_or(0, Vec::len);
    let families = ["x-original-", "x-forwarded-"].map(|family| {
        let of = |what: &str| count(&format!("{family}{what}"));
        (family, of("method"), of("uri"))
    });
    let [(family, ..)] =
        families.into_iter().filter(|(_, method, uri)| method + uri > 0).collect::<Vec<_>>()[..]
    else {
        panic!("two families tell, or none")
    };
    let only = |what: &str| {
        let name = format!("{family}{what}");
        assert_eq!(count(&name), 1, "{name}");
        stands[name.as_str()][0]
    };
    assert_eq!((only("method"), only("uri")), (original.method.as_bytes(), original.uri.as_bytes()));
    for name in ["x-original-host", "x-forwarded-host", "host", "x-real-ip"] {
        assert!(count(name) <= 1, "{name} stands twice");
    }
    let name = [format!("{family}host"), "host".into()].into_iter().find(|name| count(name) > 0);
    assert_eq!(original.host.is_some(), name.is_some());
    if let (Some(host), Some(name)) = (original.host, name) {
        assert_eq!(host.as_bytes(), stands[name.as_str()][0]);
        let (host, sent) = (original.host_name(), host.to_ascii_lowercase().into_bytes());
        assert!(sent.starts_with(host.as_bytes()));
        // A host name is compared without the dot at its end.
        let rest = &sent[host.len()..];
        let port = rest.strip_prefix(b".").unwrap_or(rest);
        assert!(port.is_empty() || port[0] == b':' && port[1..].iter().all(u8::is_ascii_digit), "{port:?}");
    }
}

/// Checks that the client is the peer, or an address that a header states.
fn named(headers: &HeaderMap) {
    let Some(client) = forwarded::client(headers, PROXY, &*TRUSTED).filter(|client| *client != PROXY) else {
        return;
    };
    let told = ["x-real-ip", "x-forwarded-for", "forwarded"].iter().flat_map(|name| headers.get_all(*name));
    let mut words = told.flat_map(|value| value.as_bytes().split(|byte| b",;=".contains(byte)));
    let parsed = |text: &[u8]| forwarded::address(std::str::from_utf8(text).ok()?);
    assert!(words.any(|word| parsed(word) == Some(client)), "a client nobody named");
}

/// Reads the question of Envoy, which has a prefix before the path.
fn behind(request: &Parts) -> Option<Original<'_>> {
    let original = Original::behind(ENVOY.len(), request, PROXY, &*TRUSTED).ok()?;
    assert_eq!(original.method, request.method.as_str());
    assert_eq!(format!("{ENVOY}{}", original.uri), request.uri.path_and_query()?.as_str());
    Some(original)
}

fn decided(headers: &HeaderMap, original: &Original<'_>, deployment: Target<'_>) -> bool {
    // The token is five hundred bytes that no mutation survives, so a word stands for it.
    let token =
        bearer::token_of(headers).map(|token| if token == b"TOKEN" { TOKEN.as_bytes() } else { token });
    let facts = RequestFacts {
        deployment,
        method: original.method,
        uri: original.uri,
        client: forwarded::client(headers, PROXY, &*TRUSTED),
    };
    let decision = decide(token, &facts, &SNAPSHOT, Now { wall: T0, floor: T0 });
    assert_eq!(decision.allowed(), decision.reason().code() == "ok");
    let found = decision.facts();
    assert!(found.mutating || found.route.is_some() || matches!(facts.method, "GET" | "HEAD"));
    if !decision.allowed() {
        assert!(decision.reason().status() >= 400);
        return false;
    }
    assert_eq!(token, Some(TOKEN.as_bytes()));
    assert_eq!(found.deployment, Some(&DEPLOYMENT.parse().unwrap()));
    assert!(matches!(deployment, Target::Id(DEPLOYMENT) | Target::Host("a.example")), "{deployment:?}");
    let path = CanonicalPath::parse(original.uri).unwrap();
    assert_eq!(found.path, Some(path.as_str()));
    let map = RouteMap::airflow_v2();
    let found = map.find(original.method, &path).unwrap();
    assert!(found.route.permissions.is_subset(deployment_admin()), "more than the role may do");
    assert_eq!(decision.facts().mutating, !matches!(original.method, "GET" | "HEAD"));
    true
}
