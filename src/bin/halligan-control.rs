//! Program `halligan-control`: parses arguments and returns an exit code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use getrandom::SysRng;
use halligan::controlplane::ControlPlane;
use halligan::controlplane::claim::{Accepted, ClaimError};
use halligan::controlplane::config::{Config, ConfigError};
use halligan::controlplane::error::Error as CallError;
use halligan::controlplane::files::{Files, FilesError, read_webhook};
use halligan::controlplane::http::Edge;
use halligan::controlplane::open::OpenError;
use halligan::controlplane::retention::Housekeeper;
use halligan::controlplane::server::Server;
use halligan::controlplane::signing::{Signing, SigningError};
use halligan::controlplane::store::Store;
use halligan::controlplane::webhook::Sender;
use halligan::platform::cause::has_no_room;
use halligan::platform::clock::wall;
use halligan::platform::net::listener::listen;
use halligan::platform::net::tls::TlsError;
use halligan::platform::state_directory::{self, StateError};
use halligan::platform::systemd::{self, NotifyState};
use halligan::platform::{exit, logging};
use halligan::protocol::ends::due;
use rand_core::UnwrapErr;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

/// Issues tokens, holds their records, and publishes the records to data planes.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  halligan-control init --organization Acme --owner-email owner@acme.example\n  halligan-control serve"
)]
struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "/etc/halligan/control.toml", value_name = "FILE", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the keys, the database, and the first organization; print its owner's token, once.
    Init {
        /// The organization's name.
        #[arg(long)]
        organization: String,
        /// The first Organization Owner's address.
        #[arg(long)]
        owner_email: String,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Run the control plane. SIGHUP makes it read its keys, its keysets and the webhook's secret again.
    Serve {
        /// Sign as the `issuer` of the configuration although this control plane has signed as another one: every token becomes
        /// void, and every host must be enrolled again.
        #[arg(long)]
        accept_new_issuer: bool,
        /// Sign with the present keys although this control plane has signed with others, none of which is left: every token
        /// becomes void, and hosts accept the new keys only after their root keys are replaced.
        #[arg(long)]
        accept_new_keys: bool,
    },
    /// Print a new token for a user. For use after a token key was dropped, so that the user's old tokens are void.
    UserToken {
        /// The user's address.
        email: String,
    },
    /// After a restore from a backup: let replicas continue above the version that nodes hold, and send every node a snapshot
    /// next.
    Recover {
        /// The highest version that a node shows in `halligan status`; `serve` logs it when such a node calls.
        #[arg(long, value_name = "VERSION")]
        above: u64,
        /// The data plane; without it, all data planes.
        #[arg(long, value_name = "ID")]
        data_plane: Option<String>,
    },
    /// After environment.key was lost for good: delete the stored environment variables of all deployments, which can't be
    /// decrypted any more. Hosts keep the variables that they have until variables are set again.
    ForgetVariables,
    /// Read the configuration and the files that it names, compare them with the database, report faults, and start nothing.
    CheckConfig,
}

#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Signing(#[from] SigningError),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Certificate(TlsError),
    #[error("{what} can't be used: {source}")]
    Listen { what: String, source: std::io::Error },
    #[error("{0}")]
    Ended(String),
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("{0} holds a control plane already; nothing was changed")]
    Initialized(PathBuf),
    #[error(transparent)]
    Directory(#[from] StateError),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Claim(ClaimError::Store(_)) | Self::Open(_) | Self::Call(CallError::Io(_)) => exit::IOERR,
            Self::Directory(StateError::Unusable { .. }) => exit::CANTCREAT,
            Self::Directory(StateError::Held { .. }) => exit::TEMPFAIL,
            Self::Signing(SigningError::File { source, .. })
            | Self::Files(FilesError::Signing(SigningError::File { source, .. }))
                if has_no_room(source) =>
            {
                exit::IOERR
            }
            Self::Config(_)
            | Self::Signing(_)
            | Self::Claim(_)
            | Self::Files(_)
            | Self::Ended(_)
            | Self::Directory(_) => exit::CONFIG,
            // The certificate may be renewed at any moment, so the service manager starts the program again.
            Self::Certificate(_) | Self::Listen { .. } => exit::UNAVAILABLE,
            Self::Call(_) => exit::DATAERR,
            Self::Initialized(_) => exit::USAGE,
        }
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return exit::report_usage(&error),
    };
    logging::start("halligan-control");
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => exit::fail("halligan-control", failure.code(), &failure),
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = Config::read(&arguments.config)?.with_credentials(systemd::credential);
    run_command(arguments, &config).map_err(|failure| match failure {
        // SQLite's error names no file.
        Failure::Call(source @ CallError::Store(_)) | Failure::Claim(ClaimError::Store(source)) => {
            OpenError::of(&config.database(), source).into()
        }
        failure => failure,
    })
}

fn run_command(arguments: Arguments, config: &Config) -> Result<(), Failure> {
    match arguments.command {
        Command::Init { organization, owner_email, json } => init(config, &organization, &owner_email, json),
        Command::Serve { accept_new_issuer, accept_new_keys } => {
            serve(config, Accepted { issuer: accept_new_issuer, keys: accept_new_keys })
        }
        Command::UserToken { email } => {
            let control = open_initialized(config)?;
            control.claim(Accepted::default())?;
            println!("{}", &*control.renew_user_token(&email)?);
            Ok(())
        }
        Command::Recover { above, data_plane } => {
            let control = open_initialized(config)?;
            control.check_own_keys()?;
            let raised = control.recover(above, data_plane.as_deref())?;
            for plane in &raised {
                let passed = if plane.from > above {
                    format!("; the version was above {above} already")
                } else {
                    String::new()
                };
                println!(
                    "{}: version {} -> {}; every node receives a snapshot next{passed}",
                    plane.id, plane.from, plane.to
                );
            }
            if raised.is_empty() {
                println!("this control plane has no data plane; nothing was changed");
            }
            Ok(())
        }
        Command::ForgetVariables => {
            let control = open_initialized(config)?;
            control.check_own_keys()?;
            let count = control.forget_variables()?;
            println!("deleted {count} environment variables; set those of each deployment again");
            Ok(())
        }
        Command::CheckConfig => {
            let Files { signing, certificate, .. } = Files::read(config)?;
            state_directory::examine(&config.state_dir)?;
            Files::examine_archives(config)?;
            ControlPlane::examine(&config.database())?;
            ControlPlane::examine_claim(&config.database(), &signing, &config.issuer)?;
            let ends = [Some(signing.keyset_end()), certificate];
            let now = wall();
            for end in due(ends.into_iter().flatten().collect(), now) {
                if end.voids_all(now) {
                    return Err(Failure::Ended(end.sentence(now)));
                }
                eprintln!("warning: {}", end.sentence(now));
            }
            println!("{}: ok", arguments.config.display());
            Ok(())
        }
    }
}

/// Opens the database for `init`, which creates it.
fn open(config: &Config) -> Result<ControlPlane, Failure> {
    let signing = Signing::load(&config.state_dir)?;
    let path = config.database();
    let store = Store::open(&path).map_err(|source| OpenError::Unusable { path, source })?;
    Ok(ControlPlane::new(store, signing, config.issuer.clone(), Arc::new(wall), Box::new(random())))
}

/// Opens the database for a command. A fault of the keys is reported before one of the database.
fn open_initialized(config: &Config) -> Result<ControlPlane, Failure> {
    open_with(config, Signing::load(&config.state_dir)?)
}

fn open_with(config: &Config, signing: Signing) -> Result<ControlPlane, Failure> {
    state_directory::prepare(&config.state_dir)?;
    let path = config.database();
    Ok(ControlPlane::open_existing(
        &path,
        signing,
        config.issuer.clone(),
        Arc::new(wall),
        Box::new(random()),
    )?)
}

fn random() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn init(config: &Config, organization: &str, owner_email: &str, json: bool) -> Result<(), Failure> {
    let directory = &config.state_dir;
    if config.database().exists() && open(config)?.bootstrapped()? {
        return Err(Failure::Initialized(directory.clone()));
    }
    state_directory::prepare(directory)?;
    if !directory.join("keysets.ndjson").exists() {
        Signing::create_for(directory, Some(&config.issuer), wall(), &mut UnwrapErr(SysRng))?;
    }
    let control = open(config)?;
    // A database without an organization may be left over from an attempt that failed. Nothing was signed for it.
    control.claim(Accepted { issuer: true, keys: true })?;
    let made = control.bootstrap(organization, owner_email)?;
    let root = directory.join("root.pub.pem");
    if json {
        let answer = serde_json::json!({
            "organizationId": made.organization_id, "userId": made.user_id, "token": &*made.token,
            "rootKey": root,
        });
        println!("{answer}");
    } else {
        println!("organization  {}", made.organization_id);
        println!("owner         {}", made.user_id);
        println!("token         {}", &*made.token);
        println!("root key      {}", root.display());
        eprintln!(
            "\nThe token is shown this once. Give the root key to every node, and keep {} offline.",
            directory.join("root.pem").display()
        );
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn serve(config: &Config, accepted: Accepted) -> Result<(), Failure> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| Failure::Listen { what, source }
    };
    // Installed before the first answer, because a caller that sees an answer may stop the program.
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("the signal handler"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("the signal handler"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed("the signal handler"))?;
    let Files { signing, tls, certificate, webhook, archives } =
        Files::read(config).map_err(|error| match error {
            FilesError::Tls(error) => Failure::Certificate(error),
            error => error.into(),
        })?;
    // Two of them would send every message of the webhook twice, and each would count limits and delete old rows by itself.
    let _held = state_directory::hold(&config.state_dir)?;
    let control = open_with(config, signing)?;
    control.claim(accepted)?;
    // Tokens and data planes do not depend on this key, so the program serves all else without it.
    if let Some(fault) = control.environment_key_fault()? {
        tracing::error!(error = %fault, "environment variables can't be read or changed");
    }
    let control = if webhook.is_some() { control.announcing() } else { control };
    let control = Arc::new(match archives {
        Some(archives) => control.keeping_code_in(archives),
        None => control,
    });
    control.serves_until(certificate);
    let bind = |address: SocketAddr| {
        listen(address).and_then(tokio::net::TcpListener::into_std).map_err(failed(&address.to_string()))
    };
    let listener = bind(config.listen)?;
    let metrics = config.metrics_listen.map(bind).transpose()?;
    let edge =
        Edge::new(Arc::clone(&control)).trusting(config.trusted_proxies.clone()).limited(config.limits);
    // The server has a runtime of its own, so it must be started on a blocking thread.
    let server = tokio::task::spawn_blocking(move || Server::start(edge, listener, tls, metrics))
        .await
        .map_err(|error| std::io::Error::other(error.to_string()))
        .flatten()
        .map_err(failed("the listener"))?;
    let sender = webhook.map(|webhook| Sender::start(Arc::clone(&control), webhook));
    let sender = sender.transpose().map_err(failed("the webhook's thread"))?;
    let housekeeper = Housekeeper::start(Arc::clone(&control), config.retention)
        .map_err(failed("the thread that deletes old rows"))?;
    let ends = tokio::spawn(Arc::clone(&control).tell_of_ends());
    tracing::info!(address = %server.address(), issuer = config.issuer, "listening");
    let status = format!("{} on {}", config.issuer, server.address());
    systemd::notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(config, &control, sender.as_ref()),
        }
    }
    tracing::info!("stopping");
    ends.abort();
    // The end of the task is awaited, because the task holds a reference to the control plane.
    let _ = ends.await;
    systemd::notify(&[NotifyState::Stopping]);
    if let Some(sender) = sender {
        sender.shutdown().await;
    }
    tokio::task::spawn_blocking(move || server.shutdown()).await.map_err(|error| Failure::Listen {
        what: "the listener".into(),
        source: std::io::Error::other(error),
    })?;
    drop(housekeeper);
    // Dropping the last reference closes the database, which copies the write-ahead log into it.
    if Arc::into_inner(control).is_none() {
        tracing::warn!(
            "a call is still in progress, so the write-ahead log is not copied into the database; a backup needs control.db and control.db-wal"
        );
    }
    Ok(())
}

/// Reads the keys, the keysets and the webhook's secret again. If one is invalid, its fault is logged and the earlier
/// one stays in force.
fn reload(config: &Config, control: &ControlPlane, sender: Option<&Sender>) {
    let loaded = Signing::load(&config.state_dir).map_err(ClaimError::from);
    match loaded.and_then(|signing| control.sign_with(signing)) {
        Ok(()) => tracing::info!("signs with the keys that were read again"),
        Err(error) => tracing::error!(%error, "the keys can't be read again; the earlier keys stay in force"),
    }
    if let Some(sender) = sender {
        match read_webhook(config) {
            Ok(Some(webhook)) => sender.replace(webhook),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "the webhook's secret can't be read again; the earlier secret stays in force");
            }
        }
    }
}
