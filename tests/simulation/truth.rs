//! The oracle: it knows what was really said and done, and what each disk must remember. It never asks the code under
//! test what it thinks.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use halligan::dataplane::decide::Reason;
use halligan::protocol::glass::GlassMode;
use halligan::protocol::time::Time;

use crate::reach::Reached;

/// How far the time floor may be written ahead of the time, in seconds, with some to spare.
const AHEAD: i64 = 120;
/// How far a clock may be from a head that was signed just now and agrees with it, in seconds, with some to spare.
const AGREES: i64 = 240;
/// How far the seconds that broken glass has left may be counted wrong.
const SPARE: i64 = 10;

/// A value of a token. A history that was lost with a backup's restore may have brought another of the same generation.
#[derive(Clone, Debug)]
pub struct Value {
    pub text: String,
    /// Counts from 1.
    pub generation: u32,
    pub expires_at: Time,
    /// The keyset without the key that signed it; none while there is none.
    pub dropped: Option<u64>,
}

/// A token that was once handed out, in whatever history.
#[derive(Clone, Debug)]
pub struct Token {
    pub id: String,
    pub data_plane: String,
    pub deployment: String,
    pub values: Vec<Value>,
    pub not_before: Time,
}

impl Token {
    /// When a generation may be called expired. Two histories may have given it two ends; a host that has proof of both keeps
    /// to the earlier one.
    fn end_of(&self, generation: u32) -> Time {
        let ends =
            self.values.iter().filter(|value| value.generation == generation).map(|value| value.expires_at);
        ends.min().unwrap()
    }
}

/// How a token stands at one version of a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub generation: u32,
    pub revoked: bool,
}

/// Glass that an operator broke on a host.
#[derive(Clone, Copy, Debug)]
pub struct Broken {
    /// When it ends, by the host's clock, and how many seconds the host may run with it.
    pub until: Time,
    pub left: i64,
    /// The host's clock was right ever since.
    pub sure: bool,
}

impl Broken {
    /// Whether it lets anybody in, at a time of the host's clock.
    fn lets_in(&self, wall: Time) -> bool {
        wall < self.until && self.left > -SPARE
    }
}

/// What the control plane knows: a backup is a copy of it.
#[derive(Clone, Debug, Default)]
pub struct Estate {
    /// By a token's number in the story.
    pub tokens: BTreeMap<usize, Standing>,
    /// Tokens that were not rotated since a recovery.
    pub recovered: BTreeSet<usize>,
    pub workspaces: BTreeSet<String>,
    /// Their workspace and data plane, by id.
    pub deployments: BTreeMap<String, (String, String)>,
    /// Deployments that direct access does not open at all times.
    pub glass: BTreeMap<String, GlassMode>,
    pub data_planes: Vec<String>,
    pub teams: BTreeSet<String>,
    pub roles: BTreeSet<String>,
    /// Nodes by id: their data plane, and when they were retired by the control plane's clock.
    pub nodes: BTreeMap<String, (String, Option<Time>)>,
}

/// What a replica holds at one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    pub tokens: BTreeMap<usize, Standing>,
    pub deployments: BTreeSet<String>,
    pub glass: BTreeMap<String, GlassMode>,
    /// When each node was retired.
    pub nodes: BTreeMap<String, Option<Time>>,
}

impl Replica {
    /// Whether it proves what a node signed at a time.
    pub fn proves(&self, node: &str, at: Time) -> bool {
        self.nodes.get(node).is_some_and(|retired| retired.is_none_or(|retired| at < retired))
    }

    /// Whether it names a node that was not retired.
    pub fn lives(&self, node: &str) -> bool {
        self.nodes.get(node) == Some(&None)
    }
}

impl Estate {
    /// The glass of a deployment is kept so from now on.
    pub fn keep_glass(&mut self, deployment: &str, glass: GlassMode) {
        if glass.is_default() {
            self.glass.remove(deployment);
        } else {
            self.glass.insert(deployment.to_owned(), glass);
        }
    }

    /// What the replica of a data plane holds.
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

/// What a host's disk must remember, and how far its clock can be relied on.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The newest version it proved, of the history it is in.
    pub version: u64,
    /// The key that signed the head of that version.
    pub head_key: Option<String>,
    /// What it holds.
    pub held: Option<Rc<Replica>>,
    /// The highest generation of each token, and whether it was ever called revoked, by any replica it proved.
    pub proved: BTreeMap<usize, Standing>,
    /// Tokens that were revoked here, or whose revocation by another node was proved here.
    pub revoked: BTreeSet<usize>,
    /// Those revocations: the token, the node that made it, and when, by that node's clock.
    pub revocations: BTreeMap<(usize, String), Time>,
    /// The same, with those that may have been proved here.
    pub heard: BTreeMap<(usize, String), Time>,
    /// Cookies that were signed out here, and glass that is broken here.
    pub signed_out: BTreeSet<usize>,
    pub broken: BTreeMap<String, Broken>,
    /// History of its connectivity.
    pub reached: Reached,
    /// The events of uses it let pass, as far as its log is on this disk.
    pub uses: BTreeSet<String>,
    /// Values it once called dead for good.
    pub dead: BTreeMap<String, Reason>,
    /// The latest time a clock of it, or a head it proved, has named, carried on while that time may be its floor.
    pub latest: Time,
    /// The true time up to which it was carried on.
    carried: Option<Time>,
    /// True if its clock or such a head ever named a time that had not come.
    pub ran_ahead: bool,
    /// A time that its floor has reached for sure: it is proved to have passed.
    pub floor: Time,
    /// True if its clock was not set ahead since its process began, or since a head agreed with it. Such a clock raises the floor.
    pub steady: bool,
}

impl Memory {
    /// Takes note of a replica that was proved.
    pub fn prove(&mut self, replica: &Rc<Replica>) {
        for (number, standing) in &replica.tokens {
            let proved = self.proved.entry(*number).or_default();
            proved.generation = proved.generation.max(standing.generation);
            proved.revoked |= standing.revoked;
        }
        self.held = Some(Rc::clone(replica));
    }

    /// Takes note of a revocation that was made or proved here; whether it is new.
    pub fn prove_revocation(&mut self, token: usize, node: &str, at: Time) -> bool {
        let which = (token, node.to_owned());
        self.heard.entry(which.clone()).or_insert(at);
        self.revocations.entry(which).or_insert(at);
        self.revoked.insert(token)
    }

    /// Takes note of a time that a clock of the host, or a head it proved, has named. `settled`: its clock is right, and its
    /// control plane has answered since.
    pub fn named(&mut self, named: Time, time: Time, settled: bool) {
        let passed = self.carried.map_or(0, |carried| time.since(carried));
        self.latest = self.latest.plus(passed).max(named);
        self.carried = (!settled).then_some(time);
        self.ran_ahead |= named > time;
    }

    /// The host looks at its clock.
    pub fn looks(&mut self, wall: Time) {
        if self.steady {
            self.floor = self.floor.max(wall);
        }
    }

    /// The host holds a head that was signed at this time.
    pub fn proves_time(&mut self, signed: Time, wall: Time) {
        if wall.plus(AGREES) < self.floor {
            // A head that agrees with the clock takes the floor back.
            self.floor = wall.min(signed);
        }
        self.floor = self.floor.max(signed);
        self.steady |= wall.since(signed).abs() <= AGREES;
        self.looks(wall);
    }

    /// Broken glass, at a time of the host's clock, after it ran for so many seconds.
    pub fn glass_stands(&mut self, wall: Time, passed: i64) {
        self.broken.values_mut().for_each(|broken| broken.left -= passed);
        self.broken.retain(|_, broken| broken.lets_in(wall));
    }

    /// The host starts at this time of its clock. Its floor is ahead then, so glass that ends soon may have ended.
    pub fn starts(&mut self, wall: Time) {
        self.reached.begins();
        let soon = self.broken.values_mut().filter(|broken| broken.until.since(wall) < AHEAD);
        soon.for_each(|broken| broken.sure = false);
    }

    /// The replica's databases of two hosts of one data plane are swapped: each remembers what the other had proved.
    pub fn swap_replica(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.version, &mut other.version);
        std::mem::swap(&mut self.head_key, &mut other.head_key);
        std::mem::swap(&mut self.held, &mut other.held);
        std::mem::swap(&mut self.proved, &mut other.proved);
        std::mem::swap(&mut self.floor, &mut other.floor);
        // A value may have been called dead for what stays: what was revoked on the host.
        self.dead.clear();
        other.dead.clear();
    }

    /// The replica's database is lost.
    pub fn forget_replica(&mut self) {
        (self.version, self.held, self.floor) = (0, None, Time::default());
        self.proved.clear();
        self.dead.clear();
    }
}

/// A request, as the story made it.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub number: usize,
    pub token: &'a Token,
    pub value: &'a Value,
    /// The deployment that was asked.
    pub deployment: &'a str,
    /// Judgement of an outage that the host must have, or `None` if it may have either.
    pub outage: Option<bool>,
    /// The host's clock when it was asked.
    pub wall: Time,
    /// The true time.
    pub time: Time,
    /// The keyset the host follows.
    pub keyset: u64,
    /// How old the head is that the host holds, by its clock; none: it holds none.
    pub age: Option<i64>,
    /// How old it may be.
    pub limit: i64,
    /// How the control plane knows the token.
    pub above: Option<Standing>,
    /// Whether faults are over, for long enough that every host must have found its way back.
    pub healed: bool,
}

impl Request<'_> {
    /// Returns the mode of the deployment's glass, as the host's replica states it.
    fn glass(&self, memory: &Memory) -> GlassMode {
        let held = memory.held.as_ref();
        held.and_then(|held| held.glass.get(self.deployment)).copied().unwrap_or_default()
    }

    /// Returns true if the deployment's glass must be whole on the host.
    fn sealed(&self, memory: &Memory) -> bool {
        let whole = match self.glass(memory) {
            GlassMode::Always => false,
            GlassMode::Outage => self.outage == Some(false),
            GlassMode::Sealed => true,
        };
        whole && !memory.broken.get(self.deployment).is_some_and(|broken| broken.lets_in(self.wall))
    }

    /// Returns true if the glass may be whole: no outage opens it for sure, and a break may have ended, because the host's clock
    /// was wrong meanwhile or the end is near.
    fn may_be_sealed(&self, memory: &Memory) -> bool {
        if self.glass(memory) == GlassMode::Outage && self.outage == Some(true) {
            return false;
        }
        let broken = memory.broken.get(self.deployment);
        broken
            .is_none_or(|broken| !broken.sure || broken.until.since(self.wall) < SPARE || broken.left < SPARE)
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
            (proved.revoked, "it once knew the token to be revoked"),
            (proved.generation > value.generation, "it once knew a newer generation"),
            (
                memory.revoked.contains(&self.number),
                "the token was revoked on a host, and it had proof of that",
            ),
            (self.deployment != token.deployment, "the token is for another deployment"),
            (!deployed, "its replica does not hold the deployment"),
            (self.sealed(memory), "its glass is not broken"),
            (self.wall >= value.expires_at, "the value had expired by its own clock"),
            (self.wall < token.not_before, "the token does not begin yet, by its own clock"),
            (memory.dead.contains_key(&value.text), "it had called this value dead"),
            (self.age.is_none_or(|age| age > self.limit), "its replica was too old"),
            (value.dropped.is_some_and(|keyset| keyset <= self.keyset), "the key that signed it was dropped"),
        ];
        problems.into_iter().filter(|(wrong, _)| *wrong).map(|(_, why)| why).collect()
    }
}

/// Judges an answer; what is wrong with it, if anything is.
pub fn judge(request: &Request<'_>, memory: &mut Memory, answer: Reason) -> Result<(), String> {
    let (token, value) = (request.token, request.value);
    let problems = request.problems(memory);
    if answer == Reason::Ok {
        return problems.first().map_or(Ok(()), |why| Err(format!("allowed, though {why}")));
    }
    // A clock that ran ahead may have called a token expired that was not: that is no death. Nor is it one while nothing but a
    // clock that was moved ahead says so: such a clock proves nothing, and it may be moved back.
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
    // Offline is enough: nothing known speaks against it, so it must have been let in. What is really over may be denied
    // before the host has heard of it: part of a refused feed may have told it so.
    let alive = request.above == Some(Standing { generation: value.generation, revoked: false });
    if !alive || value.dropped.is_some() || !problems.is_empty() {
        return Ok(());
    }
    if answer == Reason::TokenRevoked && memory.heard.keys().any(|(heard, _)| *heard == request.number) {
        return Ok(());
    }
    // After a start the floor is ahead, and a replica as much older.
    if answer == Reason::ReplicaStale && request.age.is_some_and(|age| age + AHEAD > request.limit) {
        return Ok(());
    }
    if answer == Reason::GlassSealed && request.may_be_sealed(memory) {
        return Ok(());
    }
    // A clock that ran ahead has proved nothing: it closes nothing for good but what it called expired.
    let outlived = memory.latest.plus(AHEAD) >= token.end_of(value.generation);
    let clock_was_right = !memory.ran_ahead && request.wall == request.time;
    if if request.healed { outlived } else { !clock_was_right } {
        return Ok(());
    }
    Err(format!("denied with {}, though nothing speaks against it", answer.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Time = Time::from_unix(1_000);

    /// What is judged wrong in an answer about the newest value of a living token, bent by `bend`.
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
        // The host's clock, and what it proves when it says so.
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
        assert!(wrong(Reason::TokenUnknown, |_, _, _| {}), "a living token is let in");
        assert!(wrong(Reason::ClockUntrusted, |_, _, memory| memory.latest = T.plus(5)), "doubt ends");
        assert!(!wrong(Reason::TokenExpired, |_, _, memory| memory.latest = T.plus(AHEAD + 5)), "it is dead");
        assert!(wrong(Reason::Ok, |_, held, _| held.revoked = true));
        assert!(wrong(Reason::Ok, |_, held, _| held.generation = 3), "it knew a newer value");
        assert!(wrong(Reason::Ok, |_, held, _| held.generation = 1), "it never heard of the second value");
        assert!(wrong(Reason::Ok, |token, _, _| token.values[1].expires_at = T));
        let other = Value { text: "other".into(), generation: 2, expires_at: T, dropped: None };
        assert!(
            !wrong(Reason::TokenExpired, |token, _, _| token.values.push(other)),
            "another history's end"
        );
        assert!(wrong(Reason::Ok, |token, _, _| token.deployment = "dep_b".into()));
        assert!(wrong(Reason::Ok, |token, _, _| token.values[1].dropped = Some(1)));
        assert!(wrong(Reason::Ok, |_, _, memory| memory.revoked.extend([0])));
        assert!(wrong(Reason::Ok, |_, _, memory| memory.dead.extend([("2".into(), Reason::TokenExpired)])));
        let revoked = Standing { generation: 1, revoked: true };
        assert!(wrong(Reason::Ok, |_, _, memory| memory.proved.extend([(0, revoked)])));
    }
}
