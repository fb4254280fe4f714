//! Instants in the API's document: calls of people have RFC 3339. Calls of nodes (docs/protocol.md) and the
//! introspection of a token (RFC 7662) have seconds.

use serde_json::Value;

use super::of_people;
use crate::rig::control::Control;
use crate::rig::curl;

/// Entry of a deployment's log, whose time clients of the platform read as seconds.
const IN_SECONDS: &str = "LogEntry.timestamp";

/// Returns true if a member of this name holds a time.
fn names_a_time(member: &str) -> bool {
    ["time", "timestamp"].contains(&member) || member.ends_with("At")
}

/// Members of the document that hold times, by how they are written.
#[derive(Default)]
struct Times {
    instants: Vec<String>,
    others: Vec<String>,
    seen: Vec<String>,
}

impl Times {
    /// Visits a part of a schema that is below `at`, and each schema that it refers to, once.
    fn visit(&mut self, document: &Value, part: &Value, at: &str) {
        match part {
            Value::Array(parts) => parts.iter().for_each(|part| self.visit(document, part, at)),
            Value::Object(members) => {
                if let Some(name) = part["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
                    self.refer(document, name, at);
                }
                for (key, member) in members {
                    match member.as_object() {
                        Some(properties) if key == "properties" => {
                            for (name, property) in properties {
                                self.member(document, name, property, at);
                            }
                        }
                        _ => self.visit(document, member, at),
                    }
                }
            }
            _ => {}
        }
    }

    fn refer(&mut self, document: &Value, name: &str, at: &str) {
        if name == "Time" {
            self.others.push(at.to_owned());
        } else if name != "Instant" && !self.seen.iter().any(|seen| seen == name) {
            self.seen.push(name.to_owned());
            self.visit(document, &document["components"]["schemas"][name], name);
        }
    }

    fn member(&mut self, document: &Value, name: &str, property: &Value, at: &str) {
        let at = format!("{at}.{name}");
        if names_a_time(name) {
            let instant = property.to_string().contains("/schemas/Instant\"");
            if instant { &mut self.instants } else { &mut self.others }.push(at);
        } else {
            self.visit(document, property, &at);
        }
    }
}

#[test]
fn every_instant_of_the_document_is_written_by_rfc_3339() {
    let control = Control::start("");
    let document = curl(&[format!("{}/openapi.json", control.url)]).json();
    let instant = &document["components"]["schemas"]["Instant"];
    assert_eq!((&instant["type"], &instant["format"]), (&"string".into(), &"date-time".into()));
    let mut times = Times::default();
    for (path, calls) in document["paths"].as_object().unwrap() {
        if path.strip_prefix("/v1").is_some_and(of_people) {
            times.visit(&document, calls, path);
        }
    }
    times.others.retain(|at| at != IN_SECONDS);
    assert!(times.others.is_empty(), "{:?}", times.others);
    for told in ["Token.endAt", "Deployment.createdAt", "Outage.beganAt", "LateUse.endedAt", "Moment.time"] {
        assert!(times.instants.iter().any(|at| at == told), "{told} is not in {:?}", times.instants);
    }
}
