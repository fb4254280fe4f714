//! Promises that hold for any bytes. Each module is one kind of input. Its `check` takes bytes, panics if a promise is
//! broken, and returns true if the bytes were accepted. libFuzzer generates bytes (`fuzz_targets/`);
//! tests/protocol/fuzz_corpus.rs checks those of the corpus in every `cargo test`.
//!
//! A fuzzer cannot guess a signature. So most modules check their bytes twice: as they are, and signed with a trusted
//! key, as if its holder were hostile.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic)]

pub mod archive;
pub mod bundle;
pub mod configuration;
pub mod event;
pub mod head;
pub mod jws;
pub mod keyset;
pub mod path;
pub mod peer_message;
pub mod record;
pub mod request_facts;
pub mod route_map;
pub mod token;
#[path = "../../tests/world/mod.rs"]
pub mod world;

use std::sync::LazyLock;

use halligan::protocol::keyset::Keyset;
use serde::Serialize;
use serde::de::DeserializeOwned;
use world::World;

/// Function that checks bytes. It returns true if they were accepted.
pub type Check = fn(&[u8]) -> bool;

/// All kinds of input, by the name of their target, corpus and dictionary.
pub const TARGETS: [(&str, Check); 13] = [
    ("archive", archive::check),
    ("bundle", bundle::check),
    ("configuration", configuration::check),
    ("event", event::check),
    ("head", head::check),
    ("jws", jws::check),
    ("keyset", keyset::check),
    ("path", path::check),
    ("peer_message", peer_message::check),
    ("record", record::check),
    ("request_facts", request_facts::check),
    ("route_map", route_map::check),
    ("token", token::check),
];

static WORLD: LazyLock<World> = LazyLock::new(World::new);
static KEYSET: LazyLock<Keyset> = LazyLock::new(|| WORLD.keyset());

/// Returns true if the bytes are a JSON object in UTF-8, as claims, headers and lines of a bundle must be.
fn object(data: &[u8]) -> bool {
    let json = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    std::str::from_utf8(data).is_ok_and(|text| text.trim_start().starts_with('{') && json(text))
}

/// Asserts that writing a value and reading it again changes nothing, and that the second writing is the same as the
/// first.
fn survives<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) -> String {
    let written = serde_json::to_string(value).unwrap();
    let again: T = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
    assert_eq!(*value, again);
    assert_eq!(serde_json::to_string(&again).unwrap(), written);
    written
}
