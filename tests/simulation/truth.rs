//! The oracle. It knows what really happened, and what each disk must remember. It does not rely on what the code under
//! test reports.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use halligan::dataplane::decide::Reason;
use halligan::protocol::glass::GlassMode;
use halligan::protocol::time::Time;

use crate::reach::Reached;

/// Maximum number of seconds by which the time floor may be written ahead of the time, with some tolerance.
const AHEAD: i64 = 120;
/// Maximum difference in seconds between a clock and a head that was just signed for the two to agree, with some
/// tolerance.
const AGREES: i64 = 240;
/// Tolerance in seconds for the remaining time of broken glass.
const SPARE: i64 = 10;

/// Value of a token. Several values may have the same generation, if a restore from a backup lost the history of one.
#[derive(Clone, Debug)]
pub struct Value {
    pub text: String,
    /// Generation, counted from 1.
    pub generation: u32,
    pub expires_at: Time,
    /// Version of the first keyset without the key that signed the value, or `None` while all keysets have it.
    pub dropped: Option<u64>,
}

/// Token that was ever handed out, in the present history or in a lost one.
#[derive(Clone, Debug)]
pub struct Token {
    pub id: String,
    pub data_plane: String,
    pub deployment: String,
    pub values: Vec<Value>,
    pub not_before: Time,
}

impl Token {
    /// Returns the earliest time at which a generation may be called expired. Two histories may give it two ends; a
    /// host with proof of both applies the earlier one.
    fn end_of(&self, generation: u32) -> Time {
        let ends =
            self.values.iter().filter(|value| value.generation == generation).map(|value| value.expires_at);
        ends.min().unwrap()
    }
}

/// State of a token at one version of a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub generation: u32,
    pub revoked: bool,
}

/// Glass that an operator broke on a host.
#[derive(Clone, Copy, Debug)]
pub struct Broken {
    /// End of the break by the host's clock, and number of seconds for which the host may run with it.
    pub until: Time,
    pub left: i64,
    /// True if the host's clock was right since the glass was broken.
    pub sure: bool,
}

impl Broken {
    /// Returns true if the break still opens the deployment at the time `wall` of the host's clock.
    fn lets_in(&self, wall: Time) -> bool {
        wall < self.until && self.left > -SPARE
    }
}

/// State of the control plane. A backup contains a copy of it.
#[derive(Clone, Debug, Default)]
pub struct Estate {
    /// State of each token, by its number in the story.
    pub tokens: BTreeMap<usize, Standing>,
    /// Tokens that were not rotated since the last recovery.
    pub recovered: BTreeSet<usize>,
    pub workspaces: BTreeSet<String>,
    /// Workspace and data plane of each deployment, by the deployment's id.
    pub deployments: BTreeMap<String, (String, String)>,
    /// Mode of the glass of each deployment whose mode is not the default.
    pub glass: BTreeMap<String, GlassMode>,
    pub data_planes: Vec<String>,
    pub teams: BTreeSet<String>,
    pub roles: BTreeSet<String>,
    /// Data plane of each node by id, with the time of its retirement by the control plane's clock.
    pub nodes: BTreeMap<String, (String, Option<Time>)>,
}

/// Content of a replica at one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    pub tokens: BTreeMap<usize, Standing>,
    pub deployments: BTreeSet<String>,
    pub glass: BTreeMap<String, GlassMode>,
    /// Time at which each node was retired, or `None` for an active node.
    pub nodes: BTreeMap<String, Option<Time>>,
}

impl Replica {
    /// Returns true if the replica proves what a node signed at the time `at`.
    pub fn proves(&self, node: &str, at: Time) -> bool {
        self.nodes.get(node).is_some_and(|retired| retired.is_none_or(|retired| at < retired))
    }

    /// Returns true if the replica lists a node as active.
    pub fn lives(&self, node: &str) -> bool {
        self.nodes.get(node) == Some(&None)
    }
}

impl Estate {
    /// Sets the glass mode of a deployment.
    pub fn keep_glass(&mut self, deployment: &str, glass: GlassMode) {
        if glass.is_default() {
            self.glass.remove(deployment);
        } else {
            self.glass.insert(deployment.to_owned(), glass);
        }
    }

    /// Returns the content of a data plane's replica.
    pub fn replica(&self, data_plane: &str, tokens: &[Token]) -> Replica {
        let here = |number: &usize| tokens[*number].data_plane == data_plane;
        let deployments = self.deployments.iter().filter(|(_, (_, plane))| plane == data_plane);
        Replica {
            tokens: self.tokens.iter().filter(|(number, _)| here(number)).map(|(n, s)| (*n, *s)).collect(),
            deployments: deployments.clone().map(|(id, _)| id.clone()).collect(),
            glass: deployments.filter_map(|(id, _)| Some((id.clone(), *self.glass.get(id)?))).collect(),
            nodes: self.nodes_of(data_plane).collect(),
        }
    }

    fn nodes_of<'e>(&'e self, data_plane: &'e str) -> impl Iterator<Item = (String, Option<Time>)> + 'e {
        let nodes = self.nodes.iter().filter(move |(_, (plane, _))| plane == data_plane);
        nodes.map(|(id, (_, retired))| (id.clone(), *retired))
    }
}

/// State that a host's disk must remember, and how far the host's clock can be relied on.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Newest version that the host proved, in the history that it follows.
    pub version: u64,
    /// Id of the key that signed the head of that version.
    pub head_key: Option<String>,
    /// Replica that the host holds.
    pub held: Option<Rc<Replica>>,
    /// Highest generation of each token in any replica that the host proved, and whether any of them revoked it.
    pub proved: BTreeMap<usize, Standing>,
    /// Tokens that were revoked on the host, or whose revocation by another node the host proved.
    pub revoked: BTreeSet<usize>,
    /// Those revocations: token and node, with the time by that node's clock.
    pub revocations: BTreeMap<(usize, String), Time>,
    /// Those revocations, and the ones that the host may have proved.
    pub heard: BTreeMap<(usize, String), Time>,
    /// Cookies that were signed out on the host, and glass that is broken on it.
    pub signed_out: BTreeSet<usize>,
    pub broken: BTreeMap<String, Broken>,
    /// History of the host's connectivity.
    pub reached: Reached,
    /// Events of the requests that the host allowed, as far as the audit log on this disk contains them.
    pub uses: BTreeSet<String>,
    /// Values that the host denied for good, with the reason.
    pub dead: BTreeMap<String, Reason>,
    /// Latest time of its clock and of the heads that it proved. It advances with the true time until the clock is
    /// right and the control plane has answered.
    pub latest: Time,
    /// True time up to which `latest` was advanced, or `None` if it does not advance.
    carried: Option<Time>,
    /// True if its clock or a proved head ever showed a time in the future.
    pub ran_ahead: bool,
    /// Time that the host's floor has certainly reached, so that it is proved to have passed.
    pub floor: Time,
    /// True if the clock was not set ahead since the process began, or since a head agreed with it. Such a clock raises
    /// the floor.
    pub steady: bool,
}

impl Memory {
    /// Records a replica that the host proved.
    pub fn prove(&mut self, replica: &Rc<Replica>) {
        for (number, standing) in &replica.tokens {
            let proved = self.proved.entry(*number).or_default();
            proved.generation = proved.generation.max(standing.generation);
            proved.revoked |= standing.revoked;
        }
        self.held = Some(Rc::clone(replica));
    }

    /// Records a revocation that was made or proved on the host. Returns true if it is the first of its token.
    pub fn prove_revocation(&mut self, token: usize, node: &str, at: Time) -> bool {
        let which = (token, node.to_owned());
        self.heard.entry(which.clone()).or_insert(at);
        self.revocations.entry(which).or_insert(at);
        self.revoked.insert(token)
    }

    /// Records the time of a clock of the host, or of a head that it proved. `settled` is true if its clock is right
    /// and its control plane has answered since.
    pub fn named(&mut self, named: Time, time: Time, settled: bool) {
        let passed = self.carried.map_or(0, |carried| time.since(carried));
        self.latest = self.latest.plus(passed).max(named);
        self.carried = (!settled).then_some(time);
        self.ran_ahead |= named > time;
    }

    /// Raises the floor to the time of the host's clock, if that clock is steady.
    pub fn looks(&mut self, wall: Time) {
        if self.steady {
            self.floor = self.floor.max(wall);
        }
    }

    /// Raises the floor to the time `signed` of the head that the host holds.
    pub fn proves_time(&mut self, signed: Time, wall: Time) {
        if wall.plus(AGREES) < self.floor {
            // A head that agrees with the clock lowers a floor that is ahead of both.
            self.floor = wall.min(signed);
        }
        self.floor = self.floor.max(signed);
        self.steady |= wall.since(signed).abs() <= AGREES;
        self.looks(wall);
    }

    /// Counts `passed` seconds against broken glass, and forgets breaks that have ended.
    pub fn glass_stands(&mut self, wall: Time, passed: i64) {
        self.broken.values_mut().for_each(|broken| broken.left -= passed);
        self.broken.retain(|_, broken| broken.lets_in(wall));
    }

    /// Records a start of the host. Its floor may be ahead after a start, so breaks that end soon may have ended.
    pub fn starts(&mut self, wall: Time) {
        self.reached.begins();
        let soon = self.broken.values_mut().filter(|broken| broken.until.since(wall) < AHEAD);
        soon.for_each(|broken| broken.sure = false);
    }

    /// Swaps the replica databases of two hosts of one data plane, and with them what each host has proved.
    pub fn swap_replica(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.version, &mut other.version);
        std::mem::swap(&mut self.head_key, &mut other.head_key);
        std::mem::swap(&mut self.held, &mut other.held);
        std::mem::swap(&mut self.proved, &mut other.proved);
        std::mem::swap(&mut self.floor, &mut other.floor);
        // A value may have been denied for good because of a revocation that stays with its own host.
        self.dead.clear();
        other.dead.clear();
    }

    /// Forgets the replica database, which is lost.
    pub fn forget_replica(&mut self) {
        (self.version, self.held, self.floor) = (0, None, Time::default());
        self.proved.clear();
        self.dead.clear();
    }
}

/// Request of the story, with all that its judgement needs.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub number: usize,
    pub token: &'a Token,
    pub value: &'a Value,
    /// Deployment that the request is for.
    pub deployment: &'a str,
    /// Judgement of an outage that the host must have, or `None` if it may have either.
    pub outage: Option<bool>,
    /// Time of the host's clock at the request.
    pub wall: Time,
    /// True time of the request.
    pub time: Time,
    /// Version of the keyset that the host follows.
    pub keyset: u64,
    /// Age in seconds of the head that the host holds, by its clock, or `None` without a head.
    pub age: Option<i64>,
    /// Maximum age of the head, in seconds.
    pub limit: i64,
    /// State of the token on the control plane, or `None` if it does not know the token.
    pub above: Option<Standing>,
    /// True if faults have ended and every host had time to recover.
    pub healed: bool,
}

impl Request<'_> {
    /// Returns the mode of the deployment's glass, as the host's replica states it.
    fn glass(&self, memory: &Memory) -> GlassMode {
        let held = memory.held.as_ref();
        held.and_then(|held| held.glass.get(self.deployment)).copied().unwrap_or_default()
    }

    /// Returns true if the host must hold the deployment's glass as sealed.
    fn sealed(&self, memory: &Memory) -> bool {
        let whole = match self.glass(memory) {
            GlassMode::Always => false,
            GlassMode::Outage => self.outage == Some(false),
            GlassMode::Sealed => true,
        };
        whole && !memory.broken.get(self.deployment).is_some_and(|broken| broken.lets_in(self.wall))
    }

    /// Returns true if the glass may be sealed: no outage certainly opens it, and no break does, because the host's
    /// clock was wrong meanwhile or the end of the break is near.
    fn may_be_sealed(&self, memory: &Memory) -> bool {
        if self.glass(memory) == GlassMode::Outage && self.outage == Some(true) {
            return false;
        }
        // A head of a control plane whose clock is ahead brings the end of a break nearer.
        let now = self.wall.max(memory.latest);
        memory
            .broken
            .get(self.deployment)
            .is_none_or(|broken| !broken.sure || broken.until.since(now) < SPARE || broken.left < SPARE)
    }

    pub fn problems(&self, memory: &Memory) -> Vec<&'static str> {
        let (token, value) = (self.token, self.value);
        let held = memory.held.as_ref().and_then(|held| held.tokens.get(&self.number)).copied();
        let proved = memory.proved.get(&self.number).copied().unwrap_or_default();
        let deployed = memory.held.as_ref().is_some_and(|held| held.deployments.contains(self.deployment));
        let problems = [
            (memory.held.is_none(), "it holds no replica"),
            (held.is_none(), "its replica does not hold the token"),
            (held.is_some_and(|held| held.revoked), "its replica holds the token as revoked"),
            (
                held.is_some_and(|held| held.generation > value.generation),
                "its replica holds a newer generation",
            ),
            (
                held.is_some_and(|held| held.generation < value.generation),
                "its replica never held this generation",
            ),
            (proved.revoked, "it had proof that the token was revoked"),
            (proved.generation > value.generation, "it had proof of a newer generation"),
            (memory.revoked.contains(&self.number), "it had proof that the token was revoked on a host"),
            (self.deployment != token.deployment, "the token is for another deployment"),
            (!deployed, "its replica does not hold the deployment"),
            (self.sealed(memory), "the glass of the deployment is sealed"),
            (self.wall >= value.expires_at, "the value had expired by its own clock"),
            (self.wall < token.not_before, "the token does not begin yet, by its own clock"),
            (memory.dead.contains_key(&value.text), "it had denied this value for good"),
            (self.age.is_none_or(|age| age > self.limit), "its replica was too old"),
            (value.dropped.is_some_and(|keyset| keyset <= self.keyset), "the key that signed it was dropped"),
        ];
        problems.into_iter().filter(|(wrong, _)| *wrong).map(|(_, why)| why).collect()
    }
}

/// Judges the answer to a request. Returns an error if it breaks a promise.
pub fn judge(request: &Request<'_>, memory: &mut Memory, answer: Reason) -> Result<(), String> {
    let (token, value) = (request.token, request.value);
    let problems = request.problems(memory);
    if answer == Reason::Ok {
        return problems.first().map_or(Ok(()), |why| Err(format!("allowed, though {why}")));
    }
    // A host with a clock that runs ahead may wrongly call a token expired. That is not final. Neither is an expiry
    // that only a clock set ahead shows, because such a clock proves nothing and may be set back.
    let end = token.end_of(value.generation);
    let over = answer == Reason::TokenExpired && request.time >= end;
    let dead = match answer {
        Reason::TokenRevoked | Reason::TokenRotated => true,
        _ => over && memory.floor >= end,
    };
    if dead {
        memory.dead.insert(value.text.clone(), answer);
    }
    // A restored control plane may give one generation another end. The earlier end counts.
    if over {
        return Ok(());
    }
    // The host must allow the token even without its control plane, because nothing that it knows forbids it. It may
    // deny a token that has really ended before its replica says so, because it applies the revocations of a refused
    // feed.
    let alive = request.above == Some(Standing { generation: value.generation, revoked: false });
    if !alive || value.dropped.is_some() || !problems.is_empty() {
        return Ok(());
    }
    if answer == Reason::TokenRevoked && memory.heard.keys().any(|(heard, _)| *heard == request.number) {
        return Ok(());
    }
    // The floor is ahead after a start, and makes the replica look older by as much.
    if answer == Reason::ReplicaStale && request.age.is_some_and(|age| age + AHEAD > request.limit) {
        return Ok(());
    }
    if answer == Reason::GlassSealed && request.may_be_sealed(memory) {
        return Ok(());
    }
    // A clock that runs ahead proves nothing. It may end for good only what it called expired.
    let outlived = memory.latest.plus(AHEAD) >= token.end_of(value.generation);
    let clock_was_right = !memory.ran_ahead && request.wall == request.time;
    if if request.healed { outlived } else { !clock_was_right } {
        return Ok(());
    }
    Err(format!("denied with {}, though the host has no reason to deny it", answer.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Time = Time::from_unix(1_000);

    /// Returns true if the oracle rejects an answer about the newest value of an active token, after `bend` changed the
    /// state.
    fn wrong(reason: Reason, bend: impl FnOnce(&mut Token, &mut Standing, &mut Memory)) -> bool {
        let expires_at = T.plus(AHEAD + 10);
        let value =
            |generation: u32| Value { text: generation.to_string(), generation, expires_at, dropped: None };
        let mut token = Token {
            id: "tok_a".into(),
            data_plane: "dpl_a".into(),
            deployment: "dep_a".into(),
            values: vec![value(1), value(2)],
            not_before: T,
        };
        let mut held = Standing { generation: 2, revoked: false };
        let mut memory = Memory { version: 2, ..Memory::default() };
        bend(&mut token, &mut held, &mut memory);
        let replica = Replica {
            tokens: [(0, held)].into(),
            deployments: ["dep_a".into()].into(),
            ..Replica::default()
        };
        memory.prove(&Rc::new(replica));
        let request = Request {
            number: 0,
            token: &token,
            value: &token.values[1],
            deployment: "dep_a",
            outage: Some(false),
            wall: T,
            time: T,
            keyset: 1,
            age: Some(1),
            limit: 5,
            above: Some(Standing { generation: 2, revoked: false }),
            healed: true,
        };
        judge(&request, &mut memory, reason).is_err()
    }

    #[test]
    fn only_what_is_proved_to_have_passed_is_over_for_good() {
        // Returns the floor after `steps`: the time of the host's clock, and the time of the head that it proves then,
        // if any.
        let floor = |steps: &[(i64, Option<i64>)]| {
            let mut memory = Memory { steady: true, ..Memory::default() };
            for (wall, signed) in steps {
                let wall = T.plus(*wall);
                if wall.since(memory.floor) > AHEAD && memory.floor > Time::default() {
                    memory.steady = false;
                }
                match signed {
                    Some(signed) => memory.proves_time(T.plus(*signed), wall),
                    None => memory.looks(wall),
                }
            }
            memory.floor.since(T)
        };
        assert_eq!(floor(&[(0, None), (60, None)]), 60, "a clock that goes as time does");
        assert_eq!(floor(&[(0, None), (900, None)]), 0, "a clock that was moved ahead");
        assert_eq!(floor(&[(0, None), (900, Some(890))]), 900, "and a head agrees with it");
        assert_eq!(floor(&[(0, None), (900, Some(100))]), 100);
        assert_eq!(floor(&[(900, None), (0, Some(5))]), 5, "the floor was taken back");
    }

    #[test]
    fn the_oracle_finds_what_is_wrong() {
        assert!(!wrong(Reason::Ok, |_, _, _| {}));
        assert!(wrong(Reason::TokenUnknown, |_, _, _| {}), "an active token must be allowed");
        assert!(
            wrong(Reason::ClockUntrusted, |_, _, memory| memory.latest = T.plus(5)),
            "the doubt about the clock must end"
        );
        assert!(
            !wrong(Reason::TokenExpired, |_, _, memory| memory.latest = T.plus(AHEAD + 5)),
            "the token has expired"
        );
        assert!(wrong(Reason::Ok, |_, held, _| held.revoked = true));
        assert!(wrong(Reason::Ok, |_, held, _| held.generation = 3), "the host knew a newer value");
        assert!(wrong(Reason::Ok, |_, held, _| held.generation = 1), "the host never knew the second value");
        assert!(wrong(Reason::Ok, |token, _, _| token.values[1].expires_at = T));
        let other = Value { text: "other".into(), generation: 2, expires_at: T, dropped: None };
        assert!(
            !wrong(Reason::TokenExpired, |token, _, _| token.values.push(other)),
            "another history may end the value earlier"
        );
        assert!(wrong(Reason::Ok, |token, _, _| token.deployment = "dep_b".into()));
        assert!(wrong(Reason::Ok, |token, _, _| token.values[1].dropped = Some(1)));
        assert!(wrong(Reason::Ok, |_, _, memory| memory.revoked.extend([0])));
        assert!(wrong(Reason::Ok, |_, _, memory| memory.dead.extend([("2".into(), Reason::TokenExpired)])));
        let revoked = Standing { generation: 1, revoked: true };
        assert!(wrong(Reason::Ok, |_, _, memory| memory.proved.extend([(0, revoked)])));
    }
}
