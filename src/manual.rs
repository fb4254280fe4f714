//! Tests that the manual is complete: each configuration key is in its page, each option in its program's page.

#![allow(clippy::unwrap_used)]

use serde::de::DeserializeOwned;

/// Key that no table has.
const STRANGER: &str = "no-such-key";

/// Returns the keys of a table, which the parser lists when it rejects an unknown one. Empty if the table has no fixed
/// keys.
fn keys<T: DeserializeOwned>(table: &[String]) -> Vec<String> {
    let header = if table.is_empty() { String::new() } else { format!("[{}]\n", table.join(".")) };
    let Err(refused) = toml::from_str::<T>(&format!("{header}{STRANGER} = 1")) else { return Vec::new() };
    let refused = refused.to_string();
    let Some((_, expected)) = refused.split_once(&format!("unknown field `{STRANGER}`, expected")) else {
        return Vec::new();
    };
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns every key that `page` does not describe, with its tables.
fn missing<T: DeserializeOwned>(page: &str, table: &[String], found: &mut Vec<String>) -> Vec<String> {
    let mut missing = Vec::new();
    for key in keys::<T>(table) {
        let path = [table, std::slice::from_ref(&key)].concat();
        found.push(path.join("."));
        if keys::<T>(&path).is_empty() {
            if !page.lines().any(|line| line == format!(".It Li {key}")) {
                missing.push(path.join("."));
            }
        } else {
            if !page.lines().any(|line| line == format!(".Ss [{}]", path.join("."))) {
                missing.push(format!("[{}]", path.join(".")));
            }
            missing.extend(self::missing::<T>(page, &path, found));
        }
    }
    missing
}

fn whole<T: DeserializeOwned>(page: &str, file: &str) -> Vec<String> {
    let mut found = Vec::new();
    let missing = missing::<T>(page, &[], &mut found);
    assert!(missing.is_empty(), "docs/man/{file} does not say what these keys are: {}", missing.join(", "));
    found
}

#[test]
#[cfg(feature = "daemon")]
fn every_key_of_the_daemons_configuration_stands_in_its_page() {
    let page = include_str!("../docs/man/halligand.toml.5");
    let found = whole::<crate::dataplane::config::Config>(page, "halligand.toml.5");
    assert!(found.contains(&"control_plane.urls".to_owned()), "{found:?}");
}

#[test]
#[cfg(feature = "control")]
fn every_key_of_the_control_planes_configuration_stands_in_its_page() {
    let page = include_str!("../docs/man/halligan-control.toml.5");
    let found = whole::<crate::controlplane::config::Config>(page, "halligan-control.toml.5");
    assert!(found.contains(&"tls.certificate".to_owned()), "{found:?}");
}

#[test]
#[cfg(feature = "daemon")]
fn the_packages_configurations_are_taken_as_they_are() {
    let daemon = include_str!("../packaging/etc/halligand.toml");
    toml::from_str::<crate::dataplane::config::Config>(daemon).unwrap();
    // The commented-out settings must be valid as well.
    let shown: String = daemon
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|line| line.contains(" = ")).unwrap_or(line))
        .fold(String::new(), |text, line| text + line + "\n");
    toml::from_str::<crate::dataplane::config::Config>(&shown).unwrap();
    #[cfg(feature = "control")]
    toml::from_str::<crate::controlplane::config::Config>(include_str!("../packaging/etc/control.toml"))
        .unwrap();
}
