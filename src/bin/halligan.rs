//! Program `halligan`: parses arguments and returns an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use halligan::cli::{Arguments, run};
use halligan::platform::exit;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return exit::report_usage(&error),
    };
    match run(arguments).await {
        Ok(code) => ExitCode::from(code),
        Err(failure) => exit::fail("halligan", failure.code(), &failure),
    }
}
