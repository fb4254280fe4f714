//! Targets of redirects: the daemon's pages, and the page that the person wanted to open.

use form_urlencoded::Serializer;

use crate::dataplane::decide::routes::is_target;
use crate::dataplane::decide::{Denied, Reason};
use crate::protocol::permission::Permission;

/// Path under which the daemon's pages stand on each deployment's host.
pub const PAGES: &str = "/.halligan/";
/// Page that takes a token.
pub const SIGN_IN: &str = "sign-in";
/// Page that ends the session.
pub const SIGN_OUT: &str = "sign-out";
/// Page that explains a denial.
pub const REFUSED: &str = "refused";

/// Maximum length of a path to which a browser is redirected after a sign-in.
const MAX_RETURN_PATH: usize = 2048;

/// Returns `to` if it is a path on the same host that a browser may be redirected to. Returns `None` for text that a
/// browser could read as another host: two slashes, or characters that it strips or turns into slashes before it parses the
/// address.
#[must_use]
pub fn return_path(to: &str) -> Option<&str> {
    let rest = to.strip_prefix('/')?;
    let path = to.split(['?', '#']).next().unwrap_or(to);
    let leads = !rest.starts_with(['/', '\\'])
        && !to.contains('\\')
        && to.len() <= MAX_RETURN_PATH
        && is_target(to.as_bytes())
        // Prevents a redirect loop.
        && !path.starts_with(PAGES)
        && own_page(path).is_none();
    leads.then_some(to)
}

/// Pages of Airflow that the daemon replaces by its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnPage {
    SignIn,
    SignOut,
}

fn own_page(path: &str) -> Option<OwnPage> {
    match path.strip_prefix("/api/v2").unwrap_or(path) {
        "/auth/login" | "/auth/login/" => Some(OwnPage::SignIn),
        "/auth/logout" | "/auth/logout/" => Some(OwnPage::SignOut),
        _ => None,
    }
}

/// Returns the address of a page of the daemon, with parameters.
fn page(name: &str, parameters: &[(&str, &str)]) -> String {
    let parameters = parameters.iter().filter(|(_, value)| !value.is_empty());
    let query = Serializer::new(String::new()).extend_pairs(parameters).finish();
    if query.is_empty() { format!("{PAGES}{name}") } else { format!("{PAGES}{name}?{query}") }
}

/// Returns the address to which a person is redirected after a denial of `uri`.
#[must_use]
pub fn lead(denied: &Denied, event: &str, uri: &str) -> String {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let next = || form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "next");
    let (reason, found) = (denied.reason(), denied.facts());
    match own_page(path) {
        Some(OwnPage::SignOut) => return page(SIGN_OUT, &[]),
        // For any other reason the person sees the page that explains the denial.
        Some(OwnPage::SignIn) if matches!(reason, Reason::TokenMissing | Reason::RouteUnknown) => {
            let next = next().map(|(_, to)| to.into_owned()).unwrap_or_default();
            // Airflow names the whole address of the page.
            let to = next
                .split_once("://")
                .map_or(&*next, |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
            return page(SIGN_IN, &[("to", return_path(to).unwrap_or_default())]);
        }
        _ => {}
    }
    let to = return_path(uri).unwrap_or_default();
    if reason == Reason::TokenMissing {
        // The request named a session, which has ended.
        let ended = if found.session.is_some() { "1" } else { "" };
        return page(SIGN_IN, &[("to", to), ("ended", ended)]);
    }
    let permission = found.permission.filter(|_| reason == Reason::PermissionDenied);
    let permission = permission.map_or("", Permission::as_str);
    page(REFUSED, &[("reason", reason.code()), ("permission", permission), ("event", event), ("to", to)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dataplane::decide::{RequestFacts, Target};

    #[test]
    fn nobody_is_led_to_another_host() {
        for good in ["/", "/dags", "/dags/etl?tab=grid&x=%2F%2Fevil.example", "/a//b", "/dags/%0d%0a"] {
            assert_eq!(return_path(good), Some(good));
        }
        for bad in [
            "",
            "dags",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/a\\b",
            "https://evil.example",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/ /evil.example",
            "/dags#//evil.example",
            "/caf\u{e9}",
            "/dags\r\nSet-Cookie: a=b",
            "/\0",
            "/.halligan/sign-in",
            "/.halligan/refused?to=/",
            "/auth/login?next=/",
            "/auth/logout",
            "/api/v2/auth/login",
            &format!("/{}", "x".repeat(MAX_RETURN_PATH)),
        ] {
            assert_eq!(return_path(bad), None, "{bad:?}");
        }
    }

    fn denied(reason: Reason) -> Denied {
        let facts = RequestFacts { deployment: Target::Unknown, method: "GET", uri: "/", client: None };
        Denied::new(reason, &facts)
    }

    #[test]
    fn a_denied_person_is_led_to_the_page_that_helps() {
        let lead = |denied: &Denied, uri: &str| lead(denied, "evt_1-2", uri);
        let missing = denied(Reason::TokenMissing);
        assert_eq!(lead(&missing, "/dags?a=b&c"), "/.halligan/sign-in?to=%2Fdags%3Fa%3Db%26c");
        assert_eq!(lead(&missing, "//evil.example"), "/.halligan/sign-in");
        let ended = missing.clone().about(Some("ses_a".parse().unwrap()), None);
        assert_eq!(lead(&ended, "/dags"), "/.halligan/sign-in?to=%2Fdags&ended=1");
        assert_eq!(
            lead(&denied(Reason::GlassSealed), "/dags"),
            "/.halligan/refused?reason=glass_sealed&event=evt_1-2&to=%2Fdags"
        );
        let permission = Some("deployment.airflow.dag.get".parse().unwrap());
        let refused = denied(Reason::PermissionDenied).about(None, permission);
        assert!(lead(&refused, "/dags").contains("permission=deployment.airflow.dag.get"));
        // Airflow's own pages.
        for uri in
            ["/auth/login?next=https%3A%2F%2Fa.example%2Fdags%3Fx", "/api/v2/auth/login?next=%2Fdags%3Fx"]
        {
            assert_eq!(
                lead(&denied(Reason::RouteUnknown), uri),
                "/.halligan/sign-in?to=%2Fdags%3Fx",
                "{uri}"
            );
        }
        for next in ["//evil.example", "https://evil.example", "https://a//evil.example", "javascript:a"] {
            let uri = format!("/auth/login?next={next}");
            assert_eq!(lead(&missing, &uri), "/.halligan/sign-in", "{uri}");
        }
        assert_eq!(lead(&denied(Reason::RouteUnknown), "/auth/logout"), "/.halligan/sign-out");
        assert!(lead(&denied(Reason::TokenRevoked), "/auth/login?next=/").contains("reason=token_revoked"));
    }
}
