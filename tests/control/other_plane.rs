//! Databases and keys of two control planes that were mixed up. With the same issuer only the keys tell the planes
//! apart; if they were mixed unnoticed, every token would be refused.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::rig::{Running, curl, free_port, until};

/// Two control planes with the same issuer and address.
struct Planes {
    directory: tempfile::TempDir,
    url: String,
}

impl Planes {
    fn make() -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
        let planes = Self { directory, url: format!("http://127.0.0.1:{port}") };
        for name in ["a", "b"] {
            let config = format!(
                "state_dir = '{}'\nissuer = {:?}\nlisten = \"127.0.0.1:{port}\"\n",
                planes.path(name).display(),
                planes.url
            );
            std::fs::write(planes.path(&format!("{name}.toml")), config).unwrap();
            let made =
                planes.run(name, &["init", "--organization", "Acme", "--owner-email", "o@acme.example"]);
            assert!(made.status.success(), "{made:?}");
        }
        planes
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn program(&self, plane: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligan-control"));
        command.arg("--config").arg(self.path(&format!("{plane}.toml")));
        command
    }

    fn run(&self, plane: &str, arguments: &[&str]) -> Output {
        self.program(plane).args(arguments).output().unwrap()
    }

    /// Returns the exit code and the error of a program that refuses to start.
    fn refused(&self, plane: &str, arguments: &[&str]) -> (i32, String) {
        let said = self.path("refused");
        let log = std::fs::File::create(&said).unwrap();
        let mut ending = Running::start(self.program(plane).args(arguments).stderr(log));
        until("the program ends", || ending.ended());
        (ending.exit_code().unwrap(), std::fs::read_to_string(said).unwrap())
    }

    /// Runs `halligan key` in the state directory of a plane.
    fn key(&self, plane: &str, arguments: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligan"));
        command.current_dir(self.path(plane)).arg("key").args(arguments.split(' '));
        let output = command.output().unwrap();
        assert!(output.status.success(), "halligan key {arguments}: {output:?}");
    }

    /// Starts a plane and waits until it answers.
    fn serve(&self, plane: &str, arguments: &[&str]) -> Running {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let running = Running::start(self.program(plane).arg("serve").args(arguments).stderr(log));
        let health = format!("{}/healthz", self.url);
        until("the control plane answers", || curl(&[&health]).status == 200);
        running
    }

    /// Verifies that a new token of the owner is accepted.
    fn lets_in(&self, plane: &str) {
        let made = self.run(plane, &["user-token", "o@acme.example"]);
        assert!(made.status.success(), "{made:?}");
        let token = String::from_utf8(made.stdout).unwrap();
        let bearer = format!("Authorization: Bearer {}", token.trim());
        let answer = curl(&["-H", &bearer, &format!("{}/v1/users/self", self.url)]);
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }
}

fn copy(from: &Path, to: &Path, names: &[&str]) {
    for name in names {
        for directory in [from, to].map(|directory| directory.join(name)) {
            // The write-ahead log beside the database belongs to it, so the log is emptied before the copy.
            if *name == "control.db" && directory.exists() {
                let connection = rusqlite::Connection::open(directory).unwrap();
                connection.pragma_update(None, "journal_mode", "DELETE").unwrap();
            }
        }
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

const KEYS: [&str; 4] = ["token.pem", "replica.pem", "root.pub.pem", "keysets.ndjson"];

#[test]
fn a_database_is_not_served_with_the_keys_of_another_plane_of_the_same_issuer() {
    let planes = Planes::make();
    let (a, b) = (planes.path("a"), planes.path("b"));
    std::fs::create_dir(planes.path("kept")).unwrap();
    let kept = planes.path("kept");
    for names in [&["control.db"][..], &KEYS] {
        copy(&a, &kept, names);
        copy(&b, &a, names);
        for arguments in [
            &["serve"][..],
            &["serve", "--accept-new-issuer"],
            &["check-config"],
            &["user-token", "o@acme.example"],
            &["recover", "--above", "9"],
            &["forget-variables"],
        ] {
            let (code, said) = planes.refused("a", arguments);
            assert_eq!(code, 78, "{names:?} {arguments:?}: {said}");
            for word in ["control.db", "keysets.ndjson", "not of one control plane", "--accept-new-keys"] {
                assert!(said.contains(word), "{names:?} {arguments:?}: {said}");
            }
        }
        copy(&kept, &a, names);
        let running = planes.serve("a", &[]);
        planes.lets_in("a");
        assert!(running.terminate().success());
    }
    // A running control plane does not load replaced keys either.
    let running = planes.serve("a", &[]);
    copy(&b, &a, &KEYS);
    running.signal("HUP");
    until("the keys are refused", || planes.log().contains("the keys can't be read again"));
    assert!(planes.log().contains("not of one control plane"), "{}", planes.log());
    copy(&kept, &a, &KEYS);
    planes.lets_in("a");
    drop(running);
}

#[test]
fn a_plane_starts_after_each_ceremony_of_its_own_keys_and_after_a_restore() {
    let planes = Planes::make();
    let a = planes.path("a");
    std::fs::create_dir(planes.path("backup")).unwrap();
    let backup = planes.path("backup");
    assert!(planes.serve("a", &[]).terminate().success());
    copy(&a, &backup, &KEYS);
    copy(&a, &backup, &["control.db"]);
    let publish = |keyset: &str| {
        let chain = |name: &str| std::fs::read_to_string(a.join(name)).unwrap();
        std::fs::write(a.join("keysets.ndjson"), chain("keysets.ndjson") + &chain(keyset)).unwrap();
    };
    // The new root, token key and replica key replace the first ones.
    for name in ["root-2", "token-2", "replica-2"] {
        planes.key("a", &format!("generate new-{name}.pem"));
    }
    planes.key("a", "rotate-root --keyset keysets.ndjson --root new-root-2.pub.pem keyset-2.json");
    planes.key("a", "sign keyset-2.json --root root.pem");
    planes.key("a", "sign keyset-2.json --root new-root-2.pem");
    publish("keyset-2.json");
    planes.key(
        "a",
        "add --keyset keysets.ndjson --token new-token-2.pub.pem --replica new-replica-2.pub.pem --sign new-root-2.pem keyset-3.json",
    );
    publish("keyset-3.json");
    for name in ["token", "replica"] {
        std::fs::rename(a.join(format!("new-{name}-2.pem")), a.join(format!("{name}.pem"))).unwrap();
    }
    std::fs::copy(a.join("new-root-2.pub.pem"), a.join("root.pub.pem")).unwrap();
    let served = || {
        let running = planes.serve("a", &[]);
        planes.lets_in("a");
        assert!(running.terminate().success(), "{}", planes.log());
    };
    served();
    // First an old database has new keys, then the new database has old keys.
    copy(&a, &planes.path("b"), &["control.db"]);
    copy(&backup, &a, &["control.db"]);
    assert!(planes.run("a", &["recover", "--above", "9"]).status.success());
    served();
    copy(&planes.path("b"), &a, &["control.db"]);
    copy(&backup, &a, &KEYS);
    served();
}

#[test]
fn keys_that_were_all_replaced_are_taken_once_it_is_said_that_this_is_meant() {
    let planes = Planes::make();
    copy(&planes.path("b"), &planes.path("a"), &KEYS);
    let (code, said) = planes.refused("a", &["serve"]);
    assert_eq!(code, 78, "{said}");
    for arguments in [&["--accept-new-keys"][..], &[]] {
        let running = planes.serve("a", arguments);
        planes.lets_in("a");
        assert!(running.terminate().success(), "{}", planes.log());
    }
}
