//! References in the documents: the files, tests and pages that they name exist.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md"].iter().map(|page| root().join(page)).collect();
    for directory in ["docs", "docs/decisions", "docs/protocol"] {
        let entries = std::fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    pages
}

/// Returns the texts in backticks, in order.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn is_path(word: &str) -> bool {
    ["src/", "tests/", "docs/", "benches/", "keys/", "systemd/"].iter().any(|root| word.starts_with(root))
        && !word.contains([' ', '*', '…', '<'])
}

#[test]
fn every_file_that_is_named_is_there() {
    let mut seen = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for path in quoted(&text).filter(|word| is_path(word)) {
            let file = path.split(':').next().unwrap();
            assert!(root().join(file).exists(), "{} names {path}, which is not there", page.display());
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn every_page_that_is_linked_is_there() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                let there = page.parent().unwrap().join(file).exists();
                assert!(there, "{} links to {link}, which is not there", page.display());
            }
        }
    }
}

/// Placeholders that readers replace are not used in comments: a replacement would make the comment wrong.
#[test]
fn no_comment_of_an_example_has_what_is_to_be_replaced() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("docs/examples")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let places =
                ["DEPLOYMENT_ID", "127.0.0.1:8181", "127.0.0.1:8182", "127.0.0.1:8080", "prod.example"];
            let named = places.iter().any(|place| line.contains(place));
            let comment = ["#", "--", "//"].iter().any(|mark| line.trim_start().starts_with(mark));
            assert!(!(named && comment), "{}: {line}", path.display());
            seen += usize::from(named);
        }
    }
    assert!(seen > 20, "{seen}");
}

/// In the threat model, the names that follow a file's name are tests in that file.
#[test]
fn every_test_of_the_threat_model_is_there() {
    let text = std::fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let (mut file, mut tests) = (PathBuf::new(), 0);
    for word in quoted(&text) {
        if is_path(word) {
            file = root().join(Path::new(word));
        } else if word.matches('_').count() >= 2
            && word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
        {
            let code = std::fs::read_to_string(&file).unwrap();
            assert!(code.contains(&format!("fn {word}(")), "{} has no test {word}", file.display());
            tests += 1;
        }
    }
    assert!(tests > 20, "{tests}");
}

fn folders(directory: &Path, found: &mut Vec<String>) {
    for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            folders(&path, found);
        }
    }
}

/// One page describes each folder of the source.
#[test]
fn the_code_structure_names_every_folder_of_the_source() {
    let text = std::fs::read_to_string(root().join("docs/code-structure.md")).unwrap();
    let mut found = Vec::new();
    folders(&root().join("src"), &mut found);
    assert!(found.len() > 20, "{found:?}");
    // A module's folder of unit tests belongs to the module's own file.
    found.retain(|folder| !folder.ends_with("/tests"));
    found.retain(|folder| !text.contains(&format!("`{folder}/`")));
    assert!(found.is_empty(), "docs/code-structure.md does not name {found:?}");
}

/// The index names every decision record, because readers find none without it.
#[test]
fn the_index_of_decisions_names_every_record() {
    let index = std::fs::read_to_string(root().join("docs/decisions/README.md")).unwrap();
    for entry in std::fs::read_dir(root().join("docs/decisions")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "README.md" || index.contains(&format!("]({name})")), "{name}");
    }
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns the source files below a folder, without those that hold unit tests alone.
pub(super) fn code_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    rust_files(directory, &mut files);
    files.retain(|path| {
        !path.components().any(|part| ["tests", "tests.rs"].iter().any(|name| part.as_os_str() == *name))
    });
    files
}

/// docs/security.md makes this promise for the daemon. Tests of the data plane sign their own inputs.
#[test]
fn the_data_plane_calls_nothing_that_signs_tokens_keysets_or_heads() {
    let files = code_files(&root().join("src/dataplane"));
    assert!(files.len() > 50, "{}", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod").next().unwrap();
        for call in [
            "mint(",
            "mint}",
            "mint,",
            "sign_head",
            "sign_keyset",
            "Typ::User",
            "Typ::Keyset",
            "Typ::ReplicaHead",
            "Typ::DirectAccess",
            "Typ::Standard",
        ] {
            assert!(!code.contains(call), "{} names {call}", file.display());
        }
    }
}

/// Returns the test programs: folders of `tests/` with a `main.rs`.
fn test_programs() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("tests")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.join("main.rs").exists()).collect()
}

/// A file that no program names is never compiled, and a file beside the folders becomes another program to link.
#[test]
fn every_test_file_is_a_module_of_a_program() {
    let entries = std::fs::read_dir(root().join("tests")).unwrap().map(|entry| entry.unwrap().path());
    let alone: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "rs")).collect();
    assert!(alone.is_empty(), "move {alone:?} into the folder of a program, and name it in that main.rs");
    for program in test_programs() {
        let main = std::fs::read_to_string(program.join("main.rs")).unwrap();
        for file in std::fs::read_dir(&program).unwrap().map(|entry| entry.unwrap().path()) {
            let name = file.file_stem().unwrap().to_str().unwrap();
            if file.extension().is_some_and(|end| end == "rs") && name != "main" {
                assert!(main.contains(&format!("mod {name};\n")), "{} is compiled by nobody", file.display());
            }
        }
    }
}

/// Returns every text that may name a test to run.
fn texts() -> Vec<(PathBuf, String)> {
    fn below(path: &Path, found: &mut Vec<PathBuf>) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                below(&entry.unwrap().path(), found);
            }
        } else {
            found.push(path.into());
        }
    }
    let mut found = Vec::new();
    for place in [
        ".ci",
        "CONTRIBUTING.md",
        "Cargo.toml",
        "README.md",
        "benches",
        "docs",
        "fuzz/README.md",
        "fuzz/src",
        "packaging",
        "src",
        "tests",
    ] {
        below(&root().join(place), &mut found);
    }
    found
        .into_iter()
        .filter_map(|path| std::fs::read_to_string(&path).ok().map(|text| (path, text)))
        .collect()
}

/// Returns the tests that `text` says to run: each a program, and the filter after its name, or an empty one.
fn tests_to_run(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let word = |text: &str| {
        text.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':'))
            .unwrap_or(text.len())
    };
    text.split("--test ").skip(1).filter_map(move |rest| {
        let (program, rest) = rest.split_at(word(rest));
        let name = rest.strip_prefix(' ').map_or("", |rest| &rest[..word(rest)]);
        (!program.is_empty()).then_some((program, name))
    })
}

/// Cargo succeeds without running a test if no test has the given name.
#[test]
fn every_test_that_somebody_is_told_to_run_is_there() {
    let sources: Vec<(PathBuf, String)> = test_programs()
        .into_iter()
        .map(|program| {
            let mut files = Vec::new();
            rust_files(&program, &mut files);
            let text: Vec<_> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
            (program, text.concat())
        })
        .collect();
    let mut seen = 0;
    for (page, text) in texts() {
        for (program, name) in tests_to_run(&text) {
            let place = root().join("tests").join(program);
            let found = sources.iter().find(|(path, _)| *path == place);
            let page = page.display();
            let (_, source) =
                found.unwrap_or_else(|| panic!("{page} names --test {program}, which is not there"));
            for part in name.split("::").filter(|part| !part.is_empty()) {
                let module = source.contains(&format!("mod {part};"));
                let function = source.split("fn ").any(|code| code.split('(').next().unwrap().contains(part));
                assert!(module || function, "{page} names --test {program} {name}, which is not there");
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}
