//! `halligan deploy` and `halligan deployment deploy`.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::rig::control::Control;

fn halligan(control: &Control, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_halligan"))
        .args(words)
        .env_clear()
        .env("HALLIGAN_URL", &control.url)
        .env("ASTRO_API_TOKEN", &control.owner)
        .output()
        .unwrap()
}

#[test]
fn halligan_deploys_a_folder_lists_deploys_and_rolls_back() {
    let control = Control::start("");
    let estate = control.estate();
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().to_str().unwrap();
    std::fs::write(folder.path().join("a.py"), "x = 1\n").unwrap();
    let id = estate.deployment.as_str();
    let json_of = |words: &[&str]| -> Value {
        let output = halligan(&control, &[words, &["--json"]].concat());
        assert!(output.status.success(), "{words:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let first = json_of(&["deploy", "--deployment-id", id, dags, "--description", "first"]);
    assert_eq!((&first["status"], &first["isInForce"]), (&json!("DEPLOYED"), &json!(true)));
    std::fs::write(folder.path().join("b.py"), "y = 2\n").unwrap();
    let second = json_of(&["deploy", "--deployment-name", "prod", dags]);
    assert_ne!(first["dagTarballVersion"], second["dagTarballVersion"]);
    // The same files give the same archive, and so the same version.
    std::fs::remove_file(folder.path().join("b.py")).unwrap();
    let third = json_of(&["deploy", "-d", id, dags]);
    assert_eq!(first["dagTarballVersion"], third["dagTarballVersion"]);
    let back = json_of(&["deployment", "deploy", "rollback", "-d", id, second["id"].as_str().unwrap()]);
    assert_eq!(back["rollbackFromId"], second["id"]);
    let shown = json_of(&["deployment", "deploy", "show", "-d", id, back["id"].as_str().unwrap()]);
    assert_eq!(shown["dagTarballVersion"], second["dagTarballVersion"]);
    assert_eq!(json_of(&["deployment", "deploy", "list", "-d", id]).as_array().unwrap().len(), 4);
    // The command refuses these folders before it sends anything.
    let empty = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
    for (words, code, word) in [
        (vec!["deploy", "-d", id, dags], 65, "link"),
        (vec!["deploy", "-d", id, empty.path().to_str().unwrap()], 65, "nothing in the folder"),
        (vec!["deploy", "-d", id, "/nonexistent"], 66, "/nonexistent"),
        (vec!["deploy", dags], 64, "deployment"),
        (vec!["deploy", "-d", id, "--host", "http://host.example", dags], 64, "https://"),
        (
            vec!["deploy", "-d", id, "--host", "http://127.0.0.1:1", empty.path().to_str().unwrap()],
            65,
            "nothing",
        ),
        (vec!["deployment", "deploy", "rollback", "-d", id, "c0123456789abcdefghijklmn"], 65, "deploy"),
    ] {
        let output = halligan(&control, &words);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {told}");
        assert!(told.contains(word), "{words:?}: {told}");
    }
    assert_eq!(json_of(&["deployment", "deploy", "list", "-d", id]).as_array().unwrap().len(), 4);
}
