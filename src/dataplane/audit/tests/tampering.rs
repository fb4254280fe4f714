//! Tests with random damage: whatever is done to a log, its verification claims nothing that was not written.

use proptest::prelude::*;

use super::*;

/// Damages the database in one way, at the places `a` and `b`.
#[expect(clippy::many_single_char_names, reason = "places, of no further meaning")]
fn tamper(path: &Path, way: u8, a: usize, b: usize) {
    let connection = Connection::open(path).unwrap();
    let mut blocks: Vec<(u64, String)> = connection
        .prepare("SELECT first, lines FROM block ORDER BY first")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, unpack(&row.get::<_, Vec<u8>>(1)?).unwrap())))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut checkpoints: Vec<(u64, String)> = connection
        .prepare("SELECT sequence, text FROM checkpoint ORDER BY sequence")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    if blocks.is_empty() || checkpoints.is_empty() {
        return;
    }
    let flip = |text: &mut String, at: usize| {
        let mut bytes = std::mem::take(text).into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1;
        *text = String::from_utf8(bytes).unwrap();
    };
    let (x, y) = (a % blocks.len(), b % blocks.len());
    let (c, d) = (a % checkpoints.len(), b % checkpoints.len());
    let mut lines: Vec<String> = blocks[x].1.lines().map(|line| line.to_owned() + "\n").collect();
    if lines.is_empty() {
        // An earlier step has emptied it.
        return;
    }
    let (k, l) = (a % lines.len(), b % lines.len());
    match way {
        0 => flip(&mut blocks[x].1, b),
        1 => drop(lines.remove(k)),
        2 => lines.swap(k, l),
        3 => lines.insert(k, lines[l].clone()),
        4 => drop(blocks.remove(x)),
        5 => {
            let text = std::mem::take(&mut blocks[x].1);
            let other = std::mem::replace(&mut blocks[y].1, text);
            blocks[x].1 = other;
        }
        6 => {
            let from = blocks[x].0;
            blocks.truncate(x);
            checkpoints.retain(|(sequence, _)| *sequence < from);
        }
        7 => {
            let from = blocks[x].0;
            blocks.drain(..x);
            checkpoints.retain(|(sequence, _)| *sequence >= from);
        }
        8 => drop(checkpoints.remove(c)),
        9 => flip(&mut checkpoints[c].1, b),
        10 => {
            let text = checkpoints[c].1.clone();
            checkpoints[d].1 = text;
        }
        _ => blocks[x].0 += 1,
    }
    if (1..=3).contains(&way) {
        blocks[x].1 = lines.concat();
    }
    connection.execute_batch("DELETE FROM block; DELETE FROM checkpoint").unwrap();
    for (first, lines) in blocks {
        let last = first + lines.lines().count() as u64 - u64::from(!lines.is_empty());
        // Two blocks may now have the same first event: the first insertion wins.
        connection
            .execute(
                "INSERT OR IGNORE INTO block VALUES (?1, ?2, ?3)",
                (first, last, Packer::default().pack(&lines).unwrap()),
            )
            .unwrap();
    }
    for checkpoint in checkpoints {
        connection.execute("INSERT INTO checkpoint VALUES (?1, ?2)", checkpoint).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn whatever_was_done_to_it_what_is_said_to_be_covered_is_what_was_written(
        acts in prop::collection::vec((0_u8..12, any::<usize>(), any::<usize>()), 1..4),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (path, lines) = long(&directory);
        for (way, a, b) in acts {
            tamper(&path, way, a, b);
        }
        let report = verify(&path, &node(), key().public()).unwrap();
        let left = events(&path, 0, 1000).unwrap();
        let covered = usize::try_from(report.covered).unwrap();
        if report.fault.is_none() {
            prop_assert_eq!(&left[..covered], &lines[..covered]);
            // Only the events of the last minute may lack a checkpoint, or the log was cut back to one.
            prop_assert!(left.len() - covered <= 3);
        } else if let Some(fault) = report.fault {
            prop_assert!(fault.sequence >= 1 && fault.sequence <= 19);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bit_of_any_line_flipped_is_found(at in 0_usize..4000, bit in 0_u8..7) {
        let directory = tempfile::tempdir().unwrap();
        let path = filled(&directory);
        let connection = Connection::open(&path).unwrap();
        let mut lines: Vec<u8> = connection
            .query_row("SELECT lines FROM block WHERE first = 5", [], |row| row.get::<_, Vec<u8>>(0))
            .map(|packed| unpack(&packed).unwrap().into_bytes())
            .unwrap();
        let at = at % lines.len();
        lines[at] ^= 1 << bit;
        let text = String::from_utf8(lines).unwrap();
        connection.execute("UPDATE block SET lines = ?1 WHERE first = 5", [Packer::default().pack(&text).unwrap()]).unwrap();
        let fault = verify(&path, &node(), key().public()).unwrap().fault;
        prop_assert!(fault.is_some_and(|fault| (5..=8).contains(&fault.sequence)));
    }

    #[test]
    fn any_bit_of_a_block_flipped_is_found_or_changes_no_line(at in 0_usize..4000, bit in 0_u8..8) {
        let directory = tempfile::tempdir().unwrap();
        let path = filled(&directory);
        let before = events(&path, 0, 100).unwrap();
        let connection = Connection::open(&path).unwrap();
        let mut packed: Vec<u8> =
            connection.query_row("SELECT lines FROM block WHERE first = 5", [], |row| row.get(0)).unwrap();
        let at = at % packed.len();
        packed[at] ^= 1 << bit;
        connection.execute("UPDATE block SET lines = ?1 WHERE first = 5", [packed]).unwrap();
        if let Some(fault) = verify(&path, &node(), key().public()).unwrap().fault {
            prop_assert!((5..=8).contains(&fault.sequence));
        } else {
            prop_assert_eq!(events(&path, 0, 100).unwrap(), before);
        }
    }
}
