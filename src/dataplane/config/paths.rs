//! Files and directories that the configuration names, or leaves to the state directory.

use std::path::PathBuf;

use super::Config;
use crate::dataplane::node::identity::{Absent, IDENTITY_FILE};

impl Config {
    /// Fills in the service manager's credentials where the file names no path.
    #[must_use]
    pub fn with_credentials(mut self, credential: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let fill = |named: &mut Option<PathBuf>, name| *named = named.take().or_else(|| credential(name));
        fill(&mut self.control_plane.enrolment_token_file, "halligan.enrolment-token");
        fill(&mut self.control_plane.ca_file, "halligan.ca");
        fill(&mut self.node.key_file, "halligan.node-key");
        if let Some(sessions) = &mut self.sessions {
            fill(&mut sessions.key_file, "halligan.session-key");
        }
        self
    }

    /// Returns the handling of a missing node key.
    #[must_use]
    pub fn absent_key(&self, enrolled: bool) -> Absent {
        if enrolled || self.node.key_file.is_some() { Absent::Refuse } else { Absent::Make }
    }

    /// Returns the directory of the files with environment variables.
    #[must_use]
    pub fn environment_directory(&self) -> PathBuf {
        self.environment.directory.clone().unwrap_or_else(|| self.state_dir.join("environment"))
    }

    /// Returns the directory of the code of deployments.
    #[must_use]
    pub fn code_directory(&self) -> PathBuf {
        self.code.directory.clone().unwrap_or_else(|| self.state_dir.join("code"))
    }

    /// Returns the path of the key to which environment variables are encrypted for this node.
    #[must_use]
    pub fn encryption_key_file(&self) -> PathBuf {
        self.state_dir.join("environment.pem")
    }

    /// Returns the path of the node's identity.
    #[must_use]
    pub fn identity_file(&self) -> PathBuf {
        self.state_dir.join(IDENTITY_FILE)
    }

    /// Returns the path of the node's key file.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.node.key_file.clone().unwrap_or_else(|| self.state_dir.join("node.pem"))
    }

    /// Returns the path of the file of the sessions' keys, and the handling of a missing one, if there are sessions. A named
    /// file must exist: hosts that share it would otherwise each make their own.
    #[must_use]
    pub fn session_key_file(&self) -> Option<(PathBuf, Absent)> {
        let named = self.sessions.as_ref()?.key_file.clone();
        Some(named.map_or_else(
            || (self.state_dir.join("session.key"), Absent::Make),
            |file| (file, Absent::Refuse),
        ))
    }

    /// Returns the path of the upstream identity's key file, if upstreams get an identity.
    #[must_use]
    pub fn upstream_key_file(&self) -> Option<PathBuf> {
        let identity = self.upstream_identity.as_ref()?;
        Some(identity.key_file.clone().unwrap_or_else(|| self.state_dir.join("airflow.pem")))
    }
}
