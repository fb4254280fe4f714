//! `halligan dev`: runs a control plane, a daemon and a sample deployment in one process, for trials and tests.

mod airflow;
mod sample;
mod switch;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use self::airflow::Airflow;
use self::sample::{Sample, Tokens};
use self::switch::Switch;
use super::failure::Failure;
use super::output::{Output, line};
use crate::controlplane::ControlPlane;
use crate::controlplane::signing::Signing;
use crate::controlplane::store::Store;
use crate::dataplane::config as node;
use crate::dataplane::daemon::Daemon;
use crate::dataplane::faces::gateway::config::GatewayConfig;
use crate::platform::clock::wall;
use crate::platform::systemd::Sockets;

/// Runs a control plane, a daemon and a sample deployment on this machine.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  halligan dev                 everything, forgotten when it ends
  halligan dev --dir ./state   keeps keys, tokens and logs
  halligan dev --airflow       the real Airflow behind it, for a browser
  halligan dev outage on       in another terminal: cut the control plane")]
pub struct Arguments {
    /// Directory for the state. Without it, the state is deleted when the command ends.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Address of the control plane.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    control_listen: SocketAddr,
    /// Address of the daemon.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    daemon_listen: SocketAddr,
    /// Address for Envoy's ext_authz over gRPC. Without it, gRPC is off.
    #[arg(long, value_name = "ADDRESS")]
    grpc_listen: Option<SocketAddr>,
    /// Address of the daemon's own reverse proxy, over plain HTTP. Without it, the reverse proxy is off.
    #[arg(long, value_name = "ADDRESS")]
    gateway_listen: Option<SocketAddr>,
    /// URL of the deployment behind the reverse proxy.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", requires = "gateway_listen")]
    gateway_upstream: String,
    /// Send the deployment a signed identity of the caller, in place of the caller's token.
    #[arg(long)]
    upstream_identity: bool,
    /// Run the real Airflow behind the gateway, so that people can sign in with a browser. DIR is the Python virtual
    /// environment that has it.
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = airflow::INSTALLED, conflicts_with = "gateway_upstream")]
    airflow: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Cut or restore the control plane of the running `halligan dev`.
    Outage {
        /// `on` cuts the control plane off, `off` restores it.
        state: switch::State,
        /// State directory of the instance, if several run.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Addresses and values that a newcomer or a test needs.
#[derive(Serialize)]
struct Ready {
    control_url: String,
    daemon_url: String,
    authorize_url: String,
    admin_socket: PathBuf,
    state_dir: PathBuf,
    organization_id: String,
    data_plane_id: String,
    deployment_id: String,
    owner_token: Zeroizing<String>,
    direct_access_token: Zeroizing<String>,
    standard_token: Zeroizing<String>,
    /// Airflow behind the gateway, for a browser.
    #[serde(skip_serializing_if = "Option::is_none")]
    airflow_url: Option<String>,
}

fn failed(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Dev(format!("{what}: {error}"))
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Failure::File { path: path.into(), source })
}

pub(super) async fn run(mut arguments: Arguments, output: Output) -> Result<(), Failure> {
    if let Some(Command::Outage { state, dir }) = arguments.command {
        return switch::ask(state, dir.or(arguments.dir), output).await;
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // Dropped at the end, which deletes the temporary directory.
    let (state, _forgotten) = state_directory(arguments.dir.as_deref())?;
    let node_dir = state.join("node");
    make_directory(&node_dir)?;
    let Prepared { control, address, listener, sample, tokens } =
        prepare_control_plane(&state, &node_dir, arguments.control_listen)?;
    let control_url = format!("http://{address}");
    let switch = Switch::start(control, address, listener)?;

    let airflow =
        arguments.airflow.as_ref().map(|environment| Airflow::find(environment, &state)).transpose()?;
    let airflow_url = airflow.as_ref().map(|airflow| stand_before(airflow, &mut arguments)).transpose()?;
    let mut config = node_config(&node_dir, &control_url, &arguments);
    config.gateway = gateway(&arguments, &sample.deployment_id)?;
    let daemon = Daemon::start(config, Sockets::default(), Arc::new(wall), UnwrapErr(SysRng))
        .await
        .map_err(|error| failed("the daemon can't start", error))?;
    let daemon_url = daemon.addresses.first().map(|address| format!("http://{address}")).unwrap_or_default();
    sample::until_synced(&daemon).await?;
    // The daemon has written down the key that Airflow is to trust.
    let _airflow = match airflow {
        Some(airflow) => Some(airflow.start(node_dir.join("jwks.json")).await?),
        None => None,
    };
    let (mut terminate, mut interrupt) = signal(SignalKind::terminate())
        .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)))
        .map_err(|error| failed("signals can't be waited for", error))?;
    let socket = switch::listen(&state, switch)?;
    let ready = Ready {
        authorize_url: format!("{daemon_url}/v1/authorize/{}", sample.deployment_id),
        control_url,
        daemon_url,
        admin_socket: node_dir.join("admin.sock"),
        state_dir: state.clone(),
        organization_id: sample.organization_id,
        data_plane_id: sample.data_plane_id,
        deployment_id: sample.deployment_id,
        owner_token: tokens.owner,
        direct_access_token: tokens.direct_access,
        standard_token: tokens.standard,
        airflow_url,
    };
    announce(&ready, output)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    socket.close();
    daemon.shutdown().await;
    Ok(())
}

/// Returns the state directory, and the handle that deletes it if it is temporary.
fn state_directory(wanted: Option<&Path>) -> Result<(PathBuf, Option<tempfile::TempDir>), Failure> {
    let forgotten = match wanted {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("halligan-dev-")
                .tempdir()
                .map_err(|error| failed("a temporary directory can't be made", error))?,
        ),
    };
    let state = forgotten.as_ref().map(tempfile::TempDir::path).or(wanted);
    let state = state.unwrap_or(Path::new(".")).to_owned();
    make_directory(&state)?;
    let state = state.canonicalize().map_err(|source| Failure::File { path: state.clone(), source })?;
    Ok((state, forgotten))
}

/// Control plane that is ready to be served, with its sample deployment.
struct Prepared {
    control: Arc<ControlPlane>,
    address: SocketAddr,
    listener: TcpListener,
    sample: Sample,
    tokens: Tokens,
}

/// Binds the control plane's address, and opens its keys and its database. Creates what is missing, the sample deployment
/// included, and puts the root key where the node pins it.
fn prepare_control_plane(state: &Path, node_dir: &Path, listen: SocketAddr) -> Result<Prepared, Failure> {
    let control_dir = state.join("control");
    make_directory(&control_dir)?;
    let known = Sample::read(state)?;
    // The address is part of the signed issuer, so a kept state is valid only at the same address.
    let address = known.as_ref().map_or(listen, |known| known.control_address);
    let listener = TcpListener::bind(address)
        .map_err(|error| failed(&format!("the control plane can't listen on {address}"), error))?;
    let address =
        listener.local_addr().map_err(|error| failed("the control plane's address is not known", error))?;
    if !control_dir.join("keysets.ndjson").exists() {
        Signing::create(&control_dir, wall(), &mut UnwrapErr(SysRng))
            .map_err(|error| failed("the control plane's keys can't be made", error))?;
    }
    let signing = Signing::load(&control_dir)
        .map_err(|error| failed("the control plane's keys can't be used", error))?;
    let roots = node_dir.join("roots");
    make_directory(&roots)?;
    std::fs::copy(control_dir.join("root.pub.pem"), roots.join("root.pem"))
        .map_err(|source| Failure::File { path: roots, source })?;
    let store = Store::open(&control_dir.join("control.db"))
        .map_err(|error| failed("the control plane's database can't be used", error))?;
    let rng = Box::new(UnwrapErr(SysRng));
    let control_url = format!("http://{address}");
    let control = Arc::new(ControlPlane::new(store, signing, control_url, Arc::new(wall), rng));
    let (sample, tokens) = match known {
        Some(sample) => {
            let tokens = sample.renew(&control)?;
            (sample, tokens)
        }
        None => Sample::make(&control, address, node_dir)?,
    };
    sample.write(state)?;
    Ok(Prepared { control, address, listener, sample, tokens })
}

/// Puts the gateway before Airflow. Returns the URL to open in a browser.
fn stand_before(airflow: &Airflow, arguments: &mut Arguments) -> Result<String, Failure> {
    let listen = match arguments.gateway_listen {
        Some(listen) => listen,
        None => SocketAddr::from(([127, 0, 0, 1], airflow::free_port()?)),
    };
    arguments.gateway_upstream = airflow.url();
    arguments.gateway_listen = Some(listen);
    // Browsers keep the session's cookie over plain HTTP under this name only.
    Ok(format!("http://localhost:{}/", listen.port()))
}

fn node_config(node: &Path, url: &str, arguments: &Arguments) -> node::Config {
    node::Config {
        state_dir: node.to_owned(),
        trust: node::Trust { root_keys: node.join("roots"), threshold: 1 },
        control_plane: node::ControlPlane {
            urls: vec![url.to_owned()],
            ca_file: None,
            enrolment_token_file: Some(node.join("enrolment-token")),
        },
        node: node::Node { name: Some("dev".into()), key_file: None },
        listen: node::Listen {
            http: vec![arguments.daemon_listen],
            grpc: arguments.grpc_listen.into_iter().collect(),
            admin_socket: node.join("admin.sock"),
            workers: None,
            connections_per_client: None,
        },
        proxies: node::Proxies::default(),
        staleness: node::StalenessConfig::default(),
        routes: node::Routes::default(),
        glass: node::GlassConfig::default(),
        peers: node::Peers::default(),
        introspection: node::IntrospectionConfig::default(),
        audit: node::Audit::default(),
        admin: node::Admin::default(),
        environment: node::EnvironmentConfig::default(),
        code: node::CodeConfig::default(),
        upstream_identity: (arguments.upstream_identity || arguments.airflow.is_some())
            .then(Default::default),
        sessions: arguments.airflow.is_some().then(Default::default),
        gateway: None,
        tracing: None,
        file: None,
    }
}

/// Returns the configuration of the gateway in front of the sample deployment, which has no host name of its own.
fn gateway(arguments: &Arguments, deployment: &str) -> Result<Option<GatewayConfig>, Failure> {
    let Some(listen) = arguments.gateway_listen else { return Ok(None) };
    let upstream = &arguments.gateway_upstream;
    let hosts = ["127.0.0.1", "localhost", &listen.ip().to_string()].map(str::to_owned);
    let config = serde_json::json!({
        "listen": [listen], "deployments": { deployment: { "upstream": upstream, "hosts": hosts } },
    });
    let config = serde_json::from_value(config);
    config.map(Some).map_err(|error| Failure::Usage(format!("--gateway-upstream can't be used: {error}")))
}

fn announce(ready: &Ready, output: Output) -> Result<(), Failure> {
    if output.json {
        let text =
            serde_json::to_string(ready).map_err(|error| failed("the answer can't be written", error))?;
        line(&text);
        return Ok(());
    }
    let airflow = ready.airflow_url.as_ref().map_or_else(String::new, |url| {
        format!(
            "
Airflow is behind the daemon. Open it in a browser, also while the control plane is cut, and sign in
with the value of TOKEN:

  {url}
"
        )
    });
    line(&format!(
        "Halligan runs: a control plane at {control}, a daemon at {daemon},
and a sample deployment, {deployment}.
This is for trying things out: the keys lie in {state}.

In another terminal, paste:

  alias halligan='{program}'
  export HALLIGAN_URL={control}
  export HALLIGAN_SOCKET={socket}
  export HALLIGAN_API_TOKEN={owner}
  export TOKEN={direct}
  export DAEMON={address} DEPLOYMENT={deployment}

Ask the daemon what a proxy would ask it:

  curl -i -H \"Authorization: Bearer $TOKEN\" \\
       -H 'X-Original-Method: GET' -H 'X-Original-URI: /api/v2/dags' \\
       {authorize}

It says yes. Without the first header it says no, and why. docs/proxies.md puts nginx in between.
{airflow}
Cut the control plane, and ask again; then bring it back:

  halligan dev outage on
  halligan status
  halligan dev outage off

Ctrl-C ends it.",
        program = std::env::current_exe().unwrap_or_else(|_| "halligan".into()).display(),
        control = ready.control_url,
        daemon = ready.daemon_url,
        deployment = ready.deployment_id,
        state = ready.state_dir.display(),
        socket = ready.admin_socket.display(),
        owner = &*ready.owner_token,
        direct = &*ready.direct_access_token,
        authorize = ready.authorize_url,
        address = ready.daemon_url.trim_start_matches("http://"),
    ));
    Ok(())
}
