#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;
use crate::protocol::deploy::MAX_UNPACKED;

/// Tar file that is written block by block, so that it can say anything.
#[derive(Clone, Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn header(mut self, kind: u8, name: &[u8], size: u64) -> Self {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(EntryType::new(kind));
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self
    }

    fn entry(self, kind: u8, name: &[u8], content: &[u8]) -> Self {
        let mut tar = self.header(kind, name, content.len() as u64);
        tar.0.extend(content);
        let length = tar.0.len().next_multiple_of(BLOCK);
        tar.0.resize(length, 0);
        tar
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(b'0', name.as_bytes(), content.as_bytes())
    }

    fn zeros(mut self, blocks: usize) -> Self {
        self.0.resize(self.0.len() + blocks * BLOCK, 0);
        self
    }

    /// Ends the tar file and reads it.
    fn read(self) -> Result<Vec<String>, ArchiveError> {
        read(&gzip(&self.zeros(2).0))
    }

    /// Ends the tar file and returns the reason for which it is refused.
    fn refused(self) -> String {
        self.read().unwrap_err().to_string()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Reads an archive: `PATH/` for a directory, `PATH=CONTENT` for a file, `!` behind the path of an executable.
fn read(archive: &[u8]) -> Result<Vec<String>, ArchiveError> {
    let mut found = Vec::new();
    read_archive(archive, |entry| {
        found.push(match entry {
            Entry::Directory { path } => format!("{path}/"),
            Entry::File { path, size, executable, content } => {
                let mut text = String::new();
                content.read_to_string(&mut text)?;
                assert_eq!(text.len() as u64, size);
                format!("{path}{}={text}", if executable { "!" } else { "" })
            }
        });
        Ok(())
    })?;
    Ok(found)
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let record = |(key, value): &(&str, &str)| {
        let rest = key.len() + value.len() + 3;
        let length = (1..4).map(|digits| rest + digits).find(|all| all.to_string().len() + rest == *all);
        format!("{} {key}={value}\n", length.unwrap())
    };
    records.iter().map(record).collect::<String>().into_bytes()
}

#[test]
fn files_and_directories_are_read_as_usual_writers_write_them() {
    let tar = Tar::default().entry(b'5', b"./", b"").entry(b'5', b"./a/", b"").file("./a/b.py", "x = 1\n");
    assert_eq!(tar.file("c/d/e", "").read().unwrap(), ["a/", "a/b.py=x = 1\n", "c/", "c/d/", "c/d/e="]);
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    for header in [Header::new_gnu(), Header::new_ustar()] {
        let mut header = header;
        header.set_size(2);
        header.set_mode(0o755);
        let name = if header.as_gnu().is_some() { format!("gnu/{long}") } else { "short".into() };
        builder.append_data(&mut header, name, &b"hi"[..]).unwrap();
    }
    let tar = builder.into_inner().unwrap();
    let (d, f) = ("d".repeat(150), "f".repeat(150));
    assert_eq!(
        read(&gzip(&tar)).unwrap(),
        ["gnu/".into(), format!("gnu/{d}/"), format!("gnu/{d}/{f}!=hi"), "short!=hi".to_owned()]
    );
    let tar = Tar::default()
        .entry(b'g', b"pax_global_header", &pax(&[("comment", "0123")]))
        .entry(b'x', b"PaxHeader", &pax(&[("mtime", "1.5"), ("path", "long/name")]))
        .file("short", "1")
        .entry(b'x', b"PaxHeader", &pax(&[("mtime", "1.5")]))
        .file("own", "2");
    assert_eq!(tar.read().unwrap(), ["long/", "long/name=1", "own=2"]);
    assert_eq!(Tar::default().read().unwrap(), Vec::<String>::new());
    // Records of 10 KiB are filled up with zeros.
    assert!(read(&gzip(&Tar::default().file("a", "1").zeros(20).0)).is_ok());
}

#[test]
fn each_kind_of_entry_that_is_no_file_and_no_directory_is_refused() {
    for kind in [b'1', b'2', b'K'] {
        assert!(Tar::default().entry(kind, b"a", b"").refused().contains("is a link"), "{kind}");
    }
    for kind in [b'3', b'4', b'6', b'7', b'S', b'D', b'V', b'Z'] {
        assert!(Tar::default().entry(kind, b"a", b"").refused().contains("neither a file"), "{kind}");
    }
    assert!(Tar::default().entry(b'5', b"a", b"content").refused().contains("neither a file"));
}

#[test]
fn a_name_that_leaves_the_root_or_stands_twice_is_refused_whichever_header_has_it() {
    for name in ["/etc/passwd", "../a", "a/../../b", "a//b", "a\nb"] {
        let refused = Tar::default().file("ok", "").file(name, "");
        assert!(refused.refused().starts_with("entry 2 of the archive"), "{name}");
        let refused = Tar::default().entry(b'x', b"p", &pax(&[("path", name)])).file("ok", "");
        assert!(refused.refused().starts_with("entry 2 of the archive"), "{name}");
        let refused = Tar::default().entry(b'L', b"l", format!("{name}\0").as_bytes()).file("ok", "");
        assert!(refused.refused().starts_with("entry 2 of the archive"), "{name}");
    }
    assert!(Tar::default().file("a", "1").file("./a", "2").refused().contains("same name"));
    assert!(Tar::default().file("a", "1").file("a/b", "2").refused().contains("same name"));
    let long = Tar::default().entry(b'x', b"p", &pax(&[("path", &"x".repeat(900))])).file("ok", "");
    let message = long.refused();
    assert!(message.len() < 300 && message.contains('…'), "{message}");
}

#[test]
fn an_extension_that_changes_more_than_the_name_is_refused() {
    for record in [("size", "1"), ("linkpath", "/"), ("GNU.sparse.major", "1")] {
        for kind in [b'x', b'g'] {
            let tar = Tar::default().entry(kind, b"p", &pax(&[record])).file("a", "1");
            assert!(tar.refused().contains("no tar file"), "{record:?}");
        }
    }
    let refused = [
        Tar::default().entry(b'g', b"p", &pax(&[("path", "b")])).file("a", "1"),
        Tar::default().entry(b'x', b"p", &pax(&[("path", "b"), ("path", "c")])).file("a", "1"),
        Tar::default().entry(b'x', b"p", &pax(&[("path", "b")])),
        Tar::default().entry(b'x', b"p", b"").entry(b'L', b"l", b"b").file("a", "1"),
        Tar::default().entry(b'L', b"l", b"b").entry(b'g', b"g", b"").file("a", "1"),
        Tar::default().entry(b'x', b"p", b"9 a=b\n").file("a", "1"),
        Tar::default().entry(b'x', b"p", b"a=b\n").file("a", "1"),
        Tar::default().entry(b'x', b"p", &vec![b' '; 70 << 10]).file("a", "1"),
    ];
    for tar in refused {
        assert!(tar.refused().contains("no tar file"));
    }
}

#[test]
fn a_bomb_is_refused_at_its_header() {
    let refused = Tar::default().file("a", "1").header(b'0', b"bomb", MAX_UNPACKED).refused();
    assert!(refused.contains("entry 2") && refused.contains("bytes together"), "{refused}");
    // Zeros without end behind the tar file, and headers without end for no entry.
    let zeros = gzip(&Tar::default().file("a", "1").zeros(5000).0);
    assert!(matches!(read(&zeros), Err(ArchiveError::Trailing)));
    let header = Tar::default().header(b'g', b"g", 0);
    let many = gzip(&header.0.repeat(3 * MAX_ENTRIES + 1));
    assert!(matches!(read(&many), Err(ArchiveError::Entry { fault: TreeFault::Many, .. })));
}

#[test]
fn what_is_no_whole_archive_is_refused() {
    let good = gzip(&Tar::default().file("a", "some text").zeros(2).0);
    for length in 0..good.len() {
        assert!(matches!(read(&good[..length]), Err(ArchiveError::Truncated)), "{length}");
    }
    let with = |more: &[u8]| [&good, more].concat();
    for more in [&b"x"[..], &[0], &good] {
        assert!(matches!(read(&with(more)), Err(ArchiveError::Trailing)));
    }
    let tar = Tar::default().file("a", "some text");
    for blocks in [0, 1] {
        assert!(matches!(read(&gzip(&tar.clone().zeros(blocks).0)), Err(ArchiveError::Truncated)));
    }
    assert!(matches!(read(&gzip(&tar.clone().zeros(1).file("b", "").0)), Err(ArchiveError::Trailing)));
    let mut other_sum = tar.zeros(2).0;
    other_sum[0] ^= 1;
    assert!(matches!(read(&gzip(&other_sum)), Err(ArchiveError::Tar(1))));
    for bad in [&b"PK\x03\x04 a zip file"[..], b"a text", &[0; 100]] {
        assert!(matches!(read(bad), Err(ArchiveError::Gzip | ArchiveError::Truncated)));
    }
}

#[test]
fn the_fault_of_a_visitor_is_not_the_archives() {
    let good = gzip(&Tar::default().file("a", "1").zeros(2).0);
    let full = || Err(io::Error::from(io::ErrorKind::StorageFull));
    let error = read_archive(&good[..], |_| full()).unwrap_err();
    assert!(!error.is_refusal());
    // The rest of a file that a visitor leaves is skipped.
    let two = gzip(&Tar::default().file("a", "1").file("b", "2").zeros(2).0);
    let extent = read_archive(&two[..], |_| Ok(())).unwrap();
    assert_eq!(extent, Extent { entries: 2, bytes: 2 });
}

proptest! {
    #[test]
    fn an_archive_is_read_as_it_was_written_and_none_that_was_changed_is_read_as_another(
        files in prop::collection::btree_map("(d[a-c]{1,3}/){0,3}f[a-c]{1,3}", "[ -~]{0,600}", 0..6),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let tar = files.iter().fold(Tar::default(), |tar, (name, content)| tar.file(name, content));
        let archive = gzip(&tar.zeros(2).0);
        let found = read(&archive).unwrap();
        let read_files: BTreeMap<_, _> = found
            .iter()
            .filter_map(|line| line.split_once('='))
            .map(|(name, content)| (name.to_owned(), content.to_owned()))
            .collect();
        prop_assert_eq!(&read_files, &files);
        let mut changed = archive;
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        // The head of a gzip file has bytes that say nothing of its content.
        if let Ok(other) = read(&changed) {
            prop_assert_eq!(other, found);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(tar in prop::collection::vec(any::<u8>(), 0..2048), at in 0..600_usize, byte: u8) {
        let _ = read(&tar);
        let _ = read(&gzip(&tar));
        let mut entry = Tar::default().entry(b'x', b"p", &pax(&[("path", "b")])).file("a", "1").zeros(2).0;
        entry[at] = byte;
        let _ = read(&gzip(&entry));
    }
}
