//! State directory of a program: private to its user, and held by one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::platform::private_file::{create_private, create_private_directories};

/// File whose lock covers the whole directory. It names the process that holds the lock.
const LOCK: &str = "lock";
/// Description of an unknown process.
const UNKNOWN: &str = "unknown";
/// Permission bits that let the group or others write.
const OTHERS_WRITE: u32 = 0o022;

/// Reasons why a state directory cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The directory cannot be created, or its lock file cannot be written.
    #[error("the state directory {path} can't be used: {source}")]
    Unusable {
        /// Path of the directory.
        path: PathBuf,
        /// Error of the file system.
        source: std::io::Error,
    },
    /// The group or others may write to the directory.
    #[error(
        "the state directory {path} can be written by others than its owner (mode {mode:04o}); run chmod 700 {path}"
    )]
    Writable {
        /// Path of the directory.
        path: PathBuf,
        /// Permission bits of the directory.
        mode: u32,
    },
    /// The directory belongs to another user, who may write to it.
    #[error(
        "the state directory {path} belongs to user id {owner}, and this program runs as user id {own}; run it as the \
         owner, or give it a directory of its own"
    )]
    Foreign {
        /// Path of the directory.
        path: PathBuf,
        /// User id of its owner.
        owner: u32,
        /// User id of this process.
        own: u32,
    },
    /// Another process holds the directory.
    #[error(
        "the state directory {path} is in use by process {holder}; stop that process first, or name another state directory"
    )]
    Held {
        /// Path of the directory.
        path: PathBuf,
        /// Process, as it described itself in the lock file.
        holder: String,
    },
}

/// State directory that this process holds. The kernel releases the locks at the end of the process, even after a crash.
#[derive(Debug)]
pub struct HeldDirectory {
    /// The directory is locked as well as the file, because somebody could remove the file: the next process would then lock
    /// another file.
    _directory: File,
    _lock: File,
}

/// Creates the state directory with mode 0700. Rejects one that another user may write to: a user who can replace a
/// database controls what this program trusts.
pub fn prepare(path: &Path) -> Result<(), StateError> {
    let unusable = |source| StateError::Unusable { path: path.into(), source };
    create_private_directories(path).map_err(unusable)?;
    check(path, own_uid().map_err(unusable)?)
}

/// Rejects a state directory that [`prepare`] would reject, and creates nothing. A directory that is missing is accepted
/// where it could be created. For root the owner is not checked, because the program itself is started as another user.
pub fn examine(path: &Path) -> Result<(), StateError> {
    let unusable = |source| StateError::Unusable { path: path.into(), source };
    let own = own_uid().map_err(unusable)?;
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // An error other than a missing entry, such as a file in place of a directory, is an error of `path` as well.
            let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
            match parents.map(std::fs::metadata).find(Result::is_ok) {
                Some(Ok(parent)) if !parent.is_dir() => Err(unusable(ErrorKind::NotADirectory.into())),
                _ => Ok(()),
            }
        }
        Err(source) => Err(unusable(source)),
        Ok(_) if !std::fs::metadata(path).map_err(unusable)?.is_dir() => {
            Err(unusable(ErrorKind::NotADirectory.into()))
        }
        Ok(_) => match check(path, own) {
            Err(StateError::Foreign { .. }) if own == 0 => Ok(()),
            checked => checked,
        },
    }
}

/// Rejects a directory that another user than `own` may write to.
fn check(path: &Path, own: u32) -> Result<(), StateError> {
    let unusable = |source| StateError::Unusable { path: path.into(), source };
    let directory = std::fs::metadata(path).map_err(unusable)?;
    let mode = directory.permissions().mode() & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        return Err(StateError::Writable { path: path.into(), mode });
    }
    let owner = directory.uid();
    if owner != own && owner != 0 {
        return Err(StateError::Foreign { path: path.into(), owner, own });
    }
    Ok(())
}

/// Prepares the state directory and locks it for the life of this process.
pub fn hold(path: &Path) -> Result<HeldDirectory, StateError> {
    prepare(path)?;
    let unusable = |source| StateError::Unusable { path: path.into(), source };
    let directory = File::open(path).map_err(unusable)?;
    match directory.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = described_holder(path, &directory);
            return Err(StateError::Held { path: path.into(), holder });
        }
        // Some network file systems can lock files but no directories.
        Err(TryLockError::Error(error)) => {
            tracing::warn!(path = %path.display(), %error, "the state directory can't be locked; only its lock file keeps other processes out");
        }
    }
    let file = path.join(LOCK);
    match create_private(&file) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unusable(error)),
        _ => {}
    }
    let mut lock = OpenOptions::new().read(true).write(true).open(file).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StateError::Held { path: path.into(), holder: written_holder(&mut lock) });
        }
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    let name = std::env::args_os().next().map(PathBuf::from);
    let name = name.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    // On a full disk the file stays empty. The lock does not depend on its content.
    let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| {
        writeln!(lock, "{} ({})", std::process::id(), name.as_deref().unwrap_or("unknown program"))
    });
    if let Err(error) = written {
        tracing::warn!(%error, "the process id can't be written to the lock file of the state directory; the directory is locked all the same");
    }
    Ok(HeldDirectory { _directory: directory, _lock: lock })
}

/// Returns the process that holds the state directory, as it described itself, or `None` if no process holds it. Creates no
/// file, because the program that owns the directory could not open a file of another user.
pub fn holder(path: &Path) -> Result<Option<String>, StateError> {
    let unusable = |source| StateError::Unusable { path: path.into(), source };
    let open = |path: &Path| match File::open(path) {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unusable(source)),
    };
    let Some(directory) = open(path)? else { return Ok(None) };
    // Shared locks, so that two callers do not block each other.
    if let Err(TryLockError::WouldBlock) = directory.try_lock_shared() {
        return Ok(Some(described_holder(path, &directory)));
    }
    let Some(mut lock) = open(&path.join(LOCK))? else { return Ok(None) };
    match lock.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(written_holder(&mut lock))),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

fn written_holder(lock: &mut File) -> String {
    let mut holder = String::new();
    // A holder that has not described itself yet is unknown, but it holds the lock.
    let _ = lock.read_to_string(&mut holder);
    let holder = holder.trim();
    if holder.is_empty() { UNKNOWN } else { holder }.to_owned()
}

/// Describes the process that has locked `directory`, which is at `path`. Returns its own description from the lock file, unless
/// the kernel names another process, since somebody may have removed or replaced the file.
fn described_holder(path: &Path, directory: &File) -> String {
    let written =
        File::open(path.join(LOCK)).map_or_else(|_| UNKNOWN.to_owned(), |mut lock| written_holder(&mut lock));
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let file = directory.metadata().map(|found| listed_file(found.dev(), found.ino())).unwrap_or_default();
    match locking_process(&locks, &file) {
        Some(process) if !written.starts_with(&format!("{process} (")) => {
            let name = std::fs::read_to_string(format!("/proc/{process}/comm"));
            format!("{process} ({})", name.as_deref().map_or("unknown program", str::trim))
        }
        _ => written,
    }
}

/// Returns the name of a file in proc_locks(5): the major and the minor number of its device in base 16, and its inode.
fn listed_file(device: u64, inode: u64) -> String {
    // The numbers are encoded as in makedev(3).
    let major = (device >> 8 & 0xfff) | (device >> 32 & !0xfff);
    let minor = (device & 0xff) | (device >> 12 & 0xffff_ff00);
    format!("{major:02x}:{minor:02x}:{inode}")
}

/// Returns the process that has locked `file` by flock(2), from the content of `/proc/locks`. Returns `None` if it is in
/// another namespace of processes, or if the file system shows another device to stat(2) than to the kernel.
fn locking_process(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        // 1: FLOCK  ADVISORY  WRITE 4711 fe:00:131074 0 EOF
        let fields: Vec<_> = line.split_whitespace().collect();
        let &[_, "FLOCK", _, "WRITE", process, locked, ..] = &*fields else { return None };
        (locked == file).then(|| process.parse().ok().filter(|process| *process > 0)).flatten()
    })
}

/// Returns the user id of this process.
pub fn own_uid() -> std::io::Result<u32> {
    Ok(std::fs::metadata("/proc/self")?.uid())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::fs::Permissions;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_directory_is_held_by_one_process_at_a_time_and_the_second_is_told_by_whom() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        assert_eq!(holder(&path).unwrap(), None);
        assert!(!path.exists(), "who asks makes nothing");
        let held = hold(&path).unwrap();
        assert!(holder(&path).unwrap().unwrap().starts_with(&format!("{} (", std::process::id())));
        assert_eq!((mode(&path), mode(&path.join(LOCK))), (0o700, 0o600));
        let refused = hold(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {} (", std::process::id())), "{refused}");
        drop(held);
        assert_eq!(holder(&path).unwrap(), None);
        hold(&path).unwrap();
    }

    #[test]
    fn an_examination_refuses_what_a_start_refuses_and_creates_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(directory.path().join("nowhere"), &link).unwrap();
        for bad in [file.clone(), file.join("below"), link] {
            assert!(examine(&bad).is_err() && prepare(&bad).is_err(), "{}", bad.display());
        }
        let missing = directory.path().join("a/b");
        examine(&missing).unwrap();
        assert!(!directory.path().join("a").exists());
        prepare(&missing).unwrap();
        examine(&missing).unwrap();
        let (owner, own) = (own_uid().unwrap(), own_uid().unwrap() + 1);
        assert_eq!(check(&missing, own).is_err(), owner != 0, "a directory of root's is trusted");
    }

    #[test]
    fn a_directory_whose_lock_file_is_removed_or_replaced_is_held_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let held = hold(&path).unwrap();
        let process = format!("{} (", std::process::id());
        for replaced in [false, true] {
            std::fs::remove_file(path.join(LOCK)).unwrap();
            if replaced {
                std::fs::write(path.join(LOCK), "1 (somebody else)").unwrap();
            }
            let refused = hold(&path).unwrap_err();
            let StateError::Held { holder: named, .. } = &refused else { panic!("{refused}") };
            for named in [named, &holder(&path).unwrap().unwrap()] {
                assert!(named.starts_with(&process), "{named}");
            }
            assert_eq!(path.join(LOCK).exists(), replaced, "who is refused makes nothing");
            std::fs::write(path.join(LOCK), "").unwrap();
        }
        drop(held);
        hold(&path).unwrap();
    }

    #[test]
    fn the_kernel_names_who_has_locked_a_directory() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:00:7 0 EOF\n\
                     2: FLOCK  ADVISORY  READ 12 fe:00:7 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 13 fe:00:7 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 14 fe:00:77 0 EOF\n\
                     5: FLOCK  ADVISORY  WRITE 15 00:2b:7 0 EOF\n\
                     6: FLOCK  ADVISORY  WRITE -1 fe:00:8 0 EOF\n";
        assert_eq!(locking_process(locks, &listed_file(0x2b, 7)), Some(15));
        for other in [listed_file(0xfe00, 7), listed_file(0xfe00, 8), listed_file(0xfe01, 77)] {
            assert_eq!(locking_process(locks, &other), None, "{other}");
        }
        assert_eq!(locking_process(locks, &listed_file(0xfe00, 77)), Some(14));
        assert_eq!(
            listed_file(0x0001_2000_0003_0845, 1),
            "12308:45:1",
            "as makedev(3) packs 0x12308 and 0x45"
        );
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for (bits, good) in
            [(0o700, true), (0o755, true), (0o750, true), (0o770, false), (0o702, false), (0o1777, false)]
        {
            std::fs::set_permissions(directory.path(), Permissions::from_mode(bits)).unwrap();
            let prepared = prepare(directory.path());
            assert_eq!(prepared.is_ok(), good, "{bits:o}: {prepared:?}");
            assert_eq!(examine(directory.path()).is_ok(), good, "{bits:o}");
        }
    }
}
