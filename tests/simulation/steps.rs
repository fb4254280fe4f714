//! Steps of a story: actions of operators, accidents and attacks.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use halligan::dataplane::replica::store::Origin;
use halligan::protocol::glass::GlassMode;
use halligan::protocol::record::Record;
use halligan::protocol::time::Time;
use rand::RngExt as _;

use crate::attack;
use crate::files;
use crate::network::{Line, Message, Millis};
use crate::story::{Backup, LIMIT, Story};
use crate::truth::{Memory, Standing, Token, Value};

const HOUR: Millis = 3_600_000;
const DAY: i64 = 86_400;
/// Permissions of roles. Each set allows the request that a story makes.
const PERMISSIONS: [&[&str]; 3] = [
    &["deployment.airflow.dagRun.create"],
    &["deployment.airflow.dagRun.create", "deployment.airflow.dag.get"],
    &["deployment.airflow.dagRun.create", "deployment.airflow.variable.get"],
];
/// Maximum number of hosts, including clones.
const MOST_HOSTS: usize = 5;

impl Story {
    pub fn step(&mut self) -> Result<(), String> {
        let host = self.random.random_range(0..self.hosts.len());
        match self.random.random_range(0..150) {
            0..9 => self.create_token()?,
            9..13 => self.rotate_token()?,
            13..18 => self.revoke_token()?,
            18..24 => self.change_estate()?,
            24..29 => {
                let (line, to) = self.a_line(host);
                line.up = !line.up;
                let up = if line.up { "up" } else { "down" };
                self.note(format!("line of host {host} to {to} {up}"));
            }
            29..32 => {
                let line = Line {
                    up: true,
                    loss: self.random.random_range(0..60),
                    twice: self.random.random_range(0..30),
                    delay: self.random.random_range(1..5_000),
                };
                let (own, to) = self.a_line(host);
                *own = line;
                self.note(format!("line of host {host} to {to} is {line:?}"));
            }
            32..35 if self.control.up() => {
                self.control.kill();
                self.hang_up();
                self.note("the control plane is killed");
            }
            32..38 => {
                self.control.start();
                self.note("the control plane is started");
            }
            38..43 => {
                self.hosts[host].crash();
                self.note(format!("host {host} crashes"));
            }
            43..53 => self.start_host(host)?,
            53..55 => self.lose_disk(host),
            55..58 => self.retire_or_enrol(host)?,
            58 => self.clone_host(host)?,
            59..63 => self.damage(host)?,
            63 => self.back_up(),
            64..66 => self.restore()?,
            66..70 => self.jump(host)?,
            70..72 => self.jump_both()?,
            72..74 => self.change_keys()?,
            74..77 => self.revoke_on(host),
            77..81 => self.attack(host),
            81..83 => self.carry_in(host)?,
            83 => self.fill_disk(host),
            84 => self.long_rest()?,
            85 => {
                let wall = self.wall(host);
                if self.hosts[host].forget(wall) {
                    // The host still remembers the revocations and generations that the replica proved.
                    (self.memories[host].version, self.memories[host].held) = (0, None);
                    self.note(format!("host {host} is told to forget its replica"));
                }
            }
            86..88 => {
                // A host whose clock is wrong refuses the feed every few seconds. That is realistic, but slow to play
                // for hours.
                for host in 0..self.hosts.len() {
                    self.set_clock(host, 0);
                }
                self.set_control_clock(0);
                let span = self.random.random_range(HOUR..20 * HOUR);
                self.note(format!("{} hours pass", span / HOUR));
                self.pass_slowly(span)?;
            }
            88..115 => {
                let span = self.random.random_range(1..70_000);
                self.pass(span)?;
            }
            140..144 => self.talk()?,
            144..147 => self.hostile_peer()?,
            147 => self.retired_speaks()?,
            148 => self.show_two_faces(host)?,
            149 => {
                self.stale.insert(host);
            }
            115..119 => self.sign_in(host)?,
            119..121 => self.sign_out()?,
            121..124 => self.browse()?,
            124..127 => self.break_or_seal(host),
            127 => self.damage_control()?,
            _ => {
                let span = self.random.random_range(1..2_000);
                self.pass(span)?;
            }
        }
        Ok(())
    }

    /// Returns a line of a host, and its other end.
    fn a_line(&mut self, host: usize) -> (&mut Line, &'static str) {
        if self.random.random_bool(0.3) {
            (&mut self.network.peers[host], "other hosts")
        } else {
            (&mut self.network.lines[host], "the control plane")
        }
    }

    /// Writes an operator's action on the control plane into the transcript, or the reason for its refusal.
    fn done<T>(&mut self, what: &str, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(done) => {
                self.note(what);
                Some(done)
            }
            Err(why) => {
                self.note(format!("refused: {what}: {why}"));
                None
            }
        }
    }

    fn create_token(&mut self) -> Result<(), String> {
        let Some((id, (_, data_plane))) = self.pick(self.estate.deployments.clone()) else { return Ok(()) };
        let days = if self.random.random_range(0..4) == 0 { 400 } else { self.random.random_range(1..4) };
        let role = if self.random.random_bool(0.5) { self.pick(self.estate.roles.clone()) } else { None };
        let (number, name) = (self.tokens.len(), self.name("token"));
        let made = self.control.create_token(&name, &id, role.as_deref(), days);
        let what = format!("token {number} is created for {id}, {days} days, with {role:?}");
        let Some(made) = self.done(&what, made) else { return Ok(()) };
        self.tokens.push(Token {
            id: made.id,
            data_plane,
            deployment: id,
            values: vec![Value {
                text: made.value,
                generation: 1,
                expires_at: made.expires_at,
                dropped: None,
            }],
            not_before: made.not_before,
        });
        self.estate.tokens.insert(number, Standing { generation: 1, revoked: false });
        self.record()
    }

    pub fn living(&mut self) -> Option<usize> {
        let living = self.estate.tokens.iter().filter(|(_, standing)| !standing.revoked);
        self.pick(living.map(|(number, _)| *number).collect::<Vec<_>>())
    }

    fn rotate_token(&mut self) -> Result<(), String> {
        let Some(number) = self.living() else { return Ok(()) };
        let rotated = self.control.rotate_token(&self.tokens[number].id);
        let Some((text, expires_at)) = self.done(&format!("token {number} is rotated"), rotated) else {
            return Ok(());
        };
        let generation = generation_of(&text);
        let standing = self.estate.tokens.entry(number).or_default();
        // A recovery skips generations, which values of the lost history may have.
        let right = if self.estate.recovered.remove(&number) {
            let taken = self.tokens[number].values.iter().any(|value| value.generation == generation);
            generation > standing.generation && !taken
        } else {
            generation == standing.generation + 1
        };
        if !right {
            return Err(format!("token {number} gets generation {generation} after {}", standing.generation));
        }
        standing.generation = generation;
        self.tokens[number].values.push(Value { text, generation, expires_at, dropped: None });
        self.record()
    }

    fn revoke_token(&mut self) -> Result<(), String> {
        let Some(number) = self.living() else { return Ok(()) };
        let revoked = self.control.delete_token(&self.tokens[number].id);
        if self.done(&format!("token {number} is revoked above"), revoked).is_some() {
            self.estate.tokens.entry(number).or_default().revoked = true;
        }
        self.record()
    }

    /// Creates, changes or deletes a workspace, deployment, data plane, team or role.
    fn change_estate(&mut self) -> Result<(), String> {
        match self.random.random_range(0..17) {
            0..4 => {
                let (name, plane) = (self.name("deployment"), self.pick(self.estate.data_planes.clone()));
                let workspace = self.pick(self.estate.workspaces.clone());
                let (Some(plane), Some(workspace)) = (plane, workspace) else { return Ok(()) };
                let glass = self.a_glass();
                let made = self.control.create_deployment(&name, &workspace, &plane, glass);
                if let Some(id) = self.done(&format!("{name} is created on {plane}, {glass:?}"), made) {
                    self.estate.keep_glass(&id, glass);
                    self.estate.deployments.insert(id, (workspace, plane));
                }
            }
            13..16 => {
                let Some((id, _)) = self.pick(self.estate.deployments.clone()) else { return Ok(()) };
                let glass = self.a_glass();
                let kept = self.control.keep_glass(&id, glass);
                if self.done(&format!("the glass of {id} is {glass:?}"), kept).is_some() {
                    self.estate.keep_glass(&id, glass);
                }
            }
            4..7 => {
                let Some((id, _)) = self.pick(self.estate.deployments.clone()) else { return Ok(()) };
                let deleted = self.control.delete_deployment(&id);
                if self.done(&format!("{id} is deleted"), deleted).is_some() {
                    self.estate.deployments.remove(&id);
                    self.estate.glass.remove(&id);
                    let of = self
                        .estate
                        .tokens
                        .iter_mut()
                        .filter(|(number, _)| self.tokens[**number].deployment == id);
                    of.for_each(|(_, standing)| standing.revoked = true);
                }
            }
            7 => {
                let name = self.name("workspace");
                let made = self.control.create_workspace(&name);
                if let Some(id) = self.done(&format!("{name} is created"), made) {
                    self.estate.workspaces.insert(id);
                }
            }
            8 => {
                let Some(id) = self.pick(self.estate.workspaces.clone()) else { return Ok(()) };
                let deleted = self.control.delete_workspace(&id);
                if self.done(&format!("workspace {id} is deleted"), deleted).is_some() {
                    self.estate.workspaces.remove(&id);
                }
            }
            9 if self.estate.data_planes.len() < 2 => {
                let name = self.name("plane");
                let made = self.control.create_data_plane(&name);
                if let Some(id) = self.done(&format!("data plane {name} is created"), made) {
                    self.estate.data_planes.push(id);
                }
            }
            10 => {
                let name = self.name("team");
                if let Some(id) = self.pick(self.estate.teams.clone()) {
                    let deleted = self.control.delete_team(&id);
                    if self.done(&format!("team {id} is deleted"), deleted).is_some() {
                        self.estate.teams.remove(&id);
                    }
                } else {
                    let made = self.control.create_team(&name);
                    let made = self.done(&format!("{name} is created"), made);
                    self.estate.teams.extend(made);
                }
            }
            11 => {
                // Few names are used, so that a role that was deleted, or lost in a restore, comes back with other
                // permissions.
                let name = format!("role-{}", self.random.random_range(0..2));
                let made = self.control.create_role(&name, PERMISSIONS[self.random.random_range(0..3)]);
                let made = self.done(&format!("{name} is created"), made);
                self.estate.roles.extend(made);
            }
            12 => {
                let Some(id) = self.pick(self.estate.roles.clone()) else { return Ok(()) };
                let permissions = PERMISSIONS[self.random.random_range(0..3)];
                let updated = self.control.update_role(&id, permissions);
                self.done(&format!("role {id} gets {permissions:?}"), updated);
            }
            _ => {
                let Some(id) = self.pick(self.estate.roles.clone()) else { return Ok(()) };
                let deleted = self.control.delete_role(&id);
                if self.done(&format!("role {id} is deleted"), deleted).is_some() {
                    self.estate.roles.remove(&id);
                }
            }
        }
        self.record()
    }

    fn a_glass(&mut self) -> GlassMode {
        GlassMode::ALL[self.random.random_range(0..GlassMode::ALL.len())]
    }

    pub fn start_host(&mut self, host: usize) -> Result<(), String> {
        if self.empty.contains(&host) || self.hosts[host].running() {
            return Ok(());
        }
        let wall = self.wall(host);
        self.memories[host].starts(wall);
        let started = self.hosts[host].start(self.now, wall);
        self.seen[host].clear();
        self.forget_contacts(host);
        // A clock beyond the maximum age of the replica raises the floor to that limit only, so it is not steady.
        let signed = self.hosts[host].serves().map(|(_, _, signed)| signed);
        self.memories[host].steady = signed.is_none_or(|signed| wall.since(signed) <= LIMIT);
        match started {
            Ok(()) => self.note(format!("host {host} is started")),
            Err(why) => self.note(format!("host {host} does not start: {why}")),
        }
        self.look();
        self.proved(host)?;
        // A token that was revoked on this host stays revoked, whatever happened to its files.
        for number in self.memories[host].revoked.clone() {
            let (value, deployment) =
                (self.tokens[number].values.len() - 1, self.tokens[number].deployment.clone());
            self.ask(host, number, value, &deployment)?;
        }
        Ok(())
    }

    /// Replaces a host's disk with an empty one.
    pub fn lose_disk(&mut self, host: usize) {
        self.hosts[host].lose_disk();
        self.lose_uses(host);
        self.memories[host] = Memory::default();
        self.empty.insert(host);
        self.note(format!("host {host} loses its disk"));
    }

    pub fn lose_uses(&mut self, host: usize) {
        let node = self.hosts[host].node().to_owned();
        self.lose_uses_of(host, &node);
    }

    /// Records that the events of a host were lost. They may have reached the control plane as those of `node`.
    pub fn lose_uses_of(&mut self, host: usize, node: &str) {
        let uses = std::mem::take(&mut self.memories[host].uses);
        self.lost.entry(node.to_owned()).or_default().extend(uses);
    }

    /// Retires a host, or enrols it with a new identity on any data plane.
    fn retire_or_enrol(&mut self, host: usize) -> Result<(), String> {
        if self.random.random_bool(0.3) {
            let (plane, node) =
                (self.hosts[host].data_plane().to_owned(), self.hosts[host].node().to_owned());
            let retired = self.control.retire(&plane, &node);
            if self.done(&format!("host {host} is retired"), retired).is_some() {
                let at = self.control.now();
                self.estate.nodes.insert(node, (plane, Some(at)));
            }
            return self.record();
        }
        let Some(plane) = self.pick(self.estate.data_planes.clone()) else { return Ok(()) };
        self.enrol_anew(host, &plane)
    }

    /// Empties a host's state directory and enrols it, as an operator does.
    pub fn enrol_anew(&mut self, host: usize, plane: &str) -> Result<(), String> {
        let own = self.identity(plane);
        let Some(own) = self.done(&format!("host {host} is enrolled anew"), own) else { return Ok(()) };
        self.lose_disk(host);
        own.write(&self.hosts[host].directory);
        self.hosts[host].own = own;
        self.empty.remove(&host);
        self.record()?;
        self.start_host(host)
    }

    /// Adds a copy of a host's disk as another host, and runs both.
    fn clone_host(&mut self, host: usize) -> Result<(), String> {
        if self.hosts.len() >= MOST_HOSTS || self.empty.contains(&host) {
            return Ok(());
        }
        let running = self.hosts[host].running();
        self.hosts[host].crash();
        let (own, memory) = (self.hosts[host].own.clone(), self.memories[host].clone());
        self.forked.insert(own.identity.node_id.to_string());
        self.add_host(own, memory);
        let clone = self.hosts.len() - 1;
        files::copy(&self.hosts[host].directory, &self.hosts[clone].directory);
        self.note(format!("host {host} is cloned: host {clone}"));
        self.start_host(clone)?;
        if running { self.start_host(host) } else { Ok(()) }
    }

    fn back_up(&mut self) {
        if self.control.up() && self.backups.len() < 4 {
            let file = self.control.back_up(&format!("backup-{}", self.backups.len()));
            self.backups.push(Backup { file, estate: self.estate.clone() });
            self.note(format!("backup {}", self.backups.len() - 1));
        }
    }

    /// Restores the control plane from a backup, and sometimes runs `recover`, which an operator may forget.
    pub fn restore(&mut self) -> Result<(), String> {
        if self.backups.is_empty() {
            return Ok(());
        }
        let number = self.random.random_range(0..self.backups.len());
        self.hang_up();
        self.control.restore(&self.backups[number].file);
        self.estate = self.backups[number].estate.clone();
        self.restored = true;
        self.note(format!("the control plane is restored from backup {number}"));
        if self.random.random_bool(0.4) {
            self.recover()?;
        }
        self.record()
    }

    /// Runs `recover` above the highest version that any host knows.
    pub fn recover(&mut self) -> Result<(), String> {
        let above = self.memories.iter().map(|memory| memory.version).max().unwrap_or(0);
        let recovered = self.control.recover(above);
        if self.done(&format!("recover above version {above}"), recovered).is_some() {
            self.estate.recovered = self.estate.tokens.keys().copied().collect();
        }
        self.record()
    }

    fn offset(&mut self) -> i64 {
        let far = match self.random.random_range(0..6) {
            0 => 0,
            1..3 => self.random.random_range(1..900),
            3..5 => self.random.random_range(1..3 * DAY),
            _ => self.random.random_range(1..5 * 365 * DAY),
        };
        if self.random.random_bool(0.5) { far } else { -far }
    }

    fn jump(&mut self, host: usize) -> Result<(), String> {
        let offset = self.offset();
        if self.random.random_range(0..4) == 0 {
            self.set_control_clock(offset);
            self.note(format!("the clock of the control plane is off by {offset} s"));
            return Ok(());
        }
        self.set_clock(host, offset);
        self.note(format!("the clock of host {host} is off by {offset} s"));
        self.pass(1_000)
    }

    /// Sets all clocks to the same wrong time, as a faulty time server does, and sets them right after a while.
    fn jump_both(&mut self) -> Result<(), String> {
        let offset = self.offset();
        self.set_control_clock(offset);
        for host in 0..self.hosts.len() {
            self.set_clock(host, offset);
        }
        self.note(format!("every clock is off by {offset} s"));
        let span = self.random.random_range(1..90_000);
        self.pass(span)?;
        self.set_control_clock(0);
        for host in 0..self.hosts.len() {
            self.set_clock(host, 0);
        }
        self.note("every clock is right again");
        Ok(())
    }

    fn change_keys(&mut self) -> Result<(), String> {
        let now = self.true_time();
        match self.random.random_range(0..4) {
            0 => {
                let renewed = self.control.next_keyset(now, |_| {});
                self.done("the keyset is renewed", renewed);
            }
            1 => {
                let seconds = self.random.random_range(60..2 * DAY);
                let ends = self.control.next_keyset(now, |body| body.exp = now.plus(seconds));
                self.done(&format!("a keyset that ends in {seconds} s"), ends);
            }
            2 => {
                let rotated = self.control.rotate_keys(now, &mut self.random);
                self.done("the keys are rotated", rotated);
            }
            _ => self.drop_old_keys(now),
        }
        self.record()
    }

    /// Drops all keys but the newest. Values that the other keys signed are invalid from then on.
    fn drop_old_keys(&mut self, now: Time) {
        let before = self.control.key_ids();
        let dropped = self.control.drop_old_keys(now);
        if self.done("all keys but the newest are dropped", dropped).is_none() {
            return;
        }
        let keyset = self.control.keyset();
        for key in &before - &self.control.key_ids() {
            self.dropped.entry(key).or_insert(keyset);
        }
        for token in &mut self.tokens {
            for value in &mut token.values {
                if !self.control.signed_with_a_kept_key(&value.text) {
                    value.dropped.get_or_insert(keyset);
                }
            }
        }
    }

    /// Revokes a token on a host, as an operator does.
    pub fn revoke_on(&mut self, host: usize) {
        let Some(number) = self.living() else { return };
        let wall = self.wall(host);
        if self.tokens[number].data_plane == self.hosts[host].data_plane()
            && self.hosts[host].revoke(&self.tokens[number].id, self.now, wall)
        {
            let node = self.hosts[host].node().to_owned();
            if self.is_itself(host) {
                self.memories[host].prove_revocation(number, &node, wall);
            } else {
                // No other host can prove this revocation, because the key that signed it is another node's.
                self.memories[host].revoked.insert(number);
                self.memories[host].heard.insert((number, node), wall);
            }
            self.note(format!("token {number} is revoked on host {host}"));
        }
    }

    /// Sends a host a bundle that is forged, damaged or recorded.
    fn attack(&mut self, host: usize) {
        let Some(bundle) = self.pick(0..self.recorded.len()) else { return };
        let plane = self.hosts[host].data_plane().to_owned();
        let snapshot = if self.knows_a_token(host) { self.control.feed(&plane, 0, 0, None) } else { None };
        let (now, random) = (self.true_time(), &mut self.random);
        let bundle = &self.recorded[bundle];
        let (what, bundle) = attack::choose(bundle, snapshot.as_deref(), &self.control, &plane, now, random);
        self.note(format!("host {host} is sent {what}"));
        let forged = Message::Forged { host, bundle, inside: what == attack::ROLE_CHANGE };
        self.network.send(self.now, &forged, &mut self.random);
    }

    /// Shows a host another replica of a version than the other hosts get, without one of its tokens, as a holder of
    /// the signing keys can. The attacker cuts the host off, or keeps answering it from that replica.
    fn show_two_faces(&mut self, host: usize) -> Result<(), String> {
        let plane = self.hosts[host].data_plane().to_owned();
        let online = self.random.random_bool(0.5);
        self.network.lines[host].up = online;
        let hidden: Vec<usize> = self.estate.tokens.keys().copied().collect();
        let hidden = hidden.into_iter().filter(|number| self.tokens[*number].data_plane == plane);
        let Some(hidden) = self.pick(hidden.collect::<Vec<_>>()) else { return Ok(()) };
        let (Some(bundle), Some(version)) =
            (self.control.feed(&plane, 0, 0, None), self.control.version(&plane))
        else {
            return Ok(());
        };
        let id = self.tokens[hidden].id.clone();
        let without = |record: Record| (*record.key != *id).then_some(record);
        let versions = (self.control.keyset(), version + 1);
        let face = attack::signed_anew(
            &bundle,
            &self.control.replica_key(),
            &plane,
            versions,
            self.true_time(),
            without,
        );
        let mut replica = self.estate.replica(&plane, &self.tokens);
        replica.tokens.remove(&hidden);
        self.publish_to_one(attack::digest_of(&face), replica);
        let wall = self.wall(host);
        let taken = self.hosts[host].apply_bundle(&face, Origin::Feed, wall);
        self.note(format!("host {host} is shown version {} without token {hidden}: {taken}", versions.1));
        self.proved(host)?;
        if online && taken {
            self.faces.insert(host, face);
        }
        // The other hosts get a different replica of that version.
        self.create_token()?;
        if self.random.random_bool(0.5) {
            // The hosts find the split view in their own rounds.
            return self.pass(100_000);
        }
        self.pass(2_000)?;
        for other in 0..self.hosts.len() {
            if other != host && self.random.random_bool(0.5) {
                self.honest_round(host, other)?;
            }
        }
        Ok(())
    }

    /// Imports a bundle from the control plane or from another host, as an operator may.
    fn carry_in(&mut self, host: usize) -> Result<(), String> {
        let plane = self.hosts[host].data_plane().to_owned();
        let other = self.random.random_range(0..self.hosts.len());
        let (bundle, whence) = if self.random.random_bool(0.5) {
            (self.control.feed(&plane, 0, 0, None), "the control plane".to_owned())
        } else if self.hosts[other].data_plane() == plane {
            (self.hosts[other].export(), format!("host {other}"))
        } else {
            return Ok(());
        };
        let (Some(bundle), wall) = (bundle, self.wall(host)) else { return Ok(()) };
        let taken = self.hosts[host].apply_bundle(&bundle, Origin::File, wall);
        self.note(format!("a bundle from {whence} is imported on host {host}: {taken}"));
        self.proved(host)
    }

    /// Fills the disk of a host so that writes fail, or makes room on it again.
    fn fill_disk(&mut self, host: usize) {
        let directory = self.hosts[host].directory.clone();
        if self.empty.contains(&host) || files::make_room(&directory) {
            self.note(format!("there is room on the disk of host {host}"));
        } else {
            files::fill(&directory);
            self.note(format!("the disk of host {host} is full"));
        }
    }

    /// Stops everything for days, sometimes for longer than a keyset is valid.
    fn long_rest(&mut self) -> Result<(), String> {
        let days = if self.random.random_bool(0.3) { 370 } else { self.random.random_range(1..10) };
        self.control.kill();
        self.hang_up();
        self.hosts.iter_mut().for_each(crate::host::Host::crash);
        self.note(format!("everything is off for {days} days"));
        self.pass(days * 24 * HOUR)?;
        self.control.start();
        for host in 0..self.hosts.len() {
            self.start_host(host)?;
        }
        Ok(())
    }
}

/// Returns the generation that a token's value claims.
fn generation_of(value: &str) -> u32 {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(value.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    claims["gen"].as_u64().unwrap().try_into().unwrap()
}
