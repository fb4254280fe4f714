//! A block: the lines of one batch as they lie on the disk.
//!
//! Lines resemble each other, so LZ4 (its block format, behind the length in four bytes) makes a fifth of them, in less time
//! than it would take to write the rest. The chain is one of lines: what is proved of them does not depend on the packing.

use lz4_flex::block::{compress_prepend_size, decompress, uncompressed_size};

/// The most that LZ4 can make of one byte. Whoever claims more wants memory, and not to be read.
const MAX_RATIO: usize = 255;

/// Packs lines.
pub(super) fn pack(lines: &str) -> Vec<u8> {
    compress_prepend_size(lines.as_bytes())
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
        assert!(pack(&lines).len() * 5 < lines.len());
    }

    #[test]
    fn a_length_that_nothing_can_have_is_not_believed() {
        let mut block = pack("a line\n");
        block[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(unpack(&block), None);
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(lines in ".*") {
            prop_assert_eq!(unpack(&pack(&lines)), Some(lines));
        }

        #[test]
        fn whatever_lies_there_nothing_breaks(block in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(lines) = unpack(&block) {
                prop_assert!(lines.len() <= block.len() * MAX_RATIO);
            }
        }
    }
}
