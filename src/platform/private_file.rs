//! Files that only their owner can read: keys, and what a program keeps beside its databases.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

/// Writes a file that only its owner can read. It is written beside its place first, so that a crash leaves the old or the
/// new content. If root writes into another user's directory, the file belongs to that user, as whom the program runs.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    // A crash may have left a file of root's. The path may also be a link: root must not write to its target or change the
    // target's owner.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = std::fs::File::open(parent)?;
    let owner = directory.metadata()?;
    if file.metadata()?.uid() == 0 && owner.uid() != 0 {
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    std::fs::rename(&beside, path)?;
    directory.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::{chown, symlink};

    use super::*;
    use crate::platform::state_directory::own_uid;

    #[test]
    fn what_root_writes_belongs_to_the_owner_of_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        if own_uid().unwrap() != 0 {
            // Only root can give a file away. Written past the test runner's capture.
            assert!(std::env::var_os("CI").is_none(), "this test needs root");
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: what_root_writes_belongs_to_the_owner_of_its_directory needs root"
            );
            return;
        }
        for owner in [65_534, 0] {
            chown(directory.path(), Some(owner), Some(owner)).unwrap();
            // A half-written file of another process is replaced too.
            std::fs::write(path.with_extension("new"), "half").unwrap();
            write_private(&path, b"all").unwrap();
            let written = std::fs::metadata(&path).unwrap();
            assert_eq!((written.uid(), written.gid(), written.mode() & 0o777), (owner, owner, 0o600));
            assert_eq!(std::fs::read(&path).unwrap(), b"all");
        }
    }

    #[test]
    fn a_link_in_the_way_is_replaced_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("a.json"), directory.path().join("other"));
        std::fs::write(&other, "other").unwrap();
        symlink(&other, path.with_extension("new")).unwrap();
        write_private(&path, b"all").unwrap();
        assert_eq!(
            (std::fs::read(&path).unwrap(), std::fs::read(&other).unwrap()),
            (b"all".into(), b"other".into())
        );
        assert!(!path.is_symlink());
    }
}
