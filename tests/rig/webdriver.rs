//! A real Chromium, driven by chromedriver over WebDriver (W3C) with curl.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Running, component, curl, free_port, skipped, until};

/// Path to which `.ci/setup` installs axe-core, which finds barriers for users on a page.
const AXE: &str = "/opt/halligan-axe/node_modules/axe-core/axe.min.js";

/// Key of an element's id in WebDriver.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Browser with its own profile.
pub struct Browser {
    session: String,
    _profile: TempDir,
    _driver: Running,
}

impl Browser {
    /// Starts a browser. Returns `None` if Chromium is not installed.
    pub fn start() -> Option<Self> {
        let (program, _) = (component("chromedriver")?, component("chromium")?);
        let (port, profile) = (free_port(), tempfile::tempdir().unwrap());
        let mut command = Command::new(program);
        let driver = Running::start(command.arg(format!("--port={port}")));
        let url = format!("http://127.0.0.1:{port}");
        until("chromedriver answers", || curl(&[format!("{url}/status")]).status == 200);
        let mut arguments: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,900",
            "--lang=en",
        ]
        .map(str::to_owned)
        .into();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments }, "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let made = send("POST", &format!("{url}/session"), &wanted).unwrap();
        let session = format!("{url}/session/{}", made["sessionId"].as_str().unwrap());
        Some(Self { session, _profile: profile, _driver: driver })
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        send(method, &format!("{}{path}", self.session), body)
    }

    pub fn open(&self, url: &str) {
        self.call("POST", "/url", &json!({ "url": url })).unwrap();
    }

    pub fn url(&self) -> String {
        self.call("GET", "/url", &Value::Null).unwrap().as_str().unwrap().to_owned()
    }

    pub fn back(&self) {
        self.call("POST", "/back", &json!({})).unwrap();
    }

    pub fn run(&self, script: &str, arguments: &Value) -> Value {
        self.call("POST", "/execute/sync", &json!({ "script": script, "args": arguments })).unwrap()
    }

    /// Returns the barriers for users that axe-core finds on the page, or `None` if it is not installed.
    pub fn barriers(&self) -> Option<Vec<String>> {
        let Ok(axe) = std::fs::read_to_string(AXE) else {
            skipped("axe-core is not installed; run .ci/setup");
            return None;
        };
        self.run(&axe, &json!([]));
        let script = "const done = arguments[0]; axe.run(document).then(found => done(found.violations.map(fault => \
             `${fault.impact}: ${fault.help}: ${fault.nodes.map(node => node.html).join(' ')}`)), error => done([`${error}`]))";
        let found = self.call("POST", "/execute/async", &json!({ "script": script, "args": [] })).unwrap();
        let found = found.as_array().unwrap().iter();
        Some(found.map(|fault| fault.as_str().unwrap().to_owned()).collect())
    }

    /// Sets the preferred colour scheme of the system: dark or light.
    pub fn prefers(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let command = json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": features } });
        self.call("POST", "/goog/cdp/execute", &command).unwrap();
    }

    /// Returns the text that a user can read on the page.
    pub fn text(&self) -> String {
        let text = self.run("return document.body ? document.body.innerText : ''", &json!([]));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a user can read `text` on the page.
    pub fn reads(&self, text: &str) {
        let started = Instant::now();
        while !self.text().contains(text) {
            assert!(
                started.elapsed() < Duration::from_secs(90),
                "{text:?} does not appear at {}: {}\n{}",
                self.url(),
                self.text(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Returns the browser's log, which its console shows.
    pub fn log(&self) -> String {
        let entries = self.call("POST", "/se/log", &json!({ "type": "browser" })).unwrap_or_default();
        let lines = entries.as_array().into_iter().flatten();
        lines.filter_map(|entry| entry["message"].as_str()).collect::<Vec<_>>().join("\n")
    }

    fn find(&self, css: &str) -> String {
        let started = Instant::now();
        loop {
            let found = self.call("POST", "/element", &json!({ "using": "css selector", "value": css }));
            match found {
                Ok(element) => return element[ELEMENT].as_str().unwrap().to_owned(),
                Err(error) => assert!(
                    started.elapsed() < Duration::from_mins(1),
                    "{css} at {}: {error}\n{}",
                    self.url(),
                    self.text()
                ),
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub fn click(&self, css: &str) {
        let element = self.find(css);
        self.call("POST", &format!("/element/{element}/click"), &json!({})).unwrap();
    }

    pub fn write(&self, css: &str, text: &str) {
        let element = self.find(css);
        self.call("POST", &format!("/element/{element}/value"), &json!({ "text": text })).unwrap();
    }

    pub fn cookies(&self) -> Value {
        self.call("GET", "/cookie", &Value::Null).unwrap()
    }

    /// Writes a screenshot of the page to a file.
    pub fn picture(&self, path: &Path) {
        let encoded = self.call("GET", "/screenshot", &Value::Null).unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.as_str().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.call("DELETE", "", &Value::Null);
    }
}

/// Sends a WebDriver call. Returns the value of the answer.
fn send(method: &str, url: &str, body: &Value) -> Result<Value, String> {
    let mut arguments = vec!["-X".to_owned(), method.to_owned(), "--max-time".into(), "120".into()];
    // The body is sent from a file, because a script may be longer than an argument can be.
    let mut sent = tempfile::NamedTempFile::new().unwrap();
    if !body.is_null() {
        sent.write_all(body.to_string().as_bytes()).unwrap();
        let from = format!("@{}", sent.path().display());
        arguments.extend([
            "-H".into(),
            "Content-Type: application/json".into(),
            "--data-binary".into(),
            from,
        ]);
    }
    arguments.push(url.to_owned());
    let answer = curl(&arguments);
    let mut value: Value =
        serde_json::from_str(&answer.body).map_err(|error| format!("{method} {url}: {error}: {answer:?}"))?;
    let value = value["value"].take();
    match value["error"].as_str() {
        Some(error) => Err(format!("{error}: {}", value["message"])),
        None => Ok(value),
    }
}
