//! The daemon's own site on each deployment's host: sign-in, sign-out, and the explanation of a denial.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::cookies;
use super::destination::{self, PAGES, REFUSED, SIGN_IN, SIGN_OUT};
use super::form::Form;
use super::initiator::Stated;
use super::page::{self, Denial, HostState, Notice};
use crate::dataplane::authorize::sessions::{Ender, Sessions, seen};
use crate::dataplane::authorize::{Authorizer, Verdict};
use crate::dataplane::decide::session::Initiator;
use crate::dataplane::decide::{Decision, Denied, Reason, RequestFacts, Target};
use crate::dataplane::faces::answer::Answer;
use crate::protocol::permission::Permission;

/// Request for a page.
pub struct PageRequest<'a> {
    /// Method of the request.
    pub method: &'a str,
    /// Path and query of the request.
    pub target: &'a str,
    /// Deployment whose host serves the page.
    pub deployment: Target<'a>,
    /// Host of the request, which may have a port.
    pub host: &'a str,
    /// Address of the client, if known.
    pub client: Option<IpAddr>,
    /// Header fields of the request.
    pub headers: &'a HeaderMap,
}

/// Returns true if the daemon serves this path itself.
#[must_use]
pub fn serves(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or(target);
    path.starts_with(PAGES) || path == PAGES.trim_end_matches('/')
}

/// Answers a request for a page.
pub async fn answer(
    authorizer: &Authorizer,
    sessions: &Arc<Sessions>,
    request: &PageRequest<'_>,
    body: &[u8],
) -> Answer {
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    let standing = HostState::observe(&authorizer.live, (authorizer.clock)());
    let site = Site { authorizer, sessions, request, query, standing };
    match (path.strip_prefix(PAGES).unwrap_or_default(), request.method) {
        (SIGN_IN, "GET" | "HEAD") => site.form(),
        (SIGN_IN, "POST") => site.sign_in(body).await,
        (SIGN_OUT, "GET" | "HEAD") => page::sign_out(standing),
        (SIGN_OUT, "POST") => site.sign_out().await,
        (REFUSED, "GET" | "HEAD") => site.refused(),
        (SIGN_IN | SIGN_OUT | REFUSED, _) => {
            let mut answer = see_other(&format!("{PAGES}{SIGN_IN}"));
            *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
            answer
        }
        ("", "GET" | "HEAD") => see_other(&format!("{PAGES}{SIGN_IN}")),
        _ => page::sign_in(StatusCode::NOT_FOUND, "", Notice::None, standing),
    }
}

struct Site<'s> {
    authorizer: &'s Authorizer,
    sessions: &'s Arc<Sessions>,
    request: &'s PageRequest<'s>,
    query: &'s str,
    standing: HostState,
}

impl Site<'_> {
    /// Returns a parameter of the query.
    fn parameter(&self, wanted: &str) -> String {
        let mut pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned()).unwrap_or_default()
    }

    fn form(&self) -> Answer {
        let to = self.parameter("to");
        let note = if self.parameter("ended").is_empty() { Notice::None } else { Notice::Ended };
        page::sign_in(StatusCode::OK, destination::return_path(&to).unwrap_or_default(), note, self.standing)
    }

    /// Facts of the request. The query is not part of them: the log keeps no query.
    fn facts(&self) -> RequestFacts<'_> {
        let uri = self.request.target.split('?').next().unwrap_or_default();
        let PageRequest { method, deployment, client, .. } = *self.request;
        RequestFacts { deployment, method, uri, client }
    }

    /// Returns true if a page of this host sent the request.
    fn is_from_here(&self) -> bool {
        Stated::read(self.request.headers).initiator(self.request.host) == Initiator::SameOrigin
    }

    async fn sign_in(&self, body: &[u8]) -> Answer {
        let facts = self.facts();
        // Another site must not sign a person in with a token of its own choice.
        if !self.is_from_here() {
            return self.refuse(Reason::CrossSite);
        }
        if let Err(wait) = self.sessions.may_try(self.request.client) {
            let mut answer = self.refuse(Reason::RateLimited);
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
            return answer;
        }
        let form = Form::read(self.request.headers, body).unwrap_or_default();
        let to = destination::return_path(&form.to).unwrap_or_default();
        if form.token.is_empty() {
            return page::sign_in(StatusCode::BAD_REQUEST, to, Notice::Empty, self.standing);
        }
        let (authorizer, sessions) = (self.authorizer, self.sessions);
        let trace = authorizer.traces.request(|_| None);
        let signed_in = authorizer.sign_in(sessions, form.token.as_bytes(), &facts, trace);
        let (verdict, session) = signed_in.await;
        let cookie = session.as_ref().and_then(|session| {
            let sealed = sessions.seal(session)?;
            cookies::set(&sealed, session.until().since(verdict.time))
        });
        let cookie = match (verdict.decision, cookie) {
            (Decision::Allowed(_), Some(cookie)) => cookie,
            (decision, _) => {
                sessions.failed(self.request.client);
                let denied = match decision {
                    Decision::Denied(denied) => denied,
                    // The claims are too long for a cookie.
                    Decision::Allowed(_) => Denied::new(Reason::TokenTooLarge, &facts),
                };
                return self.denied(&denied, &verdict.event, to);
            }
        };
        let mut answer = see_other(if to.is_empty() { "/" } else { to });
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
        answer
    }

    async fn sign_out(&self) -> Answer {
        if !self.is_from_here() {
            return self.refuse(Reason::CrossSite);
        }
        let session = cookies::session(self.request.headers).and_then(|sealed| self.sessions.open(sealed));
        let now = (self.authorizer.clock)();
        if let Some(session) = session.filter(|session| !self.sessions.is_over(session, now)) {
            // The session is ended on the host as well, so that a copy of the cookie is worthless.
            let person = Ender::Person(self.request.client);
            let seen = seen(&session);
            self.authorizer.end_session(self.sessions, session.id(), Some(&seen), person).await;
        }
        let mut answer = page::signed_out(self.standing);
        let headers = answer.headers_mut();
        if let Some(gone) = cookies::set("", 0) {
            headers.insert(header::SET_COOKIE, gone);
        }
        // Without this, the back button would show the deployment's pages again.
        let site_data = HeaderName::from_static("clear-site-data");
        headers.insert(site_data, HeaderValue::from_static("\"cache\""));
        answer
    }

    /// Records a denial before any decision, and returns its page.
    fn refuse(&self, reason: Reason) -> Answer {
        let Verdict { decision, event, .. } = self.authorizer.refuse(reason, &self.facts());
        self.denied(&decision, &event, "")
    }

    /// Returns the sign-in page with the reason why it was denied.
    fn denied(&self, denied: &Denied, event: &str, to: &str) -> Answer {
        let (reason, detail) = (denied.reason(), denied.detail());
        let denial = Denial { reason, permission: None, detail: detail.as_deref(), event };
        let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::FORBIDDEN);
        let mut answer = page::sign_in(status, to, Notice::Denied(denial), self.standing);
        let code = HeaderValue::from_static(reason.code());
        answer.headers_mut().insert(HeaderName::from_static("x-halligan-reason"), code);
        answer
    }

    /// Explains a denial. What the query says is shown only as far as it is a code, a permission, an event, or a path.
    fn refused(&self) -> Answer {
        let code = self.parameter("reason");
        let Some(reason) =
            Reason::ALL.into_iter().find(|reason| reason.code() == code && *reason != Reason::Ok)
        else {
            return see_other(&format!("{PAGES}{SIGN_IN}"));
        };
        let permission = self.parameter("permission").parse().ok().map(Permission::as_str);
        let (event, to) = (self.parameter("event"), self.parameter("to"));
        let plain = |event: &&str| {
            let number = |byte: u8| byte.is_ascii_digit() || byte == b'-';
            event.strip_prefix("evt_").is_some_and(|rest| rest.len() <= 41 && rest.bytes().all(number))
        };
        let event = Some(event.as_str()).filter(plain).unwrap_or_default();
        let denial = Denial { reason, permission, detail: None, event };
        let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::FORBIDDEN);
        page::refused(status, denial, destination::return_path(&to).unwrap_or_default(), self.standing)
    }
}

/// Returns an answer that leads to a path of the same host.
fn see_other(path: &str) -> Answer {
    let mut answer = Response::default();
    *answer.status_mut() = StatusCode::SEE_OTHER;
    page::protect(&mut answer);
    let location = HeaderValue::from_str(path).unwrap_or_else(|_| HeaderValue::from_static("/"));
    answer.headers_mut().insert(header::LOCATION, location);
    answer
}
