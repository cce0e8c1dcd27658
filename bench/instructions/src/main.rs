//! Runs each step that every event passes through alone, so that its instructions can be counted: unlike
//! times, counts do not depend on the load of the machine. `make bench-instructions` runs each under valgrind and
//! compares with `figures.txt`.
//!
//! Without an argument it prints the names of the cases; with one it runs that case.

mod cases;

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1) {
        None => list(),
        Some(name) => run(&name),
    }
}

fn list() -> ExitCode {
    let names: String = cases::CASES.iter().map(|(name, _)| format!("{name}\n")).collect();
    match std::io::stdout().write_all(names.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(name: &str) -> ExitCode {
    let Some((_, case)) = cases::CASES.iter().find(|(case, _)| *case == name) else {
        eprintln!("no case is called {name}");
        return ExitCode::FAILURE;
    };
    match case() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}
