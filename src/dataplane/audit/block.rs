//! Block: the lines of one batch as they are stored.
//!
//! Consecutive lines resemble each other, so LZ4 (block format, after a length of four bytes) reduces them to a fifth, in less time
//! than it would take to write the difference. The hash chain covers the lines, so its proof does not depend on the packing.

use lz4_flex::block::{compress_into, decompress, get_maximum_output_size, uncompressed_size};
use rusqlite::Row;

use super::AuditError;

/// Length of the prefix that holds the size of the unpacked lines, in bytes.
const LENGTH: usize = 4;
/// Maximum number of bytes that LZ4 can make of one byte. A block that claims more is an attempt to exhaust memory.
const MAX_RATIO: usize = 255;

/// Maximum memory that is kept from one block to the next, in bytes. A larger buffer is freed.
pub(super) const KEPT: usize = 4 << 20;

/// Packs blocks and reuses the memory of the previous one, since a batch comes every few milliseconds.
#[derive(Default)]
pub(super) struct Packer {
    packed: Vec<u8>,
}

impl Packer {
    /// Packs lines into a block. Returns [`AuditError::TooLong`] if no block can hold them.
    pub(super) fn pack(&mut self, lines: &str) -> Result<&[u8], AuditError> {
        let most = LENGTH + get_maximum_output_size(lines.len());
        if self.packed.len() < most || self.packed.len() > most.max(KEPT) {
            self.packed = vec![0; most];
        }
        let length = u32::try_from(lines.len()).map_err(|_| AuditError::TooLong)?;
        let (head, body) = self.packed.split_at_mut(LENGTH);
        head.copy_from_slice(&length.to_le_bytes());
        let packed = compress_into(lines.as_bytes(), body).map_err(|_| AuditError::TooLong)?;
        Ok(&self.packed[..LENGTH + packed])
    }
}

/// Row of the table `block`, as it is stored.
pub(super) struct Stored<'r> {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) packed: &'r [u8],
}

impl<'r> Stored<'r> {
    /// Reads the columns `first`, `last` and `lines`. Returns `None` if one of them is not of its type: SQLite reads a page of
    /// which the end is missing as if zeros stood there, and finds rows without content in it.
    pub(super) fn read(row: &'r Row<'_>) -> rusqlite::Result<Option<Self>> {
        let number = |index| -> rusqlite::Result<Option<u64>> {
            Ok(row.get_ref(index)?.as_i64().ok().and_then(|number| u64::try_from(number).ok()))
        };
        let (first, last, packed) = (number(0)?, number(1)?, row.get_ref(2)?.as_blob().ok());
        let stored = first.zip(last).zip(packed);
        Ok(stored.map(|((first, last), packed)| Self { first, last, packed }))
    }
}

/// Returns the lines of a block, or `None` if the block is not valid.
pub(super) fn unpack(block: &[u8]) -> Option<String> {
    let (length, packed) = uncompressed_size(block).ok()?;
    if length > packed.len().saturating_mul(MAX_RATIO) {
        return None;
    }
    let lines = decompress(packed, length).ok()?;
    String::from_utf8(lines).ok().filter(|lines| lines.len() == length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn alike_lines_take_a_fifth_of_their_room() {
        use std::fmt::Write as _;

        let mut lines = String::new();
        for number in 0..1000 {
            let prev = crate::protocol::event::line_hash(&number.to_string());
            writeln!(lines, "{{\"sequence\":{number},\"prev\":\"{prev}\",\"id\":\"evt_1800000000-{number}\",\"time\":1800000000,\"node\":\"nod_qdk2dqsj3hrn7bvxjvap6at42f\",\"kind\":\"decision\",\"decision\":\"allow\",\"reason\":\"ok\",\"token\":\"tok_bztcnc46f4swobyenzekouueod\",\"generation\":1,\"role\":\"DEPLOYMENT_ADMIN@1\",\"deployment\":\"dep_lzwi4jjpjobetacihrp5oces2a\",\"method\":\"GET\",\"route\":\"/api/v2/dags/{{dag_id}}/dagRuns\",\"path\":\"/api/v2/dags/etl/dagRuns\",\"permission\":\"deployment.airflow.dagRun.get\",\"client\":\"192.0.2.7\",\"glass\":\"always\",\"connectivity\":\"offline\"}}").unwrap();
        }
        assert!(Packer::default().pack(&lines).unwrap().len() * 5 < lines.len());
    }

    #[test]
    fn a_length_that_nothing_can_have_is_not_believed() {
        let mut packer = Packer::default();
        let mut block = packer.pack("a line\n").unwrap().to_vec();
        block[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(unpack(&block), None);
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(batches in prop::collection::vec(".*", 1..4)) {
            let mut packer = Packer::default();
            for lines in batches {
                prop_assert_eq!(unpack(packer.pack(&lines).unwrap()), Some(lines));
            }
        }

        #[test]
        fn whatever_lies_there_nothing_breaks(block in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(lines) = unpack(&block) {
                prop_assert!(lines.len() <= block.len() * MAX_RATIO);
            }
        }
    }
}
