//! Tests of what is read of a damaged log.

use std::collections::BTreeSet;

use super::*;
use crate::dataplane::audit::{Extent, extent};

#[test]
fn what_cannot_be_read_is_passed_over_and_what_follows_is_not() {
    for damage in ["UPDATE block SET lines = x'00' WHERE", "DELETE FROM block WHERE"] {
        let directory = tempfile::tempdir().unwrap();
        let (path, lines) = long(&directory);
        let holds = "first <= 7 AND last >= 7";
        let ends = format!("SELECT first, last FROM block WHERE {holds}");
        let (first, last): (usize, usize) = Connection::open(&path)
            .unwrap()
            .query_row(&ends, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        run(&path, &format!("{damage} {holds}"));
        let read = |after: usize, limit| {
            let read = readable(&path, after as u64, limit).unwrap();
            (usize::try_from(read.after).unwrap(), read.lines)
        };
        assert_eq!(read(2, 100), (2, lines[2..first - 1].to_vec()), "{damage}");
        assert_eq!(read(first - 1, 100), (last, lines[last..].to_vec()), "{damage}");
        assert_eq!(read(first - 1, 2), (last, lines[last..last + 2].to_vec()), "{damage}");
        assert_eq!(read(last + 1, 100), (last + 1, lines[last + 1..].to_vec()), "{damage}");
        assert_eq!(read(18, 100), (18, vec![]), "{damage}");
    }
}

/// SQLite opens a file whose last page is cut short, and reads zeros in place of what is missing: rows without content.
#[test]
fn a_page_that_lost_its_end_is_a_fault_and_hides_nothing_that_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let (path, lines) = long(&directory);
    let hash = hash_at(&path, 12).unwrap().unwrap();
    set_uploaded(&path, &Position { sequence: 12, hash }).unwrap();
    let page = {
        let connection = Connection::open(&path).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'block'";
        connection.query_row(root, [], |row| row.get::<_, usize>(0)).unwrap()
    };
    // The rows of a page stand from its end towards its beginning.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[page * 16_384 - 600..page * 16_384].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let left = readable(&path, 0, 100).unwrap();
    assert!((1..12).contains(&left.after), "{}", left.after);
    assert_eq!(left.lines, lines[usize::try_from(left.after).unwrap()..]);
    assert!(matches!(events(&path, 0, 100), Err(AuditError::Block(_))));
    assert!(matches!(hash_at(&path, 1), Err(AuditError::Block(_))));
    assert_eq!(faults(&path).unwrap().sequence, 1);
    // The end of the log is whole: it goes on.
    let log = open(&path);
    record(&log).unwrap();
    log.close();
    assert_eq!(readable(&path, 18, 100).unwrap().lines.len(), 1);
}

/// Size of a page of the log, in bytes.
const PAGE: usize = 16_384;

/// Returns a log of `blocks` blocks of one event each, of `parts` hashes that no compression makes small.
fn noise(directory: &tempfile::TempDir, blocks: u64, parts: u64) -> PathBuf {
    let path = directory.path().join("audit.db");
    open(&path).close();
    let mut packer = Packer::default();
    let connection = Connection::open(&path).unwrap();
    for number in 1..=blocks {
        let noise: String = (0..parts).map(|part| line_hash(&format!("{number} {part}"))).collect();
        let row = params![number, number, packer.pack(&format!("{number} {noise}\n")).unwrap()];
        connection.execute("INSERT INTO block (first, last, lines) VALUES (?1, ?2, ?3)", row).unwrap();
    }
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    path
}

/// Returns the numbers of the pages of a database at which no table begins.
fn inner_pages(path: &Path) -> Vec<usize> {
    let connection = Connection::open(path).unwrap();
    let mut roots = connection.prepare("SELECT rootpage FROM sqlite_schema WHERE rootpage > 0").unwrap();
    let roots: Vec<usize> = roots.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let pages = usize::try_from(std::fs::metadata(path).unwrap().len()).unwrap() / PAGE;
    (2..=pages).filter(|page| !roots.contains(page)).collect()
}

/// Returns the events of 1 to `last` that are not read after these pages were damaged.
fn hidden(path: &Path, whole: &[u8], pages: &[usize], last: u64) -> BTreeSet<u64> {
    let mut bytes = whole.to_vec();
    for page in pages {
        bytes[(page - 1) * PAGE..(page - 1) * PAGE + 64].fill(0xff);
    }
    std::fs::write(path, bytes).unwrap();
    let (mut after, mut hidden) = (0, (1..=last).collect::<BTreeSet<_>>());
    while let Ok(read) = readable(path, after, 50)
        && !read.lines.is_empty()
    {
        after = read.after + read.lines.len() as u64;
        hidden.retain(|number| !(read.after + 1..=after).contains(number));
    }
    hidden
}

#[test]
fn a_damaged_page_hides_the_events_on_it_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = noise(&directory, 120, 40);
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = 0;
    for page in inner_pages(&path) {
        let hidden = hidden(&path, &whole, &[page], 120);
        // A page of SQLite's own, without rows.
        let (Some(first), Some(last)) = (hidden.first(), hidden.last()) else { continue };
        assert_eq!(hidden, (*first..=*last).collect(), "page {page}");
        assert!(hidden.len() < 20, "page {page} hides {hidden:?}");
        damaged += 1;
    }
    assert!(damaged > 5, "{damaged}");
}

#[test]
fn two_damaged_pages_hide_no_more_than_each_by_itself() {
    // Rows that stand on a page, and rows that go on at others.
    for (blocks, parts) in [(120, 40), (24, 900)] {
        let directory = tempfile::tempdir().unwrap();
        let path = noise(&directory, blocks, parts);
        let whole = std::fs::read(&path).unwrap();
        let pages = inner_pages(&path);
        let alone: Vec<_> =
            pages.iter().map(|page| (*page, hidden(&path, &whole, &[*page], blocks))).collect();
        assert!(alone.iter().filter(|(_, hidden)| !hidden.is_empty()).count() > 5);
        for (at, (page, first)) in alone.iter().enumerate() {
            for (other, second) in alone.iter().skip(at + 1).step_by(3) {
                let both = hidden(&path, &whole, &[*page, *other], blocks);
                assert_eq!(both, first | second, "{blocks} blocks, pages {page} and {other}");
            }
        }
    }
}

#[test]
fn the_extent_of_a_log_is_known_without_its_first_page() {
    let directory = tempfile::tempdir().unwrap();
    let path = noise(&directory, 120, 40);
    let whole = std::fs::read(&path).unwrap();
    let first = inner_pages(&path).into_iter().find(|page| hidden(&path, &whole, &[*page], 120).contains(&1));
    hidden(&path, &whole, &[first.unwrap()], 120);
    let unread = |uploaded| Extent { oldest: uploaded + 1, last: 120, uploaded };
    assert_eq!(extent(&path).unwrap(), unread(0));
    set_uploaded(&path, &Position { sequence: 60, hash: String::new() }).unwrap();
    assert_eq!(extent(&path).unwrap(), unread(60));
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(extent(&path).unwrap(), Extent { oldest: 1, last: 120, uploaded: 0 });
}
