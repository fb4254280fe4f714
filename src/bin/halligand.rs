//! Program `halligand`: parses arguments and returns an exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use getrandom::SysRng;
use halligan::api::host::reload::Reloaded;
use halligan::dataplane::config::Config;
use halligan::dataplane::daemon::admin::{AskError, ask_for_reload};
use halligan::dataplane::daemon::new_identity::{NewIdentityError, set_identity_aside};
use halligan::dataplane::daemon::{Daemon, LossError, ReadEnds, StartError, accept_loss, check_files};
use halligan::dataplane::node::identity::{Identity, IdentityError, make_node_key, read_node_key};
use halligan::platform::cause::has_no_room;
use halligan::platform::clock::wall;
use halligan::platform::state_directory::{self, StateError};
use halligan::platform::systemd::{self, NotifyState, Sockets};
use halligan::platform::{exit, logging};
use halligan::protocol::ends::due;
use halligan::protocol::key::SigningKey;
use rand_core::UnwrapErr;
use tokio::signal::unix::{SignalKind, signal};

/// Allows or denies requests on a data-plane host, also while the control plane is down.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  halligand --config /etc/halligan/halligand.toml\n  halligand --config halligand.toml check-config"
)]
struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "/etc/halligan/halligand.toml", value_name = "FILE")]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon (the default).
    Run,
    /// Read the configuration and the files that it names, report their faults, and start nothing.
    CheckConfig,
    /// Print this node's public key, and create the key if it is missing. For a host that can't enrol by itself.
    PublicKey,
    /// Ask the running daemon to read its configuration again, and print the settings that it applied.
    Reload,
    /// Set this host's identity aside, so that the next start enrols it again. For a copy of another host, and for a host that
    /// was retired. The daemon must be stopped; nothing is deleted.
    NewIdentity {
        /// Continue although some events of the audit log have not been sent to the control plane.
        #[arg(long)]
        force: bool,
    },
    /// Accept that the revocations of this host are lost, so that the daemon starts again; the audit log records it. First
    /// try to put the file back from a backup: a token whose revocation is lost is accepted again.
    AcceptLoss {
        /// The database: revocations.db.
        database: String,
        /// The reason, in one line, for people who read the audit log later.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return exit::report_usage(&error),
    };
    logging::start("halligand");
    let config = match Config::read(&arguments.config) {
        Ok(config) => config.with_credentials(systemd::credential),
        Err(error) => return exit::fail("halligand", exit::CONFIG, &error),
    };
    match arguments.command {
        Some(Command::CheckConfig) => check_config(&config, &arguments.config),
        Some(Command::PublicKey) => print_public_key(&config),
        Some(Command::NewIdentity { force }) => new_identity(&config, force),
        Some(Command::Reload) => ask_to_reload(&config),
        Some(Command::AcceptLoss { database, reason }) => record_loss(&config, &database, &reason),
        Some(Command::Run) | None => serve(config),
    }
}

/// Reads every file that a start would read. Prints the first fault, or else warnings about keys and certificates that expire
/// soon.
fn check_config(config: &Config, path: &Path) -> ExitCode {
    let now = wall();
    match check_files(config, now) {
        Ok(ReadEnds { ends, unknown }) => {
            for error in unknown {
                eprintln!("warning: {error}");
            }
            for end in due(ends, now) {
                eprintln!("warning: {}", end.sentence(now));
            }
            println!("{}: ok", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => exit::fail("halligand", exit::CONFIG, &error),
    }
}

/// Prints the node's public key. Creates the key if there is none.
fn print_public_key(config: &Config) -> ExitCode {
    if let Err(error) = state_directory::prepare(&config.state_dir) {
        return exit::fail("halligand", exit::CONFIG, &error);
    }
    match node_key(config) {
        Ok(key) => {
            print!("{}", key.public().to_pem());
            ExitCode::SUCCESS
        }
        Err(error) => exit::fail("halligand", exit::CONFIG, &error),
    }
}

/// Sets the identity of this host aside, so that the next start enrols it again.
fn new_identity(config: &Config, force: bool) -> ExitCode {
    match set_identity_aside(config, force, wall()) {
        Ok(done) => {
            println!("set aside in {}: {}", done.directory.display(), done.files.join(", "));
            if let Some(key) = done.key_file {
                println!("node.key_file: {} is still the former identity's key; replace it", key.display());
            }
            println!("next: give this host a new enrolment token, and start halligand");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = match &error {
                NewIdentityError::Running(_)
                | NewIdentityError::Held { .. }
                | NewIdentityError::NotUploaded(_) => exit::TEMPFAIL,
                NewIdentityError::None(_) => exit::NOINPUT,
                NewIdentityError::File { .. }
                | NewIdentityError::Directory(_)
                | NewIdentityError::Log { .. } => exit::IOERR,
            };
            exit::fail("halligand", code, &error)
        }
    }
}

/// Asks the running daemon to read its configuration again.
fn ask_to_reload(config: &Config) -> ExitCode {
    match reload(config) {
        Ok(Reloaded { taken, restart }) => {
            println!("taken: {}", list(&taken));
            println!("needs a restart: {}", list(&restart));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = match &error {
                AskError::Silent { .. } => exit::UNAVAILABLE,
                AskError::Refused(_) => exit::CONFIG,
            };
            exit::fail("halligand", code, &error)
        }
    }
}

/// Records that the operator accepts the loss of a database.
fn record_loss(config: &Config, database: &str, reason: &str) -> ExitCode {
    match accept_loss(&config.state_dir, database, reason, wall()) {
        Ok(()) => {
            println!(
                "the next start continues without the lost content of {database}, and records the acceptance in the audit log"
            );
            ExitCode::SUCCESS
        }
        Err(error @ (LossError::File { .. } | LossError::Directory(_))) => {
            exit::fail("halligand", exit::IOERR, &error)
        }
        Err(error @ LossError::Held { .. }) => exit::fail("halligand", exit::TEMPFAIL, &error),
        Err(error) => exit::fail("halligand", exit::DATAERR, &error),
    }
}

/// Runs the daemon until a signal stops it.
fn serve(config: Config) -> ExitCode {
    // Changes the environment of the process, so it must come before any thread is started.
    let sockets = match Sockets::inherit() {
        Ok(sockets) => sockets,
        Err(error) => {
            return exit::fail(
                "halligand",
                exit::UNAVAILABLE,
                &format!("a socket that the service manager passed can't be used: {error}"),
            );
        }
    };
    match run(config, sockets) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fail("halligand", exit_code(&error), &error),
    }
}

/// Returns the exit code of a start that failed.
fn exit_code(error: &StartError) -> u8 {
    match error {
        // A restart cannot help here; an operator must act.
        StartError::Enrol(refused) if refused.contradicts() => exit::CONFIG,
        StartError::Directory(StateError::Held { .. }) => exit::TEMPFAIL,
        StartError::Directory(StateError::Unusable { .. }) => exit::CANTCREAT,
        StartError::Identity(IdentityError::File { source, .. }) if has_no_room(source) => exit::IOERR,
        StartError::Config(_)
        | StartError::Directory(_)
        | StartError::Identity(_)
        | StartError::Upstream(_)
        | StartError::Routes(_)
        | StartError::NotEnrolled
        | StartError::NoGrpc
        | StartError::Gateway(_)
        | StartError::Traces(_)
        | StartError::Nowhere => exit::CONFIG,
        StartError::Enrol(_) | StartError::Listen { .. } | StartError::Peers(_) => exit::UNAVAILABLE,
        StartError::Answer(_) => exit::DATAERR,
        StartError::State { .. }
        | StartError::Disk { .. }
        | StartError::Store(_)
        | StartError::Audit(_)
        | StartError::Recovery(_)
        | StartError::Loss(_)
        | StartError::Glass(_) => exit::IOERR,
    }
}

fn node_key(config: &Config) -> Result<SigningKey, IdentityError> {
    let (path, enrolled) = (config.key_file(), Identity::read(&config.identity_file())?.is_some());
    match read_node_key(&path, config.absent_key(enrolled))? {
        Some(key) => Ok(key),
        None => make_node_key(&path, &mut UnwrapErr(SysRng)),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn reload(config: &Config) -> Result<Reloaded, AskError> {
    ask_for_reload(&config.listen.admin_socket).await
}

fn list(keys: &[String]) -> String {
    if keys.is_empty() { "nothing".into() } else { keys.join(", ") }
}

#[tokio::main]
async fn run(config: Config, sockets: Sockets) -> Result<(), StartError> {
    let catch =
        |kind| signal(kind).map_err(|source| StartError::Listen { address: "signals".into(), source });
    let (mut terminate, mut interrupt) = (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    let mut hangup = catch(SignalKind::hangup())?;
    let daemon = Daemon::start(config, sockets, Arc::new(wall), UnwrapErr(SysRng)).await?;
    for address in &daemon.addresses {
        tracing::info!(%address, "listening");
    }
    let watchdog = systemd::listens().then(|| tokio::spawn(daemon.watchdog().report(systemd::watchdog())));
    systemd::notify(&[NotifyState::Ready]);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                let reload = Arc::clone(daemon.reload());
                // The reload has already logged its result.
                drop(tokio::task::spawn_blocking(move || drop(reload.run())).await);
            }
        }
    }
    tracing::info!("stopping");
    systemd::notify(&[NotifyState::Stopping]);
    if let Some(watchdog) = watchdog {
        watchdog.abort();
        // The task was aborted, so it has no result.
        let _ = watchdog.await;
    }
    daemon.shutdown().await;
    Ok(())
}
