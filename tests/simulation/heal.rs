//! End of every story: all faults stop, and each host must recover by itself, or by the actions that its operators are
//! told to take.

use std::collections::BTreeSet;

use halligan::dataplane::node::connection::State;

use crate::files;
use crate::network::{Line, Millis};
use crate::story::Story;

/// Time in which a host must recover after all faults stopped. A call without an answer takes a minute of it.
const LONG_ENOUGH: Millis = 150_000;

impl Story {
    /// Ends all faults, and checks that every host becomes current, allows every token that should be allowed, and
    /// denies every other.
    pub fn heal(&mut self) -> Result<(), String> {
        self.note("all faults end");
        self.set_control_clock(0);
        self.control.start();
        self.faces.clear();
        let now = self.true_time();
        if self.control.keyset_ends() < now.plus(86_400) {
            // Operators renew a keyset before it expires, because its expiry is reported long before.
            self.control.next_keyset(now, |_| {})?;
            self.note("the keyset is renewed");
        }
        for host in 0..self.hosts.len() {
            self.network.lines[host] = Line::GOOD;
            self.network.peers[host] = Line::GOOD;
            files::make_room(&self.hosts[host].directory);
            self.set_clock(host, 0);
            self.start_host(host)?;
        }
        self.replace_strangers()?;
        // A hostile peer must not keep a host from becoming current.
        self.all_are_lied_to()?;
        self.pass(LONG_ENOUGH)?;
        self.recover_where_told()?;
        for host in 0..self.hosts.len() {
            self.is_current(host)?;
        }
        self.all_talk()?;
        self.healed = true;
        self.share_revocations();
        for number in 0..self.tokens.len() {
            for value in 0..self.tokens[number].values.len() {
                for host in 0..self.hosts.len() {
                    let deployment = self.tokens[number].deployment.clone();
                    self.opens_rightly(host, number, value, &deployment)?;
                }
            }
        }
        self.pass(60_000)?;
        (0..self.hosts.len()).try_for_each(|host| self.every_use_is_known_above(host))
    }

    /// Enrols in an empty state directory each host that was retired, that the restored control plane does not know, or
    /// that does not start. Its operator is told to do so.
    fn replace_strangers(&mut self) -> Result<(), String> {
        let living = self.control.living_nodes();
        for host in 0..self.hosts.len() {
            let known = living.iter().any(|node| node == self.hosts[host].node());
            if !known || !self.is_itself(host) || !self.hosts[host].running() {
                let plane = self.hosts[host].data_plane().to_owned();
                let exists = self.estate.data_planes.contains(&plane);
                let plane = if exists { plane } else { self.estate.data_planes[0].clone() };
                self.enrol_anew(host, &plane)?;
                if !self.hosts[host].running() {
                    return Err(format!("host {host} does not start in an empty state directory"));
                }
            }
        }
        Ok(())
    }

    /// Runs `recover` if nodes are ahead of a restored control plane, which then tells its operators to do so.
    fn recover_where_told(&mut self) -> Result<(), String> {
        let replicas = self.control.replicas();
        let ahead = (0..self.hosts.len()).any(|host| {
            let (version, digest) = replicas[self.hosts[host].data_plane()];
            let serves = self.hosts[host].serves();
            serves.is_some_and(|serves| serves.0 > version || (serves.0 == version && serves.1 != digest))
        });
        if ahead {
            self.recover()?;
            self.pass(LONG_ENOUGH)?;
        }
        Ok(())
    }

    fn is_current(&mut self, host: usize) -> Result<(), String> {
        let (version, digest) = self.control.replicas()[self.hosts[host].data_plane()];
        let serves = self.hosts[host].serves();
        let why = self.hosts[host].error().unwrap_or("no error").to_owned();
        if serves.map(|serves| (serves.0, serves.1)) != Some((version, digest)) {
            let held = serves.map(|serves| serves.0);
            return Err(format!(
                "host {host} is stuck at version {held:?}, and the control plane is at {version}: {why}"
            ));
        }
        match self.hosts[host].state() {
            Some(State::Live) => Ok(()),
            state => Err(format!("host {host} is in the state {state:?} after all faults ended: {why}")),
        }
    }

    /// Tells the oracle that all hosts know each revocation that a node signed before its retirement, and each that a
    /// host vouches for because the control plane does not name the node that signed it.
    fn share_revocations(&mut self) {
        let known = |node: &str, at| match self.estate.nodes.get(node) {
            Some((_, retired)) => retired.is_none_or(|retired| at < retired),
            None => true,
        };
        let unsure = |node: &str| {
            self.forked.contains(node) && !matches!(self.estate.nodes.get(node), Some((_, None)))
        };
        let revoked: BTreeSet<usize> = self
            .memories
            .iter()
            .flat_map(|memory| &memory.revocations)
            .filter(|((_, node), at)| known(node, **at) && !unsure(node))
            .map(|((token, _), _)| *token)
            .collect();
        for memory in &mut self.memories {
            memory.revoked.extend(revoked.iter().copied());
        }
    }

    fn opens_rightly(
        &mut self,
        host: usize,
        number: usize,
        value: usize,
        deployment: &str,
    ) -> Result<(), String> {
        self.ask(host, number, value, deployment).map(drop)
    }

    /// Checks that each allowed request has reached the control plane exactly once.
    fn every_use_is_known_above(&self, host: usize) -> Result<(), String> {
        let node = self.hosts[host].node();
        let above = self.control.uses(node);
        let once: BTreeSet<String> = above.iter().cloned().collect();
        if once.len() != above.len() && !self.forked.contains(node) {
            return Err(format!(
                "host {host}: the control plane lists {} uses more than once",
                above.len() - once.len()
            ));
        }
        let memory = &self.memories[host].uses;
        // Two hosts with one identity each remember only their own requests.
        let all: BTreeSet<&String> = (0..self.hosts.len())
            .filter(|other| self.hosts[*other].node() == node)
            .flat_map(|other| &self.memories[other].uses)
            .collect();
        if let Some(missing) = memory.iter().find(|event| !once.contains(*event)) {
            return Err(format!("host {host}: the control plane does not know the use {missing}"));
        }
        let lost = self.lost.get(node);
        let known = |event: &String| all.contains(event) || lost.is_some_and(|lost| lost.contains(event));
        match once.iter().find(|event| !known(event)) {
            Some(invented) => Err(format!("host {host}: the use {invented} never happened")),
            None => Ok(()),
        }
    }
}
