//! A host without a network: it is enrolled by its public key, and its replica is imported from a file. Only users
//! named in the configuration may do so.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::rig::{Answer, Rig, Running, authorize, component, free_port, skipped, until};
use halligan::protocol::bundle::{BundleReader, Change, Limits, write_bundle};
use halligan::protocol::record::{Record, RecordKind};
use serde_json::Value;

/// A host without a connection to its control plane.
struct Island {
    config: PathBuf,
    socket: PathBuf,
    port: u16,
    running: Option<Running>,
}

impl Island {
    fn new(rig: &Rig) -> Self {
        let (socket, port) = (rig.path("island.sock"), free_port());
        let config = rig
            .daemon_config_at("island", "island.sock", port)
            // No program listens at that port.
            .replace(&format!("http://127.0.0.1:{}", rig.control_port), "http://127.0.0.1:9");
        let path = rig.path("island.toml");
        std::fs::write(&path, config).unwrap();
        Self { config: path, socket, port, running: None }
    }

    fn daemon(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligand"));
        command.arg("--config").arg(&self.config);
        command
    }

    fn start(&mut self, rig: &Rig) {
        let mut command = self.daemon();
        self.running = Some(Running::start(command.stderr(rig.log("island.log"))));
        until("the island's daemon answers", || self.halligan(&["status", "--json"]).status.success());
    }

    fn halligan(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligan"));
        command.env("HALLIGAN_SOCKET", &self.socket).args(arguments).output().unwrap()
    }

    fn ask(&self, rig: &Rig, token: &str) -> Answer {
        authorize(self.port, &rig.deployment, token, "POST", "/api/v2/dags/etl/dagRuns")
    }
}

#[test]
fn a_replica_carried_to_a_host_without_a_network_is_decided_by_there() {
    let rig = Rig::start();
    let mut island = Island::new(&rig);
    // Only the public half of the key leaves the host.
    let public = island.daemon().arg("public-key").output().unwrap();
    assert!(public.status.success(), "{public:?}");
    assert_eq!(island.daemon().arg("public-key").output().unwrap().stdout, public.stdout);
    std::fs::write(rig.path("island.pem"), &public.stdout).unwrap();
    let pem = rig.path("island.pem");
    let create =
        ["node", "create", "island", "--data-plane-id", &rig.data_plane, "--key", pem.to_str().unwrap()];
    let identity = rig.cli(&create).stdout;
    assert!(!rig.cli_command().args(create).output().unwrap().status.success(), "one key, one node");
    std::fs::write(rig.path("island/node.json"), identity).unwrap();

    let (_, good) = rig.direct_access_token("good", &rig.deployment);
    let (revoked_id, revoked) = rig.direct_access_token("revoked", &rig.deployment);
    rig.cli(&["token", "delete", &revoked_id, "--force"]);
    rig.synced();
    let bundle = rig.path("replica.bundle");
    let bundle = bundle.to_str().unwrap();
    rig.cli(&["replica", "export", bundle]);

    island.start(&rig);
    assert_eq!(island.ask(&rig, &good).reason(), "replica_missing");
    let cut = rig.path("cut.bundle");
    let whole = std::fs::read(bundle).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    assert!(!island.halligan(&["replica", "import", cut.to_str().unwrap()]).status.success());
    assert_eq!(island.ask(&rig, &good).reason(), "replica_missing", "half a bundle is none");

    let taken = island.halligan(&["replica", "import", bundle, "--json"]);
    assert!(taken.status.success(), "{taken:?}");
    let proof: Value = serde_json::from_slice(&taken.stdout).unwrap();
    assert_eq!(proof["version"], rig.json(&["status"])["replica"]["version"]);
    assert_eq!(island.ask(&rig, &good).status, 200);
    assert_eq!(island.ask(&rig, &revoked).reason(), "token_revoked");
    // The imported replica is on disk, so a cold start finds it.
    island.running = None;
    island.start(&rig);
    assert_eq!(island.ask(&rig, &good).status, 200);
    let verified = island.halligan(&["replica", "verify", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&verified.stdout).unwrap()["version"], proof["version"]);
}

/// Parts of a bundle.
struct Parts {
    keysets: Vec<String>,
    head: String,
    base: u64,
    changes: Vec<Change>,
}

fn parts(bundle: &[u8]) -> Parts {
    let mut reader = BundleReader::new(bundle, Limits::default()).unwrap();
    let (keysets, head, base) = (reader.keysets().to_vec(), reader.head().to_owned(), reader.base());
    Parts { keysets, head, base, changes: reader.by_ref().map(Result::unwrap).collect() }
}

impl Parts {
    fn write(&self, base: u64, changes: Vec<Change>) -> Vec<u8> {
        write_bundle(&self.keysets, &self.head, base, changes).unwrap()
    }
}

fn is_token(change: &Change) -> bool {
    matches!(change, Change::Put(record) if record.kind == RecordKind::Token)
}

#[test]
fn a_mistake_at_the_prompt_is_an_error_there_and_no_alarm_and_what_is_held_is_proved_again() {
    let rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    let exported = |name: &str| {
        let path = rig.path(name);
        rig.cli(&["replica", "export", path.to_str().unwrap()]);
        std::fs::read(path).unwrap()
    };
    let old = exported("old.bundle");
    rig.direct_access_token("newer", &rig.deployment);
    rig.synced();
    let good = exported("good.bundle");
    let stranger = Rig::start();
    let path = stranger.path("stranger.bundle");
    stranger.synced();
    stranger.cli(&["replica", "export", path.to_str().unwrap()]);
    let stranger = std::fs::read(path).unwrap();

    let held = parts(&good);
    assert_eq!(held.base, 0);
    let changes = || held.changes.clone();
    let mut bent = changes();
    let place = bent.iter().position(is_token).unwrap();
    if let Change::Put(record) = &bent[place] {
        let body = record.body.replace("DEPLOYMENT", "DEPLOYMENt");
        assert_ne!(body, *record.body);
        bent[place] = Change::Put(Record::new(record.kind, record.key.clone(), body));
    }
    let without = || changes().into_iter().filter(|change| !is_token(change));
    let one = changes()[place].clone();
    let Change::Put(token_record) = &one else { panic!() };
    let gone = Change::Remove { kind: token_record.kind, key: token_record.key.to_string() };
    let unknown = Change::Put(Record::new(token_record.kind, "tok_more", "{}"));
    let mistakes = [
        ("a shopping list", b"milk, eggs".to_vec()),
        ("nothing", Vec::new()),
        ("half of it", good[..good.len() / 2].to_vec()),
        ("an older one", old),
        ("another organization's", stranger),
        ("the version held, a record changed", held.write(0, bent.clone())),
        ("the version held, records missing", held.write(0, without().collect())),
        ("the version held, nothing in it", held.write(0, Vec::new())),
        (
            "the version held, a record more",
            held.write(0, changes().into_iter().chain([unknown.clone()]).collect()),
        ),
        (
            "the version held, a record twice",
            held.write(0, changes().into_iter().chain([one.clone()]).collect()),
        ),
        ("changes to the version held, one changed", held.write(1, vec![bent[place].clone()])),
        ("changes to the version held, one unknown", held.write(1, vec![unknown])),
        ("changes to the version held, one that removes what is there", held.write(1, vec![gone])),
        ("changes from a version to come", held.write(1_000_000, vec![one.clone()])),
    ];
    let before = rig.json(&["replica", "verify"]);
    for (what, bytes) in mistakes {
        let path = rig.path("mistake");
        std::fs::write(&path, bytes).unwrap();
        let arguments = ["replica", "import", path.to_str().unwrap()];
        let refused = rig.cli_command().args(arguments).output().unwrap();
        assert!(!refused.status.success(), "{what}: {refused:?}");
        assert!(refused.stderr.len() > 20, "{what}: {refused:?}");
    }
    assert_eq!(rig.json(&["status"])["alarms"], Value::Array(Vec::new()), "none of them is an attack");
    assert_eq!(rig.json(&["replica", "verify"])["digest"], before["digest"]);
    assert_eq!(rig.authorize(&token, "GET", "/api/v2/dags").status, 200);
    // These files hold no newer version: the one that the host already has, and deltas that lead to it.
    for (what, bytes) in [
        ("whole", good.clone()),
        ("one change", held.write(1, vec![one])),
        ("none", held.write(1, Vec::new())),
    ] {
        let path = rig.path("right");
        std::fs::write(&path, bytes).unwrap();
        let arguments = ["replica", "import", path.to_str().unwrap()];
        let output = rig.cli_command().args(arguments).output().unwrap();
        assert!(output.status.success(), "{what}: {output:?}");
    }
}

/// Returns the status of the admin socket's answer to this user.
fn ask_as(uid: &str, socket: &std::path::Path) -> u16 {
    let (user, group) = (format!("--reuid={uid}"), format!("--regid={uid}"));
    let output = Command::new("setpriv")
        .args([user.as_str(), group.as_str(), "--clear-groups", "curl", "-s", "-i", "--unix-socket"])
        .arg(socket)
        .arg("http://localhost/v1/status")
        .output()
        .unwrap();
    Answer::read(&output.stdout).status
}

#[test]
fn users_whom_the_configuration_names_reach_the_admin_socket() {
    if component("setpriv").is_none() {
        return;
    }
    if halligan::platform::state_directory::own_uid().unwrap() != 0 {
        return skipped("only root can ask as another user; run as root");
    }
    let mut rig = Rig::start();
    let socket = rig.path("admin.sock");
    let mode = || std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(rig.directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!((mode(), ask_as("65534", &socket)), (0o660, 0), "nobody is named");

    // A reload grants access.
    let named = rig.daemon_config() + "[admin]\nallow_uids = [65534]\n";
    std::fs::write(rig.path("halligand.toml"), &named).unwrap();
    assert!(rig.daemon_command().arg("reload").status().unwrap().success());
    assert_eq!(ask_as("65534", &socket), 200);
    assert_eq!(ask_as("65533", &socket), 403, "another may connect, and is not answered");
    assert_eq!(ask_as("0", &socket), 200);
    // A start grants access, and a reload revokes it.
    rig.kill_daemon();
    rig.start_daemon();
    assert_eq!((ask_as("65534", &socket), ask_as("65533", &socket)), (200, 403));
    std::fs::write(rig.path("halligand.toml"), rig.daemon_config()).unwrap();
    assert!(rig.daemon_command().arg("reload").status().unwrap().success());
    assert_eq!((mode(), ask_as("65534", &socket)), (0o660, 0));

    // The log warns of users who cannot reach the admin socket.
    std::fs::write(rig.path("halligand.toml"), &named).unwrap();
    std::fs::set_permissions(rig.directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    rig.kill_daemon();
    rig.start_daemon();
    let log = rig.read_log("halligand.log");
    assert!(log.contains("names users who can't reach the admin socket"), "{log}");
}
