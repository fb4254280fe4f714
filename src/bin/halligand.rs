//! `halligand`: arguments in, exit code out.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use getrandom::SysRng;
use halligan::clock::wall;
use halligan::dataplane::config::Config;
use halligan::dataplane::daemon::{Daemon, StartError};
use halligan::dataplane::identity::{Absent, Identity, pinned_roots, read_node_key};
use halligan::exit;
use rand_core::UnwrapErr;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Decides on a data-plane host who gets in, also while the control plane is down.
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
    /// Read the configuration and the files it names, say what is wrong with them, and start nothing.
    CheckConfig,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return exit::usage(&error),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let config = match Config::read(&arguments.config) {
        Ok(config) => config,
        Err(error) => return exit::fail("halligand", exit::CONFIG, &error),
    };
    if let Some(Command::CheckConfig) = arguments.command {
        let checked = pinned_roots(&config.trust.root_keys, config.trust.threshold)
            .and_then(|_| Identity::read(&config.state_dir.join("node.json")))
            .and_then(|known| read_node_key(&config.key_file(), config.absent_key(known.is_some())))
            .and_then(|_| {
                let own = config.upstream_key_file();
                own.map_or(Ok(None), |file| read_node_key(&file, Absent::Make))
            })
            .map_err(StartError::from)
            .and_then(|_| Ok(config.route_maps()?));
        return match checked {
            Ok(_) => {
                println!("{}: ok", arguments.config.display());
                ExitCode::SUCCESS
            }
            Err(error) => exit::fail("halligand", exit::CONFIG, &error),
        };
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = match &error {
                StartError::Identity(_)
                | StartError::Upstream(_)
                | StartError::Routes(_)
                | StartError::NotEnrolled => exit::CONFIG,
                StartError::Enrol(_) | StartError::Listen { .. } => exit::UNAVAILABLE,
                StartError::Answer(_) => exit::DATAERR,
                StartError::State { .. }
                | StartError::Store(_)
                | StartError::Audit(_)
                | StartError::Revocations(_) => exit::IOERR,
            };
            exit::fail("halligand", code, &error)
        }
    }
}

#[tokio::main]
async fn run(config: Config) -> Result<(), StartError> {
    let signals =
        signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) =
        signals.map_err(|source| StartError::Listen { address: "signals".into(), source })?;
    let daemon = Daemon::start(config, Arc::new(wall), UnwrapErr(SysRng)).await?;
    for address in &daemon.addresses {
        tracing::info!(%address, "listening");
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    daemon.shutdown().await;
    Ok(())
}
