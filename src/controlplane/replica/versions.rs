//! Versions of the parts of a deployment that hosts fetch beside the replica. A host fetches a part again if its version rose.

use rusqlite::params;

use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;

/// Part of a deployment that hosts fetch beside the replica. Each has a version of its own, and each data plane counts the
/// changes of all its deployments.
#[derive(Clone, Copy, Debug)]
pub(in crate::controlplane) enum DeploymentPart {
    /// Environment variables.
    Environment,
    /// Code.
    Code,
}

impl DeploymentPart {
    /// Returns the column of `deployment` that has the version.
    const fn version(self) -> &'static str {
        match self {
            Self::Environment => "environment_version",
            Self::Code => "code_version",
        }
    }

    /// Returns the column of `data_plane` that counts the changes.
    const fn changes(self) -> &'static str {
        match self {
            Self::Environment => "environment_changes",
            Self::Code => "deploy_changes",
        }
    }

    /// Raises the version of a deployment, and returns it. It is at least the time in seconds, so that it also rises above
    /// what a control plane signed after the backup that it was restored from.
    pub(in crate::controlplane) fn raise(
        self,
        transaction: &Transaction<'_>,
        (deployment, data_plane): (&str, &str),
        now: i64,
    ) -> Result<u64, Error> {
        let column = self.version();
        let update = format!(
            "UPDATE deployment SET {column} = max({column} + 1, ?2) WHERE id = ?1 RETURNING {column}"
        );
        let version = transaction.query_row(&update, params![deployment, now], |row| row.get(0))?;
        self.count_change(transaction, data_plane)?;
        Ok(version)
    }

    /// Raises the versions of all deployments of a data plane that have one.
    pub(in crate::controlplane) fn raise_all(
        self,
        transaction: &Transaction<'_>,
        data_plane: &str,
        now: i64,
    ) -> Result<(), Error> {
        let column = self.version();
        let update = format!(
            "UPDATE deployment SET {column} = max({column} + 1, ?2) WHERE data_plane = ?1 AND {column} > 0"
        );
        transaction.execute(&update, params![data_plane, now])?;
        self.count_change(transaction, data_plane)
    }

    fn count_change(self, transaction: &Transaction<'_>, data_plane: &str) -> Result<(), Error> {
        let column = self.changes();
        let update = format!("UPDATE data_plane SET {column} = {column} + 1 WHERE id = ?1");
        transaction.execute(&update, [data_plane])?;
        Ok(())
    }
}
