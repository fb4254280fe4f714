//! A story: a sequence of steps that a seed draws for a control plane and its hosts. The oracle checks its promises
//! after each step.

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
/// Number of steps in a story.
pub const STEPS: u64 = 100;
/// Maximum age of a replica, in seconds. It is short, so that some outages in a story last longer.
pub const LIMIT: i64 = 2 * 86_400;
/// Time for which the control plane holds an answer back while nothing changes.
const LONG_POLL: Millis = 50_000;

/// Copy of the control plane's database, with the oracle's state at that time.
pub struct Backup {
    pub file: PathBuf,
    pub estate: Estate,
}

/// Call that the control plane has not answered yet.
struct HeldCall {
    call: u64,
    data_plane: String,
    since: u64,
    keyset: u64,
    nonce: Option<String>,
    /// Time at which the control plane answers even if nothing has changed.
    until: Millis,
}

/// State of a story: the control plane, the hosts, the network between them, and what the oracle knows.
pub struct Story {
    seed: u64,
    pub random: StdRng,
    pub now: Millis,
    /// Time at which all hosts last read their clocks.
    looked: Time,
    /// Clock of the control plane, and its difference from the true time, in seconds.
    clock: Arc<AtomicI64>,
    pub control_offset: i64,
    pub control: Control,
    pub network: Network,
    pub hosts: Vec<Host>,
    /// Nodes whose identity two hosts have. The events of both hosts may have the same ids.
    pub forked: BTreeSet<String>,
    /// Hosts with an empty disk, which must be enrolled before they start.
    pub empty: BTreeSet<usize>,
    /// Events of allowed requests that were on a lost disk, by node. They may or may not have reached the control
    /// plane.
    pub lost: BTreeMap<String, BTreeSet<String>>,
    pub memories: Vec<Memory>,
    /// Times of the answers that each host received, by its clock, since it was started and since its clock was last
    /// set.
    pub contacts: Vec<Vec<Time>>,
    /// Ids of the outages that began before these answers.
    pub before: Vec<BTreeSet<String>>,
    pub tokens: Vec<Token>,
    pub cookies: Vec<Cookie>,
    /// Public keys with which nodes were enrolled, by node.
    keys: BTreeMap<String, [u8; 32]>,
    pub estate: Estate,
    /// Every replica that was ever published, by its digest.
    published: HashMap<[u8; 32], Rc<Replica>>,
    pub backups: Vec<Backup>,
    /// True if the control plane was ever restored from a backup.
    pub restored: bool,
    held: HashMap<usize, HeldCall>,
    /// Bundles that single hosts are shown as long as the control plane has no newer version.
    pub faces: BTreeMap<usize, Vec<u8>>,
    /// Rounds between two hosts that are under way.
    pub exchanges: BTreeMap<(usize, usize), Exchange>,
    /// Answers of the control plane that an attacker recorded.
    pub recorded: Vec<Vec<u8>>,
    /// Recorded answers that were signed for one call, with the data plane and the nonce of the call.
    pub replayable: Vec<(String, String, Vec<u8>)>,
    /// Answers between hosts that an attacker recorded.
    pub passed_by: Vec<Heard>,
    /// Tokens that the last lie named.
    pub subjects: BTreeSet<usize>,
    /// Ids of dropped keys, with the version of the first keyset without each.
    pub dropped: BTreeMap<String, u64>,
    /// Heads that a hostile peer forged.
    pub forged: BTreeSet<String>,
    /// First digest of each version that each host has held since it was started.
    pub seen: Vec<BTreeMap<u64, [u8; 32]>>,
    /// Hosts whose next answer is one that was signed for another call.
    pub stale: BTreeSet<usize>,
    /// Number of names handed out so far.
    pub names: usize,
    /// True if faults have ended and every host had time to recover.
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

    /// Creates the initial state of a story: a data plane, a workspace, two deployments and the hosts.
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

    /// Enrols a new key as a node of a data plane.
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

    /// Returns true if a host has the key with which its node was enrolled.
    pub fn is_itself(&self, host: usize) -> bool {
        self.keys.get(self.hosts[host].node()) == Some(&self.hosts[host].own.key.public().to_bytes())
    }

    /// Adds a host, which does not run yet.
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

    /// Plays the given steps, then ends all faults and checks that the hosts recover.
    pub fn play(&mut self, steps: &[u64]) -> Result<(), String> {
        for &step in steps {
            // Each step is seeded on its own, so that leaving out some steps changes the others as little as possible.
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
        // The directory differs from replay to replay, so the transcript must not contain it.
        let directory = self.directory.path().to_string_lossy();
        let (now, what) = (self.now, what.into().replace(&*directory, ""));
        self.transcript.push(format!("{:>12.3}s {what}", now as f64 / 1000.0));
    }

    /// Returns a name that was not used before.
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

    /// Advances the time by `span`, and handles every message and timer that is due in it.
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

    /// Advances the time by hours, in which every host polls seldom, so that the story stays short to play.
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

    /// Has every running host read its clocks, as the daemon does each second.
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

    /// Tells the oracle the connectivity of a host.
    fn note_reach(&mut self, host: usize) {
        if let Some(connectivity) = self.hosts[host].connectivity() {
            self.memories[host].reached.note(connectivity, self.now);
        }
    }

    /// Returns true if the clock of a host is right and its control plane answers it.
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

    /// Forgets the times of answers after the clock or the process of a host changed: outages that began before are not
    /// checked against them.
    pub fn forget_contacts(&mut self, host: usize) {
        self.contacts[host].clear();
        let known = self.hosts[host].outages(self.wall(host));
        self.before[host].extend(known);
    }

    /// Drops all held calls, because the control plane went down.
    pub fn hang_up(&mut self) {
        self.held.clear();
    }

    fn events(&mut self) -> Result<(), String> {
        while let Some(message) = self.network.arrived(self.now) {
            match message {
                // The message is lost, because no control plane runs. The host waits until its call times out.
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
                            return Err(format!("host {host} accepts an answer to another call as its own"));
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
                        // The host applies the revocations in the bundle although it refuses the rest.
                        let revoked = self.estate.tokens.iter().filter(|(_, standing)| standing.revoked);
                        let revoked = revoked.map(|(number, _)| ((*number, String::new()), wall));
                        self.memories[host].heard.extend(revoked);
                    }
                    let before = self.hosts[host].serves();
                    if self.hosts[host].apply_bundle(&bundle, Origin::Feed, wall)
                        && self.hosts[host].serves() != before
                    {
                        // A recorded answer is genuine, and may be newer than the replica that the host holds.
                        self.note(format!("host {host} applied a recorded answer"));
                    }
                    self.proved(host)?;
                }
            }
        }
        self.answer_held();
        for host in 0..self.hosts.len() {
            // Twice, because a host may have an upload and a poll due at the same time.
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

    /// Delivers a call in which a node uploads revocations, outages or events.
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
            // The window of an outage begins when the last answer arrived. A window that begins later would leave out
            // requests that the host allowed after that answer.
            let before = self.contacts[host].iter().rev().find(|contact| **contact <= outage.began_at);
            if let Some(&last) = before
                && !self.before[host].contains(&outage.id)
                && outage.began_at <= self.wall(host)
                && stated > last.plus(1)
            {
                return Err(format!(
                    "host {host} states {stated} as its last contact before an outage, but the last answer came at {last}"
                ));
            }
        }
        Ok(Answer::Body(taken.answer))
    }

    /// Returns an error if a node that the control plane answers is unknown or retired.
    fn lives(&self, node: &str) -> Result<(), String> {
        match self.estate.nodes.get(node) {
            Some((_, None)) => Ok(()),
            known => Err(format!("the control plane answers node {node}, whose record is {known:?}")),
        }
    }

    /// Tells the oracle of a replica that only one host is shown.
    pub fn publish_to_one(&mut self, digest: [u8; 32], replica: Replica) {
        self.published.entry(digest).or_insert_with(|| Rc::new(replica));
    }

    /// Tells the oracle which replicas the control plane publishes now.
    pub fn record(&mut self) -> Result<(), String> {
        for (data_plane, (version, digest)) in self.control.replicas() {
            let replica = self.estate.replica(&data_plane, &self.tokens);
            if let Some(known) = self.published.get(&digest) {
                if **known != replica {
                    return Err(format!(
                        "the digest of version {version} of {data_plane} was already published for other records: {known:?}, now {replica:?}"
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

    /// Returns a correctly signed answer to another call: a recorded one, or one made for another host.
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
            if old.is_some() { "an old answer" } else { "an answer to another call" }
        ));
        let another: String = nonce.chars().rev().collect();
        old.or_else(|| self.control.feed(data_plane, since, keyset, Some(&another)))
    }

    /// Checks that the version of a host never goes back on one disk, and that it serves only a published replica.
    pub fn proved(&mut self, host: usize) -> Result<(), String> {
        let (wall, time, settled) = (self.wall(host), self.true_time(), self.settled(host));
        let memory = &mut self.memories[host];
        let Some((version, digest, signed)) = self.hosts[host].serves() else {
            memory.held = None;
            return Ok(());
        };
        // A head whose key was dropped no longer counts: with the keyset that dropped the key, any version may follow.
        let dropped = memory.head_key.as_ref().and_then(|key| self.dropped.get(key));
        let void = dropped.is_some_and(|keyset| *keyset <= self.hosts[host].keyset());
        if version < memory.version && !void {
            let known = memory.version;
            return Err(format!("host {host} went back from version {known} to {version}"));
        }
        let Some(replica) = self.published.get(&digest) else {
            return Err(format!("host {host} serves version {version}, whose digest was never published"));
        };
        (memory.version, memory.head_key) = (version, self.hosts[host].head_key());
        self.seen[host].entry(version).or_insert(digest);
        memory.named(signed.max(wall), time, settled);
        memory.proves_time(signed, wall);
        memory.prove(replica);
        Ok(())
    }

    /// Returns true if a host knows a token. Only such a host can detect a changed role; for any other, the holder of
    /// the signing keys may state any role.
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

    /// Asks a random host about a random token. The oracle judges the answer.
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

    /// Returns a request with the value of a token, as the oracle judges it.
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
            return Err(format!("host {host} still answers {code} after all faults ended"));
        }
        Ok(Some(decision))
    }
}

/// Returns a directory in memory, if there is one, because a story writes a lot and keeps nothing.
fn memory_backed() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}
