//! Browsers behind every proxy and at the gateway, with the control plane down: the exact answer to each request. Every
//! proxy keeps the same promises, the methods of [`Site`].

use std::path::Path;

use super::contract::Setting;
use super::upstream::Seen;
use super::wire::ask;
use super::{caddy, envoy, haproxy, traefik};
use crate::rig::proxy::nginx_example;
use crate::rig::webdriver::Browser;
use crate::rig::{Answer, Running, component, free_port, nginx, until};

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const SAME: (&str, &str) = ("Sec-Fetch-Site", "same-origin");
const OPENS: [(&str, &str); 3] =
    [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")];

const SESSIONS: &str = "[sessions]\nidle_seconds = 300\n";

/// A deployment with sessions, behind a proxy or at the gateway.
struct Site {
    setting: Setting,
    port: u16,
    _proxy: Option<Running>,
}

impl Site {
    fn at_the_gateway() -> Self {
        let port = free_port();
        let setting = Setting::with(|rig, upstream| {
            format!(
                "{SESSIONS}[gateway]\nlisten = [\"127.0.0.1:{port}\"]\n[gateway.deployments.{}]\n\
                 upstream = \"http://127.0.0.1:{upstream}\"\n",
                rig.deployment
            )
        });
        Self { setting, port, _proxy: None }
    }

    /// Returns a site behind a proxy, which `start` starts at a port; `config` is added to the daemon's configuration.
    fn behind(config: &str, start: impl FnOnce(&Setting, u16) -> Running) -> Self {
        let setting = Setting::with(|_, _| format!("{SESSIONS}{config}"));
        let port = free_port();
        let proxy = Some(start(&setting, port));
        Self { setting, port, _proxy: proxy }
    }

    fn sign_in(&self, token: &str, headers: &[(&str, &str)]) -> Answer {
        let headers = [&[FORM][..], headers].concat();
        ask(self.port, "POST", "/.halligan/sign-in", &headers, &format!("to=%2Fdags%3Fa%3Db&token={token}"))
    }

    /// Signs in and returns the session cookie.
    fn cookie(&self) -> String {
        let answer = self.sign_in(&self.setting.token, &[SAME]);
        assert_eq!((answer.status, answer.header("location")), (303, Some("/dags?a=b")), "{answer:?}");
        let set = answer.header("set-cookie").unwrap();
        for attribute in ["__Host-halligan-session=", "Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
            assert!(set.contains(attribute), "{set}");
        }
        assert!(!set.contains("Domain") && !set.contains(&self.setting.token), "{set}");
        set.split(';').next().unwrap().to_owned()
    }

    fn with(&self, cookie: &str, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        let cookie = format!("theme=dark; {cookie}; _token=spoofed");
        let headers = [&[("Cookie", &*cookie)][..], headers].concat();
        ask(self.port, method, target, &headers, if method == "POST" { "{}" } else { "" })
    }

    fn holds(mut self) {
        // Traefik answers 404 until it has loaded its routes.
        until("it asks the daemon", || ask(self.port, "GET", "/", &[], "").status == 401);
        self.people_are_led_and_programs_are_answered();
        self.a_program_brings_no_cookies();
        self.nobody_signs_in_from_elsewhere();
        let cookie = self.cookie();
        self.a_session_opens_what_its_token_opens(&cookie);
        self.no_spelling_of_cookies_hides_a_session(&cookie);
        self.use_renews_it(&cookie);
        self.nothing_crosses_sites(&cookie);
        self.signing_out_ends_it(&cookie);
        self.a_revocation_ends_it_at_the_next_click();
        self.those_who_fail_too_often_wait();
    }

    fn people_are_led_and_programs_are_answered(&self) {
        let before = self.setting.upstream.asked();
        let led = ask(self.port, "GET", "/dags?a=b", &OPENS, "");
        assert_eq!(led.status, 303, "{led:?}");
        assert_eq!(led.header("location"), Some("/.halligan/sign-in?to=%2Fdags%3Fa%3Db"));
        let old = ask(self.port, "GET", "/dags", &[("Accept", "text/html,*/*;q=0.8")], "");
        assert_eq!(old.status, 303, "{old:?}");
        for headers in [&[("Accept", "application/json")][..], &[SAME, ("Sec-Fetch-Mode", "cors")], &[]] {
            let answer = ask(self.port, "GET", "/api/v2/dags", headers, "");
            assert_eq!((answer.status, answer.reason()), (401, "token_missing"), "{answer:?}");
            assert_eq!(
                (answer.header("location"), answer.header("www-authenticate")),
                (None, Some("Bearer"))
            );
        }
        let program = [OPENS[1], ("Authorization", "Bearer not.a.token")];
        let answer = ask(self.port, "GET", "/dags", &program, "");
        assert_eq!((answer.status, answer.reason()), (401, "token_malformed"), "{answer:?}");
        for (theirs, ours) in [
            ("/auth/login?next=%2Fdags", "/.halligan/sign-in?to=%2Fdags"),
            ("/auth/login?next=//evil.example", "/.halligan/sign-in"),
            ("/auth/logout", "/.halligan/sign-out"),
        ] {
            assert_eq!(ask(self.port, "GET", theirs, &OPENS, "").header("location"), Some(ours), "{theirs}");
        }
        let page = ask(self.port, "GET", "/.halligan/sign-in?to=%2Fdags", &OPENS, "");
        assert_eq!(page.status, 200, "{page:?}");
        assert!(page.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert!(page.body.contains("value=\"/dags\"") && page.body.contains("control plane"), "{page:?}");
        assert_eq!(ask(self.port, "GET", "/.halligan/anything", &OPENS, "").status, 404);
        assert_eq!(self.setting.upstream.asked(), before, "a page of the daemon reached the deployment");
    }

    fn nobody_signs_in_from_elsewhere(&self) {
        let token = &self.setting.token;
        for headers in [
            &[][..],
            &[("Sec-Fetch-Site", "cross-site")],
            &[("Sec-Fetch-Site", "same-site"), ("Origin", "https://prod.example")],
            &[("Sec-Fetch-Site", "none")],
            &[("Origin", "https://evil.example")],
            &[("Origin", "null")],
            &[("Origin", "http://prod.example")],
        ] {
            let answer = self.sign_in(token, headers);
            assert_eq!((answer.status, answer.reason()), (403, "cross_site"), "{headers:?}: {answer:?}");
            assert_eq!(answer.header("set-cookie"), None, "{headers:?}");
        }
        let old = self.sign_in(token, &[("Origin", "https://prod.example")]);
        assert_eq!(old.status, 303, "{old:?}");
        let wrong = self.sign_in("not.a.token", &[SAME]);
        assert_eq!((wrong.status, wrong.reason()), (401, "token_malformed"));
        assert!(wrong.body.contains("evt_"), "{wrong:?}");
        let large = self.sign_in(&"x".repeat(20_000), &[SAME]);
        assert!(matches!(large.status, 400 | 413) && large.header("set-cookie").is_none(), "{large:?}");
    }

    fn a_session_opens_what_its_token_opens(&self, cookie: &str) {
        let seen = Seen::in_answer(&self.with(cookie, "GET", "/api/v2/dags?limit=2", &[SAME]));
        assert_eq!(seen.target, "/api/v2/dags?limit=2");
        self.setting.upstream_knows_who_came(&seen);
        assert_eq!(seen.header("cookie"), Some("theme=dark"));
        assert!(!format!("{seen:?}").contains("halligan-session"), "the session reached the deployment");
        let shell = self.with(cookie, "GET", "/dags", &OPENS);
        assert_eq!(shell.status, 200, "{shell:?}");
        let seen = Seen::in_answer(&self.with(cookie, "POST", "/api/v2/dags/etl/dagRuns", &[SAME]));
        self.setting.upstream_knows_who_came(&seen);
        // A token in the request takes precedence over the session.
        let both = [SAME, ("Authorization", "Bearer not.a.token")];
        assert_eq!(self.with(cookie, "GET", "/api/v2/dags", &both).status, 401);
        let log =
            String::from_utf8(self.setting.rig.cli(&["audit", "tail", "-n", "50", "--json"]).stdout).unwrap();
        let in_log =
            |what: &str| log.lines().any(|line| line.contains("\"session\":\"ses_") && line.contains(what));
        assert!(in_log("/.halligan/sign-in") && in_log("/api/v2/dags/etl/dagRuns"), "{log}");
        assert!(!log.contains(cookie) && !log.contains(&self.setting.token));
    }

    /// Several cookie fields, including some that a proxy may join with a comma. The request may be accepted or
    /// refused, but neither the session nor Airflow's token reaches the deployment.
    fn no_spelling_of_cookies_hides_a_session(&self, cookie: &str) {
        for lines in [
            &["theme=dark", cookie, "_token=spoofed"][..],
            &[cookie, "theme=dark, _token=spoofed"],
            &["_token=spoofed", "theme=\"dark", cookie],
            &["theme=caf\u{e9}", cookie],
            &[&format!("theme=caf\u{e9}; {cookie}")],
        ] {
            let mut headers: Vec<_> = lines.iter().map(|line| ("Cookie", *line)).collect();
            headers.push(SAME);
            let answer = ask(self.port, "GET", "/api/v2/dags", &headers, "");
            if answer.status != 200 {
                assert!([400, 401].contains(&answer.status), "{lines:?}: {answer:?}");
                continue;
            }
            let seen = Seen::in_answer(&answer);
            assert!(!format!("{seen:?}").contains("halligan-session"), "the session reached the deployment");
            let names = seen.header("cookie").unwrap_or_default().split(';').map(str::trim);
            assert!(names.clone().all(|name| !name.starts_with("_token")), "{lines:?}: {seen:?}");
        }
    }

    /// A request with a token and no session cookie passes no cookies to the deployment.
    fn a_program_brings_no_cookies(&self) {
        let answer = ask(self.port, "GET", "/api/v2/dags", &[("Authorization", &self.setting.bearer())], "");
        assert_eq!(Seen::in_answer(&answer).header("cookie").unwrap_or_default(), "");
        assert_eq!(answer.header("set-cookie"), Some("theirs=kept; Path=/"), "{answer:?}");
    }

    /// The renewed cookie is added to the cookies that the deployment sets.
    fn use_renews_it(&mut self, cookie: &str) {
        // With a longer idle time, the next click renews it.
        let path = self.setting.rig.path("halligand.toml");
        let config = std::fs::read_to_string(&path).unwrap().replace(SESSIONS, "[sessions]\n");
        std::fs::write(path, config).unwrap();
        self.setting.rig.kill_daemon();
        self.setting.rig.start_daemon();
        let mut answer = None;
        until("the daemon answers again", || {
            answer = Some(self.with(cookie, "GET", "/api/v2/dags", &[SAME]));
            answer.as_ref().unwrap().status == 200
        });
        let answer = answer.unwrap();
        let set: Vec<_> =
            answer.headers.lines().filter(|line| line.to_lowercase().starts_with("set-cookie:")).collect();
        let [theirs, ours] = ["theirs=kept", "__Host-halligan-session="]
            .map(|name| set.iter().filter(|line| line.contains(name)).collect::<Vec<_>>());
        assert!(theirs.len() == 1 && ours.len() == 1 && set.len() == 2, "{answer:?}");
        for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
            assert!(ours[0].contains(attribute), "{ours:?}");
        }
        let renewed = ours[0].split_once(": ").unwrap().1.split(';').next().unwrap();
        assert_ne!(renewed, cookie);
        assert_eq!(self.with(renewed, "GET", "/api/v2/dags", &[SAME]).status, 200);
        let denied = self.with(cookie, "GET", "/api/v2/nothing", &[SAME]);
        assert_eq!((denied.status, denied.header("set-cookie")), (403, None), "{denied:?}");
    }

    fn nothing_crosses_sites(&self, cookie: &str) {
        let before = self.setting.upstream.asked();
        let cross = ("Sec-Fetch-Site", "cross-site");
        for (method, headers) in [
            ("POST", &[][..]),
            ("POST", &[cross]),
            ("POST", &[("Sec-Fetch-Site", "same-site"), ("Origin", "https://prod.example")]),
            ("POST", &[("Origin", "https://evil.example")]),
            ("GET", &[cross, ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")]),
            ("GET", &[cross, ("Sec-Fetch-Mode", "websocket")]),
        ] {
            let target = if method == "POST" { "/api/v2/dags/etl/dagRuns" } else { "/api/v2/dags" };
            let answer = self.with(cookie, method, target, headers);
            assert_eq!(
                (answer.status, answer.reason()),
                (403, "cross_site"),
                "{method} {headers:?}: {answer:?}"
            );
        }
        let frame = [cross, OPENS[1], ("Sec-Fetch-Dest", "iframe")];
        assert_ne!(self.with(cookie, "GET", "/dags", &frame).status, 200);
        assert_eq!(self.setting.upstream.asked(), before);
        let link = [cross, OPENS[1], OPENS[2]];
        assert_eq!(self.with(cookie, "GET", "/dags", &link).status, 200);
    }

    fn signing_out_ends_it(&mut self, cookie: &str) {
        let elsewhere = self.with(cookie, "POST", "/.halligan/sign-out", &[("Sec-Fetch-Site", "cross-site")]);
        assert_eq!((elsewhere.status, elsewhere.header("set-cookie")), (403, None));
        assert_eq!(self.with(cookie, "GET", "/api/v2/dags", &[SAME]).status, 200);
        let other = self.cookie();
        let out = self.with(cookie, "POST", "/.halligan/sign-out", &[SAME]);
        assert_eq!(out.status, 200, "{out:?}");
        assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"), "{out:?}");
        assert_eq!(out.header("clear-site-data"), Some("\"cache\""));
        let copied = self.with(cookie, "GET", "/api/v2/dags", &[SAME]);
        assert_eq!((copied.status, copied.reason()), (401, "token_missing"));
        let led = self.with(cookie, "GET", "/dags", &OPENS);
        assert_eq!(led.header("location"), Some("/.halligan/sign-in?to=%2Fdags&ended=1"));
        // After a restart the ended session stays ended and the other one continues.
        self.setting.rig.kill_daemon();
        self.setting.rig.start_daemon();
        until("the other session opens", || self.with(&other, "GET", "/api/v2/dags", &[SAME]).status == 200);
        assert_eq!(self.with(cookie, "GET", "/api/v2/dags", &[SAME]).status, 401);
    }

    fn a_revocation_ends_it_at_the_next_click(&self) {
        let cookie = self.cookie();
        let revoked = self.setting.rig.cli(&["revoke", &self.setting.token_id, "--reason", "laptop stolen"]);
        assert!(revoked.status.success(), "{revoked:?}");
        let click = self.with(&cookie, "GET", "/api/v2/dags", &[SAME]);
        assert_eq!((click.status, click.reason()), (401, "token_revoked"), "{click:?}");
        let led = self.with(&cookie, "GET", "/dags", &OPENS);
        let page = led.header("location").unwrap();
        assert!(page.starts_with("/.halligan/refused?reason=token_revoked&event=evt_"), "{led:?}");
        let page = ask(self.port, "GET", page, &OPENS, "");
        assert!(page.body.contains("The token was revoked") && page.body.contains("evt_"), "{page:?}");
        let again = self.sign_in(&self.setting.token, &[SAME]);
        assert_eq!((again.status, again.reason()), (401, "token_revoked"));
    }

    fn those_who_fail_too_often_wait(&self) {
        let limited =
            (0..12).map(|_| self.sign_in("not.a.token", &[SAME])).find(|answer| answer.status == 429);
        let limited = limited.expect("somebody may guess for ever");
        assert_eq!(limited.reason(), "rate_limited");
        assert!(limited.header("retry-after").is_some());
    }
}

#[test]
fn a_browser_at_the_gateway() {
    Site::at_the_gateway().holds();
}

/// Function that starts a proxy from its program.
type Start = fn(&Setting, &Path, u16) -> Running;

/// Setting with which Caddy and Traefik can redirect a browser: they pass on every status, while nginx turns 303 into
/// 500.
const PASS: &str = "[proxies]\npass_status = true\n";

/// Each proxy, the additions to the daemon's configuration that it needs, and the function that starts it.
const PROXIES: [(&str, &str, Start); 7] = [
    ("nginx", "", |setting, _, port| {
        let server = nginx_example(&setting.rig, port, setting.upstream.port);
        nginx::start(&setting.rig, "nginx", "", &server).unwrap()
    }),
    ("caddy", PASS, caddy::start),
    ("caddy-newest", PASS, caddy::start),
    ("haproxy", "", haproxy::start),
    ("traefik", PASS, traefik::start),
    ("envoy", "", |setting, program, port| envoy::start(setting, program, "envoy-http.yaml", port)),
    ("envoy", "", |setting, program, port| envoy::start(setting, program, "envoy-grpc.yaml", port)),
];

#[test]
fn a_browser_behind_every_proxy() {
    for (row, (name, config, start)) in PROXIES.into_iter().enumerate() {
        let Some(program) = component(name) else { continue };
        println!("row {row}: {name}");
        Site::behind(config, |setting, port| start(setting, &program, port)).holds();
    }
}

#[test]
fn without_sessions_no_cookie_opens_anything() {
    let port = free_port();
    let setting = Setting::with(|rig, upstream| {
        format!(
            "[gateway]\nlisten = [\"127.0.0.1:{port}\"]\n[gateway.deployments.{}]\nupstream = \"http://127.0.0.1:{upstream}\"\n",
            rig.deployment
        )
    });
    until("it answers", || ask(port, "GET", "/", &[], "").status != 0);
    let answer = ask(port, "GET", "/.halligan/sign-in", &OPENS, "");
    assert_eq!((answer.status, answer.reason()), (401, "token_missing"));
    assert_eq!(answer.header("location"), None);
    let pages = format!("/v1/pages/{}/.halligan/sign-in", setting.rig.deployment);
    assert_eq!(ask(setting.rig.daemon_port, "GET", &pages, &[], "").status, 404);
}

#[test]
fn nobody_is_shut_out_of_the_daemons_pages() {
    let Some(browser) = Browser::start() else { return };
    let site = Site::at_the_gateway();
    until("it answers", || ask(site.port, "GET", "/", &[], "").status != 0);
    let at = |path: &str| format!("http://localhost:{}/.halligan/{path}", site.port);
    let refused =
        "refused?reason=permission_denied&permission=deployment.airflow.dag.get&event=evt_1-2&to=%2Fdags";
    for scheme in ["light", "dark"] {
        browser.prefers(scheme);
        for path in ["sign-in", "sign-in?ended=1", "sign-out", refused] {
            browser.open(&at(path));
            let Some(barriers) = browser.barriers() else { return };
            assert!(barriers.is_empty(), "{scheme} {path}: {barriers:#?}");
        }
        browser.open(&at("sign-in"));
        browser.write("#token", "not.a.token");
        browser.click("button");
        browser.reads("token_malformed");
        assert_eq!(browser.barriers().unwrap_or_default(), Vec::<String>::new(), "{scheme}");
    }
}
