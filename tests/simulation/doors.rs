//! Browser sessions and glass in a story: users sign in and out, and operators break and seal glass.

use halligan::dataplane::decide::Reason;
use halligan::protocol::time::Time;
use rand::RngExt as _;

use crate::story::Story;
use crate::truth::Broken;

/// Cookie of a browser, with the session's host and token.
pub struct Cookie {
    sealed: String,
    host: usize,
    token: usize,
    value: usize,
    ends: Time,
}

impl Story {
    /// Signs in with a token on a host. The session must have the token's access at once.
    pub fn sign_in(&mut self, host: usize) -> Result<(), String> {
        let Some(token) = self.pick(0..self.tokens.len()) else { return Ok(()) };
        let value = self.random.random_range(0..self.tokens[token].values.len());
        let (text, deployment) =
            (self.tokens[token].values[value].text.clone(), self.tokens[token].deployment.clone());
        let (now, wall) = (self.now, self.wall(host));
        let Some((sealed, ends)) = self.hosts[host].sign_in(&text, &deployment, now, wall) else {
            return Ok(());
        };
        self.note(format!(
            "somebody signs in on host {host} with token {token}: cookie {}",
            self.cookies.len()
        ));
        self.cookies.push(Cookie { sealed, host, token, value, ends });
        let allowed = self.click(self.cookies.len() - 1, host)?;
        match allowed {
            Reason::Ok | Reason::PermissionDenied => Ok(()),
            reason => Err(format!("host {host} answers {} to a session that has just begun", reason.code())),
        }
    }

    /// Signs a random cookie out on its host.
    pub fn sign_out(&mut self) -> Result<(), String> {
        let Some(number) = self.pick(0..self.cookies.len()) else { return Ok(()) };
        let (host, sealed) = (self.cookies[number].host, self.cookies[number].sealed.clone());
        let wall = self.wall(host);
        if self.hosts[host].sign_out(&sealed, wall) {
            self.memories[host].signed_out.insert(number);
            self.note(format!("somebody signs out on host {host}: cookie {number}"));
            self.click(number, host)?;
        }
        Ok(())
    }

    /// Sends a request with a random cookie to its host, or sometimes to another one.
    pub fn browse(&mut self) -> Result<(), String> {
        let Some(number) = self.pick(0..self.cookies.len()) else { return Ok(()) };
        let own = self.cookies[number].host;
        let host =
            if self.random.random_bool(0.8) { own } else { self.random.random_range(0..self.hosts.len()) };
        self.click(number, host).map(drop)
    }

    /// Sends a request with a cookie. The oracle judges it like a request with the token, and also requires that it was
    /// not signed out.
    fn click(&mut self, number: usize, host: usize) -> Result<Reason, String> {
        let Cookie { sealed, token, value, ends, .. } = &self.cookies[number];
        let (token, value, ends, sealed) = (*token, *value, *ends, sealed.clone());
        let (deployment, wall) = (self.tokens[token].deployment.clone(), self.wall(host));
        let Some(decision) = self.hosts[host].ask_by_cookie(&sealed, &deployment, self.now, wall) else {
            return Ok(Reason::TokenMissing);
        };
        if decision.allowed() {
            let memory = &self.memories[host];
            let problems = self.request_of(host, token, value, &deployment).problems(memory);
            let wrong = if memory.signed_out.contains(&number) {
                Some("it was signed out")
            } else if wall >= ends {
                Some("it has expired")
            } else {
                problems.first().copied()
            };
            if let Some(wrong) = wrong {
                return Err(format!("host {host} allows cookie {number} of token {token}, though {wrong}"));
            }
        }
        Ok(decision.reason())
    }

    /// Breaks or seals the glass of a random deployment on a host.
    pub fn break_or_seal(&mut self, host: usize) {
        let Some((deployment, _)) = self.pick(self.estate.deployments.clone()) else { return };
        let (now, wall) = (self.now, self.wall(host));
        if self.random.random_bool(0.3) {
            if self.hosts[host].seal_glass(&deployment) {
                self.note(format!("the glass of {deployment} is sealed on host {host}"));
                self.memories[host].broken.remove(&deployment);
            }
            return;
        }
        let seconds = match self.random.random_range(0..3) {
            0 => self.random.random_range(1..60),
            1 => self.random.random_range(60..3600),
            _ => self.random.random_range(3600..=crate::host::LONGEST_BREAK),
        };
        if let Some(until) = self.hosts[host].break_glass(&deployment, seconds, now, wall) {
            self.note(format!("the glass of {deployment} is broken on host {host}, for {seconds} s"));
            let sure = self.hosts[host].offset == 0;
            let broken = Broken { until, left: seconds, sure };
            self.memories[host].broken.insert(deployment, broken);
        }
    }
}
