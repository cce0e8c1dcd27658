//! The exit code of a program. (Wrong usage exits with 2: clap does that.)

use std::process::ExitCode;

/// Returns exit code 0 for success; else 1, and writes the error and its causes to standard error.
pub fn exit(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
