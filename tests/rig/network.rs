//! A network namespace with a veth pair to this host, for tests of connections that do not come from loopback.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{component, skipped};

/// Runs a system command that must succeed.
pub fn run(command: &str) {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Network namespace that ends with the test.
pub struct Namespace {
    pub name: String,
    /// Address of this host on the pair.
    pub here: Ipv4Addr,
    /// Address of the namespace on the pair.
    pub there: Ipv4Addr,
    number: u32,
}

impl Namespace {
    /// Creates a namespace, which needs root and `ip`. Returns `None` without them.
    pub fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        component("ip")?;
        let number = (std::process::id() * 4 + NEXT.fetch_add(1, Ordering::Relaxed)) % 4_000_000;
        let name = format!("halligan-{number}");
        let made = Command::new("ip").args(["netns", "add", &name]).output().unwrap();
        if !made.status.success() {
            skipped(&format!("no network namespace: {}", String::from_utf8_lossy(&made.stderr)));
            return None;
        }
        let address = |host| Ipv4Addr::from(0x0a00_0000 + (number << 2) + host);
        let namespace = Self { name, here: address(1), there: address(2), number };
        let Self { name, here, there, .. } = &namespace;
        run(&format!("ip link add hl{number}a type veth peer name hl{number}b netns {name}"));
        run(&format!("ip addr add {here}/30 dev hl{number}a"));
        run(&format!("ip link set hl{number}a up"));
        namespace.run("ip link set lo up");
        namespace.run(&format!("ip addr add {there}/30 dev hl{number}b"));
        namespace.run(&format!("ip link set hl{number}b up"));
        Some(namespace)
    }

    /// Runs a system command in the namespace. It must succeed.
    pub fn run(&self, command: &str) {
        run(&format!("ip netns exec {} {command}", self.name));
    }

    /// Sets the namespace's end of the pair `up` or `down`.
    pub fn link(&self, state: &str) {
        self.run(&format!("ip link set hl{}b {state}", self.number));
    }

    /// Returns a command that runs `program` in the namespace.
    pub fn command(&self, program: &Command) -> Command {
        let mut command = self.command_through(&[]);
        command.arg(program.get_program()).args(program.get_args());
        command
    }

    /// Returns the start of a command in the namespace, run `through` other programs.
    pub fn command_through(&self, through: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(through);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
        let _ = std::fs::remove_dir_all(Path::new("/etc/netns").join(&self.name));
    }
}
