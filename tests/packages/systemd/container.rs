//! A Debian with a real systemd as its first process, in a container with a network of its own.

#![allow(unreachable_pub)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Image that tests/packages/systemd/image creates once; each container is a copy.
const IMAGE: &str = "/var/cache/halligan/bookworm";

/// Time limit for a boot, which is slow on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(2);

pub struct Container {
    root: PathBuf,
    nspawn: Child,
    /// Process id of the first process, outside the container.
    leader: u32,
    _directory: TempDir,
}

impl Container {
    /// Boots a fresh copy of the image.
    pub fn boot() -> Self {
        let made = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/packages/systemd/image"))
            .arg(IMAGE)
            .status();
        assert!(made.unwrap().success(), "the image can't be made");
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        let copied = Command::new("cp").args(["-a", "--reflink=auto", IMAGE]).arg(&root).status();
        assert!(copied.unwrap().success(), "the image can't be copied");
        std::fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
        let (nspawn, leader) = start(&root);
        let container = Self { root, nspawn, leader, _directory: directory };
        container.wait_for_boot();
        container
    }

    /// Returns the path of a container's file on the host.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Returns a command that runs in the container as root.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let leader = self.leader.to_string();
        command.args(["-t", &leader, "-m", "-u", "-i", "-n", "-p", "-C", "--", program]);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LANG", "C.UTF-8").stdin(Stdio::null());
        command
    }

    pub fn try_sh(&self, script: &str) -> Output {
        self.command("/bin/sh").args(["-c", script]).output().unwrap()
    }

    /// Runs a script that must succeed. Returns its output.
    pub fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        assert!(output.status.success(), "{script}: {output:?}\n{}", self.tail());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Waits until a script succeeds.
    pub fn until(&self, what: &str, script: &str) {
        let started = Instant::now();
        while !self.try_sh(script).status.success() {
            assert!(started.elapsed() < PATIENCE, "waited in vain until {what}\n{}", self.tail());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Returns a property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.sh(&format!("systemctl show --value -p {name} {unit}"))
    }

    /// Returns the end of the journal, for the message of a failure.
    fn tail(&self) -> String {
        let mut text = String::new();
        for unit in ["halligand", "halligan-control"] {
            let log = self.try_sh(&format!("journalctl -n 30 --no-pager -u '{unit}*'"));
            let _ = writeln!(text, "{}", String::from_utf8_lossy(&log.stdout));
        }
        text
    }

    /// Shuts the container down cleanly and boots it again.
    pub fn reboot(&mut self) {
        let _ = self.try_sh("systemctl poweroff");
        let started = Instant::now();
        while self.nspawn.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < PATIENCE, "the container does not turn off");
            std::thread::sleep(Duration::from_millis(100));
        }
        (self.nspawn, self.leader) = start(&self.root);
        self.wait_for_boot();
    }

    fn wait_for_boot(&self) {
        // `--wait` needs the bus of systemd, so the test first waits for any answer.
        self.until("systemd answers", "systemctl is-system-running | grep -qE 'running|degraded|starting'");
        let state = self.try_sh("systemctl is-system-running --wait");
        assert_eq!(String::from_utf8_lossy(&state.stdout).trim(), "running", "{}", self.tail());
    }
}

fn start(root: &Path) -> (Child, u32) {
    let mut nspawn = Command::new("systemd-nspawn")
        .args(["-q", "--register=no", "--keep-unit", "--private-network", "--link-journal=no", "-D"])
        .arg(root)
        .args(["-b", "systemd.unit=multi-user.target"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", nspawn.id());
    let started = Instant::now();
    loop {
        let first = std::fs::read_to_string(&children).unwrap_or_default();
        // The process has become systemd when it is no longer nspawn's intermediate child.
        if let Some(leader) = first.split_whitespace().next().and_then(|leader| leader.parse().ok())
            && std::fs::read_to_string(format!("/proc/{leader}/comm"))
                .is_ok_and(|name| name.trim() == "systemd")
        {
            return (nspawn, leader);
        }
        assert!(nspawn.try_wait().unwrap().is_none(), "systemd-nspawn ended");
        assert!(started.elapsed() < PATIENCE, "systemd does not start in the container");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Killing the container's first process ends all of its processes; killing nspawn does not.
        let _ = Command::new("kill").args(["-KILL", &self.leader.to_string()]).status();
        let _ = self.nspawn.wait();
    }
}
