//! Files and directories that the configuration names, or leaves to the state directory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Config;
use crate::dataplane::node::identity::{Absent, IDENTITY_FILE};
use crate::platform::configuration::Wrong;

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

    /// Returns the file of the JWK set for upstreams, or `None` if deployments get no identity.
    #[must_use]
    pub fn jwks_file(&self) -> Option<PathBuf> {
        let identity = self.upstream_identity.as_ref()?;
        Some(identity.jwks_file.clone().unwrap_or_else(|| self.state_dir.join("jwks.json")))
    }

    /// Checks that the files of upstream identities are no other files of this daemon. The JWK set is replaced at each start,
    /// and Airflow must not trust what the node signs for its control plane.
    pub(super) fn check_files_are_apart(&self) -> Result<(), Wrong> {
        let (Some(jwks), Some(key)) = (self.jwks_file(), self.upstream_key_file()) else {
            return Ok(());
        };
        let wrong = |name: &str, path: &Path| {
            let what = format!("{} is another file of this daemon; name a file of its own", path.display());
            Err(Wrong { key: format!("upstream_identity.{name}"), what })
        };
        let gateway = self.gateway.as_ref();
        let tls = gateway.and_then(|gateway| gateway.tls.as_ref());
        let named = [
            self.control_plane.ca_file.as_ref(),
            self.control_plane.enrolment_token_file.as_ref(),
            self.tracing.as_ref().and_then(|tracing| tracing.ca_file.as_ref()),
            gateway.and_then(|gateway| gateway.ca_file.as_ref()),
            tls.map(|tls| &tls.certificate_file),
            tls.map(|tls| &tls.key_file),
            Some(&self.listen.admin_socket),
        ];
        let keys = [Some(self.key_file()), self.session_key_file().map(|(path, _)| path)];
        let mut others: Vec<PathBuf> = named.into_iter().flatten().cloned().collect();
        others.extend(keys.into_iter().flatten().chain([self.encryption_key_file()]));
        // Paths are compared by their parts, so that `//` and `/./` make no difference.
        if others.contains(&key) || (self.is_state(&key) && !is_key(&key)) {
            return wrong("key_file", &key);
        }
        let airflow_keys = self.upstream_identity.iter().flat_map(|identity| &identity.airflow_keys);
        others.extend(airflow_keys.cloned().chain([key]));
        if others.contains(&jwks) || self.is_state(&jwks) {
            return wrong("jwks_file", &jwks);
        }
        Ok(())
    }

    /// Returns true if `path` has the name of a file that the daemon keeps in its state directory.
    fn is_state(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        let names = ["lock", IDENTITY_FILE, "databases.json", "ended-sessions.json"];
        let extensions = ["db", "db-wal", "db-shm", "keysets", "key"];
        path.parent() == Some(&self.state_dir)
            && (names.contains(&name) || extensions.contains(&extension) || is_key(path))
    }
}

/// Returns true if `path` has the name of a key.
fn is_key(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pem")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::platform::configuration::parse;

    #[test]
    fn files_of_upstream_identities_are_no_other_files_of_the_daemon() {
        let read = |identity: &str| {
            let text = format!(
                "state_dir = '/s'\n[trust]\nroot_keys = '/r'\n[control_plane]\nurls = ['https://c.example']\nca_file = '/ca.pem'\n\
                 [upstream_identity]\n{identity}\n"
            );
            parse::<Config>(Path::new("a.toml"), &text).map_err(|error| error.to_string())
        };
        for path in [
            "/s/node.pem",
            "/s//./node.pem",
            "/s/revocations.db",
            "/s/replica.db-wal",
            "/s/replica.keysets",
            "/s/node.json",
            "/s/ended-sessions.json",
            "/s/airflow.pem",
            "/s/lock",
            "/ca.pem",
            "/run/halligan/admin.sock",
        ] {
            let error = read(&format!("jwks_file = '{path}'")).unwrap_err();
            assert!(error.contains("line 8: upstream_identity.jwks_file: /"), "{path}: {error}");
        }
        for path in ["/s/node.pem", "/s/environment.pem", "/s/audit.db", "/ca.pem"] {
            let error = read(&format!("key_file = '{path}'")).unwrap_err();
            assert!(error.contains("line 8: upstream_identity.key_file: /"), "{path}: {error}");
        }
        let error = read("key_file = '/k.pem'\njwks_file = '/k.pem'").unwrap_err();
        assert!(error.contains("upstream_identity.jwks_file"), "{error}");
        for good in
            ["", "jwks_file = '/s/other.json'", "jwks_file = '/w/node.json'", "key_file = '/s/up.pem'"]
        {
            assert!(read(good).is_ok(), "{good}: {:?}", read(good));
        }
    }
}
