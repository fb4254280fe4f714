//! `halligan data-plane`: creates and shows data planes, and makes enrolment tokens.

use clap::Subcommand;

use super::control::Control;
use super::failure::Failure;
use super::output::{Column, Output, line};
use crate::api::data_plane::{DataPlane, DataPlanePage, EnrolmentToken, NewDataPlane, NewEnrolmentToken};
use crate::api::id::DataPlaneId;

const DATA_PLANE: [Column; 5] =
    [("ID", "id"), ("NAME", "name"), ("VERSION", "version"), ("RECORDS", "records"), ("NODES", "nodes")];

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Create a data plane.
    Create {
        /// The name of the data plane.
        name: String,
    },
    /// List data planes.
    List,
    /// Show a data plane.
    Show {
        /// The data plane's id.
        id: DataPlaneId,
    },
    /// Create a one-time token with which one host can enrol. Its value is shown only once.
    EnrolmentToken {
        /// The data plane's id.
        id: DataPlaneId,
        /// Seconds for which the token can be used.
        #[arg(long, default_value_t = 86_400)]
        expires_in: i64,
        /// Print the value alone, for scripts.
        #[arg(long, short)]
        clean_output: bool,
    },
}

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::Create { name } => {
            let made: DataPlane = control.post("/data-planes", &NewDataPlane { name }).await?;
            output.one(&made, &DATA_PLANE);
        }
        Verb::List => {
            let all = control
                .all("/data-planes", |page: DataPlanePage| (page.data_planes, page.extent.next_cursor))
                .await?;
            output.list(&all, &DATA_PLANE);
        }
        Verb::Show { id } => {
            output.one(&control.get::<DataPlane>(&format!("/data-planes/{id}")).await?, &DATA_PLANE);
        }
        Verb::EnrolmentToken { id, expires_in, clean_output } => {
            let path = format!("/data-planes/{id}/enrolment-tokens");
            let new = NewEnrolmentToken { expires_in_seconds: expires_in };
            let made: EnrolmentToken = control.post(&path, &new).await?;
            if clean_output {
                line(&made.enrolment_token);
            } else {
                output.one(&made, &[("token", "enrolmentToken"), ("expires", "expiresAt")]);
            }
        }
    }
    Ok(())
}
