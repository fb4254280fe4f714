//! The commands of docs/runbook.md, all run in order behind a real nginx.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::rig::clock::shifted;
use crate::rig::proxy::nginx;
use crate::rig::{Rig, until};

/// Step that a line of the page describes.
enum Step {
    /// A command, its expected output (`…` for any text), and its exit code.
    Run { command: String, expected: Vec<String>, code: i32 },
    /// An event during the outage.
    Happens(String),
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(event) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
            steps.push(Step::Happens(event.to_owned()));
        } else if inside {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => {
                    steps.push(Step::Run { command: command.to_owned(), expected: Vec::new(), code: 0 });
                }
                (None, Some(Step::Run { expected, code, .. })) => match line.strip_prefix("exit code ") {
                    Some(number) => *code = number.parse().unwrap(),
                    None => expected.push(line.to_owned()),
                },
                _ => panic!("{line:?} follows no command"),
            }
        }
    }
    steps
}

/// A shell that runs for the whole page.
struct Shell {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn start(rig: &Rig, airflow: &str) -> Self {
        let programs = Path::new(env!("CARGO_BIN_EXE_halligan")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        std::fs::create_dir(rig.path("operator")).unwrap();
        let mut child = Command::new("bash")
            .current_dir(rig.path("operator"))
            .env("PATH", path)
            .env("HALLIGAN_URL", format!("http://127.0.0.1:{}", rig.control_port))
            .env("HALLIGAN_API_TOKEN", &rig.owner_token)
            .env("HALLIGAN_SOCKET", rig.path("admin.sock"))
            .env("DEPLOYMENT", &rig.deployment)
            .env("AIRFLOW", airflow)
            .env("CONFIG", rig.path("halligand.toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        child.stdin.as_mut().unwrap().write_all(b"exec 2>&1\n").unwrap();
        Self { child, output }
    }

    fn run(&mut self, command: &str) -> (i32, Vec<String>) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{command}\ncode=$?; echo; echo \"@@ended $code\"").unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the shell ended at {command}");
            match line.trim_end().strip_prefix("@@ended ") {
                Some(code) => return (code.parse().unwrap(), lines),
                None => lines.push(line.trim_end().to_owned()),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns true if a line matches the page: `…` stands for any text, and the number of spaces does not matter.
fn alike(line: &str, expected: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, expected) = (plain(line), plain(expected));
    let mut rest = line.as_str();
    for (number, piece) in expected.split('…').enumerate() {
        let Some(at) = rest.find(piece.trim()) else { return false };
        if number == 0 && at > 0 {
            return false;
        }
        rest = &rest[at + piece.trim().len()..];
    }
    expected.ends_with('…') || rest.is_empty()
}

#[test]
fn every_command_of_the_runbook_does_what_the_page_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbook.md");
    let steps = steps(&std::fs::read_to_string(page).unwrap());
    let commands = steps.iter().filter(|step| matches!(step, Step::Run { .. })).count();
    assert!(commands > 20, "{commands} commands");
    let mut rig = Rig::start();
    let Some(proxy) = nginx(&rig) else { return };
    // libfaketime is checked before the first step, so that the page is run completely or not at all.
    let Some(later) = shifted("+26h") else { return };
    let mut shell = Shell::start(&rig, &proxy.url);
    let mut day_two = Vec::new();
    for step in steps {
        match step {
            Step::Happens(event) => match event.as_str() {
                "the hosts are in sync" => rig.synced(),
                "the control plane is gone" => {
                    rig.kill_control();
                    until("the daemon has seen it", || {
                        rig.json(&["status"])["controlPlane"]["connectivity"] == "offline"
                    });
                }
                "a day passes" => {
                    // Only the end of the day matters, so the daemon restarts during the outage with its clock moved
                    // on.
                    rig.kill_daemon();
                    rig.start_daemon_in(&later);
                    until("the daemon knows of the outage", || {
                        rig.json(&["status"])["controlPlane"]["connectivity"] == "offline"
                    });
                    day_two = later.clone();
                }
                "the control plane is back" => {
                    rig.start_control_in(&day_two);
                    until("the daemon has seen it", || {
                        rig.json(&["status"])["controlPlane"]["connectivity"] == "online"
                    });
                }
                other => panic!("{other:?} is not known to happen"),
            },
            Step::Run { command, expected, code } => {
                let (ended, lines) = shell.run(&command);
                assert_eq!(ended, code, "{command}: {lines:#?}");
                let mut left = lines.iter();
                for line in &expected {
                    assert!(
                        left.any(|found| alike(found, line)),
                        "{line:?} is not in what {command} printed: {lines:#?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_line_is_alike_or_not() {
    for (line, expected) in
        [("a   b", "a b"), ("  ok  token", "…ok…"), ("revoked tok_1 on this", "revoked tok_… on this")]
    {
        assert!(alike(line, expected), "{line} {expected}");
    }
    for (line, expected) in [("a b c", "a b"), ("denied: x", "allowed…"), ("x ok", "ok…")] {
        assert!(!alike(line, expected), "{line} {expected}");
    }
}
