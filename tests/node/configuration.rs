//! Agreement of docs/configuration.md and the examples beside it with the code: they name every key that the code
//! reads, and no other.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use halligan::platform::configuration::{Bound, Configuration, parse};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use toml::Value;

/// Keys that a configuration's structs request while they are deserialized.
#[derive(Default)]
struct Asked {
    /// Every key with its tables before it; `*` stands for a name that the operator chooses.
    keys: BTreeSet<String>,
    /// Keys that the file lacks.
    missing: BTreeSet<String>,
}

/// Deserializer that forwards a file's values and records the requested keys.
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
    /// True if the code names the keys, false if the operator does.
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

/// Returns the keys of a section of docs/configuration.md: the first cell of each row of its tables.
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
    // The documentation lists keys only; a table follows from its keys.
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

/// Optional values in an example equal the defaults, so that copying it changes no setting.
#[test]
fn the_examples_values_are_the_defaults() {
    use halligan::dataplane::config::Config;
    let example = Config::read(&root().join("docs/examples/halligand.toml")).unwrap();
    let least = tempfile::tempdir().unwrap();
    let path = least.path().join("least.toml");
    let text = "state_dir = '/var/lib/halligan'\n[trust]\nroot_keys = '/etc/halligan/roots'\n[control_plane]\nurls = ['https://control.example']\n[listen]\nhttp = []\n";
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
            "state_dir = '/var/lib/halligan'\n[trust]\nroot_keys = '/etc/halligan/roots'\n[control_plane]\nurls = ['https://control.example']\n\
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

/// Collects the keys of the numbers in a file, with `*` for operators' names as in `keys`.
fn numbers(value: &Value, path: &str, keys: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                let named = if keys.contains(&at("*")) { at("*") } else { at(key) };
                numbers(value, &named, keys, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| numbers(item, path, keys, found)),
        Value::Integer(_) | Value::Float(_) => drop(found.insert(path.to_owned())),
        _ => {}
    }
}

fn bounded<T: Configuration>(example: &str, title: &str) {
    let text = std::fs::read_to_string(root().join(example)).unwrap();
    let value: Value = toml::from_str(&text).unwrap();
    let asked = RefCell::default();
    T::deserialize(Listener { value: value.clone(), path: String::new(), asked: &asked }).unwrap();
    let mut found = BTreeSet::new();
    numbers(&value, "", &asked.into_inner().keys, &mut found);
    let row = |bound: &Bound| {
        let zero = match (bound.or_zero, bound.least) {
            (true, _) => "no limit",
            (false, 0) => "as any",
            (false, _) => "refused",
        };
        (bound.key.to_owned(), [bound.least.to_string(), bound.most.to_string(), zero.to_owned()].join(" | "))
    };
    let bounds: BTreeMap<String, String> = T::BOUNDS.iter().map(row).collect();
    assert_eq!(bounds.len(), T::BOUNDS.len(), "a key has two bounds");
    let unbounded: Vec<_> = found.iter().filter(|key| !bounds.contains_key(*key)).collect();
    assert!(unbounded.is_empty(), "these numbers have no bounds: {unbounded:?}");
    let page = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with(title)).unwrap();
    let row = |line: &str| {
        let (key, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        Some((key.to_owned(), rest.strip_suffix(" |")?.to_owned()))
    };
    let told: BTreeMap<String, String> = section.lines().filter_map(row).collect();
    assert_eq!(told, bounds, "docs/configuration.md, {title}");
    // The example is within the limits, and a value one step outside each limit is refused with its key.
    let path = Path::new("example.toml");
    parse::<T>(path, &text).unwrap_or_else(|error| panic!("{example}: {error}"));
    for bound in T::BOUNDS {
        let outside = [(bound.least > 0 && !bound.or_zero).then_some(0), Some(-1), bound.most.checked_add(1)];
        for number in outside.into_iter().flatten() {
            let mut changed = value.clone();
            let key = set(&mut changed, bound.key, number);
            let refused = parse::<T>(path, &toml::to_string(&changed).unwrap()).err();
            let said = refused.unwrap_or_else(|| panic!("{key} = {number} is taken")).to_string();
            assert!(said.contains(&format!("{key}: {number} is out of bounds")), "{said}");
        }
    }
}

/// Sets the number at `key`, under the first of the operator's names if the key has one. Returns its key in the file.
fn set(value: &mut Value, key: &str, number: i64) -> String {
    let (mut value, mut path) = (value, Vec::new());
    for part in key.split('.') {
        let table = value.as_table_mut().unwrap();
        let part = if part == "*" { table.keys().next().unwrap().clone() } else { part.to_owned() };
        value = table.get_mut(&part).unwrap_or_else(|| panic!("the example lacks {key}"));
        path.push(part);
    }
    *value = if value.is_array() { Value::Array(vec![number.into()]) } else { number.into() };
    path.join(".")
}

#[test]
fn every_number_of_the_daemon_has_the_bounds_that_are_documented() {
    bounded::<halligan::dataplane::config::Config>("docs/examples/halligand.toml", "Bounds of halligand\n");
}

#[test]
fn every_number_of_the_control_plane_has_the_bounds_that_are_documented() {
    bounded::<halligan::controlplane::config::Config>(
        "docs/examples/control.toml",
        "Bounds of halligan-control\n",
    );
}

/// `check-config` and a start of both programs exit with code 78 and one sentence that names the key.
#[test]
fn a_value_that_limits_nothing_or_everything_is_refused_by_both_programs() {
    let directory = tempfile::tempdir().unwrap();
    let run = |program: &str, text: &str, verb: &str| {
        let path = directory.path().join("file.toml");
        std::fs::write(&path, text).unwrap();
        let mut command = std::process::Command::new(program);
        let output = command.arg("--config").arg(&path).args([verb]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let daemon = "state_dir = '/nowhere'\n[trust]\nroot_keys = '/nowhere'\n[control_plane]\nurls = ['https://control.example']\n";
    let gateway = |a: &str, b: &str| {
        format!(
            "[gateway]\nlisten = []\n[gateway.deployments.dep_a]\nupstream = 'http://127.0.0.1:1'\nhosts = {a}\n\
             [gateway.deployments.dep_b]\nupstream = 'http://127.0.0.1:1'\nhosts = {b}\n"
        )
    };
    for (more, key) in [
        ("[staleness]\ndefault_seconds = 0\n".to_owned(), "staleness.default_seconds"),
        ("[staleness]\ndefault_seconds = -1\n".to_owned(), "staleness.default_seconds"),
        ("[staleness.roles]\nDEPLOYMENT_ADMN = 5\n".to_owned(), "staleness.roles.DEPLOYMENT_ADMN"),
        ("[staleness.roles]\ndeployment_admin = 5\n".to_owned(), "staleness.roles.deployment_admin"),
        ("[staleness.roles]\n\"DEPLOYMENT_ADMIN@1\" = 5\n".to_owned(), "staleness.roles.DEPLOYMENT_ADMIN@1"),
        ("[staleness.roles]\nDEPLOYMENT_ADMIN = 0\n".to_owned(), "staleness.roles.DEPLOYMENT_ADMIN"),
        ("[staleness.custom_roles]\nDAG_OWNER = 5\n".to_owned(), "staleness.custom_roles.DAG_OWNER"),
        ("[staleness.custom_roles]\ndag_viewer = 5\n".to_owned(), "staleness.custom_roles.dag_viewer"),
        ("[staleness.custom_roles]\nAUDITOR = -5\n".to_owned(), "staleness.custom_roles.AUDITOR"),
        ("[audit]\nmax_queue = 0\n".to_owned(), "audit.max_queue"),
        ("[glass]\nmax_break_seconds = 0\n".to_owned(), "glass.max_break_seconds"),
        ("[peers]\ninterval_seconds = 0\n".to_owned(), "peers.interval_seconds"),
        ("[upstream_identity]\nlifetime_seconds = 60\n".to_owned(), "upstream_identity.lifetime_seconds"),
        ("[node]\nname = ''\n".to_owned(), "node.name"),
        ("[node]\nname = ' a'\n".to_owned(), "node.name"),
        ("[peers]\nurls = ['http://a:65536']\n".to_owned(), "urls"),
        ("[peers]\nurls = ['https://u:p@a']\n".to_owned(), "urls"),
        ("[peers]\nurls = ['https://a/b']\n".to_owned(), "urls"),
        (gateway("['[2001:DB8::1]']", "['[2001:db8:0:0::1]']"), "gateway.deployments.dep_b.hosts"),
        (gateway("['a.example']", "['A.example.']"), "gateway.deployments.dep_b.hosts"),
        (gateway("['a.example', 'a.example']", "[]"), "gateway.deployments.dep_a.hosts"),
        (gateway("['a.example:443']", "[]"), "gateway.deployments.dep_a.hosts"),
        (gateway("['https://a.example']", "[]"), "gateway.deployments.dep_a.hosts"),
        (gateway("[]", "['*.example']"), "gateway.deployments.dep_b.hosts"),
        (gateway("[]", "[]") + "[gateway.limits]\nheader_bytes = 1\n", "gateway.limits.header_bytes"),
        (gateway("[]", "[]") + "[gateway.limits]\nconnections = 0\n", "gateway.limits.connections"),
        (gateway("[]", "[]") + "[gateway.limits]\nidle_seconds = 0\n", "gateway.limits.idle_seconds"),
    ] {
        for verb in ["check-config", "run"] {
            let (code, said) = run(env!("CARGO_BIN_EXE_halligand"), &format!("{daemon}{more}"), verb);
            assert_eq!(code, Some(78), "{more}: {said}");
            assert!(said.contains(&format!("{key}: ")) && said.contains("line "), "{more}: {said}");
        }
    }
    for urls in [
        "[]",
        "['http://127.0.0.1:99999']",
        "['https://a:0']",
        "['https://a', 'https://a/?b']",
        "['https://a#b']",
    ] {
        let text = daemon.replace("['https://control.example']", urls);
        for verb in ["check-config", "run"] {
            let (code, said) = run(env!("CARGO_BIN_EXE_halligand"), &text, verb);
            assert_eq!(code, Some(78), "{urls}: {said}");
            assert!(said.contains("control_plane.urls: "), "{urls}: {said}");
        }
    }
    let control = "state_dir = '/nowhere'\nissuer = 'https://control.example'\nlisten = '127.0.0.1:0'\n";
    for (more, key) in [
        ("[limits]\ncalls_per_minute = 0\n", "limits.calls_per_minute"),
        ("[limits]\nfailures_per_minute = -1\n", "limits.failures_per_minute"),
        ("[webhook]\nurl = 'https://a.example'\ntimeout_seconds = 61\n", "webhook.timeout_seconds"),
    ] {
        for verb in ["check-config", "serve"] {
            let (code, said) = run(env!("CARGO_BIN_EXE_halligan-control"), &format!("{control}{more}"), verb);
            assert_eq!(code, Some(78), "{more}: {said}");
            assert!(said.contains(&format!("{key}: ")), "{more}: {said}");
        }
    }
}
