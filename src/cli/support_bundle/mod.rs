//! `halligan support-bundle`: collects the state of this host for remote support, without secrets.

mod redact;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use reqwest::Method;

use self::redact::redact;
use super::failure::Failure;
use super::host::Host;
use super::output::Output;
use crate::platform::clock::wall;
use crate::platform::private_file::create_private;
use crate::protocol::key::PublicKey;

const README: &str = "What `halligan support-bundle` found on a host.

status.json     how the daemon stands, with its latest alarms
replica.json    the head of the replica, proved anew
audit.json      the result of verifying the audit log (none of its events)
roots.txt       the ids of the pinned root keys
config/         the configuration
systemd/        the units, as they are and as they run
journal.json    warnings, errors and alarms of the last seven days
versions.txt    of the programs, the kernel and the system

What could not be found stands as NAME.missing, with the reason. Tokens, private keys and passwords were taken out.
";

/// Units that a host may have.
const UNITS: [&str; 4] =
    ["halligand.service", "halligand.socket", "halligand-admin.socket", "halligan-control.service"];

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The file to write; by default halligan-support-TIME.tar.zst in this directory.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The daemon's configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/halligan/halligand.toml")]
    config: PathBuf,
}

/// Support bundle while it is written.
struct Bundle {
    archive: tar::Builder<zstd::Encoder<'static, std::fs::File>>,
    path: PathBuf,
    top: String,
    time: u64,
}

impl Bundle {
    fn create(path: PathBuf, time: u64) -> Result<Self, Failure> {
        let failed = |source| Failure::File { path: path.clone(), source };
        // Secrets are removed, but the rest concerns only the owner, so the file is private.
        let file = create_private(&path).map_err(failed)?;
        let archive = tar::Builder::new(zstd::Encoder::new(file, 0).map_err(failed)?);
        Ok(Self { archive, path, top: format!("halligan-support-{time}"), time })
    }

    /// Adds a text after removing its secrets, or the reason why it is missing.
    fn add(&mut self, name: &str, found: Result<String, String>) -> Result<(), Failure> {
        let (name, text) = match found {
            Ok(text) => (name.to_owned(), text),
            Err(reason) => (format!("{name}.missing"), reason + "\n"),
        };
        let text = redact(&text);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        let path = format!("{}/{name}", self.top);
        self.archive
            .append_data(&mut header, path, text.as_bytes())
            .map_err(|source| Failure::File { path: self.path.clone(), source })
    }

    fn finish(self) -> Result<PathBuf, Failure> {
        let written =
            self.archive.into_inner().and_then(zstd::Encoder::finish).and_then(|file| file.sync_all());
        written.map_err(|source| Failure::File { path: self.path.clone(), source })?;
        Ok(self.path)
    }
}

pub(super) async fn run(arguments: Arguments, host: &Host, output: Output) -> Result<(), Failure> {
    let time = u64::try_from(wall().unix()).unwrap_or(0);
    let path = arguments.output.unwrap_or_else(|| format!("halligan-support-{time}.tar.zst").into());
    let progress = output.progress("looking");
    let mut bundle = Bundle::create(path, time)?;
    bundle.add("README", Ok(README.to_owned()))?;
    for (name, method, call) in [
        ("status.json", Method::GET, "/v1/status"),
        ("replica.json", Method::POST, "/v1/replica/verify"),
        ("audit.json", Method::POST, "/v1/audit/verify"),
    ] {
        // The answer is not parsed: the daemon may be of another version than this program.
        let answer = host.call::<serde_json::Value>(method, call).await;
        bundle.add(name, answer.map(|answer| format!("{answer:#}\n")).map_err(|error| error.to_string()))?;
    }
    let config = read(&arguments.config);
    bundle.add("roots.txt", roots(config.as_deref()))?;
    bundle.add("config/halligand.toml", config)?;
    for unit in UNITS {
        bundle.add(&format!("systemd/{unit}"), output_of("systemctl", &["cat", unit]))?;
        bundle
            .add(&format!("systemd/{unit}.state"), output_of("systemctl", &["show", "--no-pager", unit]))?;
    }
    let journal = ["-o", "json", "--no-pager", "-p", "warning", "--since", "-7d", "-n", "5000"];
    let units = UNITS.map(|unit| ["-u", unit]);
    bundle.add("journal.json", output_of("journalctl", &[&journal[..], units.as_flattened()].concat()))?;
    bundle.add("versions.txt", Ok(versions()))?;
    let path = bundle.finish()?;
    progress.finish_and_clear();
    output.one(&serde_json::json!({ "bundle": path }), &[("wrote", "bundle")]);
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Returns the output of a program. A missing unit does not fail the bundle.
fn output_of(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// Returns the ids of the keys that this host pins, with their files.
fn roots(config: Result<&str, &String>) -> Result<String, String> {
    let config = config.map_err(Clone::clone)?;
    // The whole configuration may be invalid, which may be the reason for this bundle, so only this line is parsed.
    let directory = config
        .lines()
        .filter_map(|line| line.trim().strip_prefix("root_keys"))
        .find_map(|rest| Some(rest.trim_start().strip_prefix('=')?.trim().trim_matches(['"', '\''])))
        .ok_or("the configuration names no trust.root_keys")?;
    let mut lines = String::new();
    let failed = |error| format!("{directory}: {error}");
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let key = read(&path).and_then(|pem| PublicKey::from_pem(&pem).map_err(|error| error.to_string()));
        let what = key.map_or_else(|error| error, |key| key.kid().as_str().to_owned());
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{}  {what}", path.display());
    }
    Ok(lines)
}

fn versions() -> String {
    let mut text = format!("halligan {}\n", env!("CARGO_PKG_VERSION"));
    for path in ["/proc/version", "/etc/os-release"] {
        text += &read(Path::new(path)).unwrap_or_else(|error| error + "\n");
    }
    for (program, arguments) in [("systemctl", &["--version"][..]), ("dpkg-query", &["-W", "halligan*"])] {
        text += &output_of(program, arguments).unwrap_or_else(|error| error + "\n");
    }
    text
}
