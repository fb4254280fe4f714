//! Review of a route map: its faults, and behaviour that its author may not have intended.
//!
//! [`RouteMap::from_toml`] stops at the first fault. A review continues, so that all faults can be repaired at once. It
//! also reports what is easily overlooked in a valid map: which template takes precedence for a path that two match,
//! which methods are denied, and which parameter names no Dag role binds to.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::pattern::{Pattern, Segment, spelt};
use crate::dataplane::decide::routes::{
    CanonicalPath, DAG_PARAMETER, MAX_PARAMETERS, METHODS, RouteMap, has_too_many_parameters,
};
use crate::protocol::permission::{CATALOGUE, Permission};

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Weight {
    /// The map is invalid.
    Error,
    /// The map is valid, but its author hardly intended this.
    Warning,
    /// Information about the map.
    Note,
}

/// Finding of a review.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Finding {
    /// Severity of the finding.
    pub(super) weight: Weight,
    /// Template, with the method before it if the finding concerns one method.
    pub(super) at: String,
    /// Description in one sentence.
    pub(super) what: String,
}

/// Route map as written, possibly invalid.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Draft {
    /// Lists of permissions, by template and method.
    #[serde(default)]
    pub(super) routes: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl Draft {
    /// Parses a draft. Fails only if the text is not TOML of this structure.
    pub(super) fn read(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Returns the number of operations.
    pub(super) fn operations(&self) -> usize {
        self.routes.values().map(BTreeMap::len).sum()
    }

    /// Returns all findings, the most severe first. `text` is the source of the draft.
    pub(super) fn review(&self, text: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut review = Review { draft: self, findings: &mut findings };
        review.permissions();
        review.templates();
        review.parameters();
        review.methods();
        if let Ok(map) = RouteMap::from_toml(text) {
            review.overlaps(&map);
        }
        findings.sort();
        findings.dedup();
        findings
    }
}

struct Review<'d> {
    draft: &'d Draft,
    findings: &'d mut Vec<Finding>,
}

impl Review<'_> {
    fn say(&mut self, weight: Weight, at: &str, what: impl Into<String>) {
        self.findings.push(Finding { weight, at: at.to_owned(), what: what.into() });
    }

    fn permissions(&mut self) {
        for (template, methods) in &self.draft.routes {
            for (method, names) in methods {
                let at = format!("{method} {template}");
                if !METHODS.contains(&method.as_str()) {
                    let hint =
                        if method == "HEAD" { "HEAD is answered as GET is" } else { "it is no method" };
                    self.say(Weight::Error, &at, format!("{hint}; use GET, POST, PUT, PATCH or DELETE"));
                }
                if names.is_empty() {
                    self.say(
                        Weight::Error,
                        &at,
                        "needs no permission, so that anyone could call it; name at least one",
                    );
                }
                for name in names {
                    if name.parse::<Permission>().is_err() {
                        let hint =
                            nearest(name).map_or_else(String::new, |near| format!("; did you mean {near}?"));
                        self.say(
                            Weight::Error,
                            &at,
                            format!("{name:?} is no permission of the catalogue{hint}"),
                        );
                    }
                }
                if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
                    self.say(Weight::Warning, &at, "names a permission twice");
                }
                let reads =
                    !names.is_empty() && names.iter().all(|name| name.rsplit('.').next() == Some("get"));
                if method != "GET" && reads {
                    self.say(
                        Weight::Note,
                        &at,
                        "may change something, and whoever may only read can call it",
                    );
                }
            }
        }
    }

    fn templates(&mut self) {
        let mut router = matchit::Router::new();
        for template in self.draft.routes.keys() {
            if has_too_many_parameters(template) {
                let what = format!("is no template: it has more than {MAX_PARAMETERS} parameters");
                self.say(Weight::Error, template, what);
                continue;
            }
            if let Err(error) = router.insert(template.as_str(), ()) {
                let what = match error {
                    matchit::InsertError::Conflict { with } => {
                        format!("matches the same paths as {with}; keep one of them")
                    }
                    other => format!("is no template: {other}"),
                };
                self.say(Weight::Error, template, what);
                continue;
            }
            let example = Pattern::read(template).example();
            match CanonicalPath::parse(&spelt(&example)) {
                Ok(path) if path.as_str() == example => {}
                Ok(_) => self.say(
                    Weight::Warning,
                    template,
                    "matches nothing: a path is decoded before it is compared; write the character itself",
                ),
                Err(error) => {
                    self.say(Weight::Warning, template, format!("matches nothing: {error}"));
                }
            }
            if template.len() > 1 && template.ends_with('/') {
                self.say(
                    Weight::Note,
                    template,
                    "matches with the slash at its end only; without it, the path is denied",
                );
            }
        }
    }

    fn parameters(&mut self) {
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for template in self.draft.routes.keys() {
            let mut above = String::new();
            let pattern = Pattern::read(template);
            for (segment, text) in pattern.segments.iter().zip(template.trim_start_matches('/').split('/')) {
                let after_dags = above.rsplit('/').next().is_some_and(|literal| {
                    literal.eq_ignore_ascii_case("dags") || literal.eq_ignore_ascii_case("dag")
                });
                match segment {
                    Segment::Literal(literal) => above = above + "/" + literal,
                    // The upstream declares this parameter as a path.
                    Segment::Rest(_) if text.ends_with(":path}") => {}
                    Segment::Rest(name) => {
                        self.say(
                            Weight::Warning,
                            template,
                            format!(
                                "{{*{name}}} takes every path below, also one that the upstream gets later"
                            ),
                        );
                    }
                    Segment::Parameter { name, .. } => {
                        let plain = text.trim_matches(['{', '}']);
                        if after_dags && plain == name && name != DAG_PARAMETER {
                            self.say(
                                Weight::Warning,
                                template,
                                format!("{{{name}}} looks like a Dag; a Dag role binds only to {{{DAG_PARAMETER}}}"),
                            );
                        }
                        names.entry(above.clone()).or_default().insert(name.clone());
                        above += "/{}";
                    }
                }
            }
            let dags = pattern.parameters().filter(|name| *name == DAG_PARAMETER).count();
            if dags > 1 {
                self.say(
                    Weight::Warning,
                    template,
                    "names two Dags; a Dag role is compared with the first only",
                );
            }
        }
        for (above, names) in names.iter().filter(|(_, names)| names.len() > 1) {
            let list = names.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
            self.say(Weight::Note, &format!("{above}/…"), format!("one segment has several names: {list}"));
        }
    }

    fn methods(&mut self) {
        for (template, methods) in &self.draft.routes {
            let missing: Vec<_> =
                METHODS.iter().filter(|method| !methods.contains_key(**method)).copied().collect();
            if methods.is_empty() {
                self.say(Weight::Warning, template, "has no method: every request to it is denied");
            } else if !missing.is_empty() {
                self.say(Weight::Note, template, format!("denied (route_unknown): {}", missing.join(", ")));
            }
        }
    }

    fn overlaps(&mut self, map: &RouteMap) {
        let patterns: Vec<_> =
            self.draft.routes.keys().map(|template| (template, Pattern::read(template))).collect();
        for (index, (one, pattern)) in patterns.iter().enumerate() {
            for (two, other) in &patterns[index + 1..] {
                let Some(path) = pattern.common(other) else { continue };
                let spelt = spelt(&path);
                let Ok(canonical) = CanonicalPath::parse(&spelt) else { continue };
                let Some(winner) = map.template(&canonical) else { continue };
                if winner == one.as_str() {
                    self.overlap(one, two, &path);
                } else if winner == two.as_str() {
                    self.overlap(two, one, &path);
                }
                // Otherwise a third template takes precedence over both, which is reported for each of them.
            }
        }
    }

    /// Reports that `winner` takes precedence for `path`, which `loser` matches as well.
    fn overlap(&mut self, winner: &str, loser: &str, path: &str) {
        let routes = &self.draft.routes;
        let (taken, lost) = (&routes[winner], &routes[loser]);
        self.say(Weight::Note, winner, format!("takes {path} from {loser}"));
        for (method, names) in lost {
            match taken.get(method) {
                None => self.say(
                    Weight::Note,
                    winner,
                    format!("{method} {path} is denied, though {loser} has {method}: the path is taken, and here is none"),
                ),
                Some(wins) if names.iter().any(|name| !wins.contains(name)) => self.say(
                    Weight::Note,
                    winner,
                    format!("{method} {path} needs {}, not {}", wins.join(" and "), names.join(" and ")),
                ),
                Some(_) => {}
            }
        }
    }
}

/// Returns the permission with the most similar name, if one is similar enough.
fn nearest(name: &str) -> Option<&'static str> {
    let scored = CATALOGUE.iter().map(|known| (strsim::levenshtein(name, known), *known));
    scored.min().filter(|(distance, known)| *distance <= known.len() / 4).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn review(text: &str) -> Vec<String> {
        let findings = Draft::read(text).unwrap().review(text);
        findings.iter().map(|found| format!("{:?} {}: {}", found.weight, found.at, found.what)).collect()
    }

    fn has(findings: &[String], parts: &[&str]) -> bool {
        findings.iter().any(|line| parts.iter().all(|part| line.contains(part)))
    }

    fn get(template: &str) -> String {
        format!("[routes.\"{template}\"]\nGET = [\"deployment.get\"]\n")
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let found = review(
            "[routes.\"/a/{x}\"]\nget = [\"deployment.get\"]\nPOST = []\n\
             [routes.\"/a/{y}\"]\nGET = [\"deployment.airflow.dags.get\", \"nonsense\"]\n\
             [routes.\"b\"]\nGET = [\"deployment.get\"]\n[routes.\"/c/{\"]\n",
        );
        for parts in [
            &["Error get /a/{x}"][..],
            &["Error POST /a/{x}", "needs no permission"],
            &["Error /a/{y}", "same paths as /a/{x}"],
            &["Error GET /a/{y}", "did you mean deployment.airflow.dag.get?"],
            &["Error GET /a/{y}", "\"nonsense\" is no permission"],
            &["Error /c/{", "is no template"],
        ] {
            assert!(has(&found, parts), "{parts:?} in {found:#?}");
        }
        assert!(!has(&found, &["nonsense", "did you mean"]));
        let found = review(&get(&"/{x}".repeat(MAX_PARAMETERS + 1)));
        assert!(has(&found, &["Error", "more than 25 parameters"]), "{found:#?}");
    }

    #[test]
    fn who_takes_a_path_two_templates_match_is_told() {
        let found = review(&format!(
            "{}DELETE = [\"deployment.delete\"]\n{}",
            get("/dags/{dag_id}"),
            "[routes.\"/dags/all\"]\nGET = [\"deployment.airflow.dag.get\"]\n"
        ));
        assert!(has(&found, &["Note /dags/all: takes /dags/all from /dags/{dag_id}"]), "{found:#?}");
        assert!(has(&found, &["Note /dags/all: DELETE /dags/all is denied"]), "{found:#?}");
        assert!(has(&found, &["GET /dags/all needs deployment.airflow.dag.get, not deployment.get"]));
    }

    #[test]
    fn what_matches_nothing_or_too_much_is_told() {
        for (template, expected) in [
            ("/a%20b", "matches nothing: a path is decoded"),
            ("/a/../b", "matches nothing: the path has a dot segment"),
            ("/a//b", "matches nothing: the path has an empty segment"),
            ("/a/", "slash at its end only"),
            ("/a/{*rest}", "takes every path below"),
            ("/dags/{id}", "looks like a Dag"),
            ("/dags/{dag_id}/dags/{dag_id}", "two Dags"),
        ] {
            assert!(
                has(&review(&get(template)), &[template, expected]),
                "{template}: {:#?}",
                review(&get(template))
            );
        }
        assert!(has(&review(&(get("/x/{a}/b") + &get("/x/{c}/d"))), &["/x/…", "{a}, {c}"]));
    }

    #[test]
    fn the_built_in_map_has_no_faults() {
        let text = crate::dataplane::decide::routes::AIRFLOW_V2;
        let findings = Draft::read(text).unwrap().review(text);
        let heavy: Vec<_> = findings.iter().filter(|found| found.weight != Weight::Note).collect();
        assert!(heavy.is_empty(), "{heavy:#?}");
    }
}
