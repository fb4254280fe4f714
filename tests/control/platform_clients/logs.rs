//! Logs of deployments, as the platform's command line reads them.

use serde_json::json;

use super::expected::Log;
use super::{BASES, call, decoded};
use crate::rig::control::Control;

#[test]
fn a_deployment_of_which_no_host_told_anything_has_an_empty_log() {
    let control = Control::start("");
    let estate = control.estate();
    let member = control.user("WORKSPACE_MEMBER", &estate.workspace);
    let sources = ["apiserver", "scheduler", "triggerer", "worker", "dag-processor"];
    let sources = format!("sources={}&", sources.join("&sources="));
    for base in BASES {
        let path =
            format!("{base}/organizations/{}/deployments/{}/logs", control.organization, estate.deployment);
        let page: Log = decoded(&call(&control, &member, "GET", &path, None));
        assert_eq!((page.result_count, page.results.len(), page.offset), (0, 0, 0));
        let query =
            format!("{path}?{sources}limit=10&maxNumResults=50&range=86400&offset=0&searchText=ERROR");
        let page: Log = decoded(&call(&control, &member, "GET", &query, None));
        assert_eq!((page.limit, page.max_num_results, page.results.len()), (10, 50, 0));
        let next = format!("{query}&searchId={}", page.search_id);
        let next: Log = decoded(&call(&control, &member, "GET", &next, None));
        assert_eq!(next.search_id, page.search_id);
        for (query, status, field) in [
            ("sources=kernel", 400, "sources"),
            ("color=red", 400, "color"),
            ("limit=x", 400, "limit"),
            ("startDate=yesterday", 400, "startDate"),
            ("limit=0", 422, "limit"),
            ("limit=5001", 422, "limit"),
            ("maxNumResults=0", 422, "maxNumResults"),
            ("offset=100001", 422, "offset"),
            ("range=0", 422, "range"),
            ("range=-1", 422, "range"),
            ("searchId=x", 422, "searchId"),
            ("startDate=2026-01-01T00:00:00Z", 422, "endDate"),
            ("endDate=2026-01-01T00:00:00Z", 422, "startDate"),
            ("startDate=2026-01-02T00:00:00Z&endDate=2026-01-01T00:00:00Z", 422, "endDate"),
            ("range=1&startDate=2026-01-01T00:00:00Z&endDate=2026-01-02T00:00:00Z", 422, "range"),
        ] {
            let answer = call(&control, &member, "GET", &format!("{path}?{query}"), None);
            assert_eq!(answer.status, status, "{query}: {answer:?}");
            assert_eq!(answer.json()["fieldErrors"][0]["field"], json!(field), "{query}: {answer:?}");
        }
        // A search id is valid for its own deployment only.
        let other = path.replace(&estate.deployment, &estate.elsewhere);
        let answer =
            call(&control, &control.owner, "GET", &format!("{other}?searchId={}", page.search_id), None);
        assert_eq!(answer.status, 422, "{answer:?}");
    }
    let new = json!({ "name": "ci", "scope": "DEPLOYMENT", "entityId": estate.deployment, "role": "DEPLOYMENT_ADMIN" });
    let token = control.make("/tokens", &new)["token"].as_str().unwrap().to_owned();
    let own = format!("/v1/organizations/{}/deployments/{}/logs", control.organization, estate.deployment);
    let _: Log = decoded(&call(&control, &token, "GET", &own, None));
    let accessor = control.user("WORKSPACE_ACCESSOR", &estate.workspace);
    let path = format!("/v1/organizations/{}/deployments/{}/logs", control.organization, estate.deployment);
    assert_eq!(call(&control, &accessor, "GET", &path, None).status, 403);
}
