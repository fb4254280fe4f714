//! Pushes through the nginx of the docs to the daemon.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use crate::rig::{Rig, curl, free_port, nginx, until};

/// Returns the location block for pushes in docs/deploys.md.
fn location(rig: &Rig) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/deploys.md");
    let page = std::fs::read_to_string(path).unwrap();
    let begin = page.find("    location /v1/deploys/ {").unwrap();
    let end = begin + page[begin..].find("\n    }\n").unwrap() + 7;
    page[begin..end].replace("127.0.0.1:8181", &format!("127.0.0.1:{}", rig.daemon_port))
}

#[test]
fn a_push_through_nginx_reaches_the_host_with_the_clients_address() {
    let rig = Rig::start();
    let made = rig.json(&[
        "token",
        "create",
        "-n",
        "near",
        "--deployment-id",
        &rig.deployment,
        "--direct-access",
        "-e",
        "30",
        "--source",
        "127.0.0.2/32",
    ]);
    rig.synced();
    let port = free_port();
    let server = format!("server {{ listen 127.0.0.1:{port}; {} }}", location(&rig));
    let Some(_nginx) = nginx::start(&rig, "pushes", "", &server) else { return };
    let url = format!("http://127.0.0.1:{port}/v1/deploys/{}", rig.deployment);
    until("nginx answers", || curl(&[&url]).status != 0);
    // The archive exceeds nginx's default limit, with incompressible content.
    let folder = rig.path("folder");
    std::fs::create_dir(&folder).unwrap();
    let noise: Vec<u8> = (0..400_000_u64)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).to_le_bytes())
        .collect();
    std::fs::write(folder.join("dag.py"), noise).unwrap();
    let archive = rig.path("dags.tar.gz");
    let packed = Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(&folder).arg(".").status();
    assert!(packed.unwrap().success() && std::fs::metadata(&archive).unwrap().len() > 1 << 20);
    let authorization = format!("Authorization: Bearer {}", made["token"].as_str().unwrap());
    let push = |from: &str| {
        curl(&[
            "-T",
            archive.to_str().unwrap(),
            "-H",
            "Expect:",
            "-H",
            &authorization,
            "--interface",
            from,
            &url,
        ])
    };
    let refused = push("127.0.0.1");
    assert_eq!((refused.status, refused.reason()), (403, "source_not_allowed"));
    assert_eq!(push("127.0.0.2").status, 200);
    assert!(rig.path(&format!("node/code/{}/current/dag.py", rig.deployment)).exists());
}
