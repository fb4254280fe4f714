//! Programs whose clock is moved, by libfaketime.

use std::ffi::OsString;
use std::path::PathBuf;

use super::component;

/// Variables of the environment, for `Command::envs`.
pub type Variables = Vec<(&'static str, OsString)>;

/// Returns what preloads libfaketime: the library itself, since `faketime` is a parent that a signal would end alone. Without
/// it the test says so and is skipped.
pub fn faketime() -> Option<Variables> {
    component("faketime")?;
    let library = std::fs::read_dir("/usr/lib")
        .unwrap()
        .map(|entry| entry.unwrap().path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.is_file());
    let library: PathBuf = library.expect("faketime is installed, its library is not");
    // A monotonic clock counts the time that passes, whatever the wall clock says.
    Some(vec![("LD_PRELOAD", library.into()), ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into())])
}

/// The same for a clock that is off by `shift`, as faketime writes it: `+21d`, `@1970-01-02 00:00:00`.
pub fn shifted(shift: &str) -> Option<Variables> {
    let mut variables = faketime()?;
    variables.push(("FAKETIME", shift.into()));
    Some(variables)
}
