//! The webhook reports the first use of a direct-access token and every late use, at least once, even if the endpoint
//! fails or a program is killed, and does not delay anything else.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::rig::control::Control;
use crate::rig::{Rig, component, free_port, tls, until};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

const SECRET: &str = "whsec_aGFsbGlnYW4gdGVzdHMgc2lnbiB3aXRoIHRoaXMuLi4=";
const NEXT_SECRET: &str = "whsec_bmV4dCBvbmUgdGhhdCB0YWtlcyBpdHMgcGxhY2UuLi4=";
/// Secret part of a receiver's path, which must not appear in logs.
const PATH: &str = "/hooks/n0b0dy-gu3sses-th1s";

/// Reactions of an endpoint to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Answer(u16),
    /// A redirect to a path that would accept the call.
    Redirect,
    /// No answer until the caller gives up.
    Hang,
    /// The connection ends without an answer.
    Break,
    /// An answer without an end.
    Endless,
}

/// A call as the endpoint received it.
#[derive(Clone, Debug)]
struct Call {
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
    act: Act,
}

impl Call {
    fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    fn taken(&self) -> bool {
        matches!(self.act, Act::Answer(200..300) | Act::Endless)
    }

    fn body(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Reactions of the endpoint: a sequence, and the reaction after its end.
struct Script(VecDeque<Act>, Act);

/// An endpoint that follows a script and records its calls.
#[derive(Clone)]
struct Endpoint {
    script: Arc<Mutex<Script>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Endpoint {
    fn start(port: u16, script: &[Act], then: Act) -> Self {
        Self::start_with(port, script, then, |stream| Box::new(stream))
    }

    fn start_with(
        port: u16,
        script: &[Act],
        then: Act,
        open: impl Fn(TcpStream) -> Box<dyn Stream> + Send + 'static,
    ) -> Self {
        let endpoint = Self {
            script: Arc::new(Mutex::new(Script(script.iter().copied().collect(), then))),
            calls: Arc::default(),
        };
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let own = endpoint.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (own, mut stream) = (own.clone(), open(stream));
                // Each connection has its own thread, so that a caller that hangs up ends only its own call.
                std::thread::spawn(move || own.serve(&mut stream, port));
            }
        });
        endpoint
    }

    fn serve(&self, stream: &mut dyn Stream, port: u16) -> std::io::Result<()> {
        let mut reader = BufReader::new(&mut *stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if path.is_empty() {
            return Ok(());
        }
        let act = {
            let mut script = self.script.lock().unwrap();
            let then = script.1;
            script.0.pop_front().unwrap_or(then)
        };
        let body = String::from_utf8(body).unwrap();
        self.calls.lock().unwrap().push(Call { path, headers, body, act });
        match act {
            Act::Answer(status) => {
                write!(stream, "HTTP/1.1 {status} Said\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")?;
            }
            Act::Redirect => write!(
                stream,
                "HTTP/1.1 307 There\r\nlocation: http://127.0.0.1:{port}/elsewhere\r\ncontent-length: 0\r\n\r\n"
            )?,
            Act::Hang => drop(stream.read(&mut [0])),
            Act::Break => {}
            Act::Endless => {
                write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                while write!(stream, "4\r\nmore\r\n").is_ok() {}
            }
        }
        Ok(())
    }

    /// Replaces the script for the calls that follow.
    fn does(&self, script: &[Act], then: Act) {
        *self.script.lock().unwrap() = Script(script.iter().copied().collect(), then);
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    fn taken(&self) -> Vec<Call> {
        self.calls().into_iter().filter(Call::taken).collect()
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Verifies calls with the library of the specification's authors: all are valid, and each becomes invalid when
/// changed.
fn verify(calls: &[Call], secret: &str) {
    let Some(python) = component("/opt/halligan-webhook/bin/python") else { return };
    let script = "
import json, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
secret, calls = json.load(sys.stdin)
webhook = Webhook(secret)
for headers, body in calls:
    assert webhook.verify(body, headers) == json.loads(body)
    later = dict(headers, **{'webhook-timestamp': str(int(headers['webhook-timestamp']) + 1)})
    for changed in [(body + ' ', headers), (body, later), (body, dict(headers, **{'webhook-id': 'msg_x'}))]:
        try:
            webhook.verify(*changed)
            sys.exit('a changed message is believed')
        except WebhookVerificationError:
            pass
";
    let calls: Vec<_> = calls.iter().map(|call| json!([call.headers, call.body])).collect();
    let mut child = Command::new(python).args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(json!([secret, calls]).to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Returns the webhook table of a configuration, and writes the secret file that it names.
fn table(directory: &Path, url: &str, more: &str) -> String {
    let secret = directory.join("webhook.secret");
    write_secret(&secret, SECRET);
    format!("[webhook]\nurl = \"{url}\"\nsecret_file = '{}'\n{more}\n", secret.display())
}

fn write_secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Starts a rig whose control plane calls an endpoint on `port`.
fn rig(port: u16, more: &str, metrics: u16) -> Rig {
    let mut rig = Rig::start();
    rig.kill_control();
    let table = table(rig.directory.path(), &format!("http://127.0.0.1:{port}{PATH}"), more);
    rig.control_extra = format!("metrics_listen = \"127.0.0.1:{metrics}\"\n{table}");
    rig.start_control(rig.control_port);
    rig
}

fn use_of(rig: &Rig, token: &str) -> u16 {
    rig.authorize(token, "POST", "/api/v2/dags/etl/dagRuns").status
}

/// Returns the number that a query of the control plane's database selects.
fn count(rig: &Rig, query: &str) -> u64 {
    let connection = rusqlite::Connection::open(rig.path("control/control.db")).unwrap();
    connection.query_row(query, [], |row| row.get(0)).unwrap()
}

const WAITING: &str = "SELECT count(*) FROM announcement WHERE done_at IS NULL";

fn kind(call: &Call) -> String {
    call.body()["type"].as_str().unwrap().to_owned()
}

#[test]
fn everything_is_told_though_the_endpoint_fails_in_every_way_and_the_control_plane_is_killed() {
    let (port, metrics) = (free_port(), free_port());
    let mut rig = rig(port, "timeout_seconds = 1", metrics);
    let own = rig.control_port;
    let (good_id, good) = rig.direct_access_token("good", &rig.deployment);
    let (late_id, late) = rig.direct_access_token("revoked above", &rig.deployment);
    rig.synced();

    // The endpoint is not listening.
    for _ in 0..3 {
        assert_eq!(use_of(&rig, &good), 200);
    }
    until("it was tried in vain", || count(&rig, "SELECT coalesce(sum(attempts), 0) FROM announcement") >= 2);

    // During an outage, a token is revoked at the control plane and is used further on the host.
    rig.kill_control();
    // On a slow machine another outage may have been noted while the control plane restarted with the webhook.
    until("the node knows of the outage", || {
        let list = rig.json(&["outage", "list"]);
        list.as_array().is_some_and(|list| list.iter().any(|outage| outage["state"] == "open"))
    });
    assert_eq!(use_of(&rig, &late), 200);
    let other = free_port();
    rig.start_control(other);
    let url = format!("http://127.0.0.1:{other}");
    let deleted =
        rig.cli_command().env("HALLIGAN_URL", url).args(["token", "delete", &late_id, "--force"]).output();
    assert!(deleted.unwrap().status.success());
    rig.kill_control();
    // Recorded times are whole seconds, so the later event needs a later second.
    std::thread::sleep(Duration::from_millis(1100));
    for _ in 0..3 {
        assert_eq!(use_of(&rig, &late), 200, "the node can't know");
    }

    // The control plane is killed while the endpoint delays its answer, and restarts.
    let endpoint = Endpoint::start(port, &[], Act::Hang);
    rig.start_control(own);
    until("it gave up waiting", || {
        rig.read_log("control.log").contains("it did not answer within 1 seconds")
    });
    let told = endpoint.calls().len();
    until("it is told something again", || endpoint.calls().len() > told);
    rig.kill_control();
    endpoint.does(&[Act::Answer(500), Act::Redirect, Act::Break, Act::Endless], Act::Answer(204));
    rig.start_control(own);
    until("all of it was told", || {
        count(&rig, "SELECT count(*) FROM announcement WHERE done_at IS NOT NULL") == 5
    });
    rig.kill_control();
    rig.start_control(own);

    let calls = endpoint.calls();
    assert!(calls.iter().all(|call| call.path == PATH), "a redirect was followed: {calls:#?}");
    assert!(calls.iter().any(|call| call.act == Act::Redirect) && calls.len() > 6, "{calls:#?}");
    verify(&calls, SECRET);
    let mut bodies: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for call in &calls {
        assert_eq!(call.headers["content-type"], "application/json");
        bodies.entry(call.id()).or_default().insert(&call.body);
    }
    assert_eq!(bodies.len(), 5, "each is one id: {bodies:#?}");
    assert!(bodies.values().all(|bodies| bodies.len() == 1), "each attempt says the same: {bodies:#?}");
    let taken = endpoint.taken();
    assert_eq!(taken.len(), 5, "what was taken is not told again: {taken:#?}");

    let told = |kind_of: &str, id: &str| -> Vec<Value> {
        let calls = taken.iter().filter(|call| kind(call) == kind_of).map(Call::body);
        calls.filter(|body| body["data"]["use"]["tokenId"] == id).collect()
    };
    let first = told("direct_access.first_use", &good_id);
    assert_eq!(first.len(), 1, "three uses, one of which is the first");
    let data = &first[0]["data"];
    assert_eq!((&data["firstEver"], &data["outageId"]), (&true.into(), &Value::Null));
    assert_eq!((&data["tokenName"], &data["dataPlaneId"]), (&"good".into(), &rig.data_plane.clone().into()));
    assert_eq!(data["use"]["deploymentId"], *rig.deployment);
    assert_eq!(data["organizationId"].as_str().unwrap().len(), 25);
    let first = told("direct_access.first_use", &late_id);
    assert_eq!(first.len(), 1);
    let outage = first[0]["data"]["outageId"].as_str().unwrap();
    let late_uses = told("direct_access.late_use", &late_id);
    assert_eq!(late_uses.len(), 3, "{taken:#?}");
    for told in &late_uses {
        let data = &told["data"];
        assert_eq!((&data["ended"], &data["outageId"]), (&"revoked".into(), &outage.into()));
        assert!(data["use"]["time"].as_i64() > data["endedAt"].as_i64(), "{told}");
    }
    let events: BTreeSet<_> =
        late_uses.iter().map(|told| told["data"]["use"]["eventId"].to_string()).collect();
    assert_eq!(events.len(), 3);

    assert_eq!(count(&rig, WAITING), 0);
    let metrics = crate::rig::metrics(metrics);
    for line in [
        "halligan_control_announcements_waiting 0",
        "halligan_control_announcement_age_seconds 0",
        &format!("halligan_control_late_uses_total{{data_plane=\"{}\"}} 3", rig.data_plane),
    ] {
        assert!(metrics.lines().any(|told| told == line), "{line} is not in {metrics}");
    }
    let log = rig.read_log("control.log");
    assert!(
        log.contains("the webhook did not accept an announcement")
            && log.contains("redirects are not followed"),
        "{log}"
    );
    for secret in [&SECRET[6..], PATH, &good, &late] {
        assert!(!log.contains(secret) && !metrics.contains(secret), "a secret is told");
    }
}

#[test]
fn an_endpoint_that_hangs_holds_up_nobody() {
    let (port, metrics) = (free_port(), free_port());
    let endpoint = Endpoint::start(port, &[], Act::Hang);
    let mut rig = rig(port, "timeout_seconds = 60", metrics);
    let (_, one) = rig.direct_access_token("one", &rig.deployment);
    let (_, other) = rig.direct_access_token("other", &rig.deployment);
    rig.synced();
    assert_eq!(use_of(&rig, &one), 200);
    until("the endpoint hangs", || endpoint.calls().len() == 1);
    let began = Instant::now();
    for _ in 0..10 {
        rig.json(&["deployment", "list"]);
    }
    assert_eq!(use_of(&rig, &other), 200);
    until("the next use has arrived", || count(&rig, WAITING) == 2);
    let told = crate::rig::metrics(metrics);
    assert!(told.contains("halligan_control_announcements_waiting 2\n"), "{told}");
    assert!(rig.control.take().unwrap().terminate().success(), "it ends in good order");
    assert!(began.elapsed() < Duration::from_secs(45), "somebody waited for the endpoint");
    assert_eq!(count(&rig, WAITING), 2, "neither is lost");

    endpoint.does(&[], Act::Answer(200));
    rig.start_control(rig.control_port);
    until("both are told", || count(&rig, WAITING) == 0);
    let (hung, taken) = (endpoint.calls().remove(0), endpoint.taken());
    assert_eq!(taken.len(), 2);
    assert!(taken.iter().any(|call| call.id() == hung.id()), "the one that hung has the same id");

    // During the replacement of a secret both sign, so that a receiver with either of them can verify every message.
    let secret = rig.path("webhook.secret");
    write_secret(&secret, &format!("{NEXT_SECRET}\n{SECRET}\n"));
    rig.control.as_ref().unwrap().signal("HUP");
    until("it reads its files anew", || rig.read_log("control.log").contains("signs with the keys"));
    let (_, third) = rig.direct_access_token("third", &rig.deployment);
    rig.synced();
    assert_eq!(use_of(&rig, &third), 200);
    until("it is told", || endpoint.taken().len() == 3);
    let last = &endpoint.taken()[2..];
    verify(last, SECRET);
    verify(last, NEXT_SECRET);
    // An unusable file leaves the current secret in force.
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    rig.control.as_ref().unwrap().signal("HUP");
    until("it says so", || rig.read_log("control.log").contains("the earlier secret stays in force"));
    let (_, fourth) = rig.direct_access_token("fourth", &rig.deployment);
    rig.synced();
    assert_eq!(use_of(&rig, &fourth), 200);
    until("it is told all the same", || endpoint.taken().len() == 4);
    verify(&endpoint.taken()[3..], NEXT_SECRET);
}

/// Returns a TLS configuration for `name` with a self-signed certificate for 127.0.0.1.
fn served(directory: &Path, name: &str) -> Option<rustls::ServerConfig> {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    tls::certificate(directory, "IP:127.0.0.1", &key, &certificate)?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let chain = vec![CertificateDer::from_pem_file(directory.join(certificate)).unwrap()];
    let key = PrivateKeyDer::from_pem_file(directory.join(key)).unwrap();
    Some(rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap())
}

#[test]
fn an_endpoint_behind_tls_is_told_only_if_it_is_who_it_should_be() {
    let directory = tempfile::tempdir().unwrap();
    let [own, foreign] = ["own", "foreign"].map(|name| served(directory.path(), name));
    let (Some(own), Some(_)) = (own, foreign) else { return };
    let own = Arc::new(own);
    let port = free_port();
    let endpoint = Endpoint::start_with(port, &[], Act::Answer(200), move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&own)).unwrap();
        Box::new(rustls::StreamOwned::new(connection, stream))
    });
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("one", &rig.deployment);
    rig.synced();
    let trusting = |rig: &mut Rig, name: &str| {
        rig.kill_control();
        let more = format!("ca_file = '{}'", directory.path().join(name).display());
        rig.control_extra = table(rig.directory.path(), &format!("https://127.0.0.1:{port}/"), &more);
        rig.start_control(rig.control_port);
    };
    trusting(&mut rig, "foreign.crt");
    assert_eq!(use_of(&rig, &token), 200);
    until("it is refused", || {
        rig.read_log("control.log").contains("it can't be reached: invalid peer certificate")
    });
    assert!(endpoint.calls().is_empty());
    trusting(&mut rig, "own.crt");
    until("it is told", || endpoint.taken().len() == 1);
    verify(&endpoint.taken(), SECRET);
}

#[test]
fn a_webhook_that_cant_work_is_refused_with_a_reason() {
    let control = Control::start("");
    let path = control.directory.path().join("control.toml");
    let base = std::fs::read_to_string(&path).unwrap();
    let secret = control.directory.path().join("webhook.secret");
    let good = table(control.directory.path(), "https://hooks.example/a", "");
    let check = |table: &str| {
        std::fs::write(&path, format!("{base}{table}")).unwrap();
        let output = control.program().arg("check-config").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check(&good).0, Some(0));
    for (table, words) in [
        (good.replace("https", "http"), "url is not https://"),
        (good.replace("hooks.example/a", "user:hunter2@hooks.example/a"), "url is not https://"),
        (format!("{good}retries = 3\n"), "unknown field `retries`"),
        (format!("{good}timeout_seconds = 0\n"), "timeout_seconds: 0 is out of bounds; use 1 to 60"),
        ("[webhook]\nurl = 'https://hooks.example'\n".to_owned(), "halligan.webhook-secret"),
        ("[webhook]\nsecret_file = 'x'\n".to_owned(), "missing field `url`"),
        (good.replace("webhook.secret", "no.secret"), "no.secret can't be read"),
        (format!("{good}ca_file = '{}'\n", secret.display()), "certificate authorities"),
    ] {
        let (code, said) = check(&table);
        assert_eq!(code, Some(78), "{table}{said}");
        assert!(
            said.contains(words) && said.lines().count() == 1 && !said.contains("hunter2"),
            "{table}{said}"
        );
    }
    write_secret(&secret, "hunter2hunter2hunter2hunter2\n");
    let (code, said) = check(&good);
    assert!(code == Some(78) && said.contains("line 1 is no secret") && !said.contains("hunter2"), "{said}");
    write_secret(&secret, SECRET);
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o640)).unwrap();
    let (code, said) = check(&good);
    assert!(code == Some(78) && said.contains("can be read by others"), "{said}");
    // systemd protects a credential file and shows the service's access to it as the group's mode.
    let credentials = control.directory.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::rename(&secret, credentials.join("halligan.webhook-secret")).unwrap();
    std::fs::write(&path, format!("{base}[webhook]\nurl = 'https://hooks.example'\n")).unwrap();
    let mut command = control.program();
    let output = command.arg("check-config").env("CREDENTIALS_DIRECTORY", credentials).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
