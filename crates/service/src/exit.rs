//! What a program's `main` ends with. (Wrong usage exits with 2: clap does that.)

use std::process::ExitCode;

/// Exit code 0 for success; else 1, with the error and its causes on standard error.
pub fn exit(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
