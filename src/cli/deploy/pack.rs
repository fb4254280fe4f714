//! Packs a folder as an archive. The same files give the same bytes, on any machine and at any time.

use std::fs::{DirEntry, File};
use std::io::{BufReader, BufWriter, Seek as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::cli::failure::Failure;
use crate::protocol::deploy::MAX_ARCHIVE;
use crate::protocol::deploy::archive::{Extent, read_archive};

/// Names that are never part of the code.
const LEFT_OUT: [&str; 2] = [".git", "__pycache__"];

/// Archive in a temporary file, which is deleted when it is dropped.
pub(super) struct Packed {
    pub(super) file: File,
    pub(super) size: u64,
    pub(super) digest: [u8; 32],
    pub(super) extent: Extent,
}

/// Writer that hashes and counts.
struct Hashed<W> {
    to: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// Packs the folder at `root`, and checks the archive as its receivers will.
pub(super) fn pack(root: &Path) -> Result<Packed, Failure> {
    let temporary = |source| Failure::File { path: std::env::temp_dir(), source };
    let file = tempfile::tempfile().map_err(temporary)?;
    let hashed = Hashed { to: BufWriter::new(file), hash: Sha256::new(), size: 0 };
    let mut builder = Builder::new(GzEncoder::new(hashed, Compression::default()));
    append_folder(&mut builder, root, Path::new(""))?;
    let hashed = builder.into_inner().and_then(GzEncoder::finish).map_err(temporary)?;
    let (size, digest) = (hashed.size, hashed.hash.finalize().into());
    let mut file = hashed.to.into_inner().map_err(|error| temporary(error.into_error()))?;
    if size > MAX_ARCHIVE {
        let detail =
            format!("{} makes an archive of {size} bytes; the maximum is {MAX_ARCHIVE}", root.display());
        return Err(Failure::Data(detail));
    }
    file.rewind().map_err(temporary)?;
    let extent = read_archive(BufReader::new(&file), |_| Ok(()))
        .map_err(|fault| Failure::Data(format!("{} can't be deployed: {fault}", root.display())))?;
    file.rewind().map_err(temporary)?;
    Ok(Packed { file, size, digest, extent })
}

fn append_folder<W: Write>(builder: &mut Builder<W>, folder: &Path, name: &Path) -> Result<(), Failure> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Failure::File { path, source }
    };
    let found = std::fs::read_dir(folder).map_err(failed(folder))?;
    let mut found: Vec<DirEntry> = found.collect::<Result<_, _>>().map_err(failed(folder))?;
    found.retain(|entry| !LEFT_OUT.iter().any(|name| entry.file_name() == *name));
    found.sort_by_key(DirEntry::file_name);
    for entry in found {
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        let about = entry.metadata().map_err(failed(&path))?;
        let mut header = Header::new_ustar();
        header.set_mtime(0);
        if about.is_dir() {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            header.set_mode(0o755);
            builder.append_data(&mut header, name.join(""), std::io::empty()).map_err(failed(&path))?;
            append_folder(builder, &path, &name)?;
        } else if about.is_file() {
            let file = File::open(&path).map_err(failed(&path))?;
            header.set_mode(if about.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 });
            header.set_size(about.len());
            // A file that grows meanwhile is cut off, and one that shrinks makes an archive that the check refuses.
            let content = std::io::Read::take(file, about.len());
            builder.append_data(&mut header, &name, content).map_err(failed(&path))?;
        } else {
            let detail =
                format!("{} is a link or no file; only files and directories are deployed", path.display());
            return Err(Failure::Data(detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::protocol::deploy::archive::Entry;

    fn names(packed: &Packed) -> Vec<String> {
        let mut names = Vec::new();
        read_archive(BufReader::new(&packed.file), |entry| {
            names.push(match entry {
                Entry::Directory { path } => format!("{path}/"),
                Entry::File { path, executable, .. } => {
                    format!("{path}{}", if executable { "!" } else { "" })
                }
            });
            Ok(())
        })
        .unwrap();
        names
    }

    #[test]
    fn the_same_files_make_the_same_archive() {
        let make = |order: &[&str]| {
            let root = tempfile::tempdir().unwrap();
            for name in order {
                let path = root.path().join(name);
                create_dir_all(path.parent().unwrap()).unwrap();
                write(&path, name).unwrap();
            }
            create_dir_all(root.path().join("empty")).unwrap();
            let script = root.path().join("b.sh");
            std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o700)).unwrap();
            pack(root.path()).unwrap()
        };
        let long = format!("long/{}/{}", "d".repeat(120), "f".repeat(120));
        let files = ["a.py", "b.sh", "sub/c.py", ".airflowignore", &long];
        let first = make(&files);
        let mut turned = files;
        turned.reverse();
        let second = make(&turned);
        assert_eq!((first.digest, first.size), (second.digest, second.size));
        let (d, f) = ("d".repeat(120), "f".repeat(120));
        assert_eq!(
            names(&first),
            [
                ".airflowignore",
                "a.py",
                "b.sh!",
                "empty/",
                "long/",
                &format!("long/{d}/"),
                &format!("long/{d}/{f}"),
                "sub/",
                "sub/c.py"
            ]
        );
    }

    #[test]
    fn what_is_no_code_is_left_out_and_a_link_is_named() {
        let root = tempfile::tempdir().unwrap();
        for name in [".git/config", "__pycache__/a.pyc", "sub/__pycache__/b.pyc", "a.py"] {
            let path = root.path().join(name);
            create_dir_all(path.parent().unwrap()).unwrap();
            write(path, "x").unwrap();
        }
        assert_eq!(names(&pack(root.path()).unwrap()), ["a.py", "sub/"]);
        symlink("/etc/passwd", root.path().join("link")).unwrap();
        let refused = pack(root.path()).map(drop).unwrap_err();
        assert!(refused.to_string().contains("link is a link"), "{refused}");
        assert!(pack(&root.path().join("nothing")).is_err());
    }
}
