//! Imports of the source: only those that docs/code-structure.md and each plane's own page allow.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use crate::docs::code_files;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns a file's code, without its comments and unit tests.
fn code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect()
}

/// Returns the names after `{prefix}` in a file's code.
fn named(file: &Path, prefix: &str) -> Vec<String> {
    let code = code(file);
    let word = |rest: &str| rest.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
    code.split(prefix).skip(1).map(word).collect()
}

fn files_of(module: &str) -> Vec<PathBuf> {
    let files = code_files(&source().join(module));
    assert!(files.len() > 3, "{module}: {files:?}");
    files
}

#[test]
fn a_module_of_a_plane_imports_only_modules_further_down_in_its_table() {
    for plane in ["dataplane", "controlplane"] {
        follows_its_table(plane);
    }
}

fn follows_its_table(plane: &str) {
    let page = std::fs::read_to_string(source().join(plane).join("mod.rs")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("//! | [`"));
    let modules = |row: &str| -> Vec<String> {
        row.split("[`").skip(1).map(|rest| rest.split('`').next().unwrap().to_owned()).collect()
    };
    let rows: Vec<_> = rows.map(|row| modules(row.split(" | ").nth(1).unwrap())).collect();
    let row_of = |module: &str| rows.iter().position(|row| row.iter().any(|name| name == module));
    for entry in std::fs::read_dir(source().join(plane)).unwrap().map(|entry| entry.unwrap().path()) {
        let module = entry.file_stem().unwrap().to_str().unwrap().to_owned();
        // The table has no row for the plane's own page and for the module that its unit tests share.
        if module == "mod" || module == "test_world" {
            continue;
        }
        let row = row_of(&module);
        assert!(row.is_some(), "the table in src/{plane}/mod.rs does not name {module}");
        let files = if entry.is_dir() { code_files(&entry) } else { vec![entry.clone()] };
        for file in files {
            let mut imports = named(&file, &format!("crate::{plane}::"));
            if file == entry || file == entry.join("mod.rs") {
                imports.extend(named(&file, "super::"));
            }
            imports.retain(|import| *import != module);
            for import in imports {
                assert!(
                    row_of(&import) > row,
                    "{} imports {import}, which stands no further down",
                    file.display()
                );
            }
        }
    }
    // The plane's own page may import only modules below the row of its types.
    let page = source().join(plane).join("mod.rs");
    let own = rows.iter().position(|row| row.iter().any(|name| name.starts_with(char::is_uppercase)));
    for import in named(&page, "use self::") {
        assert!(row_of(&import) > own, "{} imports {import}, which stands above its types", page.display());
    }
}

#[test]
fn no_command_needs_the_page_that_lists_the_commands() {
    let files = files_of("cli");
    let page = source().join("cli/mod.rs");
    for file in files.iter().filter(|file| **file != page) {
        let mut imports = named(file, "crate::cli::");
        let top = file.parent() == page.parent() || file.ends_with("mod.rs");
        if top {
            imports.extend(named(file, " super::"));
        }
        // The name is empty before a list in braces, which could hide a wrong import.
        let wrong = imports.iter().find(|import| import.is_empty() || import.starts_with(char::is_uppercase));
        assert_eq!(wrong, None, "{}", file.display());
    }
}

#[test]
fn no_plane_imports_the_other_and_what_they_share_imports_neither() {
    for (module, never) in [
        ("dataplane", &["controlplane", "cli"][..]),
        ("controlplane", &["dataplane", "cli"]),
        ("platform", &["dataplane", "controlplane", "cli", "api"]),
        ("api", &["dataplane", "controlplane", "cli", "platform"]),
        ("protocol", &["dataplane", "controlplane", "cli", "platform", "api"]),
    ] {
        for file in files_of(module) {
            let imports = named(&file, "crate::");
            let wrong = imports.iter().find(|import| never.contains(&import.as_str()));
            assert_eq!(wrong, None, "{}", file.display());
        }
    }
}

/// Each policy is recognized by a text that any implementation of it needs.
#[test]
fn each_policy_stands_in_one_file() {
    for (text, place) in [
        ("application/problem+json", "api/problem.rs"),
        ("about:blank", "api/problem.rs"),
        (".source()", "platform/cause.rs"),
        ("HttpsConnectorBuilder::new()", "platform/net/http_client.rs"),
        ("HttpConnector::new()", "platform/net/http_client.rs"),
        ("install_default()", "platform/net/provider.rs"),
        ("pub struct Backoff", "platform/backoff.rs"),
        ("get(header::RETRY_AFTER)", "platform/net/fields.rs"),
    ] {
        let holders: Vec<_> =
            code_files(&source()).into_iter().filter(|file| code(file).contains(text)).collect();
        assert_eq!(holders, [source().join(place)], "{text}");
    }
}
