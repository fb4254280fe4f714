//! An outage as seen in a browser: a real Chromium, the real Airflow behind nginx or the gateway, the control plane
//! down, and the daemon restarted.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Airflow, front};
use super::{Tokens, prepare};
use crate::rig::webdriver::Browser;
use crate::rig::{Rig, free_port, head_of_request, until};

/// A deployment in an outage.
struct Outage {
    rig: Rig,
    tokens: Tokens,
    airflow: Airflow,
    browser: Browser,
    /// The deployment's address in the browser.
    url: String,
}

impl Outage {
    fn start(venv: &Path, browser: Browser, gateway: bool) -> Self {
        let mut rig = Rig::start();
        // The daemon writes the key that Airflow has to trust.
        let own = rig.daemon_config() + "[upstream_identity]\n";
        std::fs::write(rig.path("halligand.toml"), own).unwrap();
        rig.kill_daemon();
        rig.start_daemon();
        let tokens = prepare(&rig);
        rig.cli(&["deployment", "update", &rig.deployment, "--glass", "sealed"]);
        rig.synced();
        let airflow = Airflow::start(venv, &rig.path("airflow"), &rig.path("node/jwks.json"));
        let port = free_port();
        let mut config = rig.daemon_config() + "[upstream_identity]\n[sessions]\n";
        if gateway {
            let gateway = format!(
                "[gateway]\nlisten = [\"127.0.0.1:{port}\"]\n[gateway.deployments.{}]\nupstream = \"http://127.0.0.1:{}\"\n\
                 hosts = [\"localhost\"]\n",
                rig.deployment,
                airflow.tapped()
            );
            config.push_str(&gateway);
        }
        std::fs::write(rig.path("halligand.toml"), config).unwrap();
        rig.kill_control();
        rig.kill_daemon();
        rig.start_daemon();
        Self { rig, tokens, airflow, browser, url: format!("http://localhost:{port}") }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn sign_in(&self, token: &str) {
        sign_in(&self.browser, token);
    }

    /// Returns the status that a script on a page of the deployment gets.
    fn asks(&self, method: &str, path: &str, body: &Value) -> u64 {
        let script = "const [method, path, body] = arguments; const request = new XMLHttpRequest(); \
             request.open(method, path, false); request.setRequestHeader('Content-Type', 'application/json'); \
             request.send(method === 'GET' ? null : JSON.stringify(body)); return request.status";
        self.browser.run(script, &json!([method, path, body])).as_u64().unwrap()
    }

    /// Saves a screenshot for docs/airflow.md, if requested.
    fn picture(&self, name: &str) {
        if std::env::var_os("HALLIGAN_WRITE_PICTURES").is_some() {
            // Animations on the page need time to end.
            std::thread::sleep(Duration::from_secs(2));
            self.browser.picture(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures").join(name));
        }
    }

    fn break_glass(&self) {
        let deployment = &*self.rig.deployment;
        self.rig.cli(&["glass", "break", deployment, "--reason", "control plane gone", "--for", "2h"]);
    }

    fn lives(self) {
        self.an_administrator_works();
        self.no_other_site_posts_or_frames();
        self.what_was_shown_is_not_shown_after_signing_out();
        self.a_viewer_may_not_trigger();
        self.sealed_glass_says_why();
        self.a_revocation_says_why();
        self.airflow_saw_neither_token_nor_cookie();
    }

    fn an_administrator_works(&self) {
        let admin = &self.tokens.admin;
        self.browser.open(&self.at("/dags"));
        assert!(self.browser.url().contains("/.halligan/sign-in?to=%2Fdags"), "{}", self.browser.url());
        self.picture("sign-in.png");
        self.sign_in(&admin.1);
        self.browser.reads("glass_sealed");
        self.break_glass();
        self.browser.open(&self.at("/dags"));
        self.sign_in(&admin.1);
        self.browser.reads("etl");
        self.browser.reads("payroll");
        assert_eq!(self.browser.url(), self.at("/dags"));
        self.picture("dags.png");
        self.browser.open(&self.at("/dags/etl"));
        self.browser.reads("load");
        assert_eq!(
            self.asks(
                "POST",
                "/api/v2/dags/etl/dagRuns",
                &json!({ "dag_run_id": "by_hand", "logical_date": null })
            ),
            200
        );
        self.browser.open(&self.at("/dags/etl/runs/by_hand"));
        self.browser.reads("by_hand");
        self.airflow.failed("etl", "by_hand", "load", "the warehouse has no space left");
        self.browser.open(&self.at("/dags/etl/runs/by_hand/tasks/load"));
        self.browser.reads("the warehouse has no space left");
        self.picture("log.png");
    }

    fn no_other_site_posts_or_frames(&self) {
        // Another origin of the same site: the browser sends the cookie, so only the daemon's check prevents the
        // request.
        let page = format!(
            "<!doctype html><iframe src=\"{0}/dags\"></iframe>\
             <form id=p method=post action=\"{0}/api/v2/dags/etl/dagRuns\"></form>",
            self.url
        );
        self.browser.open(&elsewhere(page));
        std::thread::sleep(Duration::from_secs(2));
        self.browser.run("document.getElementById('p').submit()", &json!([]));
        until("the post has been decided", || {
            self.events().iter().any(|event| event["method"] == "POST" && event["reason"] == "cross_site")
        });
        let run = |event: &&Value| event["method"] == "POST" && event["path"] == "/api/v2/dags/etl/dagRuns";
        let events = self.events();
        let mut reasons: Vec<_> = events.iter().filter(run).map(|event| event["reason"].clone()).collect();
        reasons.sort_by_key(Value::to_string);
        assert_eq!(reasons, ["cross_site", "ok"]);
    }

    fn what_was_shown_is_not_shown_after_signing_out(&self) {
        self.browser.open(&self.at("/dags/etl/runs/by_hand"));
        self.browser.reads("by_hand");
        self.browser.open(&self.at("/.halligan/sign-out"));
        self.browser.click("button");
        self.browser.reads("The session is over");
        self.browser.back();
        self.browser.reads("Signing out ends");
        self.browser.back();
        self.browser.reads("Sign in to this deployment");
        assert!(!self.browser.text().contains("by_hand"), "{}", self.browser.text());
    }

    fn a_viewer_may_not_trigger(&self) {
        self.browser.open(&self.at("/dags/etl"));
        self.sign_in(&self.tokens.viewer.1);
        self.browser.reads("load");
        assert_eq!(self.asks("POST", "/api/v2/dags/etl/dagRuns", &json!({ "logical_date": null })), 403);
        self.browser.open(&self.at("/dags"));
        self.browser.reads("payroll");
    }

    fn sealed_glass_says_why(&self) {
        self.rig.cli(&["glass", "seal", &self.rig.deployment]);
        self.browser.open(&self.at("/dags"));
        self.browser.reads("glass_sealed");
        self.browser.reads("halligan glass break");
        self.break_glass();
        // The first link repeats the request in the same session.
        self.browser.click("main a");
        self.browser.reads("payroll");
    }

    fn a_revocation_says_why(&self) {
        let revoked = self.rig.cli(&["revoke", &self.tokens.viewer.0, "--reason", "laptop stolen"]);
        assert!(revoked.status.success(), "{revoked:?}");
        self.browser.open(&self.at("/dags/etl"));
        self.browser.reads("The token was revoked");
        self.picture("refused.png");
        self.browser.open(&self.at("/.halligan/sign-in"));
        self.sign_in(&self.tokens.viewer.1);
        self.browser.reads("token_revoked");
    }

    fn events(&self) -> Vec<Value> {
        let log = self.rig.cli(&["audit", "tail", "-n", "1000", "--json"]).stdout;
        String::from_utf8(log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn airflow_saw_neither_token_nor_cookie(&self) {
        let seen = self.airflow.seen();
        for (id, value) in self.tokens.all() {
            let signature = value.rsplit('.').next().unwrap();
            assert!(!seen.contains(value) && !seen.contains(signature), "the token of {id} reached Airflow");
        }
        assert!(!seen.contains("halligan-session"), "the session reached Airflow");
    }
}

/// Signs in on the page with the field for a token.
pub(super) fn sign_in(browser: &Browser, token: &str) {
    browser.reads("Sign in to this deployment");
    browser.write("#token", token);
    browser.click("button");
}

/// Serves a page on its own port, which makes it another origin. The server ends with the test's process.
fn elsewhere(page: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            head_of_request(&mut stream);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close";
            let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{page}", page.len());
        }
    });
    url
}

#[test]
fn a_person_with_a_browser_works_through_an_outage_at_the_gateway() {
    let Some(venv) = crate::rig::airflow::venv() else { return };
    let Some(browser) = Browser::start() else { return };
    let _alone = crate::rig::alone();
    Outage::start(&venv, browser, true).lives();
}

#[test]
fn a_person_with_a_browser_works_through_an_outage_behind_nginx() {
    let Some(venv) = crate::rig::airflow::venv() else { return };
    let Some(browser) = Browser::start() else { return };
    let _alone = crate::rig::alone();
    let mut outage = Outage::start(&venv, browser, false);
    let Some((url, _nginx)) = front(&outage.rig, outage.airflow.tapped()) else { return };
    outage.url = url.replace("127.0.0.1", "localhost");
    outage.lives();
}
