#![allow(clippy::unwrap_used, clippy::panic)]

mod hosts;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::dataplane::decide::tests::replica::{self, ISSUER, NOW, seed};
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::credential::Nonces;
use crate::dataplane::node::identity::Identity;
use crate::protocol::deploy::exchange::{HostDeployAnswer, HostDeployState, StandingDeploy};
use crate::protocol::deploy::host::{HostDeploy, sign_host_deploy};
use crate::protocol::deploy::signed::{Deploy, sign_deploy};
use crate::protocol::time::Time;

/// Seeds of keys: the control plane's replica key, and the nodes.
const REPLICA: u8 = 2;
const NODES: [(&str, u8, Option<i64>); 3] =
    [("nod_a", 11, None), ("nod_b", 12, None), ("nod_c", 13, Some(1))];

/// Returns a verified replica with these deployments and all nodes.
fn snapshot(deployments: &[&str]) -> Snapshot {
    replica::snapshot(deployments, &NODES, REPLICA)
}

/// Returns an archive with these files.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn signed(deploy: &str, version: u64, bytes: &[u8]) -> Deploy {
    Deploy {
        iss: ISSUER.into(),
        aud: "dpl_a".parse().unwrap(),
        sub: "dep_a".parse().unwrap(),
        deploy: deploy.parse().unwrap(),
        version,
        iat: NOW,
        digest: digest(bytes),
        size: bytes.len() as u64,
    }
}

fn host_deploy(node: &str, deploy: &str, (base, seq): (u64, u64), bytes: &[u8]) -> String {
    let body = HostDeploy {
        iss: node.parse().unwrap(),
        aud: "dpl_a".parse().unwrap(),
        sub: "dep_a".parse().unwrap(),
        deploy: deploy.parse().unwrap(),
        base,
        seq,
        iat: NOW,
        digest: digest(bytes),
        size: bytes.len() as u64,
        token: "tok_a".parse().unwrap(),
        event: "evt_1-1".into(),
    };
    let (_, key, _) = NODES.into_iter().find(|(id, ..)| *id == node).unwrap();
    sign_host_deploy(&body, &seed(key))
}

/// Code of one node in a directory that does not exist yet.
struct Host {
    code: Code,
    live: Arc<Live>,
    directory: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (code, live) = Self::start(directory.path());
        let host = Self { code, live, directory };
        host.live.replace(|_| snapshot(&["dep_a", "dep_b"]));
        host
    }

    fn start(directory: &Path) -> (Code, Arc<Live>) {
        let identity = Identity {
            node_id: "nod_a".parse().unwrap(),
            data_plane_id: "dpl_a".parse().unwrap(),
            issuer: ISSUER.into(),
        };
        let nonces = Nonces::new(&mut UnwrapErr(SysRng));
        let prover = Arc::new(Prover { identity, key: Arc::new(seed(11)), nonces });
        let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), NOW));
        (Code::new(directory.join("code"), 3, prover, Arc::clone(&live), [7; 16]), live)
    }

    /// Starts the daemon anew.
    fn restart(&mut self) {
        (self.code, self.live) = Self::start(self.directory.path());
        self.live.replace(|_| snapshot(&["dep_a", "dep_b"]));
        self.code.check(NOW);
        self.code.settle(true, NOW);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("code/dep_a").join(name)
    }

    /// Returns the content of a file of the code that runs.
    fn runs(&self, file: &str) -> String {
        std::fs::read_to_string(self.path("current").join(file)).unwrap_or_default()
    }

    /// Takes a deploy of the control plane and fetches its archive, if it is missing. Returns the number of fetches.
    fn deploy(&self, deploy: &Deploy, bytes: &[u8]) -> usize {
        assert_eq!(self.code.take_signed(&sign_deploy(deploy, &seed(REPLICA)), NOW), Effect::Held);
        let fetched = self.fetch(bytes);
        self.code.settle(false, NOW);
        fetched
    }

    fn fetch(&self, bytes: &[u8]) -> usize {
        let wanted = self.code.wanted(NOW);
        for wanted in &wanted {
            let mut incoming = self.code.receive(wanted).unwrap();
            incoming.restart().unwrap();
            incoming.write(bytes).unwrap();
            self.code.arrived(wanted, incoming).unwrap();
        }
        wanted.len()
    }

    fn push(&self, bytes: &[u8]) -> Result<HostDeploy, PushError> {
        let claim = self.code.claim(&"dep_a".parse().unwrap()).unwrap();
        let mut incoming = self.code.receive_push(&claim)?;
        incoming.write(bytes)?;
        let source = Source { token: "tok_a".parse().unwrap(), event: "evt_1-1".into() };
        self.code.push(&claim, incoming, &source, NOW).map(|Pushed(deploy)| deploy)
    }

    fn alarms(&self, kind: AlarmKind) -> Vec<String> {
        let alarms = self.live.alarms.latest().into_iter().filter(|alarm| alarm.kind == kind);
        alarms.map(|alarm| alarm.what).collect()
    }

    fn quiet(&self) {
        assert!(self.live.alarms.latest().is_empty(), "{:?}", self.live.alarms.latest());
    }

    fn names(&self, extension: &str) -> usize {
        let names = std::fs::read_dir(self.path(".")).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().ends_with(extension)).count()
    }
}

#[test]
fn a_deploy_is_unpacked_beside_the_last_one_and_a_rollback_takes_no_download() {
    let host = Host::new();
    let (one, two) = (archive(&[("a.py", "1"), ("lib/b.py", "b")]), archive(&[("a.py", "2")]));
    assert_eq!(host.deploy(&signed("c1", 5, &one), &one), 1);
    assert_eq!((host.runs("a.py"), host.runs("lib/b.py")), ("1".into(), "b".into()));
    let mode = |path: &str| std::fs::metadata(host.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(["current/a.py", "current/lib", "current/", "."].map(mode), [0o644, 0o755, 0o755, 0o711]);
    assert_eq!(mode("deploy.jws"), 0o600);
    assert_eq!(host.deploy(&signed("c2", 7, &two), &two), 1);
    assert_eq!((host.runs("a.py"), host.runs("lib/b.py")), ("2".into(), String::new()));
    assert_eq!(host.deploy(&signed("c1", 8, &one), &one), 0);
    assert_eq!((host.runs("a.py"), host.runs("lib/b.py")), ("1".into(), "b".into()));
    assert_eq!(host.code.versions(), BTreeMap::from([("dep_a".to_owned(), 8)]));
    host.quiet();
}

#[test]
fn only_a_newer_deploy_of_the_control_plane_is_taken() {
    let host = Host::new();
    let (one, two) = (archive(&[("a.py", "1")]), archive(&[("a.py", "2")]));
    host.deploy(&signed("c1", 5, &one), &one);
    let take = |deploy: &Deploy, key: u8| host.code.take_signed(&sign_deploy(deploy, &seed(key)), NOW);
    assert_eq!(take(&signed("c2", 4, &two), REPLICA), Effect::Refused);
    assert!(host.alarms(AlarmKind::Rollback)[0].contains("halligan-control recover"));
    assert_eq!(take(&signed("c2", 5, &two), REPLICA), Effect::Refused);
    assert_eq!(host.alarms(AlarmKind::Fork).len(), 1);
    assert_eq!(take(&signed("c2", 6, &two), 3), Effect::Refused);
    assert_eq!(
        take(&Deploy { aud: "dpl_b".parse().unwrap(), ..signed("c2", 6, &two) }, REPLICA),
        Effect::Refused
    );
    assert_eq!(host.alarms(AlarmKind::Refused).len(), 2);
    // The replica may be on its way.
    assert_eq!(
        take(&Deploy { sub: "dep_z".parse().unwrap(), ..signed("c2", 6, &two) }, REPLICA),
        Effect::Later
    );
    assert_eq!(take(&signed("c1", 5, &one), REPLICA), Effect::Held, "the same one again");
    host.code.settle(false, NOW);
    assert_eq!((host.runs("a.py"), host.code.wanted(NOW)), ("1".into(), vec![]));
}

#[test]
fn bytes_that_are_not_the_archive_switch_nothing() {
    let host = Host::new();
    let (one, two) = (archive(&[("a.py", "1")]), archive(&[("a.py", "2")]));
    host.deploy(&signed("c1", 5, &one), &one);
    host.code.take_signed(&sign_deploy(&signed("c2", 6, &two), &seed(REPLICA)), NOW);
    let wanted = host.code.wanted(NOW).remove(0);
    for bytes in [&two[..two.len() - 1], &one, b""] {
        let mut incoming = host.code.receive(&wanted).unwrap();
        incoming.restart().unwrap();
        incoming.write(bytes).unwrap();
        assert!(matches!(host.code.arrived(&wanted, incoming), Err(ReceiveError::Another { .. })));
        host.code.settle(false, NOW);
        assert_eq!((host.runs("a.py"), host.names(".part")), ("1".into(), 0));
    }
    let mut incoming = host.code.receive(&wanted).unwrap();
    let long = [&two[..], b"x"].concat();
    assert!(matches!(incoming.write(&long), Err(ReceiveError::TooLarge(_))));
    // An archive that the control plane signed, and that no host unpacks.
    let bad = archive(&[("a.py", "3")]).split_last().unwrap().1.to_vec();
    host.deploy(&signed("c3", 7, &bad), &bad);
    assert_eq!(host.runs("a.py"), "1");
    assert_eq!((host.alarms(AlarmKind::Refused).len(), host.names(".new")), (1, 0));
    host.code.settle(false, NOW.plus(599));
    assert_eq!(host.alarms(AlarmKind::Refused).len(), 1, "it is not tried at once");
    assert!(host.code.states()[0].problem.as_ref().unwrap().contains("not unpacked"));
}

#[test]
fn what_is_damaged_on_the_disk_is_found_at_the_start_and_repaired() {
    let mut host = Host::new();
    let one = archive(&[("a.py", "1"), ("lib/b.py", "b")]);
    host.deploy(&signed("c1", 5, &one), &one);
    host.restart();
    std::fs::create_dir(host.path("current/lib/__pycache__")).unwrap();
    std::fs::write(host.path("current/lib/__pycache__/b.pyc"), "").unwrap();
    host.restart();
    host.quiet();
    let edits: [&dyn Fn(&Host); 5] = [
        &|host| std::fs::write(host.path("current/a.py"), "2").unwrap(),
        &|host| std::fs::remove_file(host.path("current/lib/b.py")).unwrap(),
        &|host| std::fs::write(host.path("current/more.py"), "2").unwrap(),
        &|host| {
            let open = std::fs::Permissions::from_mode(0o666);
            std::fs::set_permissions(host.path("current/a.py"), open).unwrap();
        },
        &|host| std::os::unix::fs::symlink("/etc", host.path("current/etc")).unwrap(),
    ];
    for edit in edits {
        edit(&host);
        host.restart();
        assert_eq!(host.alarms(AlarmKind::Damaged).len(), 1);
        assert_eq!(
            (host.runs("a.py"), host.runs("lib/b.py"), host.runs("more.py")),
            ("1".into(), "b".into(), String::new())
        );
        let trees = std::fs::read_dir(host.path(".")).unwrap().map(|entry| entry.unwrap().path());
        assert_eq!(
            trees.filter(|path| path.is_dir() && !path.is_symlink()).count(),
            1,
            "the damaged one is removed"
        );
    }
    // A lost link is made again, without an alarm.
    std::fs::remove_file(host.path("current")).unwrap();
    host.restart();
    assert_eq!((host.runs("a.py"), host.code.wanted(NOW)), ("1".into(), vec![]));
    host.quiet();
}

#[test]
fn a_damaged_archive_is_fetched_again_and_the_code_stays_in_use() {
    let mut host = Host::new();
    let one = archive(&[("a.py", "1")]);
    host.deploy(&signed("c1", 5, &one), &one);
    let file = std::fs::read_dir(host.path(".")).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|end| end == "gz")).unwrap();
    std::fs::write(&file, "other").unwrap();
    host.restart();
    assert!(host.alarms(AlarmKind::Damaged)[0].contains("fetched again"));
    assert_eq!((host.runs("a.py"), host.code.wanted(NOW).len()), ("1".into(), 1));
    assert_eq!(host.fetch(&one), 1);
    host.code.settle(false, NOW);
    assert!(!host.code.states()[0].is_behind());
    // A damaged object is removed, and the control plane is asked for it.
    std::fs::write(host.path("deploy.jws"), "x").unwrap();
    host.restart();
    assert!(host.alarms(AlarmKind::Damaged)[0].contains("asked for the deploy anew"));
    assert_eq!((host.runs("a.py"), host.code.versions().len()), ("1".into(), 0));
    host.deploy(&signed("c1", 5, &one), &one);
    assert!(!host.code.states()[0].is_behind());
}

#[test]
fn the_newest_archives_are_kept_and_all_goes_with_the_deployment() {
    let mut host = Host::new();
    let bytes = |number: u64| archive(&[("a.py", &number.to_string())]);
    for number in 1..=6 {
        host.deploy(&signed(&format!("c{number}"), number, &bytes(number)), &bytes(number));
    }
    assert_eq!(host.names(".tar.gz"), 3);
    assert_eq!(host.deploy(&signed("c4", 7, &bytes(4)), &bytes(4)), 0);
    assert_eq!(host.deploy(&signed("c7", 8, &bytes(7)), &bytes(7)), 1);
    assert_eq!(host.deploy(&signed("c4", 9, &bytes(4)), &bytes(4)), 0, "it was in use more recently than c5");
    assert_eq!(host.deploy(&signed("c5", 10, &bytes(5)), &bytes(5)), 1);
    host.quiet();
    host.restart();
    host.live.replace(|_| Snapshot::absent());
    host.code.check(NOW);
    assert_eq!(host.runs("a.py"), "5", "without a verified replica nothing is removed");
    host.live.replace(|_| snapshot(&["dep_b"]));
    host.code.check(NOW);
    assert!(!host.path(".").exists() && host.code.states().is_empty());
}
