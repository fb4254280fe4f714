#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{PermissionsExt as _, symlink};

use getrandom::SysRng;
use rand_core::UnwrapErr;

use super::*;
use crate::dataplane::decide::tests::replica::{self, ISSUER, NOW, seed};
use crate::protocol::environment::signed::{EnvironmentClaims, sign_environment};

/// Returns a verified replica with these deployments, whose keyset names the replica key of this seed.
fn snapshot(deployments: &[&str], replica: u8) -> Snapshot {
    replica::snapshot(deployments, &[], replica)
}

/// Environments of one node in a directory that does not exist yet.
struct Host {
    environments: Environments,
    live: Arc<Live>,
    key: Arc<DecryptionKey>,
    directory: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = Arc::new(DecryptionKey::generate(&mut UnwrapErr(SysRng)));
        let (environments, live) = Self::start(directory.path(), &key);
        Self { environments, live, key, directory }
    }

    fn start(directory: &Path, key: &Arc<DecryptionKey>) -> (Environments, Arc<Live>) {
        let identity = Identity {
            node_id: "nod_a".parse().unwrap(),
            data_plane_id: "dpl_a".parse().unwrap(),
            issuer: ISSUER.into(),
        };
        let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), NOW));
        let state = directory.join("environment");
        (Environments::new(state, identity, Arc::clone(key), Arc::clone(&live)), live)
    }

    /// Starts the daemon anew.
    fn restart(&mut self) {
        (self.environments, self.live) = Self::start(self.directory.path(), &self.key);
    }

    /// Returns an environment with one variable, as the control plane signs it for a node.
    fn signed(&self, node: &str, version: u64, value: &str) -> String {
        let of = EnvironmentClaims {
            issuer: ISSUER.into(),
            data_plane: "dpl_a".parse().unwrap(),
            deployment: "dep_a".parse().unwrap(),
            node: node.parse().unwrap(),
            version,
            iat: NOW,
        };
        let variables = [("A".to_owned(), Zeroizing::new(value.to_owned()))];
        let keys = (self.key.public(), &seed(3));
        sign_environment(&of, &variables, &[5; 32], keys, &mut UnwrapErr(SysRng)).unwrap()
    }

    fn take(&self, text: &str) -> Effect {
        self.environments.apply_signed(text, &snapshot(&["dep_a"], 3), NOW)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("environment").join(name)
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.path("dep_a.env")).unwrap_or_default()
    }

    fn check(&self, snapshot: &Snapshot) {
        self.environments.check(snapshot, NOW);
    }

    fn alarms(&self) -> Vec<AlarmKind> {
        self.live.alarms.latest().into_iter().map(|alarm| alarm.kind).collect()
    }
}

#[test]
fn a_newer_version_is_put_in_force_and_an_older_or_another_one_is_refused() {
    let mut host = Host::new();
    let first = host.signed("nod_a", 5, "one");
    assert_eq!(host.take(&first), Effect::InForce);
    assert!(host.file().ends_with("\nA=\"one\"\n"), "{}", host.file());
    for name in ["dep_a.env", "dep_a.jws"] {
        assert_eq!(std::fs::metadata(host.path(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(std::fs::metadata(host.path("")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(host.take(&host.signed("nod_a", 7, "two")), Effect::InForce);
    assert!(host.file().contains("version 7") && host.file().ends_with("\nA=\"two\"\n"));
    assert_eq!(host.take(&first), Effect::Refused);
    assert_eq!(host.take(&host.signed("nod_a", 7, "three")), Effect::Refused);
    assert_eq!(host.alarms(), [AlarmKind::Rollback, AlarmKind::Fork]);
    // The version that counts outlives a restart.
    host.restart();
    assert!(host.environments.versions().is_empty(), "nothing is believed yet");
    host.check(&snapshot(&["dep_a"], 3));
    assert_eq!(host.environments.versions(), [("dep_a".to_owned(), 7)].into());
    assert_eq!(host.take(&first), Effect::Refused);
    assert_eq!(host.take(&host.signed("nod_a", 7, "two")), Effect::InForce, "the same one again");
    assert!(host.file().ends_with("\nA=\"two\"\n"));
}

#[test]
fn what_is_not_for_this_node_or_was_changed_is_refused_and_writes_nothing() {
    let host = Host::new();
    let (own, other) = (host.signed("nod_a", 5, "s3cret"), host.signed("nod_b", 5, "s3cret"));
    assert_eq!(host.take(&other), Effect::Refused);
    let mut flipped = own.clone().into_bytes();
    let middle = flipped.len() / 2;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    assert_eq!(host.take(&String::from_utf8(flipped).unwrap()), Effect::Refused);
    assert_eq!(
        host.environments.apply_signed(&own, &snapshot(&["dep_a"], 4), NOW),
        Effect::Refused,
        "an unknown key"
    );
    assert_eq!(host.alarms(), [AlarmKind::Refused; 3]);
    // A host that can put an environment in force later reports no fault.
    assert_eq!(host.environments.apply_signed(&own, &snapshot(&["dep_b"], 3), NOW), Effect::Later);
    assert_eq!(host.environments.apply_signed(&own, &Snapshot::absent(), NOW), Effect::Later);
    assert!(!host.path("").exists());
    assert!(!format!("{:?}", host.live.alarms.latest()).contains("s3cret"));
}

#[test]
fn a_file_that_was_changed_here_is_written_anew_and_a_damaged_object_is_asked_for_again() {
    let mut host = Host::new();
    host.take(&host.signed("nod_a", 5, "one"));
    let right = host.file();
    let here = snapshot(&["dep_a"], 3);
    for change in [
        &(|path: &Path| std::fs::write(path, "A=\"two\"\n").unwrap()) as &dyn Fn(&Path),
        &|path| std::fs::remove_file(path).unwrap(),
        &|path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap(),
    ] {
        change(&host.path("dep_a.env"));
        host.restart();
        host.check(&here);
        assert_eq!(host.file(), right);
        assert_eq!(std::fs::metadata(host.path("dep_a.env")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(host.alarms(), []);
    }
    let object = std::fs::read_to_string(host.path("dep_a.jws")).unwrap();
    for (damaged, alarms) in [(object[1..].to_owned(), 1), (String::new(), 1), (object.replace('.', ""), 1)] {
        std::fs::write(host.path("dep_a.jws"), damaged).unwrap();
        host.restart();
        host.check(&here);
        host.check(&here);
        assert_eq!(host.alarms(), vec![AlarmKind::Damaged; alarms]);
        assert!(host.environments.versions().is_empty(), "it is asked for");
        assert_eq!(host.file(), right, "the file stays");
    }
    // A key that was lost, or a signing key that was dropped, is no damage. The file stays until there is another object.
    std::fs::write(host.path("dep_a.jws"), &object).unwrap();
    host.restart();
    host.check(&snapshot(&["dep_a"], 4));
    host.key = Arc::new(DecryptionKey::generate(&mut UnwrapErr(SysRng)));
    host.restart();
    host.check(&here);
    assert_eq!((host.alarms(), host.environments.versions().len(), host.file()), (vec![], 0, right));
    assert_eq!(host.take(&host.signed("nod_a", 5, "anew")), Effect::InForce);
}

#[test]
fn a_version_counts_against_an_older_one_though_its_object_was_damaged_meanwhile() {
    let host = Host::new();
    host.take(&host.signed("nod_a", 5, "one"));
    std::fs::write(host.path("dep_a.jws"), "damaged").unwrap();
    host.check(&snapshot(&["dep_a"], 3));
    assert!(host.environments.versions().is_empty());
    assert_eq!(host.take(&host.signed("nod_a", 4, "old")), Effect::Refused);
    assert_eq!(host.take(&host.signed("nod_a", 5, "one")), Effect::InForce);
}

#[test]
fn files_go_with_their_deployment_and_stay_without_a_verified_replica() {
    let host = Host::new();
    host.take(&host.signed("nod_a", 5, "one"));
    std::fs::write(host.path("notes.txt"), "of the operator").unwrap();
    host.check(&Snapshot::absent());
    assert!(host.path("dep_a.env").exists());
    host.check(&snapshot(&["dep_b"], 3));
    assert!(!host.path("dep_a.env").exists() && !host.path("dep_a.jws").exists());
    assert!(host.path("notes.txt").exists());
    assert!(host.environments.versions().is_empty());
    // A deployment of the same id begins anew.
    assert_eq!(host.take(&host.signed("nod_a", 1, "one")), Effect::InForce);
}

#[test]
fn nothing_is_written_through_a_link() {
    let host = Host::new();
    std::fs::create_dir(host.path("")).unwrap();
    let outside = host.directory.path().join("outside");
    std::fs::write(&outside, "theirs").unwrap();
    for name in ["dep_a.env", "dep_a.jws", "dep_a.new"] {
        symlink(&outside, host.path(name)).unwrap();
    }
    host.check(&snapshot(&["dep_a"], 3));
    assert_eq!(host.take(&host.signed("nod_a", 5, "one")), Effect::InForce);
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "theirs");
    assert!(!host.path("dep_a.env").is_symlink() && host.file().ends_with("\nA=\"one\"\n"));
    // A link in place of the file is no sound file either, though it leads to the right text.
    std::fs::write(&outside, host.file()).unwrap();
    std::fs::remove_file(host.path("dep_a.env")).unwrap();
    symlink(&outside, host.path("dep_a.env")).unwrap();
    host.check(&snapshot(&["dep_a"], 3));
    assert!(!host.path("dep_a.env").is_symlink());
}

#[test]
fn a_directory_that_can_not_be_written_is_named_and_tried_again() {
    let host = Host::new();
    let blocked = host.directory.path().join("environment");
    std::fs::write(&blocked, "in the way").unwrap();
    assert_eq!(host.take(&host.signed("nod_a", 5, "one")), Effect::Later);
    assert_eq!(host.alarms(), [AlarmKind::Damaged]);
    assert!(host.live.alarms.latest()[0].what.contains("dep_a.jws"));
    std::fs::remove_file(&blocked).unwrap();
    assert_eq!(host.take(&host.signed("nod_a", 5, "one")), Effect::InForce);
}
