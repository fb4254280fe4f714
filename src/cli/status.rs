//! `halligan status`: shows the state of this host's daemon.

use reqwest::Method;

use super::failure::Failure;
use super::host::Host;
use super::output::Output;
use crate::api::host::status::{RoleFreshness, Status};

pub(super) async fn run(host: &Host, output: Output) -> Result<(), Failure> {
    let status: Status = host.call(Method::GET, "/v1/status").await?;
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
    for RoleFreshness { role, setting, left_seconds: left, .. } in
        status.staleness.iter().filter(|role| role.warning)
    {
        output.say(&if *left < 0 {
            format!("WARNING the replica is {} s older than {role} may rest on ({setting})", -left)
        } else {
            format!("WARNING in {left} s the replica is older than {role} may rest on ({setting})")
        });
    }
    if !status.clock_trusted {
        output.say(
            "WARNING the clock is behind the time that is known to have passed: every request is denied. Set it right; if it \
             is right, and the control plane can't be reached: halligan clock accept --reason …",
        );
    }
    if let Some(why) = &status.retired {
        output.say(&format!(
            "WARNING this host was retired ({why}): it gets nothing more, and denies everything once its replica is too old; \
             run `halligand new-identity` to enrol it again, or remove the daemon"
        ));
    }
    if status.shared_identity {
        output.say(
            "WARNING another host has the identity of this one: its state directory was copied; run `halligand new-identity` \
             on the copy",
        );
    }
    for ending in &status.ends {
        output.say(&format!("ENDS {}", ending.what));
    }
    for alarm in &status.alarms {
        let times = if alarm.times > 1 { format!(" ({} times)", alarm.times) } else { String::new() };
        output.say(&format!("ALARM {}{times}", alarm.what));
    }
    if status.replica.is_none() {
        output.say("This node has no replica yet: every request is denied.");
    }
    Ok(())
}
