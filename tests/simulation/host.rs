//! A data-plane host: a disk that outlives its process, a process that can die at any step, and a clock of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use halligan::dataplane::audit::AuditLog;
use halligan::dataplane::decide::{Decision, RequestFacts, Target, decide};
use halligan::dataplane::identity::Identity;
use halligan::dataplane::live::Live;
use halligan::dataplane::proof::{Nonces, Prover};
use halligan::dataplane::reconcile::{Call as Telling, Reconciler, Round};
use halligan::dataplane::replication::Replication;
use halligan::dataplane::revocation::Order;
use halligan::dataplane::snapshot::Snapshot;
use halligan::dataplane::staleness::Staleness;
use halligan::dataplane::store::{Origin, ReplicaStore};
use halligan::dataplane::sync::state::{Outcome, Progress, State};
use halligan::dataplane::timekeeper::Timekeeper;
use halligan::protocol::event::{Connectivity, Draft, EventKind};
use halligan::protocol::key::SigningKey;
use halligan::protocol::keyset::RootSet;
use halligan::protocol::time::Time;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::network::Millis;

/// How long an answer is waited for that need not be held back, and one that may be.
const PATIENCE: (Millis, Millis) = (15_000, 700_000);

/// How often a host looks whether there is something to tell.
const TELL: Millis = 2_000;

/// A call to the control plane.
pub enum Call {
    Ask { number: u64, since: u64, keyset: u64, hold: bool },
    Tell { number: u64, path: String, body: Vec<u8> },
}

/// What runs on a host while it runs.
struct Process {
    replication: Replication,
    live: Arc<Live>,
    progress: Progress,
    keeper: Timekeeper,
    started: Millis,
    signed: Time,
    /// The call that is under way, and until when it is waited for.
    call: Option<(u64, Millis)>,
    next: Millis,
    hold: bool,
    audit: AuditLog,
    reconciler: Arc<Reconciler>,
    /// Whether there may be something to tell, and when it is looked for.
    tell: Option<Millis>,
    /// What is being told, and until when an answer is waited for.
    telling: Option<(u64, Round, Telling, Millis)>,
}

impl Process {
    /// What came of a call, and when the next is due.
    fn goes_on(&mut self, outcome: Outcome, now: Millis, wall: Time) {
        self.call = None;
        let (progress, next) = self.progress.after(outcome, wall, self.live.expires());
        let error = (outcome != Outcome::Renewed).then(|| "no renewal".to_owned());
        self.live.stand(progress, error, wall, next.pause);
        self.reconciler.outages.observe(wall).unwrap();
        if progress.connectivity == Connectivity::Online && self.progress.connectivity != Connectivity::Online
        {
            self.tell = Some(now);
        }
        self.progress = progress;
        self.hold = next.hold;
        self.next = now + Millis::try_from(next.pause.as_millis()).unwrap();
    }

    /// What the daemon's timekeeper does each second.
    fn look(&mut self, now: Millis, wall: Time) {
        let passed = Duration::from_millis(now - self.started);
        let signed = self.live.snapshot().head().map_or(Time::default(), |head| head.head().iat);
        if signed > self.signed {
            self.signed = signed;
            self.keeper.proved(signed, wall, passed);
        }
        let look = self.keeper.look(wall, passed);
        self.live.raise_floor(look.floor);
        if let Some(floor) = look.write {
            self.replication.write_floor(floor).unwrap();
        }
    }
}

/// A host.
pub struct Host {
    directory: PathBuf,
    identity: Identity,
    key: Arc<SigningKey>,
    clock: Arc<AtomicI64>,
    pinned: RootSet,
    staleness: Staleness,
    /// How far its clock is from the true time, in seconds.
    pub offset: i64,
    calls: u64,
    process: Option<Process>,
}

impl Host {
    pub fn new(
        directory: &Path,
        identity: Identity,
        key: SigningKey,
        pinned: RootSet,
        staleness: Staleness,
    ) -> Self {
        std::fs::create_dir(directory).unwrap();
        Self {
            directory: directory.to_owned(),
            identity,
            key: Arc::new(key),
            clock: Arc::default(),
            pinned,
            staleness,
            offset: 0,
            calls: 0,
            process: None,
        }
    }

    pub fn running(&self) -> bool {
        self.process.is_some()
    }

    /// Starts the process on what the disk holds.
    pub fn start(&mut self, now: Millis, wall: Time) {
        if self.running() {
            return;
        }
        self.clock.store(wall.unix(), Ordering::Relaxed);
        let path = self.directory.join("replica.db");
        let data_plane = self.identity.data_plane_id.clone();
        let store = ReplicaStore::open(&path, data_plane, self.pinned.clone()).unwrap();
        let (replica, floor) = (store.load().unwrap(), store.floor().unwrap());
        let live = Arc::new(Live::new(Snapshot::absent(), floor, wall));
        if let Some(replica) = replica {
            let version = replica.head.head().version;
            live.replace(|absent| Snapshot::build(replica, self.staleness.clone(), Some(absent)));
            live.persisted(version, wall);
        }
        let own = Arc::clone(&self.clock);
        let clock: halligan::dataplane::Clock =
            Arc::new(move || Time::from_unix(own.load(Ordering::Relaxed)));
        let (node, key) = (self.identity.node_id.clone(), Arc::clone(&self.key));
        let path = self.directory.join("audit.db");
        let audit = AuditLog::open(&path, node, key, Arc::clone(&clock), 1000).unwrap();
        // Each start has randomness of its own, and every replay the same.
        let mut random =
            StdRng::seed_from_u64(now ^ self.key.public().to_bytes().map(u64::from).iter().sum::<u64>());
        let (identity, key) = (self.identity.clone(), Arc::clone(&self.key));
        let prover = Arc::new(Prover { identity, key, nonces: Nonces::new(&mut random) });
        let reconciler = Reconciler::open(&self.directory, prover, &live, &clock).unwrap();
        let keeper = Timekeeper::new(floor, wall, Duration::ZERO, live.snapshot().horizon());
        let replication = Replication::new(store, Arc::clone(&live), self.staleness.clone());
        let progress = Progress::new(wall);
        let (signed, call) = (Time::default(), None);
        let mut process = Process {
            replication,
            live,
            progress,
            keeper,
            started: now,
            signed,
            call,
            next: now,
            hold: false,
            audit,
            reconciler,
            tell: Some(now),
            telling: None,
        };
        process.look(now, wall);
        self.process = Some(process);
    }

    /// As a crash does: nothing is finished, nothing is told.
    pub fn crash(&mut self) {
        self.process = None;
    }

    /// The disk is lost, and a new one is empty.
    pub fn lose_disk(&mut self) {
        self.crash();
        std::fs::remove_dir_all(&self.directory).unwrap();
        std::fs::create_dir(&self.directory).unwrap();
    }

    /// The state of its sync.
    pub fn state(&self) -> Option<State> {
        self.process.as_ref().map(|process| process.progress.state)
    }

    /// When it next does something by itself.
    pub fn wakes(&self) -> Option<Millis> {
        let process = self.process.as_ref()?;
        let asks = process.call.map_or(process.next, |(_, patience)| patience);
        let online = process.progress.connectivity == Connectivity::Online;
        let tells = match &process.telling {
            Some((_, _, _, patience)) => Some(*patience),
            None => process.tell.filter(|_| online),
        };
        Some(tells.map_or(asks, |tells| tells.min(asks)))
    }

    /// Looks at its clocks.
    pub fn look(&mut self, now: Millis, wall: Time) {
        if let Some(process) = &mut self.process {
            process.look(now, wall);
        }
    }

    /// Does what is due; what is returned is a call to send.
    pub fn wake(&mut self, now: Millis, wall: Time) -> Option<Call> {
        self.clock.store(wall.unix(), Ordering::Relaxed);
        let process = self.process.as_mut()?;
        process.look(now, wall);
        if let Some(call) = Self::tell(process, &mut self.calls, now, wall) {
            return Some(call);
        }
        if process.call.is_some_and(|(_, patience)| now >= patience) {
            process.goes_on(Outcome::Unreachable, now, wall);
        }
        if process.call.is_some() || now < process.next {
            return None;
        }
        self.calls += 1;
        let (since, keyset) = process.replication.position().unwrap();
        let hold = process.hold && since > 0;
        process.call = Some((self.calls, now + if hold { PATIENCE.1 } else { PATIENCE.0 }));
        Some(Call::Ask { number: self.calls, since, keyset, hold })
    }

    /// Begins to tell what the control plane does not know, when that is due.
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
        let Some(call) = round.next(&process.reconciler, wall).unwrap() else {
            process.tell = None;
            return None;
        };
        *calls += 1;
        let (path, body) = (call.path.clone(), call.body.clone());
        process.telling = Some((*calls, round, call, now + PATIENCE.0));
        Some(Call::Tell { number: *calls, path, body })
    }

    /// Takes what the control plane says it took in; what there is to tell next.
    pub fn told(&mut self, number: u64, answer: &[u8], now: Millis, wall: Time) -> Option<Call> {
        let process = self.process.as_mut()?;
        let (_, mut round, call, _) = process.telling.take_if(|(own, ..)| *own == number)?;
        if round.answered(&process.reconciler, &call, answer, wall).is_err() {
            process.tell = Some(now + TELL);
            return None;
        }
        Self::go_on_telling(process, round, &mut self.calls, now, wall)
    }

    /// Revokes a token here; it is acknowledged when it returns.
    pub fn revoke(&mut self, token: &str, now: Millis, wall: Time) -> bool {
        let Some(process) = &mut self.process else { return false };
        let order =
            Order { token: token.parse().unwrap(), reason: "a drill".into(), operator: "uid 0".into() };
        process.reconciler.revocations.revoke(order, wall).unwrap();
        process.tell = Some(now);
        true
    }

    /// Takes an answer to call `call`; one that nobody waits for any more is not looked at.
    pub fn answered(&mut self, call: u64, bundle: &[u8], now: Millis, wall: Time) {
        let waiting = |process: &&mut Process| process.call.is_some_and(|(own, _)| own == call);
        let Some(process) = self.process.as_mut().filter(waiting) else { return };
        let taken = process.replication.take(bundle, Origin::Feed, wall);
        let outcome = if taken.is_ok() { Outcome::Renewed } else { Outcome::Refused };
        process.goes_on(outcome, now, wall);
    }

    /// Takes a bundle that somebody put in its way.
    pub fn take(&mut self, bundle: &[u8], origin: Origin, wall: Time) -> bool {
        self.process.as_mut().is_some_and(|process| process.replication.take(bundle, origin, wall).is_ok())
    }

    /// The version of the replica it serves, and when its head was signed.
    pub fn serves(&self) -> Option<(u64, Time)> {
        let snapshot = self.process.as_ref()?.live.snapshot();
        snapshot.head().map(|head| (head.head().version, head.head().iat))
    }

    /// Answers a request; with it comes the id of its event, which is on the disk by then.
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
        let (event, node) = (process.audit.next_id(), &self.identity.node_id);
        let draft = Draft {
            decision: Some(if decision.allowed() { "allow" } else { "deny" }),
            reason: Some(decision.reason.code()),
            token: decision.token.as_ref(),
            ..Draft::new(EventKind::Decision, &event, wall, node, process.live.connectivity())
        };
        let durable = process.audit.record(&draft, true).unwrap();
        durable.unwrap().blocking_recv().unwrap();
        process.tell.get_or_insert(now + TELL);
        Some((decision, event.to_string()))
    }
}
