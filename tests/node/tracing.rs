//! Traces, as the collector receives them: a sampled request arrives as a span of its trace, without a secret; a failed
//! collector delays no answer; and nothing is sent unless configured.
#![cfg(feature = "otel")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::rig::{Answer, Rig, Running, authorize_with, curl, free_port, until};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Bytes of a request to the collector.
struct Arrived {
    head: String,
    body: Vec<u8>,
}

/// A collector that keeps the requests it receives.
struct Collector {
    url: String,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl Collector {
    fn start() -> Self {
        Self::listen("http", |stream| stream)
    }

    fn start_tls(directory: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(directory.join("tls.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(directory.join("tls.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        let config = Arc::new(config);
        Self::listen("https", move |stream| {
            rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(&config)).unwrap(), stream)
        })
    }

    fn listen<S: Read + Write + 'static>(
        scheme: &str,
        open: impl Fn(TcpStream) -> S + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let arrived: Arc<Mutex<Vec<Arrived>>> = Arc::default();
        let kept = Arc::clone(&arrived);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (open, kept) = (open.clone(), Arc::clone(&kept));
                std::thread::spawn(move || keep(&mut open(stream), &kept));
            }
        });
        Self { url, arrived }
    }

    fn requests<T>(&self, each: impl Fn(&ExportTraceServiceRequest) -> Vec<T>) -> Vec<T> {
        let arrived = self.arrived.lock().unwrap();
        let decoded =
            arrived.iter().map(|request| ExportTraceServiceRequest::decode(&*request.body).unwrap());
        decoded.flat_map(|request| each(&request)).collect()
    }

    /// Returns the spans of this name in the order of their arrival.
    fn spans(&self, name: &str) -> Vec<Span> {
        let mut spans = self.requests(|request| {
            let scopes = request.resource_spans.iter().flat_map(|of| &of.scope_spans);
            scopes.flat_map(|of| of.spans.clone()).collect()
        });
        spans.retain(|span| span.name == name);
        spans
    }

    fn holds(&self, what: &str) -> bool {
        let arrived = self.arrived.lock().unwrap();
        let within = |bytes: &[u8]| bytes.windows(what.len()).any(|window| window == what.as_bytes());
        arrived.iter().any(|request| within(request.head.as_bytes()) || within(&request.body))
    }
}

/// Records the requests of a connection, and answers each as a collector that accepted everything.
fn keep(stream: &mut (impl Read + Write), kept: &Mutex<Vec<Arrived>>) {
    let mut bytes = Vec::new();
    let mut some = [0; 8192];
    while let Ok(read @ 1..) = stream.read(&mut some) {
        bytes.extend_from_slice(&some[..read]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else {
            continue;
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length = head.to_ascii_lowercase();
        let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let whole = end + length.unwrap_or(0_usize);
        if bytes.len() < whole {
            continue;
        }
        let body = bytes.drain(..whole).skip(end).collect();
        kept.lock().unwrap().push(Arrived { head, body });
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?;
    match value.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Restarts the daemon of a rig with this tracing configuration.
fn with_tracing(rig: &mut Rig, tracing: &str) {
    if rig.daemon.is_some() {
        rig.kill_daemon();
    }
    std::fs::write(rig.path("halligand.toml"), format!("{}{tracing}", rig.daemon_config())).unwrap();
    rig.start_daemon();
}

/// Requests authorization as a proxy that takes part in a trace.
fn ask(rig: &Rig, token: &str, uri: &str, headers: &[&str]) -> Answer {
    authorize_with(rig.daemon_port, &rig.deployment, token, "GET", uri, headers)
}

#[test]
fn a_followed_request_arrives_as_a_span_of_its_trace_and_without_a_secret() {
    let collector = Collector::start();
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("oncall", &rig.deployment);
    with_tracing(&mut rig, &format!("[tracing]\notlp_endpoint = '{}'\nsample = 0\n", collector.url));
    rig.synced();

    // The daemon ignores these trace contexts: each is unsampled, missing, ambiguous because it occurs twice, or
    // malformed.
    let unsampled = format!("traceparent: 00-{TRACE}-{PARENT}-00");
    let sampled = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    let path = "/api/v2/dags/payroll_of_ann/dagRuns?limit=hunter2";
    for headers in [&[unsampled.as_str()][..], &[], &[&sampled, &sampled], &["traceparent: 00-0af-b7-01"]] {
        assert_eq!(ask(&rig, &token, path, headers).status, 200, "{headers:?}");
    }
    let allowed = ask(&rig, &token, path, &[&sampled, &format!("tracestate: stolen={}", &token[..20])]);
    assert_eq!(allowed.status, 200, "{allowed:?}");
    let denied = ask(&rig, "hunter3.hunter4.hunter5", path, &[&sampled]);
    assert_eq!(denied.status, 401, "{denied:?}");

    until("both spans have arrived", || collector.spans("authorize").len() >= 2);
    let spans = collector.spans("authorize");
    let [allow, deny] = spans.as_slice() else { panic!("{spans:?}") };
    for (span, answer) in [(allow, &allowed), (deny, &denied)] {
        assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.into(), PARENT.into()));
        assert_eq!(span.kind, SpanKind::Server as i32);
        assert_eq!(span.trace_state, "");
        assert!(span.start_time_unix_nano > 0 && span.end_time_unix_nano > span.start_time_unix_nano);
        assert_eq!(text(&span.attributes, "halligan.reason").as_deref(), Some(answer.reason()));
        let event = text(&span.attributes, "halligan.event");
        assert_eq!(event.as_deref(), answer.header("x-halligan-event-id"));
    }
    for (key, value) in [
        ("halligan.decision", "allow"),
        ("halligan.deployment", rig.deployment.as_str()),
        ("http.route", "/api/v2/dags/{dag_id}/dagRuns"),
        ("halligan.permission", "deployment.airflow.dagRun.get"),
    ] {
        assert_eq!(text(&allow.attributes, key).as_deref(), Some(value), "{key} of {allow:?}");
    }
    assert_eq!(text(&deny.attributes, "halligan.decision").as_deref(), Some("deny"));

    let services = collector.requests(|request| {
        let resources = request.resource_spans.iter().filter_map(|of| of.resource.as_ref());
        resources.filter_map(|resource| text(&resource.attributes, "service.name")).collect()
    });
    assert!(services.iter().all(|name| name == "halligand"), "{services:?}");

    // Spans that are queued when the daemon ends are still sent.
    let last = ask(&rig, &token, path, &[&sampled]);
    assert!(rig.daemon.take().unwrap().terminate().success());
    let last = last.header("x-halligan-event-id").unwrap();
    assert!(collector.holds(last), "the last span is lost");

    let enrolment = std::fs::read_to_string(rig.path("enrolment-token")).unwrap();
    let (_, signature) = token.rsplit_once('.').unwrap();
    for secret in
        [&token[..20], signature, &rig.owner_token, enrolment.trim(), "hunter", "payroll", "eyJ", "stolen"]
    {
        assert!(!collector.holds(secret), "{secret} has reached the collector");
    }
    for request in collector.arrived.lock().unwrap().iter() {
        let head = request.head.to_ascii_lowercase();
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
    }
}

#[test]
fn rounds_with_the_control_plane_are_told_and_a_stranger_names_no_trace() {
    let collector = Collector::start();
    let mut rig = Rig::start();
    let tracing = format!("[tracing]\notlp_endpoint = '{}'\nsample = 1.0\n", collector.url);
    let port = free_port();
    let gateway = format!(
        "[gateway]\nlisten = [\"127.0.0.1:{port}\"]\n[gateway.deployments.{}]\nupstream = \"http://127.0.0.1:1\"\n",
        rig.deployment
    );
    with_tracing(&mut rig, &format!("[proxies]\ntrusted = [\"10.0.0.0/8\"]\n{tracing}{gateway}"));
    let outcomes = |name: &str| {
        let spans = collector.spans(name);
        spans.iter().filter_map(|span| text(&span.attributes, "halligan.outcome")).collect::<Vec<_>>()
    };
    until("a round of sync is told", || outcomes("sync").iter().any(|outcome| outcome == "renewed"));

    let sampled = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    let answer = ask(&rig, "nonsense", "/api/v2/dags", &[&sampled]);
    let through = curl(&["-H", &sampled, &format!("http://127.0.0.1:{port}/api/v2/dags")]);
    until("their spans have arrived", || collector.spans("authorize").len() == 2);
    for (span, answer) in collector.spans("authorize").iter().zip([answer, through]) {
        assert_eq!(text(&span.attributes, "halligan.reason").as_deref(), Some(answer.reason()));
        assert_ne!(hex(&span.trace_id), TRACE);
        assert!(span.parent_span_id.is_empty(), "{span:?}");
    }

    // Reconciliation sends their events to the control plane.
    until("reconciliation is told", || !collector.spans("reconcile").is_empty());
    let span = &collector.spans("reconcile")[0];
    let calls = text(&span.attributes, "halligan.calls").unwrap();
    assert!(calls.parse::<u32>().unwrap() > 0, "{calls}");

    rig.kill_control();
    until("the outage is told", || outcomes("sync").iter().any(|outcome| outcome == "unreachable"));
    let spans = collector.spans("sync");
    let failed =
        spans.iter().filter(|span| span.status.as_ref().is_some_and(|it| it.code() == StatusCode::Error));
    let failed = failed.count();
    // The daemon makes several attempts a second, and logs only the first.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(outcomes("sync").iter().filter(|outcome| *outcome == "unreachable").count(), failed);
    assert_eq!(failed, 1);
}

#[test]
fn a_collector_that_is_down_or_hangs_changes_no_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let urls = [free_port(), silent.local_addr().unwrap().port()];
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("oncall", &rig.deployment);
    for port in urls {
        with_tracing(
            &mut rig,
            &format!("[tracing]\notlp_endpoint = 'http://127.0.0.1:{port}'\nsample = 1\n"),
        );
        rig.synced();
        let (began, mut slowest) = (Instant::now(), Duration::ZERO);
        // Four seconds suffice for exports to fail while more spans are queued behind them.
        while began.elapsed() < Duration::from_secs(4) {
            let asked = Instant::now();
            let answer = ask(&rig, &token, "/api/v2/dags", &[]);
            assert_eq!(answer.status, 200, "{answer:?}");
            slowest = slowest.max(asked.elapsed());
        }
        // The collector's time limit is five seconds, so an answer that waited for it would take as long.
        assert!(slowest < Duration::from_secs(4), "an answer took {slowest:?}");
        let began = Instant::now();
        assert!(rig.daemon.take().unwrap().terminate().success());
        // The shutdown waits at most two seconds for the collector; the rest allows for a busy machine.
        assert!(began.elapsed() < Duration::from_secs(10), "it took {:?} to end", began.elapsed());
    }
    let log = rig.read_log("halligand.log");
    let told = log.lines().filter(|line| line.contains("the collector does not accept spans"));
    let told = told.count();
    assert!((1..=2).contains(&told), "told once of each, not {told} times: {log}");
}

#[test]
fn nothing_is_sent_unless_it_is_configured() {
    let collector = Collector::start();
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("oncall", &rig.deployment);
    rig.synced();
    rig.kill_daemon();
    // Variables that configure other programs' tracing must not change this host's configuration.
    let mut command = rig.daemon_command();
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url).env("OTEL_TRACES_SAMPLER", "always_on");
    rig.daemon = Some(Running::start(command.stderr(rig.log("halligand.log"))));
    until("the daemon answers", || ask(&rig, &token, "/api/v2/dags", &[]).status == 200);
    let sampled = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    assert_eq!(ask(&rig, &token, "/api/v2/dags", &[&sampled]).status, 200);
    assert!(rig.daemon.take().unwrap().terminate().success());
    assert!(collector.arrived.lock().unwrap().is_empty());
}

#[test]
fn over_https_only_the_named_authority_counts_and_a_key_for_the_collector_comes_from_the_environment() {
    let mut rig = Rig::start();
    let Some(()) = crate::rig::tls::authority(rig.directory.path()) else { return };
    let collector = Collector::start_tls(rig.directory.path());
    let (_, token) = rig.direct_access_token("oncall", &rig.deployment);
    let tracing = format!("[tracing]\notlp_endpoint = '{}'\nsample = 1\n", collector.url);
    with_tracing(&mut rig, &tracing);
    rig.synced();
    assert_eq!(ask(&rig, &token, "/api/v2/dags", &[]).status, 200);
    let refused = "the collector does not accept spans";
    until("it does not trust the collector", || rig.read_log("halligand.log").contains(refused));
    assert!(collector.arrived.lock().unwrap().is_empty());

    rig.kill_daemon();
    let ca_file = format!("ca_file = '{}'\n", rig.path("ca.pem").display());
    let config = format!("{}{tracing}{ca_file}", rig.daemon_config());
    std::fs::write(rig.path("halligand.toml"), config).unwrap();
    let mut command = rig.daemon_command();
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=k1");
    rig.daemon = Some(Running::start(command.stderr(rig.log("halligand.log"))));
    until("the daemon answers", || ask(&rig, &token, "/api/v2/dags", &[]).status == 200);
    until("a span has arrived", || !collector.spans("authorize").is_empty());
    assert!(collector.holds("x-collector-key: k1"));
}

#[test]
fn a_wrong_configuration_is_refused_in_one_sentence() {
    let rig = Rig::start();
    let check = |tracing: &str| {
        std::fs::write(rig.path("halligand.toml"), format!("{}[tracing]\n{tracing}", rig.daemon_config()))
            .unwrap();
        let output = rig.daemon_command().arg("check-config").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let endpoint = "otlp_endpoint = 'http://127.0.0.1:4318'";
    assert_eq!(check(endpoint), (Some(0), String::new()));
    for (tracing, named) in [
        ("sample = 1", "otlp_endpoint"),
        ("otlp_endpoint = 'http://me:hunter2@127.0.0.1:4318'", "otlp_endpoint must be a URL"),
        (&format!("{endpoint}\nsample = 2"), "sample: 2 is out of bounds; use 0 to 1"),
        (&format!("{endpoint}\nsampel = 1"), "sampel"),
        (&format!("{endpoint}\nca_file = '/nowhere/ca.pem'"), "/nowhere/ca.pem"),
    ] {
        let (code, told) = check(tracing);
        assert_eq!(code, Some(78), "{tracing}: {told}");
        assert!(told.contains(named) && told.lines().count() == 1 && !told.contains("hunter2"), "{told}");
    }
}
