//! A story: what a seed makes happen to a control plane and its hosts, step by step, and what must hold after each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use halligan::dataplane::decide::staleness::Staleness;
use halligan::dataplane::decide::{Decision, Reason};
use halligan::dataplane::node::connection::State;
use halligan::dataplane::replica::store::Origin;
use halligan::protocol::glass::GlassMode;
use halligan::protocol::key::SigningKey;
use halligan::protocol::time::Time;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use crate::attack::{is_for_one_call, shown_again, tokens_of, version_of};
use crate::control::Control;
use crate::doors::Cookie;
use crate::host::{Answer, Call, Host, Own};
use crate::links::Exchange;
use crate::network::{Message, Millis, Network};
use crate::peers::Heard;
use crate::truth::{Estate, Memory, Replica, Request, Token, judge};

pub const T0: i64 = 1_800_000_000;
pub const HOSTS: usize = 3;
/// How many steps a story has.
pub const STEPS: u64 = 100;
/// How old a replica may be in a story: short enough that outages outlast it now and then.
pub const LIMIT: i64 = 2 * 86_400;
/// How long the control plane holds an answer back while nothing changes.
const LONG_POLL: Millis = 50_000;

/// A copy of the control plane's database, and what was true then.
pub struct Backup {
    pub file: PathBuf,
    pub estate: Estate,
}

/// A call the control plane has not answered yet.
struct HeldCall {
    call: u64,
    data_plane: String,
    since: u64,
    keyset: u64,
    nonce: Option<String>,
    /// When it is answered even if nothing changes.
    until: Millis,
}

/// Everything in a story.
pub struct Story {
    seed: u64,
    pub random: StdRng,
    pub now: Millis,
    /// When every host last looked at its clocks.
    looked: Time,
    /// The clock of the control plane, and how far it is from the true time, in seconds.
    clock: Arc<AtomicI64>,
    pub control_offset: i64,
    pub control: Control,
    pub network: Network,
    pub hosts: Vec<Host>,
    /// Nodes of which two hosts have the identity: their events may have the same ids.
    pub forked: BTreeSet<String>,
    /// Hosts whose disk is empty: they have to be enrolled.
    pub empty: BTreeSet<usize>,
    /// Uses, by node, whose events were on a disk that was lost: they may have arrived above, or not.
    pub lost: BTreeMap<String, BTreeSet<String>>,
    pub memories: Vec<Memory>,
    /// When each host got answers, by its clock; since it was started, and since its clock was last set.
    pub contacts: Vec<Vec<Time>>,
    /// Outages, by their ids, that began before these contacts.
    pub before: Vec<BTreeSet<String>>,
    pub tokens: Vec<Token>,
    pub cookies: Vec<Cookie>,
    /// The keys with which nodes were enrolled.
    keys: BTreeMap<String, [u8; 32]>,
    pub estate: Estate,
    /// What replicas were ever published, by their digests.
    published: HashMap<[u8; 32], Rc<Replica>>,
    pub backups: Vec<Backup>,
    /// Whether the control plane was ever restored.
    pub restored: bool,
    held: HashMap<usize, HeldCall>,
    /// Replicas that single hosts are shown, as long as the control plane has nothing newer.
    pub faces: BTreeMap<usize, Vec<u8>>,
    /// Rounds between two hosts that are under way.
    pub exchanges: BTreeMap<(usize, usize), Exchange>,
    /// Answers an attacker once saw pass by.
    pub recorded: Vec<Vec<u8>>,
    /// Those of them that were made for a call, with its data plane and its nonce.
    pub replayable: Vec<(String, String, Vec<u8>)>,
    /// Answers between hosts that an attacker once saw pass by.
    pub passed_by: Vec<Heard>,
    /// Tokens that the last lie was about.
    pub subjects: BTreeSet<usize>,
    /// Keys that were dropped, and the keyset that dropped each first.
    pub dropped: BTreeMap<String, u64>,
    /// Heads that a hostile peer made.
    pub forged: BTreeSet<String>,
    /// The first digest that each host held of each version since it was started.
    pub seen: Vec<BTreeMap<u64, [u8; 32]>>,
    /// Hosts whose next answer is made for another call.
    pub stale: BTreeSet<usize>,
    /// Counts what was ever named.
    pub names: usize,
    /// Whether faults are over, and every host must have found its way back.
    pub healed: bool,
    pub transcript: Vec<String>,
    pub directory: TempDir,
}

impl Story {
    pub fn new(seed: u64) -> Self {
        let directory = TempDir::with_prefix_in("halligan-story-", memory_backed()).unwrap();
        let clock = Arc::new(AtomicI64::new(T0));
        let control = Control::new(&directory.path().join("control"), &clock, seed);
        let mut story = Self {
            seed,
            random: StdRng::seed_from_u64(seed),
            now: 0,
            looked: Time::from_unix(T0),
            clock,
            control_offset: 0,
            control,
            network: Network::new(),
            hosts: Vec::new(),
            forked: BTreeSet::new(),
            empty: BTreeSet::new(),
            lost: BTreeMap::new(),
            memories: Vec::new(),
            contacts: Vec::new(),
            before: Vec::new(),
            tokens: Vec::new(),
            cookies: Vec::new(),
            keys: BTreeMap::new(),
            estate: Estate::default(),
            published: HashMap::new(),
            backups: Vec::new(),
            restored: false,
            held: HashMap::new(),
            faces: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            recorded: Vec::new(),
            replayable: Vec::new(),
            passed_by: Vec::new(),
            subjects: BTreeSet::new(),
            dropped: BTreeMap::new(),
            forged: BTreeSet::new(),
            seen: Vec::new(),
            stale: BTreeSet::new(),
            names: 0,
            healed: false,
            transcript: Vec::new(),
            directory,
        };
        story.found();
        story
    }

    /// What there is when a story begins: a data plane, a workspace, two deployments, and hosts.
    fn found(&mut self) {
        let data_plane = self.control.create_data_plane("eu").unwrap();
        let workspace = self.control.create_workspace("data").unwrap();
        self.estate.data_planes.push(data_plane.clone());
        self.estate.workspaces.insert(workspace.clone());
        for name in ["prod", "stage"] {
            let id =
                self.control.create_deployment(name, &workspace, &data_plane, GlassMode::Always).unwrap();
            self.estate.deployments.insert(id, (workspace.clone(), data_plane.clone()));
        }
        for _ in 0..HOSTS {
            let own = self.identity(&data_plane).unwrap();
            self.add_host(own, Memory::default());
            let host = self.hosts.len() - 1;
            self.hosts[host].start(0, Time::from_unix(T0)).unwrap();
        }
        self.record().unwrap();
    }

    /// A new key, enrolled on a data plane.
    pub fn identity(&mut self, data_plane: &str) -> Result<Own, String> {
        let name = self.name("host");
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&(self.names as u64).to_le_bytes());
        let key = SigningKey::from_seed(&seed);
        let identity = self.control.enrol(&name, &key, data_plane)?;
        self.keys.insert(identity.node_id.to_string(), key.public().to_bytes());
        self.estate.nodes.insert(identity.node_id.to_string(), (data_plane.to_owned(), None));
        Ok(Own { identity, key: Arc::new(key) })
    }

    /// Whether a host has the key with which its node was enrolled.
    pub fn is_itself(&self, host: usize) -> bool {
        self.keys.get(self.hosts[host].node()) == Some(&self.hosts[host].own.key.public().to_bytes())
    }

    /// Another host.
    pub fn add_host(&mut self, own: Own, memory: Memory) {
        let roles = [("DEPLOYMENT_ADMIN".to_owned(), LIMIT)].into();
        let staleness = Staleness { default: LIMIT, roles, ..Staleness::default() };
        let path = self.directory.path().join(format!("host-{}", self.hosts.len()));
        self.hosts.push(Host::new(&path, own, self.control.pinned(), staleness));
        self.memories.push(memory);
        self.contacts.push(Vec::new());
        self.before.push(BTreeSet::new());
        self.seen.push(BTreeMap::new());
        self.network.connect();
    }

    /// Plays the steps that are wanted, and the end.
    pub fn play(&mut self, steps: &[u64]) -> Result<(), String> {
        for &step in steps {
            // Each step has randomness of its own: a story without some of its steps is still much the same.
            self.random = StdRng::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step);
            self.step()?;
            for _ in 0..3 {
                self.request()?;
            }
        }
        self.random = StdRng::seed_from_u64(self.seed);
        self.heal()
    }

    pub fn note(&mut self, what: impl Into<String>) {
        // Every replay has a directory of its own.
        let directory = self.directory.path().to_string_lossy();
        let (now, what) = (self.now, what.into().replace(&*directory, ""));
        self.transcript.push(format!("{:>12.3}s {what}", now as f64 / 1000.0));
    }

    /// A name nothing had before.
    pub fn name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("{what}-{}", self.names)
    }

    pub fn true_time(&self) -> Time {
        Time::from_unix(T0 + i64::try_from(self.now / 1000).unwrap())
    }

    pub fn wall(&self, host: usize) -> Time {
        self.true_time().plus(self.hosts[host].offset)
    }

    pub fn pick<T: Clone>(&mut self, from: impl IntoIterator<Item = T>) -> Option<T> {
        let all: Vec<T> = from.into_iter().collect();
        (!all.is_empty()).then(|| all[self.random.random_range(0..all.len())].clone())
    }

    /// Lets `span` pass, with all that arrives and is due in it.
    pub fn pass(&mut self, span: Millis) -> Result<(), String> {
        let until = self.now + span;
        loop {
            let due = self.network.next().into_iter();
            let due = due.chain(self.hosts.iter().filter_map(Host::wakes));
            let due = due.chain(self.held.values().map(|held| held.until)).min();
            let Some(at) = due.filter(|&at| at <= until) else { break };
            self.set_time(at.max(self.now));
            self.events()?;
        }
        self.set_time(until);
        self.look();
        Ok(())
    }

    /// Lets hours pass, in which every host polls seldom.
    pub fn pass_slowly(&mut self, span: Millis) -> Result<(), String> {
        self.hosts.iter_mut().for_each(|host| host.slow = true);
        let passed = self.pass(span);
        let now = self.now;
        self.hosts.iter_mut().for_each(|host| host.hurry(now));
        self.held.values_mut().for_each(|held| held.until = held.until.min(now + LONG_POLL));
        passed
    }

    pub fn set_time(&mut self, now: Millis) {
        self.now = now;
        self.set_control_clock(self.control_offset);
    }

    pub fn set_control_clock(&mut self, offset: i64) {
        self.control_offset = offset;
        self.clock.store(self.true_time().unix() + offset, Ordering::Relaxed);
    }

    /// Every host looks at its clocks, as it does each second.
    pub fn look(&mut self) {
        let passed = self.true_time().since(self.looked);
        self.looked = self.true_time();
        for host in 0..self.hosts.len() {
            let wall = self.wall(host);
            if self.hosts[host].running() {
                self.hosts[host].look(self.now, wall);
                let (time, settled) = (self.true_time(), self.settled(host));
                self.memories[host].named(wall, time, settled);
                self.memories[host].looks(wall);
                self.memories[host].glass_stands(wall, passed);
                self.note_reach(host);
            }
        }
    }

    /// Takes note of whether a host reaches its control plane.
    fn note_reach(&mut self, host: usize) {
        if let Some(connectivity) = self.hosts[host].connectivity() {
            self.memories[host].reached.note(connectivity, self.now);
        }
    }

    /// Whether the clock of a host is right, and its control plane answers it.
    fn settled(&self, host: usize) -> bool {
        let host = &self.hosts[host];
        host.offset == 0 && host.state() == Some(State::Live)
    }

    pub fn set_clock(&mut self, host: usize, offset: i64) {
        self.look();
        self.memories[host].steady &= offset <= self.hosts[host].offset;
        self.hosts[host].offset = offset;
        self.memories[host].broken.values_mut().for_each(|broken| broken.sure = false);
        self.forget_contacts(host);
        self.look();
    }

    /// From now on contacts are dated by another clock, or known to another process.
    pub fn forget_contacts(&mut self, host: usize) {
        self.contacts[host].clear();
        let known = self.hosts[host].outages(self.wall(host));
        self.before[host].extend(known);
    }

    /// The control plane went down: nobody is answered any more.
    pub fn hang_up(&mut self) {
        self.held.clear();
    }

    fn events(&mut self) -> Result<(), String> {
        while let Some(message) = self.network.arrived(self.now) {
            match message {
                // Nobody is there: the host waits in vain.
                Message::Ask { .. } | Message::Tell { .. } if !self.control.up() => {}
                Message::Ask { host, call, bearer, since, keyset, nonce, hold } => {
                    let data_plane = self.hosts[host].data_plane().to_owned();
                    match self.control.admits(&bearer, &data_plane) {
                        Ok(node) => {
                            self.lives(&node)?;
                            let longest = if self.hosts[host].slow { 72 * LONG_POLL } else { LONG_POLL };
                            let until = if hold { self.now + longest } else { self.now };
                            let held = HeldCall { call, data_plane, since, keyset, nonce, until };
                            self.held.insert(host, held);
                        }
                        Err(why) => self.send(&Message::Answer { host, call, answer: Answer::Refused(why) }),
                    }
                }
                Message::Answer { host, call, answer } => {
                    let wall = self.wall(host);
                    if self.hosts[host].answered(call, &answer, self.now, wall) {
                        self.contacts[host].push(wall);
                        if matches!(answer, Answer::Stale(_)) && self.hosts[host].error().is_none() {
                            return Err(format!("host {host} takes an answer to another call for its own"));
                        }
                    }
                    self.proved(host)?;
                }
                Message::Tell { host, call, bearer, path, body } => {
                    let answer = self.tell(host, &bearer, &path, &body)?;
                    self.send(&Message::Told { host, call, answer });
                }
                Message::Told { host, call, answer } => {
                    let wall = self.wall(host);
                    let next = self.hosts[host].told(call, &answer, self.now, wall);
                    self.call(host, next);
                }
                Message::AskPeer { from, to, call, sent } => self.peer_is_asked(from, to, call, &sent)?,
                Message::PeerAnswer { from, to, call, given } => self.peer_answers(from, to, call, &given)?,
                Message::Forged { host, bundle, inside: true } if !self.knows_one_of(host, &bundle) => {}
                Message::Forged { host, bundle, inside } => {
                    let wall = self.wall(host);
                    if inside {
                        // What it takes away counts, though the rest of it is refused.
                        let revoked = self.estate.tokens.iter().filter(|(_, standing)| standing.revoked);
                        let revoked = revoked.map(|(number, _)| ((*number, String::new()), wall));
                        self.memories[host].heard.extend(revoked);
                    }
                    let before = self.hosts[host].serves();
                    if self.hosts[host].apply_bundle(&bundle, Origin::Feed, wall)
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
        for host in 0..self.hosts.len() {
            // Twice: it may both tell and ask.
            for _ in 0..2 {
                let wall = self.wall(host);
                let call = self.hosts[host].wake(self.now, wall);
                self.call(host, call);
            }
            self.ask_peers(host);
            self.note_reach(host);
        }
        Ok(())
    }

    pub fn send(&mut self, message: &Message) {
        self.network.send(self.now, message, &mut self.random);
    }

    fn call(&mut self, host: usize, call: Option<Call>) {
        match call {
            Some(Call::Ask { number: call, bearer, since, keyset, nonce, hold }) => {
                self.send(&Message::Ask { host, call, bearer, since, keyset, nonce, hold });
            }
            Some(Call::Tell { number: call, bearer, path, body }) => {
                self.send(&Message::Tell { host, call, bearer, path, body });
            }
            None => {}
        }
    }

    /// A node tells what the control plane does not know.
    fn tell(&mut self, host: usize, bearer: &str, path: &str, body: &[u8]) -> Result<Answer, String> {
        let data_plane = self.hosts[host].data_plane().to_owned();
        let taken = self
            .control
            .admits(bearer, &data_plane)
            .and_then(|node| Ok((node.clone(), self.control.told(&data_plane, &node, path, body)?)));
        let (node, taken) = match taken {
            Ok(taken) => taken,
            Err(why) => return Ok(Answer::Refused(why)),
        };
        self.lives(&node)?;
        for (number, standing) in &mut self.estate.tokens {
            standing.revoked |= taken.revoked.contains(&self.tokens[*number].id);
        }
        self.record()?;
        if let Some(outage) = taken.outage
            && let Some(stated) = outage.last_contact_at
        {
            // An outage's window begins when the last answer arrived: what is used after it may come too late.
            let before = self.contacts[host].iter().rev().find(|contact| **contact <= outage.began_at);
            if let Some(&last) = before
                && !self.before[host].contains(&outage.id)
                && outage.began_at <= self.wall(host)
                && stated > last.plus(1)
            {
                return Err(format!(
                    "host {host} states {stated} as its last contact before an outage, and the last answer came at {last}"
                ));
            }
        }
        Ok(Answer::Body(taken.answer))
    }

    /// A node that was retired is answered nothing.
    fn lives(&self, node: &str) -> Result<(), String> {
        match self.estate.nodes.get(node) {
            Some((_, None)) => Ok(()),
            known => Err(format!("the control plane answers node {node}, which it knows as {known:?}")),
        }
    }

    /// Takes note of a replica that one host alone is shown.
    pub fn publish_to_one(&mut self, digest: [u8; 32], replica: Replica) {
        self.published.entry(digest).or_insert_with(|| Rc::new(replica));
    }

    /// Takes note of what is published now.
    pub fn record(&mut self) -> Result<(), String> {
        for (data_plane, (version, digest)) in self.control.replicas() {
            let replica = self.estate.replica(&data_plane, &self.tokens);
            if let Some(known) = self.published.get(&digest) {
                if **known != replica {
                    return Err(format!(
                        "version {version} of {data_plane} has a digest that stood for other records: {known:?}, now {replica:?}"
                    ));
                }
                continue;
            }
            self.published.insert(digest, Rc::new(replica));
        }
        Ok(())
    }

    fn answer_held(&mut self) {
        if !self.control.up() {
            self.held.clear();
            return;
        }
        for host in 0..self.hosts.len() {
            let Some(held) = self.held.get(&host) else { continue };
            let version = self.control.version(&held.data_plane).unwrap_or(0);
            let news = held.since != version || self.control.keyset() > held.keyset;
            if !news && self.now < held.until {
                continue;
            }
            let bundle = match (self.faces.get(&host), &held.nonce) {
                (Some(face), Some(nonce)) if held.since == version && version_of(face) == version => {
                    Some(shown_again(face, &self.control.replica_key(), nonce, self.control.now()))
                }
                _ => self.control.feed(&held.data_plane, held.since, held.keyset, held.nonce.as_deref()),
            };
            let Some(HeldCall { call, data_plane, since, keyset, nonce, .. }) = self.held.remove(&host)
            else {
                continue;
            };
            let Some(bundle) = bundle else { continue };
            if self.random.random_range(0..4) == 0 && self.recorded.len() < 50 {
                self.recorded.push(bundle.clone());
                if let Some(nonce) = &nonce {
                    self.replayable.push((data_plane.clone(), nonce.clone(), bundle.clone()));
                }
            }
            if let Some(nonce) = nonce
                && self.stale.remove(&host)
            {
                let another =
                    self.stale_answer(host, &data_plane, (since, keyset), &nonce).unwrap_or_default();
                let for_one = is_for_one_call(&another);
                let answer = if for_one { Answer::Stale(another) } else { Answer::Body(another) };
                self.send(&Message::Answer { host, call, answer });
                continue;
            }
            self.send(&Message::Answer { host, call, answer: Answer::Body(bundle) });
        }
    }

    /// A rightly signed answer to another call: an old one, or that to another host's.
    fn stale_answer(
        &mut self,
        host: usize,
        data_plane: &str,
        (since, keyset): (u64, u64),
        nonce: &str,
    ) -> Option<Vec<u8>> {
        let old = self.replayable.iter().filter(|(plane, of, _)| plane == data_plane && of != nonce);
        let old = old.map(|(_, _, bundle)| bundle.clone()).collect::<Vec<_>>();
        let old = if self.random.random_bool(0.5) { self.pick(old) } else { None };
        self.note(format!(
            "host {host} is given {}",
            if old.is_some() { "an old answer" } else { "another's answer" }
        ));
        let another: String = nonce.chars().rev().collect();
        old.or_else(|| self.control.feed(data_plane, since, keyset, Some(&another)))
    }

    /// Time and version only go forward, on one disk; and a host serves nothing that was never published.
    pub fn proved(&mut self, host: usize) -> Result<(), String> {
        let (wall, time, settled) = (self.wall(host), self.true_time(), self.settled(host));
        let memory = &mut self.memories[host];
        let Some((version, digest, signed)) = self.hosts[host].serves() else {
            memory.held = None;
            return Ok(());
        };
        // A head whose key was dropped is none: with the keyset that dropped it, any version may follow.
        let dropped = memory.head_key.as_ref().and_then(|key| self.dropped.get(key));
        let void = dropped.is_some_and(|keyset| *keyset <= self.hosts[host].keyset());
        if version < memory.version && !void {
            let known = memory.version;
            return Err(format!("host {host} went back from version {known} to {version}"));
        }
        let Some(replica) = self.published.get(&digest) else {
            return Err(format!("host {host} serves version {version}, which was never published so"));
        };
        (memory.version, memory.head_key) = (version, self.hosts[host].head_key());
        self.seen[host].entry(version).or_insert(digest);
        memory.named(signed.max(wall), time, settled);
        memory.proves_time(signed, wall);
        memory.prove(replica);
        Ok(())
    }

    /// A role change is one only to a host that knows the token. To another it is what whoever holds the signing keys may
    /// say, and there is no defence against that.
    pub fn knows_a_token(&self, host: usize) -> bool {
        !self.memories[host].proved.is_empty()
            && self.memories[host].held.as_ref().is_some_and(|held| !held.tokens.is_empty())
    }

    /// Returns true if a host knows one of the tokens in a bundle.
    fn knows_one_of(&self, host: usize, bundle: &[u8]) -> bool {
        let told = tokens_of(bundle);
        self.knows_a_token(host)
            && self.memories[host].proved.keys().any(|number| told.contains(&self.tokens[*number].id))
    }

    /// Somebody asks; the oracle judges the answer.
    fn request(&mut self) -> Result<(), String> {
        if self.tokens.is_empty() {
            return Ok(());
        }
        let (host, number) =
            (self.random.random_range(0..self.hosts.len()), self.random.random_range(0..self.tokens.len()));
        let value = self.random.random_range(0..self.tokens[number].values.len());
        let own = self.tokens[number].deployment.clone();
        let deployment = if self.random.random_range(0..10) == 0 {
            self.pick(self.estate.deployments.keys().cloned().collect::<Vec<_>>()).unwrap_or(own)
        } else {
            own
        };
        self.ask(host, number, value, &deployment).map(drop)
    }

    /// A request with a token's value, as the oracle sees it.
    pub fn request_of<'r>(
        &'r self,
        host: usize,
        number: usize,
        value: usize,
        deployment: &'r str,
    ) -> Request<'r> {
        let (token, wall) = (&self.tokens[number], self.wall(host));
        Request {
            number,
            token,
            value: &token.values[value],
            deployment,
            outage: self.memories[host].reached.judged(self.now),
            wall,
            time: self.true_time(),
            keyset: self.hosts[host].keyset(),
            age: self.hosts[host].serves().map(|(_, _, signed)| wall.since(signed)),
            limit: LIMIT,
            above: self.estate.tokens.get(&number).copied(),
            healed: self.healed,
        }
    }

    pub fn ask(
        &mut self,
        host: usize,
        number: usize,
        value: usize,
        deployment: &str,
    ) -> Result<Option<Decision>, String> {
        let (token, wall) = (&self.tokens[number], self.wall(host));
        let text = &token.values[value].text;
        let Some((decision, event)) = self.hosts[host].ask(text, deployment, self.now, wall) else {
            return Ok(None);
        };
        if decision.allowed() {
            self.memories[host].uses.insert(event);
        }
        let outage = self.memories[host].reached.judged(self.now);
        let mut memory = std::mem::take(&mut self.memories[host]);
        let request = Request { outage, ..self.request_of(host, number, value, deployment) };
        let judged = judge(&request, &mut memory, decision.reason());
        self.memories[host] = memory;
        let token = &self.tokens[number];
        let generation = token.values[value].generation;
        let code = decision.reason().code();
        let token_of = format!("token {number}, generation {generation}");
        self.note(format!("host {host}: {token_of}: {code}"));
        judged.map_err(|wrong| {
            let version = self.memories[host].version;
            format!("host {host} at version {version}, {token_of}: {wrong}")
        })?;
        let doubts = [Reason::ClockUntrusted, Reason::ReplicaMissing, Reason::ReplicaStale];
        if self.healed && doubts.contains(&decision.reason()) {
            return Err(format!("host {host} still answers {code}, and all is well"));
        }
        Ok(Some(decision))
    }
}

/// A story writes a lot and keeps nothing.
fn memory_backed() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}
