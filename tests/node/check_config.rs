//! `check-config` refuses every configuration that a start would refuse, prints the reason in one sentence, and changes
//! nothing.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::rig::{Rig, until};

/// Runs a program to its end. Returns its exit code and its error output.
fn run(program: &str, config: &Path, verb: &str) -> (Option<i32>, String) {
    let mut command = Command::new("timeout");
    command.arg("20").arg(program).arg("--config").arg(config).arg(verb);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_state_directory_that_a_start_refuses_is_refused() {
    let mut rig = Rig::start();
    rig.synced();
    rig.daemon.take().unwrap().terminate();
    rig.control.take().unwrap().terminate();
    for (program, verb, state, config) in [
        (env!("CARGO_BIN_EXE_halligand"), "run", "node", "halligand.toml"),
        (env!("CARGO_BIN_EXE_halligan-control"), "serve", "control", "control.toml"),
    ] {
        let (state, config, kept) = (rig.path(state), rig.path(config), rig.path("kept"));
        assert_eq!(run(program, &config, "check-config").0, Some(0));
        for (mode, words) in [(0o770, "(mode 0770)"), (0o707, "run chmod 700")] {
            std::fs::set_permissions(&state, Permissions::from_mode(mode)).unwrap();
            for verb in ["check-config", verb] {
                let (code, said) = run(program, &config, verb);
                assert!(code == Some(78) && said.contains(words), "{verb}: {code:?} {said}");
            }
        }
        std::fs::set_permissions(&state, Permissions::from_mode(0o700)).unwrap();
        std::fs::rename(&state, &kept).unwrap();
        std::fs::write(&state, "a file").unwrap();
        for verb in ["check-config", verb] {
            let (code, said) = run(program, &config, verb);
            let named = said.contains(state.to_str().unwrap());
            assert!(code.is_some_and(|code| code == 78 || code == 73) && named, "{verb}: {code:?} {said}");
        }
        std::fs::remove_file(&state).unwrap();
        std::fs::rename(&kept, &state).unwrap();
    }
    // A missing database is refused like an empty one.
    for content in [None, Some("")] {
        std::fs::rename(rig.path("control/control.db"), rig.path("kept.db")).unwrap();
        content.map_or(Ok(()), |text| std::fs::write(rig.path("control/control.db"), text)).unwrap();
        for verb in ["check-config", "serve"] {
            let (code, said) = run(env!("CARGO_BIN_EXE_halligan-control"), &rig.path("control.toml"), verb);
            assert!(code == Some(74) && said.contains("control.db"), "{verb}: {code:?} {said}");
        }
        std::fs::rename(rig.path("kept.db"), rig.path("control/control.db")).unwrap();
    }
}

#[test]
fn a_control_plane_that_was_not_made_is_told_of_init() {
    let directory = tempfile::tempdir().unwrap();
    let (config, state) = (directory.path().join("control.toml"), directory.path().join("control"));
    let text = format!(
        "state_dir = '{}'\nissuer = 'https://control.example'\nlisten = '127.0.0.1:0'\n",
        state.display()
    );
    std::fs::write(&config, text).unwrap();
    let check = || {
        for verb in ["check-config", "serve"] {
            let (code, said) = run(env!("CARGO_BIN_EXE_halligan-control"), &config, verb);
            assert_eq!(code, Some(78), "{verb}: {said}");
            assert!(
                said.contains("halligan-control init") && said.contains("holds no control plane"),
                "{said}"
            );
        }
    };
    check();
    assert!(!state.exists(), "nothing is made");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, Permissions::from_mode(0o700)).unwrap();
    check();
    // Missing keys beside an existing database are not a first start.
    std::fs::write(state.join("control.db"), "x").unwrap();
    let (code, said) = run(env!("CARGO_BIN_EXE_halligan-control"), &config, "check-config");
    assert!(code == Some(78) && said.contains("root.pub.pem") && !said.contains("init"), "{code:?} {said}");
}

#[test]
fn a_value_of_the_wrong_type_is_named_by_its_key_also_inside_a_list() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("file.toml");
    let daemon = "state_dir = '/nowhere'\n[trust]\nroot_keys = '/nowhere'\n[control_plane]\n";
    let urls = "urls = ['https://control.example']\n";
    for (more, key) in [
        ("urls = [1]\n".to_owned(), "control_plane.urls[0]: "),
        ("urls = ['https://a', []]\n".to_owned(), "control_plane.urls[1]: "),
        (format!("{urls}[admin]\nallow_uids = [7, 'root']\n"), "admin.allow_uids[1]: "),
        (format!("{urls}[listen]\nhttp = [\n  '127.0.0.1:1',\n  2,\n]\n"), "listen.http[1]: "),
        (
            format!("{urls}[gateway.deployments.dep_a]\nupstream = 'http://a:1'\nhosts = [true]\n"),
            "hosts[0]: ",
        ),
        (format!("{urls}[audit]\nmax_queues = 3\n"), "audit.max_queues: unknown field"),
    ] {
        std::fs::write(&config, format!("{daemon}{more}")).unwrap();
        let (code, said) = run(env!("CARGO_BIN_EXE_halligand"), &config, "check-config");
        assert!(code == Some(78) && said.contains(key) && said.contains("line "), "{more}: {code:?} {said}");
    }
    let control = "state_dir = '/nowhere'\nissuer = 'https://control.example'\nlisten = '127.0.0.1:0'\n";
    std::fs::write(&config, format!("{control}trusted_proxies = ['10.0.0.0/8', 7]\n")).unwrap();
    let (code, said) = run(env!("CARGO_BIN_EXE_halligan-control"), &config, "check-config");
    assert!(code == Some(78) && said.contains("trusted_proxies"), "{code:?} {said}");
}

#[test]
fn ends_of_certificate_authorities_are_told_before() {
    let rig = Rig::start();
    let Some(()) = crate::rig::tls::authority(rig.directory.path()) else { return };
    until("the host is enrolled", || rig.path("node/node.json").exists());
    let authorities = format!("[control_plane]\nca_file = '{}'", rig.path("ca.pem").display());
    let gateway = format!(
        "[gateway]\nlisten = []\nca_file = '{}'\n[gateway.deployments]\n",
        rig.path("tls.pem").display()
    );
    let text = rig.daemon_config().replace("[control_plane]", &authorities) + &gateway;
    std::fs::write(rig.path("halligand.toml"), text).unwrap();
    let (code, said) = run(env!("CARGO_BIN_EXE_halligand"), &rig.path("halligand.toml"), "check-config");
    assert_eq!(code, Some(0), "{said}");
    for name in ["ca.pem", "tls.pem"] {
        let told = said
            .lines()
            .any(|line| line.starts_with("warning: ") && line.contains(name) && line.contains(" ends in "));
        assert!(told, "{name}: {said}");
    }
}

#[test]
fn what_stands_where_the_daemon_would_write_is_refused_and_stays() {
    let mut rig = Rig::start();
    rig.synced();
    rig.daemon.take().unwrap().terminate();
    let good = rig.daemon_config();
    let file = rig.path("file");
    std::fs::write(&file, "somebody's").unwrap();
    let (path, long) = (file.display(), rig.path(&"x".repeat(120)));
    let socket = format!("admin_socket = '{}'", rig.path("admin.sock").display());
    let with_socket = |path: String| good.replace(&socket, &format!("admin_socket = '{path}'"));
    let key = rig.path("node/node.pem");
    let before = std::fs::read(&key).unwrap();
    for (text, words) in [
        (with_socket(path.to_string()), "something else than a socket stands there"),
        (with_socket(format!("{path}/admin.sock")), "a part of the path is no directory"),
        (with_socket(long.display().to_string()), "name another path in listen.admin_socket"),
        (with_socket(String::new()), "listen.admin_socket: the text is empty"),
        (
            format!("{good}[code]\ndirectory = '{path}'\n"),
            "it is no directory; name another in code.directory",
        ),
        (
            format!("{good}[environment]\ndirectory = '{path}'\n"),
            "it is no directory; name another in environment.directory",
        ),
        (
            format!("{good}[upstream_identity]\njwks_file = '{}'\n", key.display()),
            "upstream_identity.jwks_file: ",
        ),
    ] {
        assert_ne!(text, good);
        std::fs::write(rig.path("halligand.toml"), &text).unwrap();
        let (code, said) = run(env!("CARGO_BIN_EXE_halligand"), &rig.path("halligand.toml"), "check-config");
        assert!(code == Some(78) && said.contains(words), "{words}: {code:?} {said}");
    }
    // The JWK set replaces a file at each start.
    let (code, said) = run(env!("CARGO_BIN_EXE_halligand"), &rig.path("halligand.toml"), "run");
    assert!(code == Some(78) && said.contains("upstream_identity.jwks_file"), "{code:?} {said}");
    assert_eq!(std::fs::read(&key).unwrap(), before);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "somebody's");
}
