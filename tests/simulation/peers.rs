//! Rounds between hosts. An attacker between two hosts alters their messages, a host lies, or a retired node goes on
//! speaking. The oracle judges each message by the signatures that its receiver can verify.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use halligan::dataplane::peers::Question;
use halligan::protocol::bundle::{BundleReader, Limits};
use halligan::protocol::jws::{Typ, sign};
use halligan::protocol::key::SigningKey;
use halligan::protocol::revocation::{Revocation, sign_revocation};
use halligan::protocol::time::Time;
use rand::RngExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::attack::signed_anew;
use crate::host::Own;
use crate::story::Story;
use crate::truth::Replica;

/// Maximum number of answers that an attacker records.
const REMEMBERED: usize = 60;
/// Maximum number of calls in a round.
const LONGEST_ROUND: usize = 600;

/// Call to a peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sent {
    pub method: &'static str,
    pub path: String,
    pub bearer: Option<String>,
    pub body: Vec<u8>,
}

impl Sent {
    pub fn of(question: &Question) -> Self {
        let Question { method, path, bearer, body, .. } = question.clone();
        Self { method, path, bearer, body }
    }

    pub fn asks_for_revocations(&self) -> bool {
        self.path.starts_with("/v2/peer/revocations?")
    }
}

/// Answer of a peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Given {
    pub status: u16,
    pub proof: Option<String>,
    pub body: Vec<u8>,
}

/// Fault that an attacker or a lying host puts into the answers of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// The answering host claims a position in its list beyond its last revocation.
    Skips,
    /// It sends revocations without a valid signature.
    Forges,
    /// It shows heads that no control plane signed.
    ShowsHeads,
    /// An attacker between the hosts changes `next`.
    Alters,
    Truncates,
    /// The attacker repeats an earlier answer.
    Replays,
    /// Each answer arrives one call late.
    Late,
    /// The answer is proved for another host.
    Foreign,
    /// The attacker sends the calls to another host.
    Redirects,
    Unproved,
}

const LIES: [Lie; 10] = [
    Lie::Skips,
    Lie::Forges,
    Lie::ShowsHeads,
    Lie::Alters,
    Lie::Truncates,
    Lie::Replays,
    Lie::Late,
    Lie::Foreign,
    Lie::Redirects,
    Lie::Unproved,
];

/// Versions and digests of the heads that a host keeps as evidence, and the number of its alarms.
pub type Evidence = (BTreeSet<(u64, [u8; 32])>, u64);

/// Answer that an attacker recorded.
pub struct Heard {
    asker: usize,
    answerer: usize,
    path: String,
    given: Given,
}

fn hash(parts: &[&[u8]]) -> String {
    URL_SAFE_NO_PAD.encode(parts.iter().fold(Sha256::new(), Sha256::chain_update).finalize())
}

/// Returns the claims of a bearer or of the proof of an answer, or null without one.
pub fn claims_of(signed: Option<&str>) -> Value {
    let payload = signed.and_then(|signed| signed.split('.').nth(1)).unwrap_or_default();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap_or_default()
}

/// Returns the id of a call from its bearer.
fn call_of(question: &Question) -> String {
    claims_of(question.bearer.as_deref())["jti"].as_str().unwrap().to_owned()
}

/// Returns an answer with a proof as docs/protocol/peers.md defines it. The daemon's code is not used, so that the two
/// can be compared.
fn prove(question: &Question, body: Vec<u8>, own: &Own, aud: &str, now: Time) -> Given {
    let asked =
        hash(&[question.method.as_bytes(), b"\n", question.path.as_bytes(), b"\n", question.body.as_slice()]);
    let claims = json!({
        "iss": own.identity.node_id, "aud": aud, "iat": now, "exp": now.plus(300), "jti": call_of(question),
        "instance": "hostile", "question": asked, "status": 200, "answer": hash(&[body.as_slice()]),
    });
    let proof = sign(Typ::PeerAnswer, claims.to_string().as_bytes(), &own.key);
    Given { status: 200, proof: Some(proof), body }
}

/// Returns the bearer of a call to the node `aud`.
fn bearer(own: &Own, aud: &str, call: &str, now: Time) -> String {
    let node = &own.identity.node_id;
    let claims = json!({ "iss": node, "sub": node, "aud": aud, "iat": now, "exp": now.plus(300), "jti": call, "instance": "x" });
    sign(Typ::NodeAuth, claims.to_string().as_bytes(), &own.key)
}

fn revocation(iss: &str, token: &str, at: Time, name: &str, key: &SigningKey) -> String {
    let revocation = Revocation {
        iss: iss.parse().unwrap(),
        sub: token.parse().unwrap(),
        iat: at,
        jti: name.to_owned(),
        operator: "uid 0".into(),
        reason: "nobody may".into(),
    };
    sign_revocation(&revocation, key)
}

impl Story {
    /// Returns two different hosts that run.
    fn two_hosts(&mut self) -> Option<(usize, usize)> {
        let running: Vec<usize> = (0..self.hosts.len()).filter(|host| self.hosts[*host].running()).collect();
        let one = self.pick(running.clone())?;
        let other = self.pick(running.into_iter().filter(|other| *other != one))?;
        Some((one, other))
    }

    /// Runs a round between two random hosts.
    pub fn talk(&mut self) -> Result<(), String> {
        let Some((asker, answerer)) = self.two_hosts() else { return Ok(()) };
        self.honest_round(asker, answerer)
    }

    /// Runs a round from every host to every other.
    pub fn all_talk(&mut self) -> Result<(), String> {
        for asker in 0..self.hosts.len() {
            for answerer in (0..self.hosts.len()).filter(|answerer| *answerer != asker) {
                self.honest_round(asker, answerer)?;
            }
        }
        Ok(())
    }

    /// Runs a round without faults. Revocations of the answering host that the asking host can prove are in force on it
    /// afterwards.
    pub fn honest_round(&mut self, asker: usize, answerer: usize) -> Result<(), String> {
        let held = [asker, answerer].map(|host| self.memories[host].held.clone());
        let heads = [asker, answerer].map(|host| self.hosts[host].serves());
        let forks = [asker, answerer].map(|host| self.hosts[host].evidence());
        let (pulled, outcome) = self.round(asker, answerer, None)?;
        let (Some(held), Ok(())) = (&held[0], &outcome) else { return Ok(()) };
        let [own, other] = [asker, answerer].map(|host| self.hosts[host].node().to_owned());
        if own == other || !pulled {
            return Ok(());
        }
        if let [Some(ours), Some(theirs)] = heads {
            for version in [ours.0, theirs.0] {
                self.finds_a_split([asker, answerer], version, Some(&forks))?;
            }
        }
        let told = self.memories[answerer].revocations.clone();
        self.learns(asker, answerer, held, told)
    }

    /// Tells the oracle that a host with the replica `held` was told of revocations by another, and checks that the
    /// host applies those that it can prove.
    pub fn learns(
        &mut self,
        asker: usize,
        answerer: usize,
        held: &Replica,
        told: BTreeMap<(usize, String), Time>,
    ) -> Result<(), String> {
        let mut proved = BTreeSet::new();
        for ((token, node), at) in told {
            // Two hosts with one identity may each have revoked the token at another time, so the proof is uncertain.
            let unsure = self.forked.contains(&node) && held.nodes.get(&node) != Some(&None);
            if held.proves(&node, at) && !unsure && self.memories[asker].prove_revocation(token, &node, at) {
                proved.insert(token);
            }
        }
        for token in proved {
            self.note(format!(
                "host {asker} learns a proved revocation of token {token} from host {answerer}"
            ));
            self.ask_newest(asker, token)?;
        }
        Ok(())
    }

    /// Asks a host about the newest value of a token.
    fn ask_newest(&mut self, host: usize, number: usize) -> Result<(), String> {
        let token = &self.tokens[number];
        let (value, deployment) = (token.values.len() - 1, token.deployment.clone());
        self.ask(host, number, value, &deployment).map(drop)
    }

    /// Checks that of two hosts that were shown different replicas of one version, and had a round, one raises an alarm
    /// and keeps both heads.
    pub fn finds_a_split(
        &mut self,
        hosts: [usize; 2],
        version: u64,
        before: Option<&[Evidence; 2]>,
    ) -> Result<(), String> {
        let [ours, theirs] = hosts.map(|host| self.seen[host].get(&version).copied());
        let same_keys = self.hosts[hosts[0]].keyset() == self.hosts[hosts[1]].keyset();
        let (Some(ours), Some(theirs)) = (ours, theirs) else { return Ok(()) };
        if ours == theirs
            || !same_keys
            || self.hosts[hosts[0]].data_plane() != self.hosts[hosts[1]].data_plane()
        {
            return Ok(());
        }
        let mut kept = false;
        for (number, host) in hosts.into_iter().enumerate() {
            let (after, raised) = self.hosts[host].evidence();
            if before.is_some_and(|before| after.len() > before[number].0.len() && raised == before[number].1)
            {
                return Err(format!("host {host} keeps evidence of two histories, but raises no alarm"));
            }
            kept |= after.contains(&(version, ours)) && after.contains(&(version, theirs));
        }
        if !kept {
            let [one, other] = hosts;
            return Err(format!(
                "hosts {one} and {other} were shown different replicas of version {version}, had a round, and kept no evidence"
            ));
        }
        self.note(format!(
            "hosts {hosts:?} know that they were shown different replicas of version {version}"
        ));
        Ok(())
    }

    /// Returns true if the replica that a host serves lists the other host as an active node of its data plane.
    pub fn trusts(&self, host: usize, other: usize) -> bool {
        self.memories[host].held.as_ref().is_some_and(|held| held.lives(self.hosts[other].node()))
    }

    /// Runs a round. Returns whether it asked for revocations, and the error that ended it, if any.
    fn round(
        &mut self,
        asker: usize,
        answerer: usize,
        lie: Option<Lie>,
    ) -> Result<(bool, Result<(), String>), String> {
        let wall = self.wall(asker);
        if !self.hosts[asker].begin_round(answerer, self.now, wall) {
            return Ok((false, Err("the host is down".into())));
        }
        let knows_nobody = self.memories[asker].held.is_none();
        let (mut calls, mut proved, mut pulled, mut late) = (0, 0, false, None);
        let outcome = loop {
            let question = match self.hosts[asker].next_question(answerer, wall) {
                Ok(Some(question)) => question,
                Ok(None) => break Ok(()),
                Err(why) => break Err(why),
            };
            calls += 1;
            proved += usize::from(question.bearer.is_some());
            pulled |= Sent::of(&question).asks_for_revocations();
            if calls > LONGEST_ROUND {
                return Err(format!("the round of host {asker} with host {answerer} never ends"));
            }
            let Some(given) = self.given(asker, answerer, &question, lie, &mut late)? else {
                break Err("the peer does not answer".into());
            };
            self.hear_of(asker, answerer);
            if let Err(why) = self.hosts[asker].peer_answered(answerer, &question, &given, self.now, wall) {
                break Err(why);
            }
        };
        if outcome.is_ok() && proved > 0 && lie.is_none() && !knows_nobody && !self.trusts(asker, answerer) {
            let was = self.memories[asker]
                .held
                .as_ref()
                .and_then(|held| held.nodes.get(self.hosts[answerer].node()));
            return Err(format!(
                "host {asker} completed a round with host {answerer}, whose record in its replica is {was:?}"
            ));
        }
        let how = outcome.as_ref().map_or_else(Clone::clone, |()| "done".to_owned());
        self.note(format!("host {asker} asks host {answerer}, {lie:?}: {how}"));
        self.proved(asker)?;
        Ok((pulled, outcome))
    }

    /// Tells the oracle which revocations each host may have learned from the other in a round.
    pub fn hear_of(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            let Some(held) = self.memories[to].held.clone() else { continue };
            let (node, now) = (self.hosts[from].node().to_owned(), self.wall(from));
            for ((token, by), at) in self.memories[from].heard.clone() {
                if held.proves(&by, at) {
                    self.memories[to].heard.entry((token, by.clone())).or_insert(at);
                }
                // A host vouches for revocations that no node of its replica has signed.
                if self.restored && !by.is_empty() && held.lives(&node) {
                    self.memories[to].heard.entry((token, node.clone())).or_insert(now);
                }
            }
        }
    }

    /// Returns the answer that arrives, or `None` while the peer is down.
    fn given(
        &mut self,
        asker: usize,
        answerer: usize,
        question: &Question,
        lie: Option<Lie>,
        late: &mut Option<Given>,
    ) -> Result<Option<Given>, String> {
        let (sent, wall) = (Sent::of(question), self.wall(answerer));
        if lie == Some(Lie::Redirects) && sent.bearer.is_some() {
            return self.redirect(asker, answerer, &sent).map(Some);
        }
        let Some(mut given) = self.reply_to_peer(asker, answerer, &sent)? else { return Ok(None) };
        let Some(_) = &sent.bearer else { return Ok(Some(given)) };
        let (own, aud) = (self.hosts[answerer].own.clone(), self.hosts[asker].node().to_owned());
        let is_pull = sent.asks_for_revocations();
        match lie {
            Some(Lie::Skips) if is_pull => {
                let mut body: Value = serde_json::from_slice(&given.body).unwrap_or_default();
                let next = body["next"].as_u64().unwrap_or(0) + self.random.random_range(1..5);
                (body["next"], body["revocations"]) = (next.into(), json!([]));
                given = prove(question, body.to_string().into_bytes(), &own, &aud, wall);
            }
            Some(Lie::Forges) if is_pull => {
                let mut body: Value = serde_json::from_slice(&given.body).unwrap_or_default();
                let forged = self.forged_revocations(answerer).into_iter().map(Value::from);
                if let Some(revocations) = body["revocations"].as_array_mut() {
                    revocations.extend(forged);
                }
                given = prove(question, body.to_string().into_bytes(), &own, &aud, wall);
            }
            Some(Lie::ShowsHeads) if question.path == "/v2/peer/heads" => {
                let heads = self.forged_heads(answerer);
                self.forged.extend(heads.iter().cloned());
                let body = json!({ "heads": heads });
                given = prove(question, body.to_string().into_bytes(), &own, &aud, wall);
            }
            Some(Lie::Alters) if is_pull => {
                let mut body: Value = serde_json::from_slice(&given.body).unwrap_or_default();
                (body["next"], body["revocations"]) = (900.into(), json!([]));
                given.body = body.to_string().into_bytes();
            }
            Some(Lie::Truncates) if !given.body.is_empty() => {
                given.body.truncate(self.random.random_range(0..given.body.len()));
                // Either the attacker cuts the answer short, or the host does and proves it.
                if self.random.random_bool(0.5) {
                    given = prove(question, given.body, &own, &aud, wall);
                }
            }
            Some(Lie::Replays) => {
                let same =
                    |old: &&Heard| (old.asker, old.answerer, &old.path) == (asker, answerer, &question.path);
                if let Some(old) = self.passed_by.iter().find(same) {
                    given = old.given.clone();
                }
            }
            Some(Lie::Late) => given = late.replace(given.clone()).unwrap_or(given),
            Some(Lie::Foreign) => {
                given = prove(question, given.body, &own, own.identity.node_id.as_str(), wall);
            }
            Some(Lie::Unproved) => given.proof = None,
            _ => {}
        }
        Ok(Some(given))
    }

    /// Returns the answer of a host to another, or `None` while it is down.
    pub fn reply_to_peer(
        &mut self,
        asker: usize,
        answerer: usize,
        sent: &Sent,
    ) -> Result<Option<Given>, String> {
        let wall = self.wall(answerer);
        let Some(given) = self.hosts[answerer].reply(sent, self.now, wall) else { return Ok(None) };
        if sent.bearer.is_none() {
            return Ok(Some(given));
        }
        // The asking host may have changed its identity since it sent the call, so the node is taken from the bearer.
        let claims = claims_of(sent.bearer.as_deref());
        let node = claims["iss"].as_str().unwrap_or_default();
        let held = self.memories[answerer].held.as_ref();
        if given.status != 401 && !held.is_some_and(|held| held.lives(node)) {
            return Err(format!(
                "host {answerer} answers host {asker}, whose node {node} is not active in its replica"
            ));
        }
        if self.passed_by.len() < REMEMBERED && self.random.random_bool(0.2) {
            let (path, given) = (sent.path.clone(), given.clone());
            self.passed_by.push(Heard { asker, answerer, path, given });
        }
        Ok(Some(given))
    }

    /// Hands a call for one host to another host, which must not answer it.
    fn redirect(&mut self, asker: usize, answerer: usize, sent: &Sent) -> Result<Given, String> {
        let others = (0..self.hosts.len()).filter(|other| *other != asker && *other != answerer);
        let silence = Given { status: 503, proof: None, body: Vec::new() };
        let Some(third) = self.pick(others) else { return Ok(silence) };
        let wall = self.wall(third);
        let Some(given) = self.hosts[third].reply(sent, self.now, wall) else { return Ok(silence) };
        // The third host may have the identity that the call is addressed to, because files of hosts are swapped.
        let meant = claims_of(sent.bearer.as_deref())["aud"] == self.hosts[third].node();
        if given.status != 401 && !meant {
            return Err(format!("host {third} answers a call that host {asker} made for host {answerer}"));
        }
        Ok(given)
    }

    /// Returns revocations of an active token that prove nothing: those of other nodes and of an unknown node, with
    /// wrong keys.
    fn forged_revocations(&mut self, by: usize) -> Vec<String> {
        let Some(number) = self.living() else { return Vec::new() };
        let (token, at) = (self.tokens[number].id.clone(), self.wall(by));
        let (own, name) = (self.hosts[by].own.clone(), self.name("forged"));
        let others: BTreeSet<String> = self
            .hosts
            .iter()
            .map(|host| host.node().to_owned())
            .filter(|node| node != self.hosts[by].node())
            .collect();
        let stranger = SigningKey::from_seed(&[99; 32]);
        let mut forged = vec![revocation("nod_nobody", &token, at, &name, &stranger), "a.b.c".into()];
        forged.extend(others.iter().map(|node| revocation(node, &token, at, &name, &own.key)));
        self.subjects.insert(number);
        forged
    }

    /// Returns heads of the present version that no replica key signed.
    fn forged_heads(&self, by: usize) -> Vec<String> {
        let plane = self.hosts[by].data_plane();
        let Some(bundle) = self.control.feed(plane, 0, 0, None) else { return Vec::new() };
        let (version, now) = (self.control.version(plane).unwrap_or(1), self.true_time());
        let stranger = SigningKey::from_seed(&[99; 32]);
        let forged = [&stranger, &*self.hosts[by].own.key].into_iter().map(|key| {
            let forged = signed_anew(&bundle, key, plane, (self.control.keyset(), version), now, |_| None);
            let reader = BundleReader::new(&*forged, Limits::default()).unwrap();
            reader.head().to_owned()
        });
        forged.collect()
    }

    /// Runs a round with a lie, and then one without. The asking host must believe nothing that is not proved, and
    /// learn everything in the second round.
    pub fn hostile_peer(&mut self) -> Result<(), String> {
        let Some((asker, answerer)) = self.two_hosts() else { return Ok(()) };
        if self.random.random_bool(0.3) {
            self.revoke_on(answerer);
        }
        let lie = LIES[self.random.random_range(0..LIES.len())];
        self.lie_to(asker, answerer, lie)?;
        self.honest_round(asker, answerer)
    }

    /// Runs a round with the lie, and then asks the host about the tokens that the lie named.
    fn lie_to(&mut self, asker: usize, answerer: usize, lie: Lie) -> Result<(), String> {
        self.subjects.clear();
        self.round(asker, answerer, Some(lie))?.1.ok();
        // Only forged heads are checked: the peer's bundle may show a real split view in the same round.
        if self.hosts[asker].kept_heads().iter().any(|head| self.forged.contains(head)) {
            return Err(format!("host {asker} keeps a head with an invalid signature as evidence"));
        }
        for number in std::mem::take(&mut self.subjects) {
            self.ask_newest(asker, number)?;
        }
        Ok(())
    }

    /// Runs a round with a lie to each host.
    pub fn all_are_lied_to(&mut self) -> Result<(), String> {
        for asker in 0..self.hosts.len() {
            let lie = LIES[self.random.random_range(0..LIES.len())];
            self.lie_to(asker, (asker + 1) % self.hosts.len(), lie)?;
        }
        Ok(())
    }

    /// Has a retired node sign a revocation, which it and another host send to all hosts.
    pub fn retired_speaks(&mut self) -> Result<(), String> {
        let retired = |story: &Self, host: usize| {
            let node = story.estate.nodes.get(story.hosts[host].node());
            node.is_some_and(|(_, retired)| retired.is_some())
        };
        let Some(host) =
            self.pick((0..self.hosts.len()).filter(|host| retired(self, *host)).collect::<Vec<_>>())
        else {
            return Ok(());
        };
        let Some(number) = self.living() else { return Ok(()) };
        let (own, at, name) = (self.hosts[host].own.clone(), self.wall(host), self.name("word"));
        let word = revocation(own.identity.node_id.as_str(), &self.tokens[number].id, at, &name, &own.key);
        // A host with another host's key or identity signs nothing that counts.
        let signs = self.is_itself(host);
        let body =
            json!({ "list": "a retired node's", "next": 1, "revocations": [word] }).to_string().into_bytes();
        for to in (0..self.hosts.len()).filter(|to| *to != host) {
            // The retired node sends the revocation itself, and has another host send it.
            let other = self.random.random_range(0..self.hosts.len());
            for by in [host, other].into_iter().filter(|by| *by != to) {
                self.tell_peer(by, to, &body, (number, own.identity.node_id.as_str(), at), signs)?;
            }
            self.ask_newest(to, number)?;
        }
        Ok(())
    }

    /// Sends a revocation from host `by` to host `to`.
    fn tell_peer(
        &mut self,
        by: usize,
        to: usize,
        body: &[u8],
        (number, node, at): (usize, &str, Time),
        signs: bool,
    ) -> Result<(), String> {
        let (aud, call, wall) = (self.hosts[to].node().to_owned(), self.name("call"), self.wall(to));
        let bearer = bearer(&self.hosts[by].own, &aud, &call, wall);
        let path = "/v2/peer/revocations".to_owned();
        let sent = Sent { method: "POST", path, bearer: Some(bearer), body: body.to_vec() };
        let Some(given) = self.hosts[to].reply(&sent, self.now, wall) else { return Ok(()) };
        if given.status != 401 && !self.trusts(to, by) {
            return Err(format!("host {to} answers host {by}, whose node is not active in its replica"));
        }
        self.note(format!("host {by} tells host {to} that {node} revoked token {number}: {}", given.status));
        let held = self.memories[to].held.clone();
        if given.status == 200 && signs && held.is_some_and(|held| held.proves(node, at)) {
            self.memories[to].prove_revocation(number, node, at);
        }
        Ok(())
    }
}
