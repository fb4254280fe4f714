//! Programs with a shifted clock, by libfaketime.

use std::ffi::OsString;
use std::path::PathBuf;

use super::component;

/// Variables of an environment, for `Command::envs`.
pub type Variables = Vec<(&'static str, OsString)>;

/// Returns the variables that preload libfaketime. The library is used directly, because a signal would end only the
/// parent process of `faketime`. The test is skipped without it.
pub fn faketime() -> Option<Variables> {
    component("faketime")?;
    let library = std::fs::read_dir("/usr/lib")
        .unwrap()
        .map(|entry| entry.unwrap().path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.is_file());
    let library: PathBuf = library.expect("faketime is installed, its library is not");
    // The monotonic clock must count the time that really passes.
    Some(vec![("LD_PRELOAD", library.into()), ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into())])
}

/// Returns the variables for a clock that differs by `shift`, in the notation of faketime: `+21d`, `@1970-01-02
/// 00:00:00`.
pub fn shifted(shift: &str) -> Option<Variables> {
    let mut variables = faketime()?;
    variables.push(("FAKETIME", shift.into()));
    Some(variables)
}
