//! Files of hosts and of the control plane that are lost, emptied, cut short, damaged or swapped.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::files::{self, FILES};
use crate::story::Story;

/// Files that may be swapped between hosts. Audit logs always differ, and a host must not lose its revocations to
/// another.
const SWAPPED: [&str; 5] = ["replica.db", "ended-sessions.json", "session.key", "node.json", "node.pem"];

impl Story {
    /// Loses, empties, cuts, damages or swaps files of a host.
    pub fn damage(&mut self, host: usize) -> Result<(), String> {
        if self.empty.contains(&host) {
            return Ok(());
        }
        let how = files::HOW[self.random.random_range(0..files::HOW.len())];
        if how == files::SWAPPED {
            return self.swap(host);
        }
        let ran = self.hosts[host].running();
        self.hosts[host].crash();
        let damaged = self.some_files();
        let directory = self.hosts[host].directory.clone();
        let kept = files::keep(&directory);
        let damaged: Vec<&str> = damaged
            .into_iter()
            .filter(|file| files::damage(&directory, file, how, &mut self.random))
            .collect();
        if damaged.is_empty() {
            return Ok(());
        }
        let remembered = self.memories[host].clone();
        for file in &damaged {
            self.forget_file(host, file, how);
        }
        self.note(format!("host {host}: {damaged:?} is {how}"));
        self.start_host(host)?;
        if self.hosts[host].running() || !ran || self.random.random_bool(0.5) {
            return Ok(());
        }
        // The operators restore the files from before.
        files::put_back(&directory, kept);
        self.memories[host] = remembered;
        self.note(format!("host {host}: {damaged:?} is put back"));
        self.start_host(host)?;
        if self.hosts[host].running() {
            return Ok(());
        }
        Err(format!("host {host} does not start though {damaged:?} was put back"))
    }

    /// Returns one file, any number of files, all databases, or all databases with their inventory.
    fn some_files(&mut self) -> Vec<&'static str> {
        match self.random.random_range(0..10) {
            0 => FILES.into_iter().filter(|_| self.random.random_bool(0.5)).collect(),
            1 => files::DATABASES.to_vec(),
            2 => files::DATABASES.into_iter().chain(["databases.json"]).collect(),
            _ => vec![FILES[self.random.random_range(0..FILES.len())]],
        }
    }

    /// Tells the oracle what a host may have forgotten with a file.
    fn forget_file(&mut self, host: usize, file: &str, how: &str) {
        match file {
            "replica.db" => self.memories[host].forget_replica(),
            "audit.db" => self.lose_uses(host),
            "glass.db" if how == files::LOST || how == files::EMPTY => {
                self.memories[host].broken.clear();
                self.memories[host].reached.forget(Some(false));
            }
            "glass.db" => {
                self.memories[host].broken.values_mut().for_each(|broken| broken.sure = false);
                self.memories[host].reached.forget(None);
            }
            _ => {}
        }
    }

    /// Swaps a file of two hosts.
    fn swap(&mut self, host: usize) -> Result<(), String> {
        let (file, other) =
            (SWAPPED[self.random.random_range(0..SWAPPED.len())], (host + 1) % self.hosts.len());
        if other == host || self.empty.contains(&other) {
            return Ok(());
        }
        let both = [host, other];
        for host in both {
            self.hosts[host].crash();
        }
        let [one, another] = both.map(|host| self.hosts[host].directory.clone());
        if !files::swap(&one, &another, file) {
            return Ok(());
        }
        let nodes = both.map(|host| self.hosts[host].node().to_owned());
        if file == "replica.db" {
            // The replica database contains the time floor and the values that are expired for good.
            let latest = both.map(|host| self.memories[host].latest).into_iter().max();
            let ran_ahead = both.iter().any(|host| self.memories[*host].ran_ahead);
            for host in both {
                let memory = &mut self.memories[host];
                (memory.latest, memory.ran_ahead) = (latest.unwrap_or_default(), ran_ahead);
            }
        }
        let [plane, another_plane] = both.map(|host| self.hosts[host].data_plane().to_owned());
        let same_plane = plane == another_plane;
        if file == "replica.db" && same_plane {
            let mut memory = std::mem::take(&mut self.memories[host]);
            memory.swap_replica(&mut self.memories[other]);
            self.memories[host] = memory;
        }
        for host in both {
            match file {
                // A host does not use the replica of another data plane.
                "replica.db" if !same_plane => self.memories[host].forget_replica(),
                "node.json" | "node.pem" => {
                    // The log contains events of one node or the other, or is set aside.
                    let uses = self.memories[host].uses.clone();
                    self.lose_uses_of(host, &nodes[0]);
                    self.memories[host].uses = uses;
                    self.lose_uses_of(host, &nodes[1]);
                    // The replica and what it proved remain as long as the host stays on its data plane.
                    if !same_plane {
                        self.memories[host].forget_replica();
                    }
                    self.forked.extend(nodes.iter().cloned());
                }
                _ => {}
            }
        }
        self.note(format!("{file} of hosts {both:?} is swapped"));
        both.iter().try_for_each(|host| self.start_host(*host))
    }

    /// Damages, empties or swaps a key file or the keysets of the control plane, which must not start until its
    /// operators restore the file.
    pub fn damage_control(&mut self) -> Result<(), String> {
        if self.random.random_bool(0.4) {
            return self.lose_database();
        }
        let file = ["token.pem", "replica.pem", "keysets.ndjson"][self.random.random_range(0..3)];
        let how = files::HOW[self.random.random_range(0..files::HOW.len())];
        let (mut random, mut damaged) = (StdRng::seed_from_u64(self.random.random()), true);
        self.hang_up();
        let started = self.control.start_with(|directory| {
            if how == files::SWAPPED {
                files::swap_names(&directory.join("token.pem"), &directory.join("replica.pem"));
            } else {
                damaged = files::damage(directory, file, how, &mut random);
            }
        });
        self.note(format!("the control plane's {file} is {how}: {started:?}"));
        // A file that was cut at the end of a line, or within the last white space, may still be complete.
        if damaged && started.is_ok() && how != files::CUT {
            return Err(format!("the control plane starts though {file} is {how}"));
        }
        let span = self.random.random_range(1..30_000);
        self.pass(span)?;
        self.control.start();
        Ok(())
    }

    /// Loses or empties the control plane's database, but not its keys. The control plane must not start until the same
    /// database, or a backup, is in place.
    fn lose_database(&mut self) -> Result<(), String> {
        let emptied = self.random.random_bool(0.5);
        let how = if emptied { files::EMPTY } else { files::LOST };
        self.hang_up();
        let started = self.control.start_without_database(emptied);
        self.note(format!("the control plane's control.db is {how}: {started:?}"));
        match started {
            Ok(()) => return Err(format!("the control plane starts though control.db is {how}")),
            Err(why) if !why.contains("control.db") => {
                return Err(format!("the control plane does not name what is {how}: {why}"));
            }
            Err(_) => {}
        }
        let span = self.random.random_range(1..90_000);
        self.pass(span)?;
        if self.random.random_bool(0.5) && !self.backups.is_empty() {
            return self.restore();
        }
        self.control.start();
        Ok(())
    }
}
