//! Command line of `halligan`.
//!
//! `token`, `role`, `organization`, `workspace`, `deployment`, `deploy`, `data-plane`, `node`, `user` and `team` call the control
//! plane; `status`, `check`, `revoke`, `clock`, `glass`, `outage`, `replica` and `audit` call the daemon of this host
//! through its Unix socket; `key` makes no connections.

mod audit;
mod audit_log;
mod check;
mod clock;
mod control;
mod dag_tags;
mod data_plane;
mod deletion;
mod deploy;
mod deployment;
mod deployment_choice;
#[cfg(all(feature = "control", feature = "daemon"))]
pub mod dev;
mod failure;
mod glass;
mod global;
mod grants;
mod host;
mod id;
mod key;
mod manual;
mod node;
mod organization;
mod outage;
mod output;
mod replica;
mod revoke;
mod role;
#[cfg(feature = "daemon")]
mod routes;
mod session;
mod status;
mod support_bundle;
mod team;
mod token;
mod upload;
mod user;
mod variable;
mod workspace;

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand};

pub use failure::Failure;

use global::Global;
use output::Output;

/// Break-glass access to Airflow deployments while their control plane is down.
#[derive(Parser, Debug)]
#[command(
    name = "halligan",
    version,
    after_help = "Examples:
  halligan dev                                            try it all on this machine
  halligan token create -n oncall --deployment-id dep_… --direct-access -e 30
  halligan check --deployment dep_… GET /api/v2/dags      would this token be let in, and why
  halligan status                                         how this host's daemon stands
  halligan revoke tok_… --reason 'laptop lost'            end a token here and now, control plane or not

Environment:
  HALLIGAN_API_TOKEN (else ASTRO_API_TOKEN)               the token to call the control plane with
  HALLIGAN_URL                                            where the control plane is

Exit codes are those of sysexits(3): 64 usage, 65 refused as wrong, 69 can't be reached, 77 not allowed, 78
configuration. `check` exits with 1 when the answer is no."
)]
pub struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Subcommand, Debug)]
enum Noun {
    /// Create, list, show, update, rotate and delete API tokens; show and change their roles.
    #[command(subcommand)]
    Token(token::Verb),
    /// List and show roles; create, change and delete custom ones.
    #[command(subcommand)]
    Role(role::Verb),
    /// List and show organizations.
    #[command(subcommand)]
    Organization(organization::Verb),
    /// Create, list, show, update and delete workspaces.
    #[command(subcommand)]
    Workspace(workspace::Verb),
    /// Create, list, show, update and delete deployments; their tokens, environment variables, deploys and their Dags' tags.
    #[command(subcommand)]
    Deployment(deployment::Verb),
    /// Deploy a folder of Dags to a deployment; in an outage to a host.
    Deploy(deploy::Arguments),
    /// Create, list and show data planes; create enrolment tokens.
    #[command(subcommand)]
    DataPlane(data_plane::Verb),
    /// Create, list and retire the nodes of a data plane.
    #[command(subcommand)]
    Node(node::Verb),
    /// Create, list and delete users, set their roles, rotate their tokens.
    #[command(subcommand)]
    User(user::Verb),
    /// Create, list, show and delete teams, set their roles and members.
    #[command(subcommand)]
    Team(team::Verb),
    /// Create, sign, explain and verify keys and keysets, offline.
    #[command(subcommand)]
    Key(key::Verb),
    /// Show the state of this host's daemon.
    Status,
    /// Show whether a token would be allowed to make a request, and why. Nothing is changed or recorded.
    Check(check::Arguments),
    /// Revoke a token on this host, without the control plane, which learns of it once it is reachable.
    Revoke(revoke::Arguments),
    /// Accept this host's clock if it is right and the daemon does not trust it.
    #[command(subcommand)]
    Clock(clock::Verb),
    /// Break and seal the glass of this host's deployments, and show its state.
    #[command(subcommand)]
    Glass(glass::Verb),
    /// List and end the sessions of people who signed in to this host's deployments in a browser.
    #[command(subcommand)]
    Session(session::Verb),
    /// Show the events of outages of the control plane.
    #[command(subcommand)]
    Outage(outage::Verb),
    /// Show, verify, export and import this host's replica.
    #[command(subcommand)]
    Replica(replica::Verb),
    /// Read and verify this host's audit log.
    #[command(subcommand)]
    Audit(audit::Verb),
    /// Collect the state of this host for remote support into one file, without secrets.
    SupportBundle(support_bundle::Arguments),
    /// Print the completions of this command for a shell: `halligan completions bash > /etc/bash_completion.d/halligan`.
    Completions {
        /// The shell.
        shell: manual::For,
    },
    /// Write a manual page for every command into a directory.
    #[command(hide = true)]
    Manual {
        /// The directory.
        directory: PathBuf,
    },
    /// Check, explain and generate route maps.
    #[cfg(feature = "daemon")]
    #[command(subcommand)]
    Routes(routes::Verb),
    /// Run a control plane, a daemon and a sample deployment on this machine, for trials and tests.
    #[cfg(all(feature = "control", feature = "daemon"))]
    Dev(dev::Arguments),
}

/// Runs the command. Returns the exit code of an answer that is not a failure, such as 1 for a denied `check`.
pub async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { global, noun } = arguments;
    let output = Output { json: global.json };
    match noun {
        Noun::Token(verb) => token::run(verb, &global.control()?, output).await?,
        Noun::Role(verb) => role::run(verb, &global.control()?, output).await?,
        Noun::Organization(verb) => organization::run(verb, &global.control()?, output).await?,
        Noun::Workspace(verb) => workspace::run(verb, &global.control()?, output).await?,
        Noun::Deployment(verb) => deployment::run(verb, &global.control()?, output).await?,
        Noun::Deploy(arguments) => deploy::run(arguments, &global, output).await?,
        Noun::DataPlane(verb) => data_plane::run(verb, &global.control()?, output).await?,
        Noun::Node(verb) => node::run(verb, &global.control()?, output).await?,
        Noun::User(verb) => user::run(verb, &global.control()?, output).await?,
        Noun::Team(verb) => team::run(verb, &global.control()?, output).await?,
        Noun::Key(verb) => key::run(verb, output)?,
        Noun::Status => status::run(&global.host()?, output).await?,
        Noun::Check(question) => return check::run(question, &global.host()?, output).await,
        Noun::Revoke(arguments) => revoke::run(arguments, &global.host()?, output).await?,
        Noun::Clock(verb) => clock::run(verb, &global.host()?, output).await?,
        Noun::Glass(verb) => glass::run(verb, &global.host()?, output).await?,
        Noun::Session(verb) => session::run(verb, &global.host()?, output).await?,
        Noun::Outage(verb) => outage::run(verb, &global, output).await?,
        Noun::Replica(verb) => replica::run(verb, &global.host()?, output).await?,
        Noun::Audit(verb) => return audit::run(verb, &global.host()?, output).await,
        Noun::SupportBundle(arguments) => support_bundle::run(arguments, &global.host()?, output).await?,
        Noun::Completions { shell } => manual::completions(shell, Arguments::command()),
        Noun::Manual { directory } => manual::pages(Arguments::command(), &directory)?,
        #[cfg(feature = "daemon")]
        Noun::Routes(verb) => return routes::run(verb, output),
        #[cfg(all(feature = "control", feature = "daemon"))]
        Noun::Dev(arguments) => dev::run(arguments, output).await?,
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_command_has_a_page_and_hidden_ones_have_none() {
        let directory = tempfile::tempdir().unwrap();
        manual::pages(Arguments::command(), directory.path()).unwrap();
        let page = |name: &str| std::fs::read_to_string(directory.path().join(name));
        for name in ["halligan.1", "halligan-token-create.1", "halligan-audit-verify.1", "halligan-status.1"]
        {
            assert!(page(name).unwrap().contains(".SH SYNOPSIS"), "{name}");
        }
        assert!(page("halligan-manual.1").is_err());
    }
}
