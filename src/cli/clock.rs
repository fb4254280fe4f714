//! `halligan clock`: accepts this host's clock when it is right and the daemon does not trust it.

use clap::Subcommand;
use reqwest::Method;

use super::failure::Failure;
use super::host::Host;
use super::output::Output;
use crate::api::host::clock::{Accept, Accepted};

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Accept this host's clock although it is behind a time of which its daemon has proof (`clock_untrusted`). Check the
    /// clock first, and set it right. Tokens that had expired by the later time stay expired. The act is recorded, with
    /// your user id and the reason.
    #[command(
        after_help = "With the control plane in reach there is no need for it: a head that is signed just then, and agrees
with the clock, does the same by itself.

Example:
  halligan clock accept --reason 'time server was 6 min ahead until 14:05, INC-1234'"
    )]
    Accept {
        /// The reason, in one line, for people who read the audit log later.
        #[arg(long, short, value_name = "TEXT")]
        reason: String,
    },
}

pub(super) async fn run(verb: Verb, host: &Host, output: Output) -> Result<(), Failure> {
    let Verb::Accept { reason } = verb;
    let done: Accepted = host.send(Method::POST, "/v1/clock/accept", &Accept { reason }).await?;
    if output.json {
        output.one(&done, &[]);
        return Ok(());
    }
    output.say(&format!(
        "accepted this host's clock at {}, {} s behind the time taken for proved before",
        done.time, done.ahead_seconds
    ));
    if done.stay_expired > 0 {
        output.say(&format!(
            "{} tokens had expired by that time, and stay expired: rotate those that are needed",
            done.stay_expired
        ));
    }
    Ok(())
}
