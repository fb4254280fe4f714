//! Archives of code. The bytes are checked as they are, inside gzip, and as entries with correct checksums. For the
//! last, each line is an entry: one byte for its kind, its name, and its content after a tab.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::{Component, Path};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use halligan::protocol::deploy::archive::{Entry, read_archive};
use halligan::protocol::deploy::{MAX_DEPTH, MAX_PATH};
use tar::{EntryType, Header};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn entry(tar: &mut Vec<u8>, kind: u8, name: &[u8], content: &[u8]) {
    let mut header = Header::new_ustar();
    let length = name.len().min(100);
    header.as_mut_bytes()[..length].copy_from_slice(&name[..length]);
    header.set_entry_type(EntryType::new(kind));
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.extend(header.as_bytes());
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

fn of_lines(data: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    for line in data.split(|&byte| byte == b'\n') {
        let Some((&kind, rest)) = line.split_first() else { continue };
        let (name, content) = match rest.iter().position(|&byte| byte == b'\t') {
            Some(tab) => (&rest[..tab], &rest[tab + 1..]),
            None => (rest, &[][..]),
        };
        // A pax header contains line feeds, which end an entry here. So `;` stands for them.
        let content: Vec<u8> =
            content.iter().map(|&byte| if kind == b'x' && byte == b';' { b'\n' } else { byte }).collect();
        entry(&mut tar, kind, name, &content);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// Checks the promises of the reader. Every path stays below the root and occurs once. A directory comes before its
/// content. A truncated archive is refused. Another reader finds the same files.
pub fn check(data: &[u8]) -> bool {
    [holds(data), holds(&gzip(data)), holds(&gzip(&of_lines(data)))].contains(&true)
}

fn holds(bytes: &[u8]) -> bool {
    let (mut files, mut places) = (Vec::new(), BTreeSet::new());
    let read = read_archive(bytes, |entry| {
        let path = match &entry {
            Entry::Directory { path } | Entry::File { path, .. } => (*path).to_owned(),
        };
        let parts: Vec<_> = Path::new(&path).components().collect();
        assert!(parts.iter().all(|part| matches!(part, Component::Normal(_))), "{path} leads out");
        assert!(
            !parts.is_empty() && parts.len() <= MAX_DEPTH && path.len() <= MAX_PATH,
            "{path} is out of bounds"
        );
        if let Some((parent, _)) = path.rsplit_once('/') {
            assert!(places.contains(parent), "{path} comes before its directory");
        }
        if let Entry::File { size, content, .. } = entry {
            let mut text = Vec::new();
            content.read_to_end(&mut text)?;
            assert_eq!(text.len() as u64, size);
            files.push((path.clone(), text));
        }
        assert!(places.insert(path), "a place that is named twice");
        Ok(())
    });
    let Ok(extent) = read else { return false };
    let bytes_in_all: u64 = files.iter().map(|(_, text)| text.len() as u64).sum();
    assert!(places.len() <= extent.entries && extent.bytes == bytes_in_all);
    assert!(read_archive(&bytes[..bytes.len() - 1], |_| Ok(())).is_err(), "an archive that was cut short");
    let mut other = tar::Archive::new(GzDecoder::new(bytes));
    let mut found = Vec::new();
    for entry in other.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type() == EntryType::Directory
            || entry.header().entry_type() == EntryType::XGlobalHeader
        {
            continue;
        }
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut text = Vec::new();
        entry.read_to_end(&mut text).unwrap();
        found.push((name.strip_prefix("./").unwrap_or(&name).to_owned(), text));
    }
    assert_eq!(found, files, "another reader finds other files");
    true
}
