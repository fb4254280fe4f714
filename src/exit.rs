//! Exit codes of the programs, by sysexits(3), and the one sentence that goes with them.

use std::fmt::Display;
use std::process::ExitCode;

use crate::platform::text::shown;

/// The command line is wrong.
pub const USAGE: u8 = 64;
/// What was given as data is not what it should be.
pub const DATAERR: u8 = 65;
/// A file that was named is not there.
pub const NOINPUT: u8 = 66;
/// What is needed can't be reached.
pub const UNAVAILABLE: u8 = 69;
/// A fault of the program.
pub const SOFTWARE: u8 = 70;
/// A file can't be made.
pub const CANTCREAT: u8 = 73;
/// A file can't be read or written.
pub const IOERR: u8 = 74;
/// It may work later.
pub const TEMPFAIL: u8 = 75;
/// The caller may not.
pub const NOPERM: u8 = 77;
/// A configuration is wrong.
pub const CONFIG: u8 = 78;

/// Says what failed and gives the code for it.
pub fn fail(program: &str, code: u8, error: &dyn Display) -> ExitCode {
    // An error may quote what others wrote: it gives no commands to the terminal.
    eprintln!("{program}: {}", shown(&error.to_string(), &['\n', '\t']));
    ExitCode::from(code)
}

/// Prints what the argument parser has to say: help and version are no errors.
#[cfg(any(feature = "daemon", feature = "control", feature = "cli"))]
#[must_use]
pub fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when the terminal is gone.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}
