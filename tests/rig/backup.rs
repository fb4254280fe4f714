//! Backups of the control plane.

use std::path::{Path, PathBuf};

use super::Rig;

impl Rig {
    /// Copies the database of the control plane, which must be stopped. Returns the path of the copy.
    pub fn back_up_control(&self) -> PathBuf {
        let backup = self.path("backup.db");
        let connection = rusqlite::Connection::open(self.path("control/control.db")).unwrap();
        connection.execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
        backup
    }

    /// Replaces the database of the control plane, which must be stopped, with a backup.
    pub fn restore_control(&self, backup: &Path) {
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(self.path(&format!("control/control.db{suffix}")));
        }
        std::fs::copy(backup, self.path("control/control.db")).unwrap();
    }

    /// Runs `recover` above a version of the replica.
    pub fn recover_above(&self, version: u64) {
        let recovered =
            self.control_command("recover").args(["--above", &version.to_string()]).output().unwrap();
        assert!(recovered.status.success(), "{recovered:?}");
    }
}
