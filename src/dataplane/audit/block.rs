//! A block: the lines of one batch as they lie on the disk.
//!
//! Lines resemble each other, so LZ4 (its block format, behind the length in four bytes) makes a fifth of them, in less time
//! than it would take to write the rest. The chain is one of lines: what is proved of them does not depend on the packing.

use lz4_flex::block::{compress_into, decompress, get_maximum_output_size, uncompressed_size};

use super::AuditError;

/// Bytes that the length before a block takes.
const LENGTH: usize = 4;
/// The most that LZ4 can make of one byte. Whoever claims more wants memory, and not to be read.
const MAX_RATIO: usize = 255;

/// Memory that is kept from one block for the next, in bytes; what is larger is given back.
pub(super) const KEPT: usize = 4 << 20;

/// Packs blocks, each in the memory of the one before: a batch comes every few milliseconds.
#[derive(Default)]
pub(super) struct Packer {
    packed: Vec<u8>,
}

impl Packer {
    /// Packs lines.
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

/// The lines of a block; none if nobody can have packed them.
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
