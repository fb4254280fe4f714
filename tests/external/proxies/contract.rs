//! Contract that every proxy in front of a deployment has to meet.

use halligan::dataplane::decide::routes::CanonicalPath;
use halligan::protocol::jws::{Typ, Unverified};
use halligan::protocol::key::{Jwk, PublicKey};
use serde_json::Value;

use super::edges::{self, Front};
use super::upstream::{Seen, Upstream};
use super::wire::ask;
use crate::rig::proxy::example;
use crate::rig::{Answer, Rig, curl, until};

/// A deployment and its daemon, whose control plane is down.
pub struct Setting {
    pub rig: Rig,
    pub upstream: Upstream,
    pub grpc_port: u16,
    pub token_id: String,
    pub token: String,
    /// A token that may be used from 203.0.113.0/24 only.
    pub far: String,
    elsewhere: String,
    more: String,
}

/// Header names that a client must not set.
const SPOOFED: [&str; 6] = [
    "X-Halligan-Token-Id",
    "X-Halligan-Role",
    "X-Halligan-Deployment",
    "X-Halligan-Event-Id",
    "x-halligan-token-id",
    "X-HALLIGAN-ROLE",
];

impl Setting {
    /// Prepares everything for a proxy, and kills the control plane.
    pub fn new() -> Self {
        Self::with(|_, _| String::new())
    }

    /// Does the same as `new`, with additions to the daemon's configuration. `more` gets the rig and the upstream's
    /// port.
    pub fn with(more: impl FnOnce(&Rig, u16) -> String) -> Self {
        let upstream = Upstream::start();
        let mut rig = Rig::start();
        let (token_id, token) = rig.direct_access_token("good", &rig.deployment);
        let (_, elsewhere) = rig.direct_access_token("another deployment", &rig.other_deployment);
        let from =
            ["token", "create", "-n", "far", "--direct-access", "-e", "30", "--source", "203.0.113.0/24"];
        let far = rig.json(&[&from[..], &["--deployment-id", &rig.deployment]].concat());
        let far = far["token"].as_str().unwrap().to_owned();
        rig.synced();
        rig.kill_daemon();
        let grpc_port = crate::rig::free_port();
        let more = more(&rig, upstream.port);
        rig.kill_control();
        let mut setting = Self { rig, upstream, grpc_port, token_id, token, far, elsewhere, more };
        setting.start_daemon("[upstream_identity]\n");
        setting
    }

    /// Starts the daemon with more in its configuration.
    fn start_daemon(&mut self, more: &str) {
        let listen = format!("[listen]\ngrpc = [\"127.0.0.1:{}\"]", self.grpc_port);
        let config = self.rig.daemon_config().replace("[listen]", &listen) + more + &self.more;
        std::fs::write(self.rig.path("halligand.toml"), config).unwrap();
        self.rig.start_daemon();
    }

    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Returns an example of the documentation with only its addresses replaced by this setting's.
    pub fn example(&self, name: &str) -> String {
        example(&self.rig, self.upstream.port, name)
    }

    fn ask(&self, port: u16, method: &str, target: &str, body: &str) -> Answer {
        ask(port, method, target, &[("Authorization", &self.bearer())], body)
    }

    /// Verifies the whole contract for the proxy at `port`, and kills the daemon for its last part.
    pub fn holds(&mut self, front: Front, port: u16, own: OwnAnswers) {
        until("the proxy answers", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
                && self.ask(port, "GET", "/api/v2/dags", "").status == 200
        });
        self.what_is_allowed_passes_whole(front, port);
        self.what_is_refused_says_why_and_stays_out(port);
        self.nobody_speaks_for_the_daemon(port);
        self.proxy_and_daemon_read_one_path(port);
        edges::hold(self, front, port);
        self.the_callers_token_ends_there(port);
        self.a_node_that_cant_decide_says_so(port, own.undecided);
        self.without_the_daemon_nothing_passes(port, own.down);
    }

    /// Verifies this also without the setting with which the daemon sends a token of its own in place of the caller's.
    fn the_callers_token_ends_there(&mut self, port: u16) {
        self.rig.kill_daemon();
        self.start_daemon("");
        // The gateway is the daemon itself, and may begin to listen after the daemon's other listeners.
        until("the proxy answers", || self.ask(port, "GET", "/api/v2/dags", "").status == 200);
        for name in ["X-Kept", "X-Halligan-Authorization", "X-Halligan-Role"] {
            let headers = [("Authorization", &*self.bearer()), (name, "Bearer spoofed")];
            let seen = Seen::in_answer(&ask(port, "GET", "/api/v2/dags", &headers, ""));
            assert_eq!(seen.header("authorization").unwrap_or(""), "", "{name}");
            let signature = self.token.rsplit('.').next().unwrap();
            assert!(!format!("{seen:?}").contains(signature), "the caller's token reached the upstream");
        }
    }

    /// With `proxies.pass_status` a proxy that can pass the status on answers 503 in place of 403.
    fn a_node_that_cant_decide_says_so(&mut self, port: u16, (expected, says_why): (u16, bool)) {
        self.rig.kill_daemon();
        self.start_daemon("[staleness]\nroles.DEPLOYMENT_ADMIN = 1\n[proxies]\npass_status = true\n");
        // The replica becomes stale once it is older than a second.
        until("the replica is stale", || self.ask(port, "GET", "/api/v2/dags", "").status != 200);
        let came = self.upstream.asked();
        let answer = self.ask(port, "GET", "/api/v2/dags", "");
        assert_eq!(answer.status, expected, "{answer:?}");
        if says_why {
            assert_eq!(answer.reason(), "replica_stale");
        }
        assert_eq!(self.upstream.asked(), came);
    }

    fn what_is_allowed_passes_whole(&self, front: Front, port: u16) {
        let answer = self.ask(port, "GET", "/api/v2/dags?limit=2&order_by=-dag_id", "");
        let seen = Seen::in_answer(&answer);
        assert_eq!((seen.method.as_str(), &*seen.target), ("GET", "/api/v2/dags?limit=2&order_by=-dag_id"));
        assert_eq!(answer.header("authorization"), None, "what is for the upstream is not for the client");
        self.upstream_knows_who_came(&seen);

        let body = format!("{{\"conf\":\"{}\"}}", "x".repeat(300_000));
        let seen = Seen::in_answer(&self.ask(port, "POST", "/api/v2/dags/etl/dagRuns", &body));
        assert_eq!((seen.method.as_str(), &*seen.target), ("POST", "/api/v2/dags/etl/dagRuns"));
        assert!(seen.body == body, "the body came through with {} bytes", seen.body.len());
        self.upstream_knows_who_came(&seen);

        let chunked = format!(
            "PATCH /api/v2/dags/etl HTTP/1.1\r\nHost: prod.example\r\nConnection: close\r\nAuthorization: {}\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\n{{\"a\":\r\n2\r\n1}}\r\n0\r\n\r\n",
            self.bearer()
        );
        let answer = super::wire::read(&super::wire::exchange(port, chunked.as_bytes()));
        if edges::refuses_chunks(front) {
            assert_eq!(answer.status, 411, "{answer:?}");
        } else {
            assert_eq!(Seen::in_answer(&answer).body, "{\"a\":1}");
        }
    }

    /// Verifies that the daemon's fields name the caller, and that no field has the caller's token.
    pub fn upstream_knows_who_came(&self, seen: &Seen) {
        assert_eq!(seen.header("x-halligan-token-id"), Some(&*self.token_id));
        assert_eq!(seen.header("x-halligan-role"), Some("DEPLOYMENT_ADMIN@1"));
        assert_eq!(seen.header("x-halligan-deployment"), Some(&*self.rig.deployment));
        assert!(seen.header("x-halligan-event-id").is_some());
        let signature = self.token.rsplit('.').next().unwrap();
        assert!(!format!("{seen:?}").contains(signature), "the caller's token reached the upstream");

        let jwt = seen.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
        let set = curl(&[format!("http://127.0.0.1:{}/.well-known/jwks.json", self.rig.daemon_port)]);
        let set: Value = serde_json::from_str(&set.body).unwrap();
        let key: Jwk = serde_json::from_value(set["keys"][0].clone()).unwrap();
        let key = PublicKey::from_jwk(&key).unwrap();
        let verified = Unverified::parse(jwt.as_bytes(), 4096).unwrap().verify(Typ::UpstreamIdentity, &key);
        let claims: Value = verified.unwrap().claims().unwrap();
        assert_eq!((claims["sub"].as_str(), claims["role"].as_str()), (Some(&*self.token_id), Some("OP")));
    }

    fn what_is_refused_says_why_and_stays_out(&self, port: u16) {
        let before = self.upstream.asked();
        let mut forged = self.token.clone();
        let at = forged.len() - 20;
        forged.replace_range(at..=at, if &forged[at..=at] == "A" { "B" } else { "A" });
        for (token, method, target, status, reason) in [
            (None, "GET", "/api/v2/dags", 401, "token_missing"),
            (Some("not.a.token"), "GET", "/api/v2/dags", 401, "token_malformed"),
            (Some(&*forged), "GET", "/api/v2/dags", 401, "signature_invalid"),
            (Some(&*self.elsewhere), "GET", "/api/v2/dags", 403, "wrong_deployment"),
            (Some(&*self.token), "GET", "/api/v2/nothing/here", 403, "route_unknown"),
            (Some(&*self.token), "PUT", "/api/v2/dags", 403, "route_unknown"),
        ] {
            let bearer = token.map(|token| format!("Bearer {token}"));
            let headers: Vec<_> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
            let answer = ask(port, method, target, &headers, "");
            assert_eq!((answer.status, answer.reason()), (status, reason), "{method} {target}: {answer:?}");
            let challenge = match (status, token) {
                (401, None) => Some("Bearer"),
                (401, _) => Some("Bearer error=\"invalid_token\""),
                _ => None,
            };
            assert_eq!(answer.header("www-authenticate"), challenge, "RFC 6750: {answer:?}");
            assert!(answer.header("x-halligan-event-id").is_some(), "{answer:?}");
        }
        assert_eq!(self.upstream.asked(), before, "what was refused reached the deployment");
    }

    fn nobody_speaks_for_the_daemon(&self, port: u16) {
        for name in SPOOFED {
            for value in ["admin", ""] {
                let headers = [("Authorization", &*self.bearer()), (name, value)];
                let answer = ask(port, "GET", "/api/v2/dags", &headers, "");
                self.upstream_knows_who_came(&Seen::in_answer(&answer));
            }
        }
        // A client claims another method, target or host in the fields that proxies use. The claim is refused or
        // ignored.
        let before = self.upstream.asked();
        for (name, value) in [
            ("X-Original-Method", "GET"),
            ("X-Original-URI", "/api/v2/dags"),
            ("X-Original-Host", "stage.example"),
            ("X-Forwarded-Method", "GET"),
            ("X-Forwarded-Uri", "/api/v2/dags"),
            ("X-Forwarded-Host", "stage.example"),
            ("X-HTTP-Method-Override", "GET"),
            ("X-Envoy-Original-Path", "/api/v2/dags"),
            ("X-Rewrite-URL", "/api/v2/dags"),
        ] {
            let headers = [("Authorization", &*self.bearer()), (name, value)];
            let answer = ask(port, "DELETE", "/api/v2/nothing", &headers, "");
            assert_eq!(answer.status, 403, "{name}: {answer:?}");
        }
        // A request with two tokens is denied, because the upstream might use the one that the daemon did not verify.
        let twice = [("Authorization", &*self.bearer()), ("Authorization", "Bearer other")];
        let answer = ask(port, "GET", "/api/v2/dags", &twice, "");
        assert!([400, 401].contains(&answer.status), "{answer:?}");
        assert_eq!(self.upstream.asked(), before);
        let from = "203.0.113.9";
        let spoofed = [("Authorization", &*self.bearer()), ("X-Forwarded-For", from), ("X-Real-IP", from)];
        assert_eq!(ask(port, "GET", "/api/v2/from/elsewhere", &spoofed, "").status, 403);
        let mut events = vec![];
        until("the event is written", || {
            events = self.events();
            events.iter().any(|event| event["path"] == "/api/v2/from/elsewhere")
        });
        assert!(events.iter().all(|event| event["client"] != from), "a client named its own address");
    }

    /// A path that proxy and daemon would read differently is refused; a path that passes is the one that was
    /// authorized.
    fn proxy_and_daemon_read_one_path(&self, port: u16) {
        for target in [
            "/api/v2/dags/../variables",
            "/api/v2/dags/%2e%2e/variables",
            "/api/v2/dags/.%2E/variables",
            "/api/v2/./dags",
            "/api/v2/dags/..",
            "/../api/v2/dags",
            "//api/v2/dags",
            "/api//v2/dags",
            "/api/v2/dags//",
            "/api/v2/dags%2Fetl",
            "/api/v2/dags/a%2fb",
            "/api/v2/dags/a%5cb",
            "/api/v2/dags/a\\b",
            "/api/v2/dags/%252e%252e/variables",
            "/api/v2/dags/etl;x=1",
            "/api/v2/dags;/../variables",
            "/api/v2/dags/etl%00",
            "/api/v2/dags/etl%3Fa",
            "/api/v2/dags/etl%23a",
            "/api/v2/dags#/../variables",
            "/api/v2/dags/caf%C3%A9",
            "/api/v2/dags/my%20dag",
            "/api/v2/dags/%65tl",
            "/api/v2/dags/~/dagRuns",
            "/api/v2/dags/etl?x=/../variables&y=%2e%2e",
            "http://prod.example/api/v2/dags",
            "http://stage.example/api/v2/dags",
            "/API/V2/DAGS",
        ] {
            let before = self.upstream.asked();
            let answer = self.ask(port, "GET", target, "");
            let came = self.upstream.asked() - before;
            if came == 0 {
                assert!(answer.status == 0 || (300..500).contains(&answer.status), "{target}: {answer:?}");
                continue;
            }
            let seen = Seen::in_answer(&answer);
            let path = CanonicalPath::parse(&seen.target).unwrap_or_else(|error| {
                panic!("{target} reached the deployment as {}: {error}", seen.target)
            });
            let event = seen.header("x-halligan-event-id").unwrap();
            let mut decided = None;
            until("the event is written", || {
                decided = self.events().into_iter().find(|found| found["id"] == event);
                decided.is_some()
            });
            let decided = decided.unwrap();
            assert_eq!(
                decided["path"].as_str(),
                Some(path.as_str()),
                "{target}: another path was decided about"
            );
            assert_eq!(decided["method"], *seen.method, "{target}");
        }
        for target in ["/api/v2/dags/etl", "/api/v2/dags/my%20dag", "/api/v2/dags/etl?x=a%2Fb"] {
            assert_eq!(Seen::in_answer(&self.ask(port, "GET", target, "")).target, target, "as it was sent");
        }
    }

    pub fn events(&self) -> Vec<Value> {
        let log = self.rig.cli(&["audit", "tail", "-n", "200", "--json"]).stdout;
        String::from_utf8(log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn without_the_daemon_nothing_passes(&mut self, port: u16, expected: u16) {
        self.rig.kill_daemon();
        let before = self.upstream.asked();
        for method in ["GET", "POST"] {
            let answer = self.ask(port, method, "/api/v2/dags", "");
            assert_eq!(answer.status, expected, "{answer:?}");
        }
        assert_eq!(self.upstream.asked(), before, "a request passed that nobody decided about");
    }
}

/// Statuses of a proxy's own answers.
#[derive(Clone, Copy)]
pub struct OwnAnswers {
    /// Status while the daemon can't decide, and true if the caller gets the reason.
    pub undecided: (u16, bool),
    /// Status while the daemon is down, or 0 if the proxy does not answer.
    pub down: u16,
}
