//! The oracle: it knows what was really said and done, and what each disk must remember. It never asks the code under
//! test what it thinks.

use std::collections::{BTreeMap, BTreeSet};

use halligan::dataplane::decide::{Decision, Reason};
use halligan::protocol::time::Time;

/// One token, as it really is.
#[derive(Clone, Debug)]
pub struct Token {
    pub id: String,
    pub deployment: usize,
    /// Its values, the first generation's first.
    pub values: Vec<String>,
    /// The replica's version that brought each generation.
    pub versions: Vec<u64>,
    /// The version that took it away.
    pub revoked: Option<u64>,
    pub expires_at: Time,
}

impl Token {
    /// The newest generation in the replica at `version`, from 1; 0 when it was not there yet.
    fn generation_at(&self, version: u64) -> usize {
        self.versions.iter().filter(|&&brought| brought <= version).count()
    }
}

/// What a host's disk must remember, and how far its clock can be relied on.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The newest version it proved.
    pub version: u64,
    /// Revoked on a host of this data plane, as far as this one acknowledged.
    pub revoked: BTreeSet<String>,
    /// The events of uses it let pass, as far as its log is on this disk.
    pub uses: BTreeSet<String>,
    /// Values it once called dead for good.
    pub dead: BTreeMap<String, Reason>,
    /// Whether its clock ever ran ahead: then it may rightly hold more to be over than is.
    pub ran_ahead: bool,
}

/// A request, as the story made it.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub token: &'a Token,
    /// Counts from 0.
    pub generation: usize,
    /// The deployment that was asked.
    pub deployment: usize,
    /// The host's clock when it was asked.
    pub wall: Time,
    /// The true time.
    pub time: Time,
    /// How far apart they are, in seconds.
    pub offset: i64,
    /// How old the head is that the host holds, by its clock; none: it holds none.
    pub age: Option<i64>,
    /// How old it may be.
    pub limit: i64,
}

/// Judges an answer; what is wrong with it, if anything is.
pub fn judge(request: &Request<'_>, memory: &mut Memory, decision: &Decision) -> Result<(), String> {
    let token = request.token;
    let value = &token.values[request.generation];
    let newest = token.generation_at(memory.version);
    let revoked = token.revoked.is_some_and(|version| version <= memory.version);
    let problems = [
        (request.generation + 1 > newest, "its replica never held this generation of the token"),
        (request.generation + 1 < newest, "it knew a newer generation"),
        (revoked, "it knew the token to be revoked"),
        (memory.revoked.contains(&token.id), "the token was revoked on a host"),
        (request.deployment != token.deployment, "the token is for another deployment"),
        (request.wall >= token.expires_at, "the token had expired by its own clock"),
        (memory.dead.contains_key(value), "it had called this value dead"),
        (request.age.is_none_or(|age| age > request.limit), "its replica was too old"),
    ];
    if decision.allowed() {
        return match problems.iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => Err(format!("allowed, though {why}")),
            None => Ok(()),
        };
    }
    // A clock that ran ahead may have called a token expired that was not: that is no death.
    let dead = match decision.reason {
        Reason::TokenRevoked | Reason::TokenRotated => true,
        Reason::TokenExpired => request.time >= token.expires_at,
        _ => false,
    };
    if dead {
        memory.dead.insert(value.clone(), decision.reason);
    }
    // Offline is enough: nothing known speaks against it, so it must have been let in.
    let clock_is_right = request.offset == 0 && !memory.ran_ahead;
    // What is really over may be denied before the host has heard of it: part of a refused feed may have told it so.
    let alive = token.revoked.is_none() && request.generation + 1 == token.values.len();
    if clock_is_right && alive && !problems.iter().any(|(wrong, _)| *wrong) {
        return Err(format!("denied with {}, though nothing speaks against it", decision.reason.code()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use halligan::dataplane::decide::{Now, RequestFacts, Target, decide};
    use halligan::dataplane::snapshot::Snapshot;

    use super::*;

    const T: Time = Time::from_unix(1_000);

    /// What is judged wrong in an answer about the newest value of a living token, bent by `bend`.
    fn wrong(reason: Reason, bend: impl FnOnce(&mut Token, &mut Memory)) -> bool {
        let facts = RequestFacts { deployment: Target::Id("dep_a"), method: "GET", uri: "/", client: None };
        let mut decision = decide(None, &facts, &Snapshot::absent(), Now { wall: T, floor: T });
        decision.reason = reason;
        let (id, values) = ("tok_a".to_owned(), vec!["first".to_owned(), "second".to_owned()]);
        let mut token =
            Token { id, deployment: 0, values, versions: vec![1, 2], revoked: None, expires_at: T.plus(10) };
        let mut memory = Memory { version: 2, ..Memory::default() };
        bend(&mut token, &mut memory);
        let age = Some(1);
        let request = Request {
            token: &token,
            generation: 1,
            deployment: 0,
            wall: T,
            time: T,
            offset: 0,
            age,
            limit: 5,
        };
        judge(&request, &mut memory, &decision).is_err()
    }

    #[test]
    fn the_oracle_finds_what_is_wrong() {
        assert!(!wrong(Reason::Ok, |_, _| {}));
        assert!(wrong(Reason::TokenUnknown, |_, _| {}), "a living token is let in");
        assert!(wrong(Reason::Ok, |token, _| token.revoked = Some(2)));
        assert!(!wrong(Reason::Ok, |token, _| token.revoked = Some(3)), "it can't know yet");
        assert!(wrong(Reason::Ok, |token, _| token.versions[1] = 3), "it never heard of the second value");
        assert!(wrong(Reason::Ok, |token, _| token.expires_at = T));
        assert!(wrong(Reason::Ok, |token, _| token.deployment = 1));
        assert!(wrong(Reason::Ok, |_, memory| memory.revoked.extend(["tok_a".into()])));
        assert!(wrong(Reason::Ok, |_, memory| memory.dead.extend([("second".into(), Reason::TokenExpired)])));
    }
}
