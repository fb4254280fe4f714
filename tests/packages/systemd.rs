//! The packages on a real host: a Debian booted in a container installs them, starts their units, loses its control
//! plane, is killed, stalled, upgraded and rebooted, and goes on serving.

#![allow(clippy::unwrap_used, clippy::panic)]

mod code;
pub(crate) mod container;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::rig::component;
use container::Container;
use serde_json::Value;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
const URL: &str = "https://localhost:8443";
/// The address of halligand.socket.
const DAEMON: &str = "http://127.0.0.1:8181";

/// Returns the packages `halligand`, its successor, `halligan-control` and `halligan`: those of packaging/build in
/// HALLIGAN_PACKAGES, or new ones with the programs that the tests have built.
fn packages(directory: &Path) -> Option<[PathBuf; 4]> {
    component("systemd-nspawn")?;
    component("debootstrap")?;
    component("cargo-deb")?;
    let cargo = |program: &str| {
        let mut command = Command::new(program);
        // Cargo's variables for this test must not reach the cargo that is started here.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_") && !matches!(&*text, "CARGO_HOME" | "CARGO_TARGET_DIR") {
                command.env_remove(name);
            }
        }
        command.current_dir(SOURCE);
        command
    };
    let made = std::env::var_os("HALLIGAN_PACKAGES").map(|made| Path::new(SOURCE).join(made));
    if made.is_none() {
        let built = cargo("packaging/build").args(["--profile", "dev"]).stdout(Stdio::null()).status();
        assert!(built.unwrap().success(), "packaging/build failed");
    }
    let target = Path::new(env!("CARGO_BIN_EXE_halligan")).ancestors().nth(2).unwrap();
    let newer = cargo("cargo")
        .args(["deb", "--quiet", "--no-build", "--strip", "--variant", "halligand", "--deb-revision", "2"])
        .arg("--output")
        .arg(directory.join("halligand-2.deb"))
        .env("CARGO_TARGET_DIR", target.join("stage"))
        .status()
        .unwrap();
    assert!(newer.success(), "the newer package can't be made");
    let find = |name: &str| {
        let directory = made.clone().unwrap_or_else(|| target.join("packages"));
        let found = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        found.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name)).unwrap()
    };
    Some([
        find("halligand_"),
        directory.join("halligand-2.deb"),
        find("halligan-control_"),
        find("halligan_"),
    ])
}

/// A container with installed packages, and the deployment and token that an operator created in it.
struct Host {
    container: Container,
    deployment: String,
    token: String,
}

impl Host {
    /// Runs the CLI in the container, with the owner's token.
    fn halligan(container: &Container, owner: &str, arguments: &str) -> Value {
        container.write("/root/owner", owner);
        let text = container.sh(&format!(
            "HALLIGAN_CA_FILE=/etc/credstore/halligan.ca halligan --url {URL} --api-token-file /root/owner --json {arguments}"
        ));
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    fn install(packages: &[PathBuf; 4]) -> Self {
        let container = Container::boot();
        for (package, name) in packages.iter().zip(["halligand", "newer", "control", "halligan"]) {
            std::fs::copy(package, container.path(&format!("/root/{name}.deb"))).unwrap();
        }
        container.sh("dpkg -i /root/control.deb /root/halligan.deb /root/halligand.deb");
        // The units are enabled, and were skipped without an error, because neither a root key nor a control plane
        // exists yet.
        for unit in
            ["halligand.service", "halligand.socket", "halligand-admin.socket", "halligan-control.service"]
        {
            assert_eq!(container.property(unit, "UnitFileState"), "enabled", "{unit}");
            assert_eq!(container.property(unit, "ActiveState"), "inactive", "{unit}");
        }
        assert_eq!(container.sh("systemctl is-system-running"), "running");
        let units = "/usr/lib/systemd/system/halligan";
        let verified = container.try_sh(&format!("systemd-analyze verify --man=no {units}*"));
        assert!(verified.status.success() && verified.stderr.is_empty(), "{verified:?}");
        for file in [
            "/usr/share/man/man8/halligand.8.gz",
            "/usr/share/man/man5/halligand.toml.5.gz",
            "/usr/share/man/man1/halligan-token-create.1.gz",
            "/usr/share/bash-completion/completions/halligan",
            "/usr/share/doc/halligand/halligand.cdx.json",
        ] {
            assert!(container.path(file).exists(), "{file} is not in the packages");
        }

        // systemd gives the control plane its certificate as a credential.
        let directory = tempfile::tempdir().unwrap();
        let made =
            crate::rig::tls::certificate(directory.path(), "DNS:localhost", "key.pem", "certificate.pem");
        assert!(made.is_some(), "openssl is not installed");
        let file = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
        container.write("/etc/credstore/halligan.tls-certificate", file("certificate.pem"));
        container.write("/etc/credstore/halligan.tls-key", file("key.pem"));
        container.write("/etc/credstore/halligan.ca", file("certificate.pem"));
        container.sh(&format!("sed -i 's|^issuer = .*|issuer = \"{URL}\"|' /etc/halligan/control.toml"));
        let made = container.sh(
            "runuser -u halligan-control -- halligan-control init --organization Acme --owner-email owner@acme.example --json",
        );
        let made: Value = serde_json::from_str(&made).unwrap();
        container.sh("systemctl start halligan-control");
        assert_eq!(container.property("halligan-control", "ActiveState"), "active");
        let owner = made["token"].as_str().unwrap();
        let id = |made: Value| made["id"].as_str().unwrap().to_owned();
        let workspace = id(Self::halligan(&container, owner, "workspace create data"));
        let data_plane = id(Self::halligan(&container, owner, "data-plane create eu"));
        let deployment = id(Self::halligan(
            &container,
            owner,
            &format!("deployment create prod --workspace-id {workspace} --data-plane-id {data_plane}"),
        ));
        let token = Self::halligan(
            &container,
            owner,
            &format!("token create -n oncall --deployment-id {deployment} --direct-access -e 30"),
        );
        let token = token["token"].as_str().unwrap().to_owned();

        // The node gets a root key, an address and an enrolment token by plain files, as any tool that manages hosts
        // can write them.
        container.sh("cp /var/lib/halligan-control/root.pub.pem /etc/halligan/roots/control.pem");
        container.sh(&format!("sed -i 's|^urls = .*|urls = [\"{URL}\"]|' /etc/halligan/halligand.toml"));
        container.sh(&format!(
            "umask 077 && HALLIGAN_CA_FILE=/etc/credstore/halligan.ca halligan --url {URL} --api-token-file /root/owner \
             data-plane enrolment-token {data_plane} -c > /etc/credstore/halligan.enrolment-token"
        ));
        container.sh("systemctl start halligand");
        container.until("the node has a replica", &format!("curl -sf {DAEMON}/readyz"));
        let host = Self { container, deployment, token };
        host.container.write(
            "/root/ask",
            format!(
                "header = \"Authorization: Bearer {}\"\nheader = \"X-Original-Method: GET\"\nheader = \"X-Original-URI: /api/v2/dags\"\n",
                host.token
            ),
        );
        host
    }

    fn ask(&self) -> String {
        self.container.sh(&format!(
            "curl -s -o /dev/null -w '%{{http_code}}' --max-time 60 -K /root/ask {DAEMON}/v1/authorize/{}",
            self.deployment
        ))
    }

    /// Starts `times` requests, twenty per second, on one connection or on a new connection for each.
    fn load(&self, times: u32, kept: bool) -> Child {
        let close = if kept { "" } else { "-H 'Connection: close'" };
        let script = format!(
            "curl -s -S -o /dev/null -w '%{{http_code}}\\n' --max-time 120 --rate 20/s -K /root/ask {close} '{DAEMON}/v1/authorize/{}?[1-{times}]'",
            self.deployment
        );
        let mut command = self.container.command("/bin/sh");
        command.args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs `what` under load. Every request of clients with kept and with new connections must be answered with 200.
    fn under_load(&self, what: &str) {
        let clients = [self.load(120, true), self.load(120, false)];
        std::thread::sleep(std::time::Duration::from_secs(1));
        self.container.sh(what);
        for client in clients {
            let output = client.wait_with_output().unwrap();
            let answers = String::from_utf8(output.stdout).unwrap();
            let good = answers.lines().filter(|answer| *answer == "200").count();
            assert_eq!((good, output.status.success()), (120, true), "{what}: {answers} {:?}", output.stderr);
        }
    }

    fn restarts(&self) -> u32 {
        self.container.property("halligand", "NRestarts").parse().unwrap()
    }

    fn is_restarted(&self, times: u32) {
        let counted = format!("[ $(systemctl show --value -p NRestarts halligand) = {times} ]");
        self.container.until("systemd has started it anew", &counted);
    }

    fn node(&self) -> String {
        self.container.sh("cat /var/lib/halligan/node.json")
    }

    fn is_connected_and_says_so(&self) {
        assert_eq!(self.ask(), "200");
        self.container.until(
            "the status line says connected",
            "systemctl show --value -p StatusText halligand | grep -q '^connected since .*; replica [1-9]'",
        );
        // The daemon runs as its own user, keeps its secrets readable by that user only, and logs fields.
        assert_eq!(self.container.property("halligand", "User"), "halligan");
        let fields = "journalctl -u halligand -o json SYSLOG_IDENTIFIER=halligand | grep -q HALLIGAN_ADDRESS";
        self.container.until("the journal holds fields", fields);
        let log = self.container.sh("journalctl -b -o cat");
        assert!(!log.contains(self.token.rsplit('.').next().unwrap()), "the journal holds a token");
    }

    fn a_crash_costs_nobody_an_answer(&self) {
        let before = self.restarts();
        self.container.sh("systemctl kill -s KILL halligand");
        assert_eq!(self.ask(), "200");
        self.is_restarted(before + 1);
    }

    fn a_stall_is_ended_by_the_watchdog(&self) {
        let unit = "/etc/systemd/system/halligand.service.d/test.conf";
        self.container.write(unit, "[Service]\nWatchdogSec=5s\n");
        self.container.sh("systemctl daemon-reload && systemctl restart halligand");
        let before = self.restarts();
        self.container.sh("kill -STOP $(systemctl show --value -p MainPID halligand)");
        assert_eq!(self.ask(), "200", "it was asked while it stood still");
        // The stopped daemon may answer just before systemd kills it, so the test also waits for the restart.
        self.is_restarted(before + 1);
        assert_eq!(self.ask(), "200");
        self.container.until("the log says why", "journalctl -u halligand | grep -q 'Watchdog timeout'");
        self.container.sh(&format!("rm {unit} && systemctl daemon-reload && systemctl restart halligand"));
    }

    fn a_reload_takes_what_it_can_and_nothing_that_is_wrong(&self) {
        let file = "/etc/halligan/halligand.toml";
        self.container.sh(&format!(
            "cp {file} /root/before.toml && sed -i 's/^# default_seconds = .*/default_seconds = 1/' {file}"
        ));
        self.container.sh("systemctl reload halligand");
        self.container.until("a replica a second old is stale", &format!("[ \"$({})\" = 403 ]", self.curl()));
        self.container.sh(&format!("cp /root/before.toml {file} && systemctl reload halligand"));
        assert_eq!(self.ask(), "200");
        self.container.sh(&format!("echo 'max_qeue = 1' >> {file}"));
        let refused = self.container.try_sh("systemctl reload halligand");
        assert!(!refused.status.success(), "a configuration that is wrong was taken");
        self.container.until("the log says why", "journalctl -u halligand | grep -q max_qeue");
        assert_eq!(
            (self.ask().as_str(), &*self.container.property("halligand", "ActiveState")),
            ("200", "active")
        );
        self.container.sh(&format!("cp /root/before.toml {file}"));
    }

    /// Verifies the commands of docs/install.md and the shell completions.
    fn its_operators_are_served(&self) {
        self.container.sh("halligand check-config && halligan status && halligan audit verify");
        self.container.sh("cd /root && halligan support-bundle && ls halligan-support-*.tar.zst");
        let completion = "/usr/share/bash-completion/completions/halligan";
        self.container.sh(&format!("bash -c '. {completion} && complete -p halligan'"));
    }

    fn curl(&self) -> String {
        format!(
            "curl -s -o /dev/null -w '%{{http_code}}' -K /root/ask {DAEMON}/v1/authorize/{}",
            self.deployment
        )
    }

    fn the_control_plane_goes(&self) {
        self.container.sh("systemctl disable --now halligan-control");
        self.container.until(
            "the status line says offline",
            "systemctl show --value -p StatusText halligand | grep -q '^offline since'",
        );
        assert_eq!(self.ask(), "200");
    }

    fn it_boots_in_the_outage(&mut self) {
        let node = self.node();
        self.container.reboot();
        assert_eq!(self.container.property("halligan-control", "ActiveState"), "inactive");
        assert_eq!((self.ask().as_str(), self.node()), ("200", node));
        self.container.until(
            "the status line says offline",
            "systemctl show --value -p StatusText halligand | grep -q '^offline since .*; replica [1-9]'",
        );
    }

    fn removal_keeps_the_node_and_purging_nothing_of_it(&self) {
        let node = self.node();
        self.container.sh("dpkg -r halligand");
        assert!(!self.container.try_sh(&format!("curl -sf {DAEMON}/healthz")).status.success());
        assert_eq!(self.node(), node);
        self.container.sh("test -e /etc/halligan/halligand.toml && test ! -e /run/halligan");
        self.container.sh("dpkg -i /root/newer.deb");
        assert_eq!((self.ask().as_str(), self.node()), ("200", node));
        self.container.sh("dpkg -P halligand");
        for gone in ["/var/lib/halligan", "/etc/halligan/halligand.toml", "/etc/halligan/roots"] {
            assert!(!self.container.path(gone).exists(), "{gone} was left behind");
        }
        assert!(!self.container.path("/etc/credstore/halligan.enrolment-token").exists());
        self.container.sh("dpkg -P halligan-control halligan");
        // Removing the package must not delete the keys that every node pins.
        assert!(self.container.path("/var/lib/halligan-control/root.pem").exists());
        assert!(!self.container.path("/etc/halligan").exists());
        let left = self.container.sh("systemctl list-unit-files --no-legend 'halligan*' || true");
        assert_eq!((left.as_str(), &*self.container.sh("systemctl is-system-running")), ("", "running"));
    }
}

#[test]
fn a_host_from_installation_to_purge_with_an_outage_in_between() {
    let _alone = crate::rig::alone();
    let directory = tempfile::tempdir().unwrap();
    let Some(packages) = packages(directory.path()) else { return };
    let mut host = Host::install(&packages);
    host.is_connected_and_says_so();
    host.a_crash_costs_nobody_an_answer();
    host.a_stall_is_ended_by_the_watchdog();
    host.a_reload_takes_what_it_can_and_nothing_that_is_wrong();
    host.its_operators_are_served();
    host.it_takes_code_of_the_control_plane_in_its_sandbox();
    host.it_writes_variables_that_a_unit_is_started_with();
    host.the_control_plane_goes();
    host.under_load("systemctl restart halligand");
    let before = host.container.sh("dpkg-query -W -f '${Version}' halligand");
    host.under_load("dpkg -i /root/newer.deb");
    assert_ne!(host.container.sh("dpkg-query -W -f '${Version}' halligand"), before);
    host.under_load("dpkg -i /root/halligand.deb");
    assert_eq!(host.container.sh("dpkg-query -W -f '${Version}' halligand"), before, "it goes back as well");
    host.it_boots_in_the_outage();
    host.it_takes_code_of_a_client_in_an_outage();
    host.removal_keeps_the_node_and_purging_nothing_of_it();
}

#[test]
fn no_unit_leaves_more_open_than_it_says() {
    if component("systemd-analyze").is_none() {
        return;
    }
    for unit in ["halligand.service", "halligan-control.service"] {
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=15", "--no-pager"])
            .arg(Path::new(SOURCE).join("systemd").join(unit))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{unit} is exposed by more than 1.5:\n{text}");
    }
}
