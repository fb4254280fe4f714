//! Deploys, as the platform's command line makes them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::expected::{Deploy, DeployStatus, Deploys};
use super::{BASES, call, decoded};
use crate::rig::control::Control;
use crate::rig::estate::Estate;
use crate::rig::{Answer, curl, until};

/// Entry of an archive: its kind, name, content and the size that its header states.
type Entry<'a> = (u8, &'a str, &'a [u8], u64);

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns an archive of these entries, including ones that no usual program writes.
fn archive_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (kind, name, content, size) in entries {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(EntryType::new(*kind));
        header.set_size(*size);
        header.set_mode(0o644);
        header.set_cksum();
        tar.extend(header.as_bytes());
        tar.extend(*content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    gzip(&tar)
}

fn archive(name: &str, content: &str) -> Vec<u8> {
    archive_of(&[(b'0', name, content.as_bytes(), content.len() as u64)])
}

/// Puts bytes to an upload URL as the platform's command line does.
fn upload(url: &str, bytes: &[u8]) -> Answer {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let path = file.path().to_str().unwrap();
    curl(&["-T", path, "-H", "Expect:", "-H", "x-ms-blob-type: BlockBlob", url])
}

fn deployment_token(control: &Control, estate: &Estate) -> String {
    let new = json!({ "name": "ci", "scope": "DEPLOYMENT", "entityId": estate.deployment, "role": "DEPLOYMENT_ADMIN" });
    control.make("/tokens", &new)["token"].as_str().unwrap().to_owned()
}

/// Deploys of one deployment, called with one token.
struct Place<'a> {
    control: &'a Control,
    token: String,
    path: String,
}

impl<'a> Place<'a> {
    fn new(control: &'a Control, token: &str, base: &str, deployment: &str) -> Self {
        let path = format!("{base}/organizations/{}/deployments/{deployment}/deploys", control.organization);
        Self { control, token: token.to_owned(), path }
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        call(self.control, &self.token, "POST", &format!("{}{path}", self.path), Some(body))
    }

    fn show(&self, id: &str) -> Deploy {
        decoded(&call(self.control, &self.token, "GET", &format!("{}/{id}", self.path), None))
    }

    fn list(&self, query: &str) -> Deploys {
        decoded(&call(self.control, &self.token, "GET", &format!("{}{query}", self.path), None))
    }

    fn create(&self) -> (String, String) {
        let made: Deploy = decoded(&self.post("", &json!({ "type": "DAG_ONLY" })));
        assert_eq!((&made.status, made.is_in_force), (&DeployStatus::Initialized, false));
        (made.id.0, made.dags_upload_url.unwrap())
    }

    fn deploy(&self, bytes: &[u8]) -> Deploy {
        let (id, url) = self.create();
        let uploaded = upload(&url, bytes);
        assert_eq!(uploaded.status, 201, "{uploaded:?}");
        let version = uploaded.header("x-ms-version-id").unwrap();
        let body = json!({ "dagTarballVersion": version });
        let deployed: Deploy = decoded(&self.post(&format!("/{id}/finalize"), &body));
        assert_eq!((&deployed.status, deployed.is_in_force), (&DeployStatus::Deployed, true));
        assert_eq!(deployed.dag_tarball_version.as_deref(), Some(version));
        deployed
    }
}

#[test]
fn a_deployment_token_deploys_and_rolls_back_with_the_calls_of_the_platforms_command_line() {
    let control = Control::start("");
    let estate = control.estate();
    let token = deployment_token(&control, &estate);
    let mut versions = Vec::new();
    for (number, base) in BASES.into_iter().enumerate() {
        let place = Place::new(&control, &token, base, &estate.deployment);
        let new = json!({ "type": "DAG_ONLY", "description": "nightly",
            "git": { "provider": "GITHUB", "account": "acme", "repo": "dags", "commitSha": "0123", "branch": "main" } });
        let made: Deploy = decoded(&place.post("", &new));
        assert_eq!(
            (made.description.as_deref(), made.git.unwrap().commit_sha),
            (Some("nightly"), "0123".into())
        );
        let bytes = archive(&format!("dags/a{number}.py"), "x = 1\n");
        let first = place.deploy(&bytes);
        assert_eq!(first.created_by_subject.api_token_name.as_deref(), Some("ci"));
        // A repeated last call has no further effect.
        let again: Deploy = decoded(&place.post(&format!("/{}/finalize", first.id.0), &json!({})));
        assert_eq!(again.version, first.version);
        let second = place.deploy(&archive("dags/b.py", "y = 2\n"));
        let back: Deploy =
            decoded(&place.post(&format!("/{}/rollback", first.id.0), &json!({ "description": "back" })));
        assert_eq!(back.dag_tarball_version, first.dag_tarball_version);
        assert_eq!((back.rollback_from_id.as_ref(), back.is_in_force), (Some(&first.id), true));
        versions.extend([first.version, second.version, back.version]);
        assert!(!place.show(&first.id.0).is_in_force && place.show(&back.id.0).is_in_force);
        let described: Deploy =
            decoded(&place.post(&format!("/{}", back.id.0), &json!({ "description": "better" })));
        assert_eq!(described.description.as_deref(), Some("better"));
        let page = place.list("?limit=2&offset=0");
        assert_eq!((page.deploys.len(), page.total_count), (2, 4 * (number as u64 + 1)));
        assert!(page.deploys.iter().all(|deploy| deploy.dags_upload_url.is_none()), "shown once");
    }
    assert!(versions.iter().all(Option::is_some) && versions.is_sorted(), "{versions:?}");
    versions.dedup();
    assert_eq!(versions.len(), 9);
    // The audit log has the uploads, and no log has the key of an upload URL.
    let log = control.get("/audit-log?call=PUT%20/v1/deploy-uploads/%7Bid%7D");
    assert_eq!(log["entries"].as_array().unwrap().len(), 6, "{log}");
    let text = std::fs::read_to_string(control.log()).unwrap();
    assert!(!text.contains("key="), "{text}");
}

#[test]
fn what_is_no_archive_of_a_folder_is_refused_and_puts_nothing_in_force() {
    let control = Control::start("");
    let estate = control.estate();
    let place = Place::new(&control, &control.owner, "/v1", &estate.deployment);
    let good = archive("a.py", "x = 1\n");
    let (id, url) = place.create();
    let file = |name: &'static str| -> Entry<'static> { (b'0', name, b"x", 1) };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (good[..good.len() - 9].to_vec(), "ends early"),
        (good[..20].to_vec(), "ends early"),
        (Vec::new(), "ends early"),
        (b"PK\x03\x04 no gzip file".to_vec(), "not a gzip file"),
        (gzip(b"no tar file at all, and long enough".repeat(20).as_slice()), "no tar file"),
        ([&good[..], b"more"].concat(), "behind its end"),
        ([&good[..], &good].concat(), "behind its end"),
        (archive_of(&[(b'2', "a", b"", 0)]), "is a link"),
        (archive_of(&[(b'1', "a", b"", 0)]), "is a link"),
        (archive_of(&[(b'3', "a", b"", 0)]), "neither a file nor a directory"),
        (archive_of(&[(b'4', "a", b"", 0)]), "neither a file nor a directory"),
        (archive_of(&[(b'6', "a", b"", 0)]), "neither a file nor a directory"),
        (archive_of(&[file("/etc/passwd")]), "absolute"),
        (archive_of(&[file("../a")]), "\"..\""),
        (archive_of(&[file("a/../../b")]), "\"..\""),
        (archive_of(&[file("a"), file("./a")]), "same name"),
        (archive_of(&[file("a"), file("a/b")]), "same name"),
        (archive_of(&[(b'0', "bomb", b"", 4 << 30), file("a")]), "ends early"),
        (archive_of(&[file("a"), (b'0', "bomb", b"", 4 << 30)]), "bytes together"),
    ];
    for (bytes, why) in cases {
        assert_eq!(upload(&url, &bytes).status, 201);
        let refused = place.post(&format!("/{id}/finalize"), &json!({}));
        assert_eq!(refused.status, 422, "{why}: {refused:?}");
        let fault = &refused.json()["fieldErrors"][0];
        assert_eq!(fault["field"], "archive", "{why}: {refused:?}");
        assert!(fault["message"].as_str().unwrap().contains(why), "{why}: {refused:?}");
        let shown = place.show(&id);
        assert_eq!(
            (shown.status, shown.is_in_force, shown.version),
            (DeployStatus::Initialized, false, None)
        );
    }
    // Another upload replaces it, and all attempts together are one deploy.
    assert_eq!(upload(&url, &good).status, 201);
    let deployed: Deploy = decoded(&place.post(&format!("/{id}/finalize"), &json!({})));
    assert!(deployed.is_in_force);
    assert_eq!(place.list("").total_count, 1);
    let folder = control.directory.path().join("control/deploys").join(&estate.deployment);
    until("archives that were replaced are deleted", || std::fs::read_dir(&folder).unwrap().count() == 1);
}

#[test]
fn a_call_that_can_not_be_carried_out_is_refused_by_its_field() {
    let control = Control::start("");
    let estate = control.estate();
    let place = Place::new(&control, &control.owner, "/v1", &estate.deployment);
    let git = json!({ "provider": "GENERIC", "commitSha": "" });
    for (body, field) in [
        (json!({ "type": "IMAGE_AND_DAG" }), "type"),
        (json!({ "type": "BUNDLE" }), "type"),
        (json!({}), "type"),
        (json!({ "type": "DAG_ONLY", "description": "x".repeat(501) }), "description"),
        (json!({ "type": "DAG_ONLY", "colour": "red" }), "colour"),
        (json!({ "type": "DAG_ONLY", "git": git }), "git"),
        (json!({ "type": "DAG_ONLY", "git": { "provider": "GENERIC" } }), "git"),
    ] {
        let refused = place.post("", &body);
        assert_eq!(
            (refused.status, &refused.json()["fieldErrors"][0]["field"]),
            (422, &json!(field)),
            "{body}"
        );
    }
    assert_eq!(place.list("").total_count, 0);
    let deployed = place.deploy(&archive("a.py", "1"));
    let (id, url) = place.create();
    let refused = |path: &str, body: Value, status: u16, word: &str| {
        let answer = place.post(path, &body);
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
        assert!(answer.body.contains(word), "{path} {body}: {answer:?}");
    };
    refused(&format!("/{id}/finalize"), json!({}), 422, "dagsUploadUrl");
    refused(&format!("/{id}/rollback"), json!({}), 409, "not_deployed");
    let uploaded = upload(&url, &archive("b.py", "2"));
    let other = deployed.dag_tarball_version.unwrap();
    refused(&format!("/{id}/finalize"), json!({ "dagTarballVersion": other }), 422, "dagTarballVersion");
    refused(&format!("/{id}/finalize"), json!({ "version": 1 }), 422, "version");
    refused("/c0123456789abcdefghijklmn/finalize", json!({}), 404, "deploy");
    refused("/c0123456789abcdefghijklmn/rollback", json!({}), 404, "deploy");
    // Under another deployment, the deploy's id is unknown.
    let elsewhere = Place::new(&control, &control.owner, "/v1", &estate.elsewhere);
    let answer = elsewhere.post(&format!("/{}/rollback", deployed.id.0), &json!({}));
    assert_eq!(answer.status, 404, "{answer:?}");
    // An upload URL works unchanged, for its own deploy, and until the deploy is finalized.
    let bytes = archive("c.py", "3");
    let (start, key) = url.split_once("?key=").unwrap();
    for (url, status) in [
        (start.to_owned(), 400),
        (format!("{start}?key="), 404),
        (format!("{start}?key={}", &key[1..]), 404),
        (format!("{url}&comp=block"), 400),
        (format!("{url}&comp=block&blockid="), 400),
        (format!("{url}&comp=block&blockid={}", "x".repeat(101)), 400),
        (format!("{url}&blockid=x"), 400),
        (format!("{url}&comp=page"), 400),
        (format!("{url}&timeout=1"), 400),
        (format!("{url}&comp=blocklist"), 422),
        (url.replace(&id, &deployed.id.0), 404),
    ] {
        assert_eq!(upload(&url, &bytes).status, status, "{url}");
    }
    assert_eq!(upload(&format!("{url}&timeout=1"), &bytes).json()["fieldErrors"][0]["field"], "timeout");
    let long = curl(&["-X", "PUT", "-H", "Content-Length: 1073741825", "-H", "Expect:", &url]);
    assert_eq!(long.status, 413, "{long:?}");
    let version = uploaded.header("x-ms-version-id").unwrap();
    let finalized = place.post(&format!("/{id}/finalize"), &json!({ "dagTarballVersion": version }));
    assert!(decoded::<Deploy>(&finalized).is_in_force);
    assert_eq!(upload(&url, &bytes).status, 404);
}

#[test]
fn an_archive_is_taken_in_blocks_as_the_platforms_command_line_sends_a_large_one() {
    let control = Control::start("");
    let estate = control.estate();
    let place = Place::new(&control, &control.owner, "/v1", &estate.deployment);
    let (id, url) = place.create();
    let bytes = archive("dags/a.py", &"x = 1\n".repeat(5000));
    let third = bytes.len() / 3;
    let parts = [
        ("YQ%3D%3D", &bytes[..third]),
        ("Yg%3D%3D", &bytes[third..2 * third]),
        ("Yw%3D%3D", &bytes[2 * third..]),
    ];
    // The blocks arrive in reverse order, and one of them twice.
    assert_eq!(upload(&format!("{url}&comp=block&blockid=Yg%3D%3D"), b"replaced").status, 201);
    for (block, part) in parts.iter().rev() {
        assert_eq!(upload(&format!("{url}&comp=block&blockid={block}"), part).status, 201);
    }
    let list = |ids: &[&str]| {
        let ids: Vec<String> = ids.iter().map(|id| format!("<Latest>{id}</Latest>")).collect();
        let ids = ids.concat();
        let xml = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{ids}</BlockList>");
        upload(&format!("{url}&comp=blocklist"), xml.as_bytes())
    };
    let unknown = list(&["YQ==", "ZA=="]);
    assert_eq!((unknown.status, &unknown.json()["fieldErrors"][0]["field"]), (422, &json!("blocklist")));
    let committed = list(&["YQ==", "Yg==", "Yw=="]);
    assert_eq!(committed.status, 201, "{committed:?}");
    let version = committed.header("x-ms-version-id").unwrap();
    let deployed: Deploy =
        decoded(&place.post(&format!("/{id}/finalize"), &json!({ "dagTarballVersion": version })));
    assert!(deployed.is_in_force);
    let whole = place.deploy(&bytes);
    assert_eq!(whole.dag_tarball_version.as_deref(), Some(version));
    let folder = control.directory.path().join("control/deploys").join(&estate.deployment);
    until("the blocks are deleted", || std::fs::read_dir(&folder).unwrap().count() == 2);
}

#[test]
fn who_may_only_look_deploys_nothing() {
    let control = Control::start("");
    let estate = control.estate();
    let member = control.user("WORKSPACE_MEMBER", &estate.workspace);
    let author = control.user("WORKSPACE_AUTHOR", &estate.workspace);
    let accessor = control.user("WORKSPACE_ACCESSOR", &estate.workspace);
    let by = |token: &str| Place::new(&control, token, "/v1", &estate.deployment);
    let deployed = by(&author).deploy(&archive("a.py", "1"));
    assert_eq!(by(&member).list("").total_count, 1);
    let new = json!({ "type": "DAG_ONLY" });
    for (path, body) in [
        (String::new(), &new),
        (format!("/{}", deployed.id.0), &json!({ "description": "x" })),
        (format!("/{}/finalize", deployed.id.0), &json!({})),
        (format!("/{}/rollback", deployed.id.0), &json!({})),
    ] {
        assert_eq!(by(&member).post(&path, body).status, 403, "{path}");
    }
    let list =
        format!("/v1/organizations/{}/deployments/{}/deploys", control.organization, estate.deployment);
    assert_eq!(call(&control, &accessor, "GET", &list, None).status, 403);
    // A token of another deployment cannot read this one.
    let stranger = json!({ "name": "t", "scope": "DEPLOYMENT", "entityId": estate.elsewhere, "role": "DEPLOYMENT_ADMIN" });
    let stranger = control.make("/tokens", &stranger)["token"].as_str().unwrap().to_owned();
    assert_eq!(call(&control, &stranger, "GET", &list, None).status, 403);
}

#[test]
fn a_deployment_takes_dags_unless_that_was_switched_off() {
    let control = Control::start("");
    let estate = control.estate();
    let place = Place::new(&control, &control.owner, "/v1", &estate.deployment);
    let switch = |enabled: bool| {
        let path = format!("/deployments/{}", estate.deployment);
        assert_eq!(control.call("POST", &path, Some(&json!({ "isDagDeployEnabled": enabled }))).status, 200);
    };
    switch(false);
    let refused = place.post("", &json!({ "type": "DAG_ONLY" }));
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.body.contains("dag_deploy_disabled"), "{refused:?}");
    assert_eq!(place.list("").total_count, 0);
    switch(true);
    place.deploy(&archive("a.py", "1"));
}

#[test]
fn archives_go_with_their_deployment() {
    let control = Control::start("");
    let estate = control.estate();
    let place = Place::new(&control, &control.owner, "/v1", &estate.deployment);
    place.deploy(&archive("a.py", "1"));
    let (_, url) = place.create();
    assert_eq!(upload(&url, &archive("b.py", "2")).status, 201);
    let folder = control.directory.path().join("control/deploys").join(&estate.deployment);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
    assert_eq!(control.call("DELETE", &format!("/deployments/{}", estate.deployment), None).status, 204);
    until("the archives are deleted", || {
        std::fs::read_dir(&folder).map_or(true, |mut found| found.next().is_none())
    });
    assert_eq!(upload(&url, &archive("b.py", "2")).status, 404);
}
