//! Deletes an object of the control plane, after a confirmation.

use super::control::Control;
use super::failure::Failure;
use super::output::{Output, confirm};

/// Asks for a confirmation, unless `force` is true, and deletes the object `id` at `path`.
pub(super) async fn delete(
    control: &Control,
    output: Output,
    path: &str,
    id: &str,
    force: bool,
) -> Result<(), Failure> {
    confirm(&format!("Deleting {id}"), force)?;
    control.delete(path).await?;
    output.say(&format!("deleted {id}"));
    Ok(())
}
