//! Unpacks archives, and compares what was unpacked with its archive.
//!
//! Directories have mode 0755 and files 0644, or 0755 if the archive says that the owner may execute them: Airflow usually
//! runs as another user. Owners and times in the archive do not count.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::place::remove;
use crate::protocol::deploy::archive::{ArchiveError, Entry, read_archive};

/// Directories that Python makes beside sources, when it may write there. They are no damage.
const CACHE: &str = "__pycache__";
/// Size of the buffers for reading, in bytes.
const BUFFER: usize = 64 << 10;

/// Reasons why an archive cannot be unpacked, or cannot be compared with what was unpacked.
#[derive(Debug, Error)]
pub(super) enum TreeError {
    /// The archive is at fault.
    #[error(transparent)]
    Refused(ArchiveError),
    /// The archive cannot be read, or its content cannot be written.
    #[error("{path} can't be read or written: {source}; free space on its disk and check its owner", path = .path.display())]
    Disk { path: PathBuf, source: io::Error },
}

/// Unpacks an archive into a new directory, and waits until all of it is on the disk. On an error nothing is left.
pub(super) fn unpack(archive: &Path, into: &Path) -> Result<(), TreeError> {
    let disk = |path: &Path| {
        let path = path.to_owned();
        move |source| TreeError::Disk { path, source }
    };
    remove(into).map_err(disk(into))?;
    let unpacked = write(archive, into);
    if unpacked.is_err() {
        // The earlier error is the one to report.
        let _ = remove(into);
    }
    unpacked
}

fn write(archive: &Path, into: &Path) -> Result<(), TreeError> {
    let disk = |path: &Path, source| TreeError::Disk { path: path.into(), source };
    let file = File::open(archive).map_err(|source| disk(archive, source))?;
    make(into).map_err(|source| disk(into, source))?;
    let mut directories = vec![into.to_owned()];
    // An error of the visitor and one of the archive's file look alike.
    let mut unwritable = None;
    let read = read_archive(BufReader::with_capacity(BUFFER, file), |entry| {
        let path = into.join(path_of(&entry));
        let written = match entry {
            Entry::Directory { .. } => {
                directories.push(path.clone());
                make(&path)
            }
            Entry::File { executable, content, .. } => match copy(content, &path, mode(executable)) {
                Err(Copy::Read(error)) => return Err(error),
                Err(Copy::Write(error)) => Err(error),
                Ok(()) => Ok(()),
            },
        };
        written.map_err(|error| {
            let kind = error.kind();
            unwritable = Some((path, error));
            kind.into()
        })
    });
    match (read, unwritable) {
        (_, Some((path, source))) => return Err(disk(&path, source)),
        (Err(ArchiveError::Io(source)), None) => return Err(disk(archive, source)),
        (Err(error), None) => return Err(TreeError::Refused(error)),
        (Ok(_), None) => {}
    }
    for path in directories.iter().rev() {
        File::open(path).and_then(|directory| directory.sync_all()).map_err(|source| disk(path, source))?;
    }
    Ok(())
}

fn path_of<'e>(entry: &Entry<'e>) -> &'e str {
    match entry {
        Entry::Directory { path } | Entry::File { path, .. } => path,
    }
}

fn mode(executable: bool) -> u32 {
    if executable { 0o755 } else { 0o644 }
}

fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    // The umask of a service leaves nothing to others.
    std::fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// Sides of a copy that can fail.
enum Copy {
    Read(io::Error),
    Write(io::Error),
}

fn copy(content: &mut dyn Read, path: &Path, mode: u32) -> Result<(), Copy> {
    use std::io::Write as _;

    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(Copy::Write)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => file.write_all(buffer.get(..read).unwrap_or_default()).map_err(Copy::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Copy::Read(error)),
        }
    }
    file.set_permissions(Permissions::from_mode(mode)).and_then(|()| file.sync_all()).map_err(Copy::Write)
}

/// Compares an unpacked archive with its archive. Returns the first difference, as a sentence without its subject.
pub(super) fn compare(archive: &Path, tree: &Path) -> Result<Option<String>, TreeError> {
    let file = File::open(archive).map_err(|source| TreeError::Disk { path: archive.into(), source })?;
    let (mut difference, mut entries) = (None, 0_usize);
    let read = read_archive(BufReader::with_capacity(BUFFER, file), |entry| {
        entries += 1;
        let path = tree.join(path_of(&entry));
        let same = match entry {
            Entry::Directory { .. } => is_same_kind(&path, None),
            Entry::File { size, executable, content, .. } => {
                is_same_kind(&path, Some((size, mode(executable)))) && has_content(&path, content)?
            }
        };
        if same {
            return Ok(());
        }
        difference =
            Some(format!("{} differs or is missing", path.strip_prefix(tree).unwrap_or(&path).display()));
        Err(io::ErrorKind::InvalidData.into())
    });
    if difference.is_some() {
        return Ok(difference);
    }
    match read {
        Ok(_) => {}
        Err(ArchiveError::Io(source)) => return Err(TreeError::Disk { path: archive.into(), source }),
        Err(error) => return Err(TreeError::Refused(error)),
    }
    let found = count(tree).map_err(|source| TreeError::Disk { path: tree.into(), source })?;
    Ok((found != entries).then(|| "it has files that its archive does not have".to_owned()))
}

/// Compares the kind of a file, and of a regular file the size and the mode.
fn is_same_kind(path: &Path, file: Option<(u64, u32)>) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| {
        let bits = found.permissions().mode() & 0o777;
        match file {
            None => found.is_dir() && bits == 0o755,
            Some((size, mode)) => found.is_file() && found.len() == size && bits == mode,
        }
    })
}

fn has_content(path: &Path, content: &mut dyn Read) -> io::Result<bool> {
    // A file that can't be read is as good as missing.
    let Ok(file) = File::open(path) else { return Ok(false) };
    let mut file = BufReader::with_capacity(BUFFER, file);
    let (mut wanted, mut found) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let read = match content.read(&mut wanted) {
            Ok(0) => return Ok(true),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let (Some(wanted), Some(found)) = (wanted.get(..read), found.get_mut(..read)) else {
            return Ok(false);
        };
        if file.read_exact(found).is_err() || wanted != found {
            return Ok(false);
        }
    }
}

/// Counts files and directories below a directory, without Python's caches.
fn count(directory: &Path) -> io::Result<usize> {
    let mut sum = 0;
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next)? {
            let entry = entry?;
            if entry.file_name() == CACHE {
                continue;
            }
            sum += 1;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(sum)
}
