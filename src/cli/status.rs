//! `halligan status`: shows the state of this host's daemon.

use reqwest::Method;
use serde_json::Value;

use super::failure::Failure;
use super::host::Host;
use super::output::Output;

pub(super) async fn run(host: &Host, output: Output) -> Result<(), Failure> {
    let status = host.call(Method::GET, "/v1/status", None).await?;
    output.one(
        &status,
        &[
            ("version", "version"),
            ("node", "nodeId"),
            ("data plane", "dataPlaneId"),
            ("time", "time"),
            ("control plane", "controlPlane.state"),
            ("  since", "controlPlane.since"),
            ("  reachable", "controlPlane.connectivity"),
            ("  last renewal", "controlPlane.lastRenewal"),
            ("  last error", "controlPlane.lastError"),
            ("  next attempt", "controlPlane.nextAttempt"),
            ("replica", "replica.version"),
            ("  signed", "replica.signedAt"),
            ("  age (s)", "replica.ageSeconds"),
            ("  records", "replica.records"),
            ("  tokens", "replica.tokens"),
            ("  keyset", "replica.keyset"),
            ("  on disk", "persisted.version"),
            ("  proved there", "persisted.provedAt"),
            ("audit failing", "auditFailing"),
        ],
    );
    for role in status["staleness"].as_array().into_iter().flatten().filter(|role| role["warning"] == true) {
        let (name, left) = (role["role"].as_str().unwrap_or_default(), role["leftSeconds"].as_i64());
        let left = left.unwrap_or_default();
        let setting = role["setting"].as_str().unwrap_or_default();
        output.say(&if left < 0 {
            format!("WARNING the replica is {} s older than {name} may rest on ({setting})", -left)
        } else {
            format!("WARNING in {left} s the replica is older than {name} may rest on ({setting})")
        });
    }
    if status["clockTrusted"] == false {
        output.say(
            "WARNING the clock is behind the time that is known to have passed: every request is denied. Set it right; if it \
             is right, and the control plane can't be reached: halligan clock accept --reason …",
        );
    }
    if let Some(why) = status["retired"].as_str() {
        output.say(&format!(
            "WARNING this host was retired ({why}): it gets nothing more, and denies everything once its replica is too old; \
             run `halligand new-identity` to enrol it again, or remove the daemon"
        ));
    }
    if status["sharedIdentity"] == true {
        output.say(
            "WARNING another host has the identity of this one: its state directory was copied; run `halligand new-identity` \
             on the copy",
        );
    }
    for end in status["ends"].as_array().into_iter().flatten() {
        output.say(&format!("ENDS {}", end["what"].as_str().unwrap_or_default()));
    }
    for alarm in status["alarms"].as_array().into_iter().flatten() {
        let times = alarm["times"].as_u64().filter(|&times| times > 1);
        let times = times.map_or_else(String::new, |times| format!(" ({times} times)"));
        output.say(&format!("ALARM {}{times}", alarm["what"].as_str().unwrap_or_default()));
    }
    if status["replica"] == Value::Null {
        output.say("This node has no replica yet: every request is denied.");
    }
    Ok(())
}
