//! Unit tests of bundles: round trips, truncation, and each bound.

#![allow(clippy::unwrap_used)]

use std::io::{self, Read};

use super::*;

fn changes() -> Vec<Change> {
    let put = |key: &str| Change::Put(Record::new(RecordKind::Token, key, "{\"a\":\"\u{e9}\\n\"}"));
    vec![put("tok_a"), Change::Remove { kind: RecordKind::DagTags, key: "dep_a".into() }, put("tok_b")]
}

fn bundle() -> Vec<u8> {
    write_bundle(&[r#"{"payload":"a","signatures":[]}"#], "a.b.c", 7, changes()).unwrap()
}

fn compressed(mut content: impl Read) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    io::copy(&mut content, &mut encoder).unwrap();
    encoder.finish().unwrap()
}

fn read(bytes: &[u8], limits: Limits) -> Result<Vec<Change>, BundleError> {
    BundleReader::new(bytes, limits)?.collect()
}

#[test]
fn what_is_written_is_read() {
    let bytes = bundle();
    let reader = BundleReader::new(bytes.as_slice(), Limits::default()).unwrap();
    assert_eq!(
        (reader.keysets(), reader.head(), reader.base()),
        (&[r#"{"payload":"a","signatures":[]}"#.to_owned()][..], "a.b.c", 7)
    );
    assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), changes());
}

#[test]
fn no_truncation_goes_unnoticed() {
    let bytes = bundle();
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length], Limits::default()).is_err(), "cut at {length}");
    }
}

#[test]
fn a_bundle_is_one_frame_with_a_checksum_and_nothing_else() {
    let bytes = bundle();
    let lines = zstd::decode_all(bytes.as_slice()).unwrap();
    let frame = |checksum: bool, content: &[u8]| {
        if checksum { compressed(content) } else { zstd::encode_all(content, 1).unwrap() }
    };
    let skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd".to_vec();
    assert_eq!(read(&frame(true, &lines), Limits::default()).unwrap(), changes());
    let half = lines.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for (what, bytes) in [
        ("no checksum", frame(false, &lines)),
        ("two frames", [frame(true, &lines[..half]), frame(true, &lines[half..])].concat()),
        ("an empty frame behind", [bytes.clone(), frame(true, b"")].concat()),
        ("a skippable frame behind", [bytes.clone(), skippable.clone()].concat()),
        ("a skippable frame before", [skippable, bytes.clone()].concat()),
        ("a byte behind", [bytes, vec![0]].concat()),
        ("plain lines", lines),
        ("nothing", Vec::new()),
    ] {
        assert!(matches!(read(&bytes, Limits::default()), Err(BundleError::Frame(_))), "{what}");
    }
}

#[test]
fn a_line_of_a_newer_control_plane_is_told_apart_from_a_malformed_one() {
    let lines = String::from_utf8(zstd::decode_all(bundle().as_slice()).unwrap()).unwrap();
    let bent = |from: &str, to: &str| {
        assert!(lines.contains(from), "{from}");
        read(&compressed(lines.replacen(from, to, 1).as_bytes()), Limits::default())
    };
    for (from, to) in [
        (r#""kind":"token""#, r#""kind":"quota""#),
        (r#""op":"put""#, r#""op":"patch""#),
        (r#""op":"put""#, r#""op":"put","until":7"#),
        (r#""base":7"#, r#""base":7,"signature":"x""#),
    ] {
        assert!(matches!(bent(from, to), Err(BundleError::Newer { .. })), "{to}: {:?}", bent(from, to));
    }
    for (from, to) in
        [(r#""base":7"#, r#""base":"7""#), (r#""base":7"#, r#""base":9007199254740992"#), ("}\n", "}\r\n")]
    {
        assert!(matches!(bent(from, to), Err(BundleError::Malformed { .. })), "{to}");
    }
}

#[test]
fn a_line_is_an_object() {
    let lines = String::from_utf8(zstd::decode_all(bundle().as_slice()).unwrap()).unwrap();
    let bent = |from: &str, to: &str| {
        assert!(lines.contains(from), "{from}");
        read(&compressed(lines.replace(from, to).as_bytes()), Limits::default())
    };
    assert!(bent("a.b.c", "a.b.d").is_ok());
    for (from, to) in [
        (r#"{"keyset":{"payload":"a","signatures":[]}}"#, r#"[{"payload":"a","signatures":[]}]"#),
        (r#"{"head":"a.b.c","base":7}"#, r#"["a.b.c",7]"#),
        (r#"{"op":"remove","kind":"dag-tags","key":"dep_a"}"#, r#"["remove","dag-tags","dep_a"]"#),
    ] {
        assert!(matches!(bent(from, to), Err(BundleError::Malformed { .. })), "{to}");
    }
}

#[test]
fn every_bound_is_kept() {
    let bytes = bundle();
    assert!(matches!(read(&bytes, Limits { line: 20, ..Limits::default() }), Err(BundleError::Line { .. })));
    assert!(matches!(
        read(&bytes, Limits { total: 100, ..Limits::default() }),
        Err(BundleError::TooLarge(100))
    ));
    assert!(matches!(read(&bytes, Limits { keysets: 0, ..Limits::default() }), Err(BundleError::Keysets(0))));
    let bomb = compressed(io::repeat(b'x').take(64 << 20));
    assert!(matches!(read(&bomb, Limits::default()), Err(BundleError::Line { .. })));
}
