//! `halligan status`: shows the state of this host's daemon.

use reqwest::Method;

use super::failure::Failure;
use super::host::Host;
use super::output::Output;
use crate::api::host::status::{Code, RoleFreshness, Status};

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
            format!("WARNING the replica is {} s over the age limit of {role} ({setting})", -left)
        } else {
            format!("WARNING the replica reaches the age limit of {role} in {left} s ({setting})")
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
            "WARNING this host was retired ({why}): the control plane sends it no more changes, and it denies every \
             request once its replica is too old; run `halligand new-identity` to enrol it again, or remove the daemon"
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
    for code in &status.code {
        for line in code_lines(code) {
            output.say(&line);
        }
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

/// Returns lines about the code of a deployment.
fn code_lines(code: &Code) -> Vec<String> {
    let deployment = &code.deployment_id;
    let origin = match &code.host {
        Some(host) => {
            format!("a deploy of host {} at {}, on top of version {}", host.node_id, host.time, code.version)
        }
        None => format!("version {} of the control plane", code.version),
    };
    let mut lines = Vec::new();
    match (&code.current, &code.deploy) {
        (Some(current), Some(deploy)) if current == deploy => {
            lines.push(format!("CODE {deployment} runs {deploy}, {origin}"));
        }
        (current, Some(deploy)) => {
            let current = current.as_deref().unwrap_or("what it ran before");
            let why = code.problem.as_deref().unwrap_or("it is being unpacked");
            lines.push(format!("WARNING {deployment} runs {current} and not {deploy}, {origin}: {why}"));
        }
        (current, None) => {
            let current = current.as_deref().unwrap_or("nothing");
            lines.push(format!("CODE {deployment} runs {current}, which no verified object names"));
        }
    }
    if code.waiting > 0 {
        lines.push(format!(
            "CODE {deployment}: the control plane has not answered about {} deploys of hosts",
            code.waiting
        ));
    }
    if let Some(superseded) = &code.superseded {
        let by = superseded.by.as_deref().unwrap_or("another");
        lines.push(format!(
            "CODE {deployment}: deploy {} of a host was not taken; the control plane keeps {by}",
            superseded.deploy
        ));
    }
    lines
}
