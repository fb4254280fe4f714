//! Targets of the command line's calls: for any text in place of an id, no call goes to an unintended path and no token
//! is sent unencrypted. The commands and their arguments are taken from the program's own help, so that a new command
//! is tested too.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

/// An id that is valid for every kind of object.
const GOOD: &str = "c0123456789abcdefghijklmn";

/// Texts that are not ids. In a path, each would become several segments, or none.
const BAD: [&str; 16] = [
    "../tokens/victim",
    "victim/../../tokens",
    "victim/rotate",
    "victim%2Frotate",
    "..%2Ftokens%2Fvictim",
    "%2e%2e/tokens/victim",
    "//victim",
    "..",
    ".",
    "victim?force=true",
    "victim#show",
    "victim;x=1",
    "..\\tokens\\victim",
    " victim",
    "victim\n",
    "",
];

/// Nouns and verbs that call the control plane or the host's daemon.
const NOUNS: [&str; 13] = [
    "token",
    "role",
    "organization",
    "workspace",
    "deployment",
    "data-plane",
    "node",
    "user",
    "team",
    "session",
    "outage",
    "check",
    "revoke",
];

/// Request lines that arrived at the control plane or the daemon.
type Asked = Arc<Mutex<Vec<String>>>;

fn help(words: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_halligan")).args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns every command below `words` that has no commands below itself.
fn leaves(words: Vec<String>) -> Vec<Vec<String>> {
    let help = help(&words);
    let Some((_, below)) = help.split_once("\nCommands:\n") else { return vec![words] };
    let names = below.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty() && name != "help").then(|| name.to_owned())
    });
    names.flat_map(|name| leaves([words.clone(), vec![name]].concat())).collect()
}

/// An argument that a command takes: the words before its value, and the name of the value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    option: Option<String>,
    value: String,
    required: bool,
}

impl Slot {
    fn good(&self) -> &str {
        match self.value.as_str() {
            "EMAIL" => "somebody@acme.example",
            "METHOD" => "GET",
            "URI" => "/api/v2/dags",
            "ROLE" | "ORGANIZATION_ROLE" => "ORGANIZATION_MEMBER",
            "NAME" | "TEXT" | "DESCRIPTION" => "x",
            "SCOPE" => "deployment",
            "DAYS" => "1",
            "PERMISSION" | "PERMISSIONS" => "deployment.get",
            _ => GOOD,
        }
    }

    /// Returns true if the value is an id or contains one.
    fn takes_an_id(&self) -> bool {
        const IDS: [&str; 6] = ["ID", "USER", "USERS", "TOKEN", "SESSION", "ROLE"];
        IDS.contains(&self.value.as_str())
            || self.value.contains("ID=")
            || self.value.starts_with("DEPLOYMENT")
    }

    fn with(&self, id: &str) -> Vec<String> {
        let value = match self.value.as_str() {
            "ID=ROLE" => format!("{id}=WORKSPACE_MEMBER"),
            "DEPLOYMENT/DAG=ROLE" | "DEPLOYMENT/TAG=ROLE" => format!("{id}/etl=DAG_VIEWER"),
            _ => id.to_owned(),
        };
        self.option.iter().cloned().chain([value]).collect()
    }
}

/// Reads the arguments of a command from its help.
fn slots(words: &[String]) -> (Vec<Slot>, bool) {
    let help = help(words);
    let usage = help.lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap();
    let (mut found, mut option) = (Vec::<Slot>::new(), None);
    for word in usage.split_ascii_whitespace().skip(1 + words.len()) {
        if word.starts_with("--") {
            option = Some(word.to_owned());
            continue;
        }
        let value = word.trim_end_matches("...").trim_matches(['<', '>', '[', ']']);
        if value != "OPTIONS" && value != "COMMAND" {
            let required = word.starts_with('<');
            found.push(Slot { option: option.take(), value: value.to_owned(), required });
        }
    }
    for line in help.lines().map(str::trim_start).filter(|line| line.starts_with('-')) {
        let Some(at) = line.find("--") else { continue };
        let mut parts = line[at..].split_ascii_whitespace();
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let Some(value) =
            value.strip_prefix('<').and_then(|value| value.trim_end_matches("...").strip_suffix('>'))
        else {
            continue;
        };
        let slot = Slot { option: Some(name.to_owned()), value: value.to_owned(), required: false };
        if !found.iter().any(|other| other.option == slot.option) {
            found.push(slot);
        }
    }
    (found, help.contains("--force"))
}

fn answer(mut stream: impl Read + Write, asked: &Asked) {
    let mut reader = BufReader::new(&mut stream);
    let mut first = String::new();
    let _ = reader.read_line(&mut first);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            break;
        }
    }
    asked.lock().unwrap().push(first.trim_end().to_owned());
    let body = "{\"status\":404,\"code\":\"not_found\",\"title\":\"x\",\"detail\":\"there is nothing\"}";
    let _ = write!(
        stream,
        "HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

/// Listens for calls to the control plane and to a daemon. Returns the port.
fn listen(socket: &Path, asked: &Asked) -> u16 {
    let (control, daemon) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(socket).unwrap());
    let port = control.local_addr().unwrap().port();
    let (one, other) = (Arc::clone(asked), Arc::clone(asked));
    thread::spawn(move || control.incoming().map_while(Result::ok).for_each(|stream| answer(stream, &one)));
    thread::spawn(move || daemon.incoming().map_while(Result::ok).for_each(|stream| answer(stream, &other)));
    port
}

/// Returns true if the path of a request line consists of ids and known words, without the victim's id.
fn is_meant(line: &str) -> bool {
    let Some(target) = line.split(' ').nth(1) else { return false };
    let path = target.split('?').next().unwrap_or_default();
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    path.strip_prefix('/').is_some_and(|parts| parts.split('/').all(plain)) && !path.contains("victim")
}

/// Returns sets of arguments: the required ones, these with all positional ones, and these with more options.
fn fillings(slots: &[Slot]) -> [Vec<&Slot>; 4] {
    let with = |options: &[&str], places: bool| {
        let wanted = |slot: &&Slot| match &slot.option {
            Some(option) => slot.required || options.contains(&option.as_str()),
            None => slot.required || places,
        };
        slots.iter().filter(wanted).collect()
    };
    let scopes = ["--deployment-id", "--workspace-id", "--deployment"];
    let all = [&scopes[..], &["--name", "--reason", "--file"]].concat();
    [with(&[], false), with(&[], true), with(&scopes, true), with(&all, true)]
}

#[test]
fn what_is_no_id_turns_no_call_into_another() {
    /// Number of invalid values tried in each place; the next place continues with the following ones.
    const EACH: usize = 3;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let asked = Asked::default();
    let url = format!("http://127.0.0.1:{}", listen(&socket, &asked));
    let run = |words: &[String]| {
        asked.lock().unwrap().clear();
        let output = Command::new(env!("CARGO_BIN_EXE_halligan"))
            .args(words)
            .env("HALLIGAN_URL", &url)
            .env("HALLIGAN_SOCKET", &socket)
            .env("HALLIGAN_ORGANIZATION", GOOD)
            .env("HALLIGAN_API_TOKEN", "a.b.c")
            .output()
            .unwrap();
        (asked.lock().unwrap().clone(), output)
    };
    let mut bad = BAD.iter().cycle();
    let (mut places, mut silent) = (0, Vec::new());
    for words in NOUNS.iter().flat_map(|noun| leaves(vec![(*noun).to_owned()])) {
        let (slots, force) = slots(&words);
        // All commands read the organization's id in one way.
        let global =
            |slot: &Slot| slot.option.as_deref() == Some("--organization") && words != ["role", "list"];
        let mut reached = !slots.iter().any(|slot| slot.takes_an_id() && !global(slot));
        for slot in slots.iter().filter(|slot| slot.takes_an_id() && !global(slot)) {
            let arguments = |more: &[&Slot], id: &str| {
                let force = force.then(|| "--force".to_owned());
                let others = more.iter().filter(|other| **other != slot);
                let others = others.flat_map(|other| other.with(other.good()));
                words.iter().cloned().chain(force).chain(others).chain(slot.with(id)).collect::<Vec<_>>()
            };
            let fillings = fillings(&slots);
            let good = fillings.iter().find(|more| {
                let (lines, _) = run(&arguments(more, slot.good()));
                assert!(lines.iter().all(|line| is_meant(line)), "{words:?} {slot:?}: {lines:?}");
                !lines.is_empty()
            });
            let Some(more) = good else { continue };
            reached = true;
            places += 1;
            for bad in bad.by_ref().take(EACH) {
                let (lines, output) = run(&arguments(more, bad));
                assert!(!output.status.success(), "{words:?} {slot:?} {bad:?}");
                let meant = lines.iter().all(|line| is_meant(line));
                assert!(meant, "{words:?} with {bad:?} as {slot:?}: {lines:?}");
            }
        }
        if !reached {
            silent.push(words.join(" "));
        }
    }
    // These commands read a file, or the variables, before their first call.
    let first = [
        "deployment variable create",
        "deployment variable update",
        "deployment dag-tags set",
        "node create",
    ];
    assert_eq!(silent, first);
    assert!(places > 60, "{places}");
}

#[test]
fn no_token_is_sent_to_a_control_plane_in_the_clear() {
    for (url, sent) in [
        ("http://control.example", false),
        ("HTTP://10.0.0.1:8080", false),
        ("http://localhost@control.example", false),
        ("http://127.0.0.1.example:8080", false),
        ("http://[::2]:8080", false),
        ("ftp://localhost", false),
        ("control.example", false),
        ("http://127.0.0.1:1", true),
        ("http://localhost:1", true),
        ("https://localhost:1", true),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_halligan"))
            .args(["token", "list", "--url", url])
            .env("HALLIGAN_API_TOKEN", "a.b.c")
            .env("HALLIGAN_ORGANIZATION", GOOD)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.contains("in the clear"), !sent, "{url}: {said}");
        let expected = if sent { 69 } else { 64 };
        assert_eq!(output.status.code(), Some(expected), "{url}: {said}");
    }
}
