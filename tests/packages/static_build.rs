//! The static build of the daemon (packaging/static) needs no file of its host: it enrols, syncs and answers in an
//! empty root, and continues after a restart while its control plane is down.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::{Rig, Running, component, free_port, skipped, until};

/// Returns the archive that packaging/static built. Without it the test prints a notice and is skipped.
fn archive() -> Option<PathBuf> {
    for name in ["ldd", "unshare"] {
        component(name)?;
    }
    let target = Path::new(env!("CARGO_BIN_EXE_halligan")).ancestors().nth(2).unwrap();
    let built =
        std::fs::read_dir(target.join("packages")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let found =
        built.into_iter().find(|path| path.to_str().unwrap().ends_with("-x86_64-unknown-linux-musl.tar.gz"));
    if found.is_none() {
        skipped("the static build is not there; run packaging/static --profile dev");
    }
    found
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Starts the daemon in a root that holds its own files and /proc only. The mount of /proc belongs to this process and
/// ends with it.
fn start(rig: &Rig, root: &Path) -> Running {
    let mut command = Command::new(component("unshare").unwrap());
    command.env_clear().args(["--mount", "--mount-proc", "--root"]).arg(root);
    command.args(["/halligand", "--config", "/halligand.toml"]);
    Running::start(command.stderr(rig.log("static.log")))
}

#[test]
fn a_host_with_nothing_on_it_runs_the_static_daemon() {
    // packaging/build deletes the output of packaging/static, so no test that builds packages may run meanwhile.
    let _alone = crate::rig::alone();
    let Some(archive) = archive() else { return };
    run(Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(archive.parent().unwrap()));
    let mut rig = Rig::start();
    // This daemon listens at the port of the other one.
    rig.kill_daemon();
    let root = rig.path("root");
    std::fs::create_dir_all(root.join("proc")).unwrap();
    run(Command::new("tar")
        .args(["--extract", "--strip-components=1", "--file"])
        .arg(&archive)
        .arg("-C")
        .arg(&root));
    let told = run(Command::new("ldd").arg(root.join("halligand")));
    assert!(told.contains("statically linked"), "{told}");
    for file in
        ["halligand.service", "halligand.socket", "halligand.toml", "man/halligand.8", "examples/nginx.conf"]
    {
        assert!(root.join(file).exists(), "{file} is not in the archive");
    }
    let version = run(Command::new(root.join("halligand")).arg("--version"));
    assert!(archive.to_str().unwrap().contains(version.trim().rsplit(' ').next().unwrap()), "{version}");

    rig.daemon_port = free_port();
    rig.give_enrolment_token(&root.join("enrolment-token"));
    std::fs::create_dir(root.join("roots")).unwrap();
    std::fs::copy(rig.path("roots/root.pem"), root.join("roots/root.pem")).unwrap();
    let inside = rig.daemon_config().replace(rig.directory.path().to_str().unwrap(), "");
    std::fs::write(root.join("halligand.toml"), inside).unwrap();
    let (_, token) = rig.direct_access_token("night", &rig.deployment);

    let serves = |rig: &Rig, daemon: &mut Running| {
        until("the static daemon lets the token in", || {
            assert!(!daemon.ended(), "{}", rig.read_log("static.log"));
            rig.authorize(&token, "GET", "/api/v2/dags").status == 200
        });
    };
    let mut daemon = start(&rig, &root);
    serves(&rig, &mut daemon);
    assert_eq!(rig.authorize("nonsense", "GET", "/api/v2/dags").status, 401);
    rig.kill_control();
    daemon.kill();
    let mut daemon = start(&rig, &root);
    serves(&rig, &mut daemon);
    assert!(daemon.terminate().success(), "{}", rig.read_log("static.log"));
}
