//! How a command ended, and its exit code.

use std::io;

/// The end of a command that could do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did it, or all is well.
    Done,
    /// What it looked at is not as it should be.
    Negative,
    /// What it looked at is not known.
    Unknown,
}

/// A wait that reached its deadline. The text says what was waited for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Late(pub String);

/// The exit code of a command that cannot do what it was asked. Wrong usage exits with 2, which clap does itself.
const FAILED: u8 = 1;
/// The exit code of a command whose wait reached its deadline.
const LATE: u8 = 5;

impl Outcome {
    /// Returns the exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Negative => 3,
            Self::Unknown => 4,
        }
    }
}

/// Returns the exit code of a command, and what is written to standard error.
pub fn end(result: Result<Outcome, anyhow::Error>) -> (u8, Option<String>) {
    let error = match result {
        Ok(outcome) => return (outcome.code(), None),
        Err(error) => error,
    };
    // Whoever reads the output has read enough, as `head` does.
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.downcast_ref::<Closed>().is_some() && error.chain().any(broken) {
        return (Outcome::Done.code(), None);
    }
    let code = if error.downcast_ref::<Late>().is_some() { LATE } else { FAILED };
    (code, Some(format!("error: {error:#}")))
}

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct Closed(#[from] io::Error);

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn each_end_has_an_exit_code_of_its_own() {
        let codes = [Outcome::Done, Outcome::Negative, Outcome::Unknown].map(|outcome| end(Ok(outcome)).0);
        assert_eq!(codes, [0, 3, 4]);
        let late = Err(Late("no answer within 1s".into())).context("eventaggregator a/b");
        assert_eq!(end(late), (5, Some("error: eventaggregator a/b: no answer within 1s".into())));
        assert_eq!(end(Err(anyhow::anyhow!("refused"))), (1, Some("error: refused".into())));
    }

    #[test]
    fn a_reader_that_has_read_enough_is_no_error() {
        let closed = Closed(io::ErrorKind::BrokenPipe.into());
        assert_eq!(end(Err(closed).context("logs of a/b")), (0, None));
        assert_eq!(end(Err(Closed(io::ErrorKind::StorageFull.into()).into())).0, 1);
        let connection = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(end(Err(connection.into())).0, 1, "a connection that breaks is an error");
    }
}
