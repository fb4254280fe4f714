//! Environment variables with the real systemd: it starts a unit with a deployment's variables, and each value arrives
//! unchanged.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::json;

use crate::rig::{Rig, component, until};
use crate::systemd::container::Container;

/// Values that incorrect quoting would change.
const VALUES: [&str; 24] = [
    "",
    " ",
    "plain",
    " two  words ",
    "tab\there",
    "two\nlines",
    "\n",
    "ends with a break\n",
    "\r\n",
    "\"",
    "\"quoted\"",
    "it's",
    "back\\slash",
    "ends with \\",
    "\\n is no line break",
    "$HOME ${HOME} $$ $(id)",
    "`id`",
    "# no comment",
    "; neither",
    "a=b=c",
    "%h %% %n",
    "\u{1}\u{7}\u{1b}[0m\u{7f}\u{85}",
    "\u{e4} \u{20ac} \u{1f600} \u{202e}",
    "!\"\\`$\n\"\\`$",
];

#[test]
fn systemd_gives_a_unit_each_value_as_it_was_set() {
    if component("systemd-nspawn").is_none() || component("debootstrap").is_none() {
        return;
    }
    let _alone = crate::rig::alone();
    let rig = Rig::start();
    let mut wanted: BTreeMap<String, String> = VALUES
        .iter()
        .enumerate()
        .map(|(number, value)| (format!("V{number:02}"), (*value).to_owned()))
        .collect();
    wanted.insert("LARGE".into(), "x\"\\\n".repeat(16 << 10));
    wanted.insert("_1".into(), "a name".into());
    let variables: Vec<_> = wanted.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    let body = rig.path("body.json");
    std::fs::write(&body, json!({ "environmentVariables": variables }).to_string()).unwrap();
    let organizations = rig.json(&["organization", "list"]);
    let organization = organizations[0]["id"].as_str().unwrap();
    let url = format!(
        "http://127.0.0.1:{}/v1/organizations/{organization}/deployments/{}",
        rig.control_port, rig.deployment
    );
    let (bearer, data) =
        (format!("Authorization: Bearer {}", rig.owner_token), format!("@{}", body.display()));
    let set = crate::rig::curl(&[
        "-X",
        "POST",
        "-H",
        &bearer,
        "-H",
        "Content-Type: application/json",
        "-H",
        "Expect:",
        "--data-binary",
        &data,
        &url,
    ]);
    assert_eq!(set.status, 200, "{set:?}");
    let file = rig.path(&format!("node/environment/{}.env", rig.deployment));
    until("the variables arrive", || file.exists());

    let container = Container::boot();
    std::fs::create_dir_all(container.path("/var/lib/halligan/environment")).unwrap();
    std::fs::copy(&file, container.path("/var/lib/halligan/environment/dep.env")).unwrap();
    container.write(
        "/etc/systemd/system/airflow.service",
        "[Service]\nType=oneshot\nDynamicUser=yes\nEnvironmentFile=/var/lib/halligan/environment/dep.env\n\
         ExecStart=/usr/bin/env -0\nStandardOutput=file:/run/environment\n",
    );
    container.sh("systemctl daemon-reload && systemctl start airflow");
    let seen = std::fs::read(container.path("/run/environment"))
        .unwrap_or_else(|_| container.command("/bin/cat").arg("/run/environment").output().unwrap().stdout);
    let seen: BTreeMap<String, String> = seen
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let (key, value) = std::str::from_utf8(entry).unwrap().split_once('=').unwrap();
            (key.to_owned(), value.to_owned())
        })
        .collect();
    for (key, value) in &wanted {
        assert_eq!(seen.get(key), Some(value), "{key}");
    }
    let journal = container.sh("journalctl --no-pager -u airflow");
    assert!(!journal.contains("Ignoring") && !journal.contains("nvalid"), "{journal}");
}
