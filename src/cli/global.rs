//! Options of every command, and the clients that they lead to.

use std::path::PathBuf;

use clap::Args;

use super::control::Control;
use super::failure::Failure;
use super::host::Host;
use crate::api::id::OrganizationId;

/// Options of every command.
#[derive(Args, Debug)]
pub(super) struct Global {
    /// Print JSON for programs instead of tables for people.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// The URL of the control plane.
    #[arg(long, global = true, env = "HALLIGAN_URL", value_name = "URL")]
    url: Option<String>,
    /// A file that holds the token to call with, instead of HALLIGAN_API_TOKEN.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) api_token_file: Option<PathBuf>,
    /// Certificate authorities (PEM) for the control plane, besides the system's.
    #[arg(long, global = true, env = "HALLIGAN_CA_FILE", value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// The organization's id; needed if you belong to none or several.
    #[arg(long, global = true, env = "HALLIGAN_ORGANIZATION", value_name = "ID")]
    organization: Option<OrganizationId>,
    /// The socket of this host's daemon.
    #[arg(
        long,
        global = true,
        env = "HALLIGAN_SOCKET",
        value_name = "PATH",
        default_value = "/run/halligan/admin.sock"
    )]
    socket: PathBuf,
}

impl Global {
    /// Returns a client of the control plane that the options name.
    pub(super) fn control(&self) -> Result<Control, Failure> {
        Control::new(
            self.url.as_deref(),
            self.api_token_file.as_deref(),
            self.ca_file.as_deref(),
            self.organization.clone(),
        )
    }

    /// Returns a client of the daemon whose socket the options name.
    pub(super) fn host(&self) -> Result<Host, Failure> {
        Host::new(&self.socket)
    }
}
