//! A story: what a seed makes happen to a control plane and its hosts, step by step, and what must hold after each.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use halligan::dataplane::staleness::Staleness;
use halligan::dataplane::store::Origin;
use halligan::dataplane::sync::state::State;
use halligan::protocol::key::SigningKey;
use halligan::protocol::time::Time;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use crate::attack;
use crate::control::Control;
use crate::host::{Call, Host};
use crate::network::{Line, Message, Millis, Network};
use crate::truth::{Memory, Request, Token, judge};

const T0: i64 = 1_800_000_000;
const HOSTS: usize = 3;
const STEPS: usize = 120;
/// How old a replica may be in a story: short enough that outages outlast it now and then.
const LIMIT: i64 = 2 * 86_400;
/// How long the control plane holds an answer back while nothing changes.
const LONG_POLL: Millis = 600_000;

/// Everything in a story.
pub struct Story {
    random: StdRng,
    now: Millis,
    clock: Arc<AtomicI64>,
    control: Control,
    network: Network,
    hosts: Vec<Host>,
    nodes: Vec<String>,
    /// Uses whose events were on a disk that was lost: they may have arrived above, or not.
    lost: Vec<BTreeSet<String>>,
    memories: Vec<Memory>,
    tokens: Vec<Token>,
    /// Calls the control plane has not answered yet, and when it will even if nothing changes.
    held: HashMap<usize, (u64, u64, u64, Millis)>,
    /// Answers an attacker once saw pass by.
    recorded: Vec<Vec<u8>>,
    pub transcript: Vec<String>,
    _directory: TempDir,
}

impl Story {
    pub fn new(seed: u64) -> Self {
        let directory = TempDir::with_prefix_in("halligan-story-", memory_backed()).unwrap();
        let clock = Arc::new(AtomicI64::new(T0));
        let control = Control::new(&directory.path().join("control"), &clock, seed);
        let roles = [("DEPLOYMENT_ADMIN".to_owned(), LIMIT)].into();
        let staleness = Staleness { default: LIMIT, roles, ..Staleness::default() };
        let (mut hosts, mut nodes) = (Vec::new(), Vec::new());
        for number in 0..HOSTS {
            let name = format!("host-{number}");
            let key = SigningKey::from_seed(&[u8::try_from(number).unwrap() + 1; 32]);
            let identity = control.enrol(&name, &key);
            nodes.push(identity.node_id.to_string());
            let path = directory.path().join(&name);
            let mut host = Host::new(&path, identity, key, control.pinned(), staleness.clone());
            host.start(0, Time::from_unix(T0));
            hosts.push(host);
        }
        Self {
            random: StdRng::seed_from_u64(seed),
            now: 0,
            clock,
            control,
            network: Network::new(HOSTS),
            hosts,
            nodes,
            lost: vec![BTreeSet::new(); HOSTS],
            memories: vec![Memory::default(); HOSTS],
            tokens: Vec::new(),
            held: HashMap::new(),
            recorded: Vec::new(),
            transcript: Vec::new(),
            _directory: directory,
        }
    }

    /// Plays the story to its end.
    pub fn play(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.step()?;
        }
        self.heal()
    }

    fn note(&mut self, what: impl Into<String>) {
        let (now, what) = (self.now, what.into());
        self.transcript.push(format!("{:>12.3}s {what}", now as f64 / 1000.0));
    }

    fn true_time(&self) -> Time {
        Time::from_unix(T0 + i64::try_from(self.now / 1000).unwrap())
    }

    fn wall(&self, host: usize) -> Time {
        self.true_time().plus(self.hosts[host].offset)
    }

    /// Lets `span` pass, with all that arrives and is due in it.
    fn pass(&mut self, span: Millis) -> Result<(), String> {
        let until = self.now + span;
        loop {
            let due = self.network.next().into_iter();
            let due = due.chain(self.hosts.iter().filter_map(Host::wakes));
            let due = due.chain(self.held.values().map(|held| held.3)).min();
            let Some(at) = due.filter(|&at| at <= until) else { break };
            self.set_time(at.max(self.now));
            self.events()?;
        }
        self.set_time(until);
        Ok(())
    }

    fn set_time(&mut self, now: Millis) {
        self.now = now;
        self.clock.store(self.true_time().unix(), Ordering::Relaxed);
    }

    fn events(&mut self) -> Result<(), String> {
        while let Some(message) = self.network.arrived(self.now) {
            match message {
                Message::Ask { host, call, since, keyset, hold } if self.control.up() => {
                    let until = if hold { self.now + LONG_POLL } else { self.now };
                    self.held.insert(host, (call, since, keyset, until));
                }
                // Nobody is there: the host waits in vain.
                Message::Ask { .. } => {}
                Message::Answer { host, call, bundle } => {
                    let wall = self.wall(host);
                    self.hosts[host].answered(call, &bundle, self.now, wall);
                    self.proved(host)?;
                }
                Message::Tell { host, call, path, body } => {
                    let Some((answer, revoked)) = self.control.told(&self.nodes[host], &path, &body) else {
                        continue;
                    };
                    for token in &mut self.tokens {
                        if revoked.contains(&token.id) && token.revoked.is_none() {
                            token.revoked = self.control.version();
                        }
                    }
                    self.network.send(self.now, &Message::Told { host, call, answer }, &mut self.random);
                }
                Message::Told { host, call, answer } => {
                    let wall = self.wall(host);
                    let next = self.hosts[host].told(call, &answer, self.now, wall);
                    self.call(host, next);
                }
                Message::Forged { host, inside, .. } if inside && !self.knows_a_token(host) => {}
                Message::Forged { host, bundle, .. } => {
                    let wall = self.wall(host);
                    let before = self.hosts[host].serves();
                    if self.hosts[host].take(&bundle, Origin::Feed, wall)
                        && self.hosts[host].serves() != before
                    {
                        // A recorded answer is no forgery: it may be newer than what the host holds.
                        self.note(format!("host {host} took a recorded answer"));
                    }
                    self.proved(host)?;
                }
            }
        }
        self.answer_held();
        for host in 0..HOSTS {
            // Twice: it may both tell and ask.
            for _ in 0..2 {
                let wall = self.wall(host);
                let call = self.hosts[host].wake(self.now, wall);
                self.call(host, call);
            }
        }
        Ok(())
    }

    fn call(&mut self, host: usize, call: Option<Call>) {
        let message = match call {
            Some(Call::Ask { number: call, since, keyset, hold }) => {
                Message::Ask { host, call, since, keyset, hold }
            }
            Some(Call::Tell { number: call, path, body }) => Message::Tell { host, call, path, body },
            None => return,
        };
        self.network.send(self.now, &message, &mut self.random);
    }

    fn answer_held(&mut self) {
        let Some(version) = self.control.version() else {
            self.held.clear();
            return;
        };
        for host in 0..HOSTS {
            let Some(&(call, since, keyset, until)) = self.held.get(&host) else { continue };
            if since == version && self.now < until {
                continue;
            }
            self.held.remove(&host);
            let Some(bundle) = self.control.feed(since, keyset) else { continue };
            if self.random.random_range(0..4) == 0 {
                self.recorded.push(bundle.clone());
            }
            self.network.send(self.now, &Message::Answer { host, call, bundle }, &mut self.random);
        }
    }

    /// Time and version only go forward, on one disk.
    fn proved(&mut self, host: usize) -> Result<(), String> {
        let Some((version, _)) = self.hosts[host].serves() else { return Ok(()) };
        let known = &mut self.memories[host].version;
        if version < *known {
            return Err(format!("host {host} went back from version {known} to {version}"));
        }
        *known = version;
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        let host = self.random.random_range(0..HOSTS);
        match self.random.random_range(0..100) {
            0..8 => self.create(),
            8..12 => self.rotate(),
            12..17 => self.revoke(),
            17..22 => {
                let up = !self.network.lines[host].up;
                self.network.lines[host].up = up;
                self.note(format!("line of host {host} {}", if up { "up" } else { "down" }));
            }
            22..26 => {
                let line = Line {
                    up: true,
                    loss: self.random.random_range(0..60),
                    twice: self.random.random_range(0..30),
                    delay: self.random.random_range(1..5_000),
                };
                self.network.lines[host] = line;
                self.note(format!("line of host {host} is {line:?}"));
            }
            26..30 if self.control.up() => {
                self.control.kill();
                self.held.clear();
                self.note("the control plane is killed");
            }
            26..34 => {
                self.control.start();
                self.note("the control plane is there");
            }
            34..40 => {
                self.hosts[host].crash();
                self.note(format!("host {host} crashes"));
            }
            40..50 => {
                let wall = self.wall(host);
                self.hosts[host].start(self.now, wall);
                self.proved(host)?;
                self.note(format!("host {host} is started"));
            }
            50 => {
                self.hosts[host].lose_disk();
                let uses = std::mem::take(&mut self.memories[host].uses);
                self.lost[host].extend(uses);
                self.memories[host] = Memory { ran_ahead: self.hosts[host].offset > 0, ..Memory::default() };
                self.note(format!("host {host} loses its disk"));
            }
            51..54 => self.jump(host),
            54..56 => self.revoke_on(host),
            56..60 => self.attack(host),
            60..80 => {
                let span = self.random.random_range(1..120_000);
                self.pass(span)?;
            }
            80..82 => {
                // A clock that is wrong for hours has its host refuse a feed every few seconds: true, and slow to play.
                for host in 0..HOSTS {
                    self.set_clock(host, 0);
                }
                let span = self.random.random_range(3_600_000..20 * 3_600_000);
                self.note(format!("{} hours pass", span / 3_600_000));
                self.pass(span)?;
            }
            _ => {
                let span = self.random.random_range(1..2_000);
                self.pass(span)?;
            }
        }
        for _ in 0..3 {
            self.request()?;
        }
        Ok(())
    }

    fn create(&mut self) {
        let (deployment, days) = (self.random.random_range(0..2), self.random.random_range(1..4));
        let name = format!("token {}", self.tokens.len());
        let Some((id, value, expires_at)) = self.control.create_token(&name, deployment, days) else {
            return;
        };
        let versions = vec![self.control.version().unwrap_or(0)];
        self.tokens.push(Token { id, deployment, values: vec![value], versions, revoked: None, expires_at });
        self.note(format!("{name} is created for deployment {deployment}"));
    }

    fn living(&mut self) -> Option<usize> {
        let living: Vec<usize> =
            (0..self.tokens.len()).filter(|&number| self.tokens[number].revoked.is_none()).collect();
        if living.is_empty() { None } else { Some(living[self.random.random_range(0..living.len())]) }
    }

    fn rotate(&mut self) {
        let Some(number) = self.living() else { return };
        let Some(value) = self.control.rotate_token(&self.tokens[number].id) else { return };
        self.tokens[number].values.push(value);
        self.tokens[number].versions.push(self.control.version().unwrap_or(0));
        self.note(format!("token {number} is rotated"));
    }

    fn revoke(&mut self) {
        let Some(number) = self.living() else { return };
        if self.control.delete_token(&self.tokens[number].id).is_some() {
            self.tokens[number].revoked = self.control.version();
            self.note(format!("token {number} is revoked above"));
        }
    }

    /// An operator revokes a token on a host.
    fn revoke_on(&mut self, host: usize) {
        let Some(number) = self.living() else { return };
        let (id, wall) = (self.tokens[number].id.clone(), self.wall(host));
        if self.hosts[host].revoke(&id, self.now, wall) {
            self.memories[host].revoked.insert(id);
            self.note(format!("token {number} is revoked on host {host}"));
        }
    }

    fn jump(&mut self, host: usize) {
        let offset = match self.random.random_range(0..3) {
            0 => 0,
            1 => self.random.random_range(1..3 * 86_400),
            _ => -self.random.random_range(1..3 * 86_400),
        };
        self.set_clock(host, offset);
        self.memories[host].ran_ahead |= offset > 0;
        self.note(format!("the clock of host {host} is off by {offset} s"));
    }

    fn set_clock(&mut self, host: usize, offset: i64) {
        let wall = self.wall(host);
        self.hosts[host].look(self.now, wall);
        self.hosts[host].offset = offset;
    }

    /// Puts something in a host's way that nobody who may has sent, or sent at another time.
    fn attack(&mut self, host: usize) {
        let recorded = self.recorded.len();
        if recorded == 0 {
            return;
        }
        let bundle = &self.recorded[self.random.random_range(0..recorded)];
        let snapshot = if self.knows_a_token(host) { self.control.feed(0, 0) } else { None };
        let (now, random) = (self.true_time(), &mut self.random);
        let (what, bundle) = attack::choose(bundle, snapshot.as_deref(), &self.control, now, random);
        self.note(format!("host {host} is sent {what}"));
        let forged = Message::Forged { host, bundle, inside: what == attack::ROLE_CHANGE };
        self.network.send(self.now, &forged, &mut self.random);
    }

    /// A role change is one only to a host that knows the token. To another it is what whoever holds the signing keys may
    /// say, and there is no defence against that.
    fn knows_a_token(&self, host: usize) -> bool {
        self.tokens.iter().any(|token| token.versions[0] <= self.memories[host].version)
    }

    /// Somebody asks; the oracle judges the answer.
    fn request(&mut self) -> Result<(), String> {
        if self.tokens.is_empty() {
            return Ok(());
        }
        let (host, number) =
            (self.random.random_range(0..HOSTS), self.random.random_range(0..self.tokens.len()));
        let generation = self.random.random_range(0..self.tokens[number].values.len());
        let deployment = if self.random.random_range(0..10) == 0 {
            1 - self.tokens[number].deployment
        } else {
            self.tokens[number].deployment
        };
        self.ask(host, number, generation, deployment)
    }

    fn ask(
        &mut self,
        host: usize,
        number: usize,
        generation: usize,
        deployment: usize,
    ) -> Result<(), String> {
        let (token, wall) = (&self.tokens[number], self.wall(host));
        let value = &token.values[generation];
        let asked = &self.control.deployments[deployment];
        let Some((decision, event)) = self.hosts[host].ask(value, asked, self.now, wall) else {
            return Ok(());
        };
        if decision.allowed() {
            self.memories[host].uses.insert(event);
        }
        let age = self.hosts[host].serves().map(|(_, signed)| wall.since(signed));
        let offset = self.hosts[host].offset;
        let time = self.true_time();
        let request = Request { token, generation, deployment, wall, time, offset, age, limit: LIMIT };
        let judged = judge(&request, &mut self.memories[host], &decision);
        let line =
            format!("host {host}: token {number}.{generation} on {deployment}: {}", decision.reason.code());
        self.note(line);
        judged.map_err(|wrong| {
            format!(
                "host {host} at {}, token {number}.{generation} of {:?}: {wrong}",
                self.memories[host].version, self.tokens[number].versions
            )
        })
    }

    /// All is well again: every host must come to know all there is to know, by itself.
    fn heal(&mut self) -> Result<(), String> {
        self.note("all is well again");
        self.control.start();
        for host in 0..HOSTS {
            self.network.lines[host] = Line::GOOD;
            self.hosts[host].offset = 0;
            let wall = self.wall(host);
            self.hosts[host].start(self.now, wall);
        }
        self.pass(40 * 60_000)?;
        let version = self.control.version();
        for host in 0..HOSTS {
            if self.memories[host].ran_ahead {
                continue;
            }
            let serves = self.hosts[host].serves().map(|(version, _)| version);
            if serves != version {
                return Err(format!(
                    "host {host} serves version {serves:?}, the control plane has {version:?}"
                ));
            }
            let state = self.hosts[host].state();
            if state != Some(State::Live) {
                return Err(format!("host {host} calls itself {state:?}, and all is well"));
            }
        }
        // Whatever was revoked, and wherever: by now every host knows it.
        let revoked: BTreeSet<String> =
            self.memories.iter().flat_map(|memory| memory.revoked.iter().cloned()).collect();
        for memory in &mut self.memories {
            memory.revoked.extend(revoked.iter().cloned());
        }
        for number in 0..self.tokens.len() {
            for generation in 0..self.tokens[number].values.len() {
                for host in 0..HOSTS {
                    self.ask(host, number, generation, self.tokens[number].deployment)?;
                }
            }
        }
        self.pass(60_000)?;
        (0..HOSTS).try_for_each(|host| self.every_use_is_known_above(host))
    }

    /// Each use that was let pass has reached the control plane, exactly once.
    fn every_use_is_known_above(&self, host: usize) -> Result<(), String> {
        let above = self.control.uses(&self.nodes[host]);
        let once: BTreeSet<String> = above.iter().cloned().collect();
        if once.len() != above.len() {
            return Err(format!("host {host}: {} uses stand above more than once", above.len() - once.len()));
        }
        let memory = &self.memories[host].uses;
        if let Some(missing) = memory.iter().find(|event| !once.contains(*event)) {
            return Err(format!("host {host}: the use {missing} is not known above"));
        }
        match once.iter().find(|event| !memory.contains(*event) && !self.lost[host].contains(*event)) {
            Some(invented) => Err(format!("host {host}: the use {invented} never happened")),
            None => Ok(()),
        }
    }
}

/// A story writes a lot and keeps nothing.
fn memory_backed() -> std::path::PathBuf {
    let shared = std::path::PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}
