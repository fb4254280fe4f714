//! Exit codes of the programs, by sysexits(3), and the error line printed with them.

use std::fmt::Display;
use std::process::ExitCode;

use crate::platform::text::shown;

/// Invalid command line.
pub const USAGE: u8 = 64;
/// Invalid input data.
pub const DATAERR: u8 = 65;
/// A named file does not exist.
pub const NOINPUT: u8 = 66;
/// A required service cannot be reached.
pub const UNAVAILABLE: u8 = 69;
/// Internal error of the program.
pub const SOFTWARE: u8 = 70;
/// A file cannot be created.
pub const CANTCREAT: u8 = 73;
/// A file cannot be read or written.
pub const IOERR: u8 = 74;
/// Temporary failure; a later try may succeed.
pub const TEMPFAIL: u8 = 75;
/// Insufficient permissions.
pub const NOPERM: u8 = 77;
/// Invalid configuration.
pub const CONFIG: u8 = 78;

/// Prints an error and returns the exit code.
pub fn fail(program: &str, code: u8, error: &dyn Display) -> ExitCode {
    // An error may quote other people's text, which must not control the terminal.
    eprintln!("{program}: {}", shown(&error.to_string(), &['\n', '\t']));
    ExitCode::from(code)
}

/// Prints the argument parser's message. Help and version are not errors.
#[cfg(any(feature = "daemon", feature = "control", feature = "cli"))]
#[must_use]
pub fn report_usage(error: &clap::Error) -> ExitCode {
    // If the terminal is closed, nobody can read the message.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}
