//! `halligan replica`: shows this host's replica, and carries it to other hosts.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use reqwest::Method;
use serde::Serialize;

use super::failure::Failure;
use super::host::Host;
use super::output::{Column, Output, confirm, line};
use crate::api::host::replica::{Content, ForkedHead, MAX_BUNDLE, Record, Reset, VerifiedReplica};

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Show the records of the replica.
    Show,
    /// Verify the replica on the disk: keyset chain, head, and the digest of every record.
    Verify,
    /// Write the replica to a file that another node of this data plane can import.
    Export {
        /// The file, or - for standard output.
        file: PathBuf,
    },
    /// Show heads that contradict a verified one: evidence that somebody with the key has signed both.
    Forks,
    /// Remove the replica, with all facts that its records had fixed, for example after a key was stolen. Revocations stay.
    /// Every request is denied until the control plane or an import provides a new replica.
    Reset {
        /// Don't ask.
        #[arg(long)]
        force: bool,
    },
    /// Import a bundle that was carried here, if its signatures are valid.
    Import {
        /// The file.
        file: PathBuf,
    },
}

const PROOF: [Column; 5] = [
    ("version", "version"),
    ("signed", "signedAt"),
    ("keyset", "keyset"),
    ("records", "records"),
    ("digest", "digest"),
];

pub(super) async fn run(verb: Verb, host: &Host, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::Show => {
            let replica: Content = host.call(Method::GET, "/v1/replica").await?;
            if output.json {
                output.one(&replica, &[]);
                return Ok(());
            }
            output.one(&replica.head, &PROOF);
            line("");
            let rows: Vec<_> = replica.records.iter().map(row).collect();
            output.list(&rows, &[("KIND", "kind"), ("KEY", "key"), ("WHAT", "what")]);
        }
        Verb::Verify => {
            let progress = output.progress("proving every record");
            let proof: Result<Option<VerifiedReplica>, _> =
                host.call(Method::POST, "/v1/replica/verify").await;
            progress.finish_and_clear();
            show(proof?.as_ref(), output);
        }
        Verb::Export { file } => {
            let progress = output.progress("exporting");
            let bundle = host.bytes(Method::GET, "/v1/replica/export", Vec::new()).await;
            progress.finish_and_clear();
            write(&file, &bundle?)?;
            if file != Path::new("-") {
                output.say(&format!("wrote {}", file.display()));
            }
        }
        Verb::Forks => {
            let forks: Vec<ForkedHead> = host.call(Method::GET, "/v1/replica/forks").await?;
            output.list(
                &forks,
                &[("OBJECT", "what"), ("VERSION", "version"), ("SEEN", "seenAt"), ("HEAD", "head")],
            );
        }
        Verb::Reset { force } => {
            confirm("Letting the replica go", force)?;
            let done: Reset = host.call(Method::POST, "/v1/replica/reset").await?;
            if output.json {
                output.one(&done, &[]);
            }
            output.say("The replica is gone; a new one is asked for.");
        }
        Verb::Import { file } => {
            let bundle = read(&file, MAX_BUNDLE as u64)?;
            let progress = output.progress("proving and taking in");
            let proof: Result<Option<VerifiedReplica>, _> =
                host.exchange(Method::POST, "/v1/replica/import", bundle).await;
            progress.finish_and_clear();
            show(proof?.as_ref(), output);
        }
    }
    Ok(())
}

fn show(proof: Option<&VerifiedReplica>, output: Output) {
    if proof.is_none() && !output.json {
        line("This node has no replica yet.");
    } else {
        output.one(&proof, &PROOF);
    }
}

/// Reads a file of at most `most` bytes, so that an endless one, such as a device, does not fill the memory.
fn read(file: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let mut bundle = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(most + 1).read_to_end(&mut bundle))
        .map_err(|source| Failure::File { path: file.into(), source })?;
    if bundle.len() as u64 > most {
        return Err(Failure::Data(format!(
            "{} is longer than {most} bytes, which no bundle of a replica is; name a file that `halligan replica export` wrote",
            file.display()
        )));
    }
    Ok(bundle)
}

fn write(file: &Path, bundle: &[u8]) -> Result<(), Failure> {
    let written = if file == Path::new("-") {
        std::io::Write::write_all(&mut std::io::stdout(), bundle)
    } else {
        std::fs::write(file, bundle)
    };
    written.map_err(|source| Failure::File { path: file.into(), source })
}

/// Row of the table of records.
#[derive(Serialize)]
struct Row<'a> {
    kind: &'a str,
    key: &'a str,
    what: String,
}

/// Describes a record in a few words.
fn row(record: &Record) -> Row<'_> {
    let body = &record.body;
    let text = |member: &str| body[member].as_str().unwrap_or("-").to_owned();
    let what = match record.kind.as_str() {
        "token" if !body["revokedAt"].is_null() => format!("revoked, for {}", text("deployment")),
        "token" => format!(
            "{} on {}, generation {}",
            body["role"]["id"].as_str().unwrap_or("-"),
            text("deployment"),
            body["generation"]
        ),
        "role" => text("scope"),
        _ => text("name"),
    };
    Row { kind: &record.kind, key: &record.key, what }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_file_without_an_end_is_read_up_to_the_limit_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.bundle");
        for (length, fits) in [(0, true), (8, true), (9, false)] {
            std::fs::write(&file, vec![7; length]).unwrap();
            assert_eq!(read(&file, 8).map(|bundle| bundle.len()).ok(), fits.then_some(length));
        }
        let endless = read(Path::new("/dev/zero"), 8).unwrap_err().to_string();
        assert!(endless.contains("/dev/zero is longer than 8 bytes"), "{endless}");
    }
}
