//! The daemon's pages: small, made on the server, without scripts, and with nothing loaded from elsewhere.

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use sha2::{Digest, Sha256};

use super::destination::{PAGES, SIGN_IN, SIGN_OUT};
use crate::dataplane::decide::Reason;
use crate::dataplane::decide::snapshot::Snapshot;
use crate::dataplane::faces::answer::Answer;
use crate::dataplane::node::state::Live;
use crate::platform::text::escape_html;
use crate::protocol::event::Connectivity;
use crate::protocol::time::Time;

const STYLE: &str = "\
:root{color-scheme:light dark;background:var(--page);color:var(--text);--page:#fff;--text:#1b1b1b;--line:#767676;--soft:#5c5c5c;--warn:#8a1f11;--act:#0b57d0}\
@media(prefers-color-scheme:dark){:root{--page:#1b1b1b;--text:#eee;--line:#8a8a8a;--soft:#b5b5b5;--warn:#ffb4a9;--act:#a8c7fa}}\
body{font:1rem/1.5 system-ui,sans-serif;margin:0 auto;max-width:34rem;padding:1.5rem 1rem}\
h1{font-size:1.4rem;line-height:1.25}label{display:block;font-weight:600;margin:1rem 0 .25rem}\
textarea,input{box-sizing:border-box;font:inherit;width:100%;border:1px solid var(--line);border-radius:.25rem;padding:.5rem}\
textarea{font-family:ui-monospace,monospace;height:7rem}\
button{font:inherit;font-weight:600;margin-top:1rem;padding:.6rem 1.2rem;border:2px solid var(--act);border-radius:.25rem;background:none;color:var(--act);cursor:pointer}\
a{color:var(--act)}code{font-family:ui-monospace,monospace;overflow-wrap:anywhere}\
.warn{border-left:.3rem solid var(--warn);padding-left:.75rem}.warn strong{color:var(--warn)}\
footer{border-top:1px solid var(--line);color:var(--soft);margin-top:2rem;padding-top:.75rem;font-size:.9rem}";

/// Policy of the pages: nothing but their own style, forms to their own host, and no frame around them.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

/// State of the host, at the foot of each page.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostState {
    connectivity: Connectivity,
    /// Age of the replica in seconds, or `None` without a replica.
    age: Option<i64>,
}

impl HostState {
    /// Returns the state at `wall`.
    #[must_use]
    pub(super) fn observe(live: &Live, wall: Time) -> Self {
        let signed = Snapshot::signed_at(&live.snapshot());
        let age = signed.map(|signed| live.now(wall).effective().since(signed).max(0));
        Self { connectivity: live.connectivity(), age }
    }

    fn text(self) -> String {
        let reached = match self.connectivity {
            Connectivity::Online => "This host reaches its control plane.",
            Connectivity::Offline => "This host can’t reach its control plane: an outage. It decides alone.",
            Connectivity::Connecting => "This host has not reached its control plane since it started.",
        };
        let age = self.age.map_or_else(
            || "It has no replica of the tokens.".to_owned(),
            |age| format!("What it knows of the tokens is {} old.", duration(age)),
        );
        format!("{reached} {age}")
    }
}

/// Returns a duration in words, in its two largest units.
fn duration(seconds: i64) -> String {
    let unit = |count: i64, name: &str| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
    let both = |large: i64, name: &str, small: i64, other: &str| match small {
        0 => unit(large, name),
        small => format!("{} {}", unit(large, name), unit(small, other)),
    };
    match seconds {
        ..60 => unit(seconds, "second"),
        60..3600 => unit(seconds / 60, "minute"),
        3600..86_400 => both(seconds / 3600, "hour", seconds % 3600 / 60, "minute"),
        _ => both(seconds / 86_400, "day", seconds % 86_400 / 3600, "hour"),
    }
}

/// Returns a page with this content.
fn page(status: StatusCode, title: &str, content: &str, standing: HostState) -> Answer {
    let text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} - Halligan</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><meta name=\"robots\" content=\"noindex\">\
         <style>{STYLE}</style></head><body><main><h1>{title}</h1>{content}</main>\
         <footer>{}</footer></body></html>\n",
        standing.text()
    );
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    protect(&mut answer);
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// Sets the fields that keep an answer to its own host and out of caches.
pub(super) fn protect(answer: &mut Answer) {
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With `no-referrer` browsers would send `Origin: null` with a form.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Denial that a page explains.
#[derive(Clone, Copy, Debug)]
pub(super) struct Denial<'d> {
    /// Reason of the denial.
    pub(super) reason: Reason,
    /// Permission that was missing, by its name in the catalogue.
    pub(super) permission: Option<&'static str>,
    /// Further explanation.
    pub(super) detail: Option<&'d str>,
    /// Identifier of the event.
    pub(super) event: &'d str,
}

impl Denial<'_> {
    fn html(&self) -> String {
        let mut text = format!(
            "<div class=\"warn\" role=\"alert\"><p><strong>{}.</strong> <code>{}</code></p>",
            escape_html(self.reason.title()),
            self.reason.code()
        );
        // Writing to a string does not fail.
        if let Some(permission) = self.permission {
            let _ = write!(text, "<p>It needs the permission <code>{}</code>.</p>", escape_html(permission));
        }
        if let Some(detail) = self.detail {
            let _ = write!(text, "<p>{}.</p>", escape_html(detail));
        }
        let _ = write!(text, "<p>{}</p>", advice(self.reason));
        if !self.event.is_empty() {
            let _ = write!(
                text,
                "<p>Quote this event to an operator: <code>{}</code></p>",
                escape_html(self.event)
            );
        }
        text + "</div>"
    }
}

/// Returns what a person can do about a denial.
fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::Ok => "Nothing is wrong.",
        Reason::TokenMissing => "Sign in.",
        Reason::TokenMalformed | Reason::TokenTooLarge => {
            "Paste the whole value of a token, as it was shown when the token was made, and nothing else."
        }
        Reason::SignatureInvalid => "Paste the value again, whole: a part of it was changed or lost.",
        Reason::KeyUnknown => {
            "The token comes from another installation, or its signing key was withdrawn. Sign in with another token."
        }
        Reason::TokenUnknown => {
            "The token may be newer than what this host knows, or of another installation. Use one that was made before the outage."
        }
        Reason::TokenExpired => "Sign in with a token that has not expired.",
        Reason::TokenNotYetValid => "Wait until the token begins to be valid, or sign in with another.",
        Reason::TokenRevoked => {
            "A revocation is final. Sign in with another token, or ask those who revoked it for a new one."
        }
        Reason::TokenRotated => "Sign in with the newest value of the token.",
        Reason::WrongDeployment => {
            "Open the address of the deployment that the token is for, or sign in with a token for this one."
        }
        Reason::RoleMismatch => {
            "What this host knows of the token contradicts it. Ask an operator of this host to look into it."
        }
        Reason::PermissionDenied => {
            "Sign in with a token whose role has this permission, or ask somebody who has one."
        }
        Reason::RouteUnknown => "No role opens this address. Go back to a page that you know.",
        Reason::PathInvalid => {
            "The address, or what the proxy says of it, can be read in two ways. Open the page by its plain address."
        }
        Reason::NeedsControlPlane => {
            "A standard token opens this only while this host reaches its control plane. Sign in with a direct-access token."
        }
        Reason::SourceNotAllowed => "Use the token from a network that it was made for.",
        Reason::GlassSealed => {
            "Whoever administers this host (root, or a user in admin.allow_uids) can break the glass with halligan glass break. Then try again."
        }
        Reason::CrossSite => {
            "Another site, a frame or an old browser sent this. Open this site by its own address, and do it there."
        }
        Reason::RateLimited => "Wait for a minute, then try again.",
        Reason::ReplicaMissing => "An operator of this host can bring one in with halligan replica import.",
        Reason::ReplicaStale => {
            "Try another host. An operator of this host can bring in a newer replica with halligan replica import."
        }
        Reason::ClockUntrusted => "Ask an operator of this host to set its clock.",
        Reason::AuditUnavailable => {
            "Ask an operator of this host to look at its disk: what can’t be recorded is not allowed."
        }
    }
}

/// Content of the sign-in page besides its form.
#[derive(Clone, Copy, Debug)]
pub(super) enum Notice<'n> {
    /// Nothing.
    None,
    /// A session has ended.
    Ended,
    /// A sign-in was denied.
    Denied(Denial<'n>),
    /// The form holds no token.
    Empty,
}

/// Returns the sign-in page. Afterwards it leads to `to`.
pub(super) fn sign_in(status: StatusCode, to: &str, note: Notice<'_>, standing: HostState) -> Answer {
    let note = match note {
        Notice::None => String::new(),
        Notice::Ended => "<p class=\"warn\" role=\"status\"><strong>Your session has ended.</strong> Sessions end some time after \
                        the last click, and some hours after sign-in. Sign in again.</p>"
            .to_owned(),
        Notice::Denied(denial) => denial.html(),
        Notice::Empty => "<p class=\"warn\" role=\"alert\"><strong>There was no token in the form.</strong> Paste one, or choose \
                        a file that holds one.</p>"
            .to_owned(),
    };
    let content = format!(
        "{note}<p>Sign in to this deployment with a token. In an outage it has to be a direct-access token.</p>\
         <form method=\"post\" action=\"{PAGES}{SIGN_IN}\" enctype=\"multipart/form-data\">\
         <input type=\"hidden\" name=\"to\" value=\"{}\">\
         <label for=\"token\">Token</label>\
         <textarea id=\"token\" name=\"token\" autocomplete=\"off\" autocapitalize=\"off\" spellcheck=\"false\"></textarea>\
         <label for=\"file\">Or a file that holds it</label>\
         <input id=\"file\" name=\"file\" type=\"file\">\
         <button type=\"submit\">Sign in</button></form>",
        escape_html(to)
    );
    page(status, "Sign in", &content, standing)
}

/// Returns the page that asks whether to sign out.
pub(super) fn sign_out(standing: HostState) -> Answer {
    let content = format!(
        "<p>Signing out ends this browser’s session on this host.</p>\
         <form method=\"post\" action=\"{PAGES}{SIGN_OUT}\"><button type=\"submit\">Sign out</button></form>\
         <p><a href=\"/\">Stay signed in</a></p>"
    );
    page(StatusCode::OK, "Sign out", &content, standing)
}

/// Returns the page after signing out.
pub(super) fn signed_out(standing: HostState) -> Answer {
    let content = format!(
        "<p role=\"status\">The session is over.</p><p><a href=\"{PAGES}{SIGN_IN}\">Sign in again</a></p>"
    );
    page(StatusCode::OK, "Signed out", &content, standing)
}

/// Returns the page that explains a denial. `to` is where the person wanted to go.
pub(super) fn refused(status: StatusCode, denial: Denial<'_>, to: &str, standing: HostState) -> Answer {
    let again = if to.is_empty() {
        String::new()
    } else {
        format!("<a href=\"{}\">Try again</a> &middot; ", escape_html(to))
    };
    let content = format!(
        "{}<p>{again}<a href=\"/\">Start page</a> &middot; <a href=\"{PAGES}{SIGN_IN}\">Sign in with another token</a> &middot; \
         <a href=\"{PAGES}{SIGN_OUT}\">Sign out</a></p>",
        denial.html()
    );
    page(status, "Refused", &content, standing)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http_body_util::BodyExt as _;

    use super::*;

    const HOST_STATE: HostState = HostState { connectivity: Connectivity::Offline, age: Some(7_290) };

    async fn text(answer: Answer) -> String {
        String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
    }

    #[tokio::test]
    async fn a_page_says_the_reason_in_words_and_how_the_host_stands() {
        for reason in Reason::ALL {
            let denial = Denial {
                reason,
                permission: Some("deployment.airflow.dag.get"),
                detail: None,
                event: "evt_1-2",
            };
            let page = text(refused(StatusCode::FORBIDDEN, denial, "/dags", HOST_STATE)).await;
            assert!(page.contains(reason.code()) && page.contains(advice(reason)), "{page}");
            assert!(page.contains("deployment.airflow.dag.get") && page.contains("evt_1-2"), "{page}");
            assert!(
                page.contains("href=\"/dags\"") && page.contains("can’t reach its control plane"),
                "{page}"
            );
            assert!(page.contains("2 hours 1 minute"), "{page}");
        }
    }

    #[tokio::test]
    async fn a_page_runs_nothing_and_loads_nothing() {
        let hostile = "/\"><script>alert('1')</script>";
        let answer = sign_in(StatusCode::OK, hostile, Notice::Ended, HOST_STATE);
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
        let page = text(answer).await;
        assert!(!page.contains("<script") && page.contains("value=\"/&quot;&gt;&lt;script"), "{page}");
        for loaded in ["src=", "@import", "url(", "http://", "https://", "onclick"] {
            assert!(!page.contains(loaded), "{loaded}: {page}");
        }
    }

    #[test]
    fn a_duration_has_its_two_largest_units() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (60, "1 minute"),
            (3599, "59 minutes"),
            (3600, "1 hour"),
            (7290, "2 hours 1 minute"),
            (86_400, "1 day"),
            (176_400, "2 days 1 hour"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
