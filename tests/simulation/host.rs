//! Data-plane host: a disk that outlives its process, a process that can die at any step, and a clock of its own.

mod doors;
mod peers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use halligan::dataplane::audit::AuditLog;
use halligan::dataplane::authorize::sessions::Sessions;
use halligan::dataplane::decide::snapshot::Snapshot;
use halligan::dataplane::decide::staleness::Staleness;
use halligan::dataplane::decide::{Decision, RequestFacts, Target, decide};
use halligan::dataplane::glass::{Glass, Hysteresis, Reach};
use halligan::dataplane::node::connection::{Outcome, Progress, State};
use halligan::dataplane::node::credential::{Nonces, Prover};
use halligan::dataplane::node::identity::{Absent, Identity, mark_databases_made, read_node_key};
use halligan::dataplane::node::inventory::{Inventory, set_aside};
use halligan::dataplane::node::state::Live;
use halligan::dataplane::peers::PeerFace;
use halligan::dataplane::replica::replication::Replication;
use halligan::dataplane::replica::store::{Origin, ReplicaStore, StoreError};
use halligan::dataplane::replica::timekeeper::Watch;
use halligan::dataplane::revocations::Order;
use halligan::dataplane::uplink::outage::OutageError;
use halligan::dataplane::uplink::reconcile::{Call as Telling, Reconciler, Round};
use halligan::dataplane::uplink::sync::may_wait;
use halligan::platform::private_file::write_private;
use halligan::protocol::event::{Connectivity, Draft, EventKind};
use halligan::protocol::head::MAX_HEAD;
use halligan::protocol::jws::Unverified;
use halligan::protocol::key::SigningKey;
use halligan::protocol::keyset::RootSet;
use halligan::protocol::time::Time;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;

use crate::network::Millis;
use crate::reach::{DOWN, UP};
pub use doors::LONGEST_BREAK;
use peers::Link;
pub use peers::{Asking, Next};

/// Time for which a host waits for an answer that comes at once, and for one that the control plane may hold back.
const PATIENCE: (Millis, Millis) = (15_000, 60_000);
/// The same times while hours pass in a story, in which hosts poll seldom.
const SLOW: Millis = 60 * 60_000;

/// Minimum pause after several failures. The daemon polls more often then, which would make a story slow to play.
const WEARY: Millis = 3_000;

/// Interval at which a host checks for something to upload.
const TELL: Millis = 2_000;

/// Call to the control plane.
pub enum Call {
    Ask { number: u64, bearer: String, since: u64, keyset: u64, nonce: Option<String>, hold: bool },
    Tell { number: u64, bearer: String, path: String, body: Vec<u8> },
}

/// Answer to a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    Body(Vec<u8>),
    /// Answer that was signed for another call than the one that is under way.
    Stale(Vec<u8>),
    /// Refusal of the control plane: a status of 400 and above.
    Refused(String),
}

/// State of a host's process.
struct Process {
    replication: Arc<Replication>,
    /// Answers to other hosts, and links to them by their number in the story.
    face: PeerFace,
    links: BTreeMap<usize, Link>,
    /// Notifications of new revocations.
    changes: watch::Receiver<()>,
    live: Arc<Live>,
    progress: Progress,
    watch: Watch,
    started: Millis,
    /// Nonce that the answer must contain.
    nonce: Option<String>,
    /// Version that the last poll stated.
    stated: u64,
    /// Number of the call that is under way, and the time until which the host waits for its answer.
    call: Option<(u64, Millis)>,
    next: Millis,
    hold: bool,
    audit: AuditLog,
    sessions: Sessions,
    glass: Glass,
    /// Running time up to which the remaining time of broken glass was counted, in seconds.
    counted: u64,
    /// State of the judgement of outages, and the time since which connectivity is what it is, by the host's clock.
    reach: Reach,
    reached_since: Time,
    reconciler: Arc<Reconciler>,
    /// Time at which the host next checks for something to upload, or `None` if nothing is new.
    tell: Option<Millis>,
    /// Upload that is under way: its number, round and call, and the time until which the host waits for the answer.
    telling: Option<(u64, Round, Telling, Millis)>,
    /// Error of the last poll.
    error: Option<String>,
}

impl Process {
    /// Records the outcome of a poll, and schedules the next one.
    fn goes_on(&mut self, outcome: Outcome, error: Option<String>, now: Millis, wall: Time, slow: bool) {
        self.call = None;
        let (progress, next) = self.progress.after(outcome, wall, self.live.expires());
        let error = (outcome != Outcome::Renewed).then(|| error.unwrap_or_else(|| "no answer".to_owned()));
        self.error.clone_from(&error);
        self.live.record_attempt(progress, error, wall, next.pause);
        // The daemon ignores this error too, because the record of outages only describes the past.
        let _ = self.reconciler.outages.observe(wall);
        if progress.connectivity == Connectivity::Online && self.progress.connectivity != Connectivity::Online
        {
            self.tell = Some(now);
        }
        self.progress = progress;
        self.judge(now);
        self.hold = next.hold;
        let pause = Millis::try_from(next.pause.as_millis()).unwrap();
        let pause = if self.progress.failures > 4 { pause.max(WEARY) } else { pause };
        self.next = now + if slow && outcome != Outcome::Renewed { SLOW } else { pause };
    }

    /// Reads the clock, as the daemon's timekeeper does each second.
    fn look(&mut self, now: Millis, wall: Time) {
        let found = self.watch.look(&self.live, wall, Duration::from_millis(now - self.started));
        if let Some(floor) = found.write {
            // A floor that cannot be written is written at the next look, as in the daemon.
            let _ = self.replication.write_floor(floor);
            let _ = found.age.map(|age| self.replication.write_head_age(age));
        }
        if found.doubt {
            // The host polls at once, because only the control plane can settle the doubt.
            (self.call, self.hold, self.next) = (None, false, self.next.min(now));
        }
        self.judge(now);
        let passed = now / 1000 - self.counted;
        if passed > 0 {
            self.counted += passed;
            // The daemon also ignores these errors, but writes each end into the audit log first.
            let ended = self.glass.ended(self.live.now(wall), i64::try_from(passed).unwrap());
            for ended in ended.unwrap_or_default() {
                let _ = self.glass.forget(&ended);
            }
        }
    }
}

impl Process {
    /// Judges an outage, as the daemon's glass task does.
    fn judge(&mut self, now: Millis) {
        let limits = Hysteresis { down: Duration::from_millis(DOWN), up: Duration::from_millis(UP) };
        let (ran, standing) = (Duration::from_millis(now - self.started), self.live.standing());
        let again = std::mem::replace(&mut self.reached_since, standing.progress.connectivity_since)
            != standing.progress.connectivity_since;
        self.reach = self.reach.seen(standing.progress.connectivity, again, ran, limits);
        let outage = self.reach.outage(ran, limits);
        if outage != self.live.snapshot().local().outage {
            // A judgement that cannot be written is in force all the same, as in the daemon.
            let _ = self.glass.judge(outage);
        }
    }
}

/// Identity and key of a host.
#[derive(Clone)]
pub struct Own {
    pub identity: Identity,
    pub key: Arc<SigningKey>,
}

impl Own {
    /// Writes both files, as enrolment does.
    pub fn write(&self, directory: &Path) {
        write_private(&directory.join("node.pem"), self.key.to_pkcs8_pem().as_bytes()).unwrap();
        self.identity.write(&directory.join("node.json")).unwrap();
    }

    /// Reads both files, as `dataplane/daemon/enrolment.rs` does without an enrolment token.
    fn read(directory: &Path) -> Result<Self, String> {
        let known = Identity::read(&directory.join("node.json")).map_err(text)?;
        let identity = known.ok_or("this node is not enrolled")?;
        let key = read_node_key(&directory.join("node.pem"), Absent::Refuse).map_err(text)?;
        Ok(Self { identity, key: Arc::new(key.ok_or("the host has no node key")?) })
    }
}

/// A host.
pub struct Host {
    pub directory: PathBuf,
    pub own: Own,
    clock: Arc<AtomicI64>,
    pinned: RootSet,
    staleness: Staleness,
    /// Difference between the host's clock and the true time, in seconds.
    pub offset: i64,
    /// True while hours pass, in which the host polls seldom.
    pub slow: bool,
    calls: u64,
    process: Option<Process>,
    /// Number of the control plane's answers that the host processed since the count was last set to zero.
    pub polls: u64,
}

impl Host {
    pub fn new(directory: &Path, own: Own, pinned: RootSet, staleness: Staleness) -> Self {
        std::fs::create_dir(directory).unwrap();
        own.write(directory);
        Self {
            directory: directory.to_owned(),
            own,
            clock: Arc::default(),
            pinned,
            staleness,
            offset: 0,
            slow: false,
            calls: 0,
            process: None,
            polls: 0,
        }
    }

    /// Ends a time in which the host polled seldom, and brings its timers forward.
    pub fn hurry(&mut self, now: Millis) {
        self.slow = false;
        if let Some(process) = &mut self.process {
            process.next = process.next.min(now + WEARY);
            process.tell = process.tell.map(|tell| tell.min(now + TELL));
            process.call = process.call.map(|(call, patience)| (call, patience.min(now + PATIENCE.1)));
            Self::hurry_peers(process, now);
        }
    }

    pub fn running(&self) -> bool {
        self.process.is_some()
    }

    pub fn node(&self) -> &str {
        self.own.identity.node_id.as_str()
    }

    pub fn data_plane(&self) -> &str {
        self.own.identity.data_plane_id.as_str()
    }

    /// Starts the process on the present disk. Returns the reason if it does not start.
    pub fn start(&mut self, now: Millis, wall: Time) -> Result<(), String> {
        if self.running() {
            return Ok(());
        }
        self.clock.store(wall.unix(), Ordering::Relaxed);
        self.own = Own::read(&self.directory)?;
        let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), wall));
        let store = self.open_replica(&live, wall)?;
        let own = Arc::clone(&self.clock);
        let clock: halligan::platform::clock::Clock =
            Arc::new(move || Time::from_unix(own.load(Ordering::Relaxed)));
        let audit = self.open_audit(&clock, wall)?;
        // Each start has its own randomness, which is the same in every replay.
        let name = self.directory.file_name().unwrap().as_encoded_bytes();
        let key = self.own.key.public().to_bytes();
        let salt: u64 = key.iter().chain(name).map(|byte| u64::from(*byte)).sum();
        let mut random = StdRng::seed_from_u64(now ^ (salt << 40));
        let (identity, key) = (self.own.identity.clone(), Arc::clone(&self.own.key));
        let prover = Arc::new(Prover { identity, key, nonces: Nonces::new(&mut random) });
        let reconciler = self.open_reconciler(&prover, &live, &clock, wall)?;
        let sessions = doors::open_sessions(&self.directory, &live, wall, &mut random)?;
        let glass = doors::open_glass(&self.directory, &live, wall)?;
        let replication = Arc::new(Replication::new(store, Arc::clone(&live), self.staleness.clone()));
        let face = PeerFace::new(
            Arc::clone(&reconciler.revocations),
            Arc::clone(&replication),
            Arc::clone(&live),
            Arc::clone(&prover),
            clock,
        );
        let progress = Progress::new(wall);
        let age = replication.head_age().unwrap_or_default();
        let watch = Watch::new(&live, age, wall, Duration::ZERO);
        let (reach, reached_since) =
            (Reach::new(live.snapshot().local().outage), live.standing().progress.connectivity_since);
        let mut process = Process {
            replication,
            changes: reconciler.revocations.changes(),
            face,
            links: BTreeMap::new(),
            live,
            progress,
            watch,
            started: now,
            nonce: None,
            stated: 0,
            call: None,
            next: now,
            hold: false,
            audit,
            sessions,
            glass,
            counted: now / 1000,
            reach,
            reached_since,
            reconciler,
            tell: Some(now),
            telling: None,
            error: None,
        };
        // A mark that cannot be written is written by the next start, as in the daemon.
        let _ = mark_databases_made(&self.directory.join("node.json"));
        process.look(now, wall);
        self.process = Some(process);
        Ok(())
    }

    /// Opens the replica like `dataplane/daemon/databases.rs`, which moves a damaged database aside.
    fn open_replica(&self, live: &Live, wall: Time) -> Result<ReplicaStore, String> {
        let path = self.directory.join("replica.db");
        let open = || ReplicaStore::open(&path, self.own.identity.data_plane_id.clone(), self.pinned.clone());
        let loaded = open().and_then(|store| {
            let floor = store.floor()?;
            let replica = match store.load() {
                Err(StoreError::Superseded(_)) => None,
                loaded => loaded?,
            };
            Ok((store, replica, floor))
        });
        let Ok((store, replica, floor)) = loaded else {
            begin_anew(&path, wall)?;
            return open().map_err(text);
        };
        live.raise_floor(floor);
        if let Some(replica) = replica {
            live.persisted(replica.head.head().version, wall);
            live.replace(|absent| Snapshot::build(replica, self.staleness.clone(), Some(absent)));
        }
        Ok(store)
    }

    fn open_audit(&self, clock: &halligan::platform::clock::Clock, wall: Time) -> Result<AuditLog, String> {
        let path = self.directory.join("audit.db");
        let open = || {
            let (node, key) = (self.own.identity.node_id.clone(), Arc::clone(&self.own.key));
            AuditLog::open(&path, node, key, Arc::clone(clock), 1000)
        };
        open().or_else(|_| {
            begin_anew(&path, wall)?;
            open().map_err(text)
        })
    }

    /// Opens revocations and outages. Lost revocations prevent the start; a lost record of outages is made anew.
    fn open_reconciler(
        &self,
        prover: &Arc<Prover>,
        live: &Arc<Live>,
        clock: &halligan::platform::clock::Clock,
        wall: Time,
    ) -> Result<Arc<Reconciler>, String> {
        let open = || Reconciler::open(&self.directory, Arc::clone(prover), live, clock);
        open().or_else(|error| match error {
            OutageError::Revocations(_) | OutageError::Audit(_) => Err(error.to_string()),
            _ => {
                begin_anew(&self.directory.join("outages.db"), wall)?;
                open().map_err(text)
            }
        })
    }

    /// Returns the ids of the recorded outages.
    pub fn outages(&self, wall: Time) -> Vec<String> {
        let noted =
            self.process.as_ref().and_then(|process| process.reconciler.outages.list(1000, wall).ok());
        noted.unwrap_or_default().into_iter().map(|report| report.id).collect()
    }

    /// Ends the process without any clean-up, as a crash does.
    pub fn crash(&mut self) {
        self.process = None;
    }

    /// Replaces the disk with an empty one.
    pub fn lose_disk(&mut self) {
        self.crash();
        std::fs::remove_dir_all(&self.directory).unwrap();
        std::fs::create_dir(&self.directory).unwrap();
    }

    /// Forgets the replica, as the host's administrator may order. Returns false if the host is down or the store
    /// fails.
    pub fn forget(&mut self, wall: Time) -> bool {
        self.process.as_mut().is_some_and(|process| process.replication.forget(wall).is_ok())
    }

    /// Returns the error of the last poll.
    pub fn error(&self) -> Option<&str> {
        self.process.as_ref()?.error.as_deref()
    }

    /// Returns the connection state.
    pub fn state(&self) -> Option<State> {
        self.process.as_ref().map(|process| process.progress.state)
    }

    /// Returns its connectivity, as its events state it.
    pub fn connectivity(&self) -> Option<Connectivity> {
        self.process.as_ref().map(|process| process.progress.connectivity)
    }

    /// Returns the time of the host's next timer.
    pub fn wakes(&self) -> Option<Millis> {
        let process = self.process.as_ref()?;
        let asks = process.call.map_or(process.next, |(_, patience)| patience);
        let online = process.progress.connectivity == Connectivity::Online;
        let tells = match &process.telling {
            Some((_, _, _, patience)) => Some(*patience),
            None => process.tell.filter(|_| online),
        };
        [Some(asks), tells, Self::asks_a_peer(process)].into_iter().flatten().min()
    }

    /// Reads the clocks.
    pub fn look(&mut self, now: Millis, wall: Time) {
        if let Some(process) = &mut self.process {
            process.look(now, wall);
        }
    }

    /// Runs the timers that are due. Returns the call to send, if there is one.
    pub fn wake(&mut self, now: Millis, wall: Time) -> Option<Call> {
        self.clock.store(wall.unix(), Ordering::Relaxed);
        let (slow, process) = (self.slow, self.process.as_mut()?);
        process.look(now, wall);
        if let Some(call) = Self::tell(process, &mut self.calls, now, wall) {
            return Some(call);
        }
        if process.call.is_some_and(|(_, patience)| now >= patience) {
            process.goes_on(Outcome::Unreachable, None, now, wall, slow);
        }
        if process.call.is_some() || now < process.next {
            return None;
        }
        let (since, keyset) = match process.replication.position() {
            Ok(position) => position,
            Err(error) => {
                process.goes_on(Outcome::Refused, Some(error.to_string()), now, wall, slow);
                return None;
            }
        };
        self.calls += 1;
        let trusted = process.live.now(wall).trusted();
        let hold = process.hold && may_wait(process.stated, since, trusted);
        process.stated = since;
        let patience = if slow && hold {
            2 * SLOW
        } else if hold {
            PATIENCE.1
        } else {
            PATIENCE.0
        };
        process.call = Some((self.calls, now + patience));
        let bearer = process.reconciler.prover.upstream(wall);
        if since > 0 || !trusted {
            process.nonce.get_or_insert_with(|| process.reconciler.prover.nonces.next());
        } else {
            process.nonce = None;
        }
        let nonce = process.nonce.clone();
        Some(Call::Ask { number: self.calls, bearer, since, keyset, nonce, hold })
    }

    /// Begins an upload if one is due. Returns its first call.
    fn tell(process: &mut Process, calls: &mut u64, now: Millis, wall: Time) -> Option<Call> {
        if process.telling.as_ref().is_some_and(|(_, _, _, patience)| now >= *patience) {
            process.telling = None;
            process.tell = Some(now + TELL);
        }
        let due = process.tell.is_some_and(|due| now >= due);
        if process.telling.is_some() || !due || process.progress.connectivity != Connectivity::Online {
            return None;
        }
        Self::go_on_telling(process, Round::default(), calls, now, wall)
    }

    fn go_on_telling(
        process: &mut Process,
        round: Round,
        calls: &mut u64,
        now: Millis,
        wall: Time,
    ) -> Option<Call> {
        process.tell = None;
        let Ok(call) = round.next(&process.reconciler, wall) else {
            process.tell = Some(now + TELL);
            return None;
        };
        let call = call?;
        *calls += 1;
        let (path, body) = (call.path.clone(), call.body.clone());
        process.telling = Some((*calls, round, call, now + PATIENCE.0));
        let bearer = process.reconciler.prover.upstream(wall);
        Some(Call::Tell { number: *calls, bearer, path, body })
    }

    /// Handles the answer to an upload. Returns the next call of the upload.
    pub fn told(&mut self, number: u64, answer: &Answer, now: Millis, wall: Time) -> Option<Call> {
        let slow = self.slow;
        let process = self.process.as_mut()?;
        let (_, mut round, call, _) = process.telling.take_if(|(own, ..)| *own == number)?;
        let taken = match answer {
            Answer::Body(body) => round.answered(&process.reconciler, &call, body, wall).is_ok(),
            Answer::Stale(_) | Answer::Refused(_) => false,
        };
        if !taken {
            process.tell = Some(now + if slow { SLOW } else { TELL });
            return None;
        }
        Self::go_on_telling(process, round, &mut self.calls, now, wall)
    }

    /// Revokes a token on this host. Returns true if the revocation is acknowledged.
    pub fn revoke(&mut self, token: &str, now: Millis, wall: Time) -> bool {
        let Some(process) = &mut self.process else { return false };
        let order =
            Order { token: token.parse().unwrap(), reason: "a drill".into(), operator: "uid 0".into() };
        let revoked = process.reconciler.revocations.revoke(&order, wall).is_ok();
        process.tell = Some(now);
        revoked
    }

    /// Processes the answer to `call`. Returns false if the host no longer waits for that call, and ignores the answer.
    pub fn answered(&mut self, call: u64, answer: &Answer, now: Millis, wall: Time) -> bool {
        let slow = self.slow;
        let waiting = |process: &&mut Process| process.call.is_some_and(|(own, _)| own == call);
        let Some(process) = self.process.as_mut().filter(waiting) else { return false };
        self.polls += 1;
        let taken = match answer {
            Answer::Body(bundle) | Answer::Stale(bundle) => {
                let nonce = process.nonce.take();
                let taken =
                    process.replication.apply_answer(bundle.as_slice(), Origin::Feed, nonce.as_deref(), wall);
                taken.map_err(|error| error.to_string())
            }
            Answer::Refused(why) => Err(why.clone()),
        };
        let outcome = if taken.is_ok() { Outcome::Renewed } else { Outcome::Refused };
        process.goes_on(outcome, taken.err(), now, wall, slow);
        // The daemon checks for uploads every two seconds, and a new replica may give it something to upload.
        process.tell.get_or_insert(now + if slow { SLOW } else { TELL });
        true
    }

    /// Applies a bundle that did not come with an answer. Returns true if it was accepted.
    pub fn apply_bundle(&mut self, bundle: &[u8], origin: Origin, wall: Time) -> bool {
        self.process
            .as_mut()
            .is_some_and(|process| process.replication.apply_bundle(bundle, origin, wall).is_ok())
    }

    /// Returns the replica as a file for another host.
    pub fn export(&self) -> Option<Vec<u8>> {
        self.process.as_ref()?.replication.export().ok().flatten()
    }

    /// Returns the version and digest of the replica that the host serves, and the time at which its head was signed.
    pub fn serves(&self) -> Option<(u64, [u8; 32], Time)> {
        let snapshot = self.process.as_ref()?.live.snapshot();
        snapshot.head().map(|head| (head.head().version, head.head().digest, head.head().iat))
    }

    /// Returns the id of the key that signed the head of the served replica.
    pub fn head_key(&self) -> Option<String> {
        let snapshot = self.process.as_ref()?.live.snapshot();
        let head = snapshot.head()?.as_str();
        Some(Unverified::parse(head.as_bytes(), MAX_HEAD).unwrap().kid().to_owned())
    }

    /// Returns the version of the keyset that the host follows.
    pub fn keyset(&self) -> u64 {
        let position = self.process.as_ref().and_then(|process| process.replication.position().ok());
        position.map_or(0, |(_, keyset)| keyset)
    }

    /// Decides a request. Also returns the id of the event, which is on the disk by then.
    pub fn ask(
        &mut self,
        token: &str,
        deployment: &str,
        now: Millis,
        wall: Time,
    ) -> Option<(Decision, String)> {
        let process = self.process.as_mut()?;
        process.look(now, wall);
        let facts = RequestFacts {
            deployment: Target::Id(deployment),
            method: "POST",
            uri: "/api/v2/dags/etl/dagRuns",
            client: None,
        };
        let decision =
            decide(Some(token.as_bytes()), &facts, &process.live.snapshot(), process.live.now(wall));
        let (event, node) = (process.audit.next_id(), &self.own.identity.node_id);
        let draft = Draft {
            decision: Some(if decision.allowed() { "allow" } else { "deny" }),
            reason: Some(decision.reason().code()),
            token: decision.facts().token,
            ..Draft::new(EventKind::Decision, &event, wall, node, process.live.connectivity())
        };
        let durable = process.audit.record(&draft, true).ok()?;
        durable?.blocking_recv().ok()?;
        process.tell.get_or_insert(now + TELL);
        Some((decision, event.to_string()))
    }
}

/// Moves the rest of a database aside and lets a new one be made, as the daemon does.
fn begin_anew(path: &Path, wall: Time) -> Result<(), String> {
    set_aside(path, wall).map_err(text)?;
    let name = path.file_name().unwrap().to_str().unwrap();
    Inventory::beside(path).forget(name).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
