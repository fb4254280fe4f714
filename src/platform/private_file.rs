//! Files that only their owner can read, whatever the umask: keys, and what a program keeps beside its databases. A umask can
//! also take the owner's permissions away, so the modes are set after the creation.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::Path;

/// Creates an empty file that only its owner can read. Fails if it exists.
pub fn create_private(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Creates a directory that only its owner can use. Fails if it exists.
pub fn create_private_directory(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// Creates a directory that only its owner can use, and those above it, as far as they are missing.
pub fn create_private_directories(path: &Path) -> std::io::Result<()> {
    match create_private_directory(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let Some(parent) = path.parent() else { return Err(error) };
            create_private_directories(parent)?;
            create_private_directories(path)
        }
        Err(_) if path.is_dir() => Ok(()),
        made => made,
    }
}

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
    let mut file = create_private(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = File::open(parent)?;
    let owner = directory.metadata()?;
    if file.metadata()?.uid() == 0 && owner.uid() != 0 {
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    std::fs::rename(&beside, path)?;
    directory.sync_all()
}

// The tests need the id of the user, which a build of the CLI alone does not have.
#[cfg(all(test, any(feature = "daemon", feature = "control")))]
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
