//! The exit code of a program. Wrong usage exits with 2, which clap does itself.

use std::process::ExitCode;

use crate::telemetry;

/// Returns exit code 0 on success. On failure, writes the error and its causes to standard error and returns 1.
pub fn exit(result: anyhow::Result<()>) -> ExitCode {
    telemetry::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
