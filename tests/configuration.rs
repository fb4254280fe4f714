//! docs/configuration.md and the examples beside it name every key the code reads, and none it does not.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use toml::Value;

/// What a configuration's structs ask for while they are read.
#[derive(Default)]
struct Asked {
    /// Every key, with its tables before it; `*` stands for a name the operator gives.
    keys: BTreeSet<String>,
    /// Those the file does not have.
    missing: BTreeSet<String>,
}

/// Hands a file's values on, and writes down what is asked for.
struct Listener<'a> {
    value: Value,
    path: String,
    asked: &'a RefCell<Asked>,
}

type Error = toml::de::Error;

impl Listener<'_> {
    fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl<'de> Deserializer<'de> for Listener<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Value::Table(table) = self.value.clone() else { return self.deserialize_any(visitor) };
        for field in fields {
            let key = self.at(field);
            if !table.contains_key(*field) {
                self.asked.borrow_mut().missing.insert(key.clone());
            }
            self.asked.borrow_mut().keys.insert(key);
        }
        visitor.visit_map(Entries { of: &self, left: table.into_iter(), value: None, named: true })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Table(table) = self.value.clone() else { return self.deserialize_any(visitor) };
        self.asked.borrow_mut().keys.insert(self.at("*"));
        visitor.visit_map(Entries { of: &self, left: table.into_iter(), value: None, named: false })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Array(items) = self.value.clone() else { return self.deserialize_any(visitor) };
        visitor.visit_seq(Items { of: &self, left: items.into_iter() })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.value.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

struct Entries<'l, 'a> {
    of: &'l Listener<'a>,
    left: toml::map::IntoIter<String, Value>,
    value: Option<(String, Value)>,
    /// Whether the keys are the code's; else the operator's.
    named: bool,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.left.next() else { return Ok(None) };
        let found = seed.deserialize(StrDeserializer::new(&key))?;
        self.value = Some((key, value));
        Ok(Some(found))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, value) = self.value.take().unwrap();
        let path = self.of.at(if self.named { &key } else { "*" });
        seed.deserialize(Listener { value, path, asked: self.of.asked })
    }
}

struct Items<'l, 'a> {
    of: &'l Listener<'a>,
    left: std::vec::IntoIter<Value>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.left.next() else { return Ok(None) };
        let listener = Listener { value, path: self.of.path.clone(), asked: self.of.asked };
        seed.deserialize(listener).map(Some)
    }
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// The keys of a section of docs/configuration.md: the first cell of each row of its tables.
fn documented(title: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with(title));
    let section = section.unwrap_or_else(|| panic!("docs/configuration.md has no section {title:?}"));
    let row = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    section.lines().filter_map(row).collect()
}

fn holds<T: DeserializeOwned>(example: &str, title: &str) {
    let text = std::fs::read_to_string(root().join(example)).unwrap();
    let asked = RefCell::default();
    let listener = Listener { value: toml::from_str(&text).unwrap(), path: String::new(), asked: &asked };
    T::deserialize(listener).unwrap_or_else(|error| panic!("{example}: {error}"));
    let Asked { keys, missing } = asked.into_inner();
    assert!(missing.is_empty(), "{example} lacks {missing:?}");
    assert!(keys.len() > 4, "{keys:?}");
    // A table is told by the keys in it.
    let is_table = |key: &String| keys.iter().any(|other| other.starts_with(&format!("{key}.")));
    let keys: BTreeSet<String> = keys.iter().filter(|key| !is_table(key)).cloned().collect();
    let documented = documented(title);
    let (untold, invented): (Vec<_>, Vec<_>) =
        (keys.difference(&documented).collect(), documented.difference(&keys).collect());
    assert!(untold.is_empty(), "docs/configuration.md does not tell of {untold:?}");
    assert!(invented.is_empty(), "docs/configuration.md tells of {invented:?}, which no code reads");
}

#[test]
fn every_key_of_the_daemon_is_told_of() {
    holds::<halligan::dataplane::config::Config>("docs/examples/halligand.toml", "halligand.toml");
}

#[test]
fn every_key_of_the_control_plane_is_told_of() {
    holds::<halligan::controlplane::config::Config>("docs/examples/control.toml", "control.toml");
}

/// An example's optional values are what holds without them, so that nobody copies a change unawares.
#[test]
fn the_examples_values_are_the_defaults() {
    use halligan::dataplane::config::Config;
    let example = Config::read(&root().join("docs/examples/halligand.toml")).unwrap();
    let least = tempfile::tempdir().unwrap();
    let path = least.path().join("least.toml");
    let text = "state_dir = '/var/lib/halligan'\n[trust]\nroot_keys = '/etc/halligan/roots'\n[control_plane]\nurls = []\n[listen]\nhttp = []\n";
    std::fs::write(&path, text).unwrap();
    let least = Config::read(Path::new(&path)).unwrap();
    let said = |value: &dyn std::fmt::Debug| format!("{value:?}");
    for (name, one, other) in [
        ("trust.threshold", said(&example.trust.threshold), said(&least.trust.threshold)),
        ("listen.admin_socket", said(&example.listen.admin_socket), said(&least.listen.admin_socket)),
        ("proxies", said(&example.proxies), said(&least.proxies)),
        (
            "staleness.default_seconds",
            said(&example.staleness.default_seconds),
            said(&least.staleness.default_seconds),
        ),
        ("staleness.at_limit", said(&example.staleness.at_limit), said(&least.staleness.at_limit)),
        ("glass", said(&example.glass), said(&least.glass)),
        ("audit", said(&example.audit), said(&least.audit)),
    ] {
        assert_eq!(one, other, "{name}");
    }
}

#[test]
fn as_many_threads_answer_as_is_said_and_else_half_as_many_as_there_are_cores() {
    use halligan::dataplane::config::Config;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("halligand.toml");
    let read = |workers: &str| {
        let text = format!(
            "state_dir = '/var/lib/halligan'\n[trust]\nroot_keys = '/etc/halligan/roots'\n[control_plane]\nurls = []\n\
             [listen]\nhttp = []\n{workers}\n"
        );
        std::fs::write(&path, text).unwrap();
        Config::read(&path)
    };
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(usize::from(read("").unwrap().listen.workers().get()), (cores / 2).max(1));
    assert_eq!(read("workers = 7").unwrap().listen.workers().get(), 7);
    for none in ["workers = 0", "workers = -1", "workers = 65536", "workers = 'all'"] {
        let refused = read(none).unwrap_err().to_string();
        assert!(refused.contains("workers"), "{refused}");
    }
}
