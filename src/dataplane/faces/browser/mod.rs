//! Browsers: the session of a request, the redirects after a denial, and the daemon's own pages under `/.halligan/`.
//!
//! A request with an `Authorization` field comes from a program, so its cookies are ignored.

pub mod cookies;
pub mod destination;
mod form;
mod initiator;
mod page;
pub mod site;

use std::sync::Arc;

use hyper::header::HeaderValue;

pub use form::MAX_FORM;

use self::initiator::Stated;
use crate::dataplane::authorize::Verdict;
use crate::dataplane::authorize::sessions::Sessions;
use crate::dataplane::decide::session::{Initiator, Session};
use crate::dataplane::decide::{Credential, Decision};
use crate::platform::net::bearer;
use crate::platform::net::fields::Fields;

/// Credential of a request, with the cookies and facts from which [`Extras`] are made.
pub struct Caller<'h> {
    token: Option<&'h [u8]>,
    session: Option<(Arc<Session>, Initiator)>,
    /// True if a person opens a page by this request.
    opens_page: bool,
}

/// Header fields that a browser or the deployment gets with an answer.
#[derive(Debug, Default)]
pub struct Extras {
    /// Cookies that the deployment gets in place of the request's, or `None` if the request has none or is denied.
    pub cookies: Option<HeaderValue>,
    /// Value of `Set-Cookie`: the session, with its idle time counted anew.
    pub renewed: Option<HeaderValue>,
    /// Value of `Location`: the page to which a person is redirected after a denial.
    pub lead: Option<HeaderValue>,
    /// True if the proxy hands on 303, whatever `proxies.pass_status` says of other statuses.
    pub hands_on_lead: bool,
}

impl<'h> Caller<'h> {
    /// Reads the fields of a request with this method to `host`, which may have a port. Without `sessions` it has none.
    pub fn read<F>(fields: &'h F, method: &str, host: &str, sessions: Option<&Sessions>) -> Self
    where
        F: Fields + ?Sized,
    {
        let token = bearer::token_of(fields);
        let mut caller = Self { token, session: None, opens_page: false };
        if let Some(sessions) = sessions
            && token.is_none()
            && !fields.fields().any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        {
            let stated = Stated::read(fields);
            caller.opens_page = stated.opens_page(method);
            let session = cookies::session(fields).and_then(|sealed| sessions.open(sealed));
            caller.session = session.map(|session| (session, stated.initiator(host)));
        }
        caller
    }

    /// Returns the credential of the request.
    #[must_use]
    pub fn credential(&self) -> Option<Credential<'_>> {
        match (self.token, &self.session) {
            (Some(token), _) => Some(Credential::Token(token)),
            (None, Some((session, initiator))) => Some(Credential::Session(session, *initiator)),
            (None, None) => None,
        }
    }

    /// Returns the fields that belong to the answer to a request for `uri` with these fields.
    #[must_use]
    pub fn extras<F>(self, fields: &F, verdict: &Verdict, uri: &str, sessions: Option<&Sessions>) -> Extras
    where
        F: Fields + ?Sized,
    {
        if let Decision::Denied(denied) = &verdict.decision {
            let lead = self.opens_page.then(|| destination::lead(denied, &verdict.event, uri));
            let lead = lead.and_then(|lead| HeaderValue::try_from(lead).ok());
            return Extras { lead, ..Extras::default() };
        }
        let renewed = self.session.zip(sessions).and_then(|((session, _), sessions)| {
            let (session, sealed) = sessions.renew(&session, verdict.time)?;
            cookies::set(&sealed, session.until().since(verdict.time))
        });
        Extras { cookies: cookies::for_deployment(fields), renewed, ..Extras::default() }
    }
}
