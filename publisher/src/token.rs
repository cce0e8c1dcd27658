//! `token`: makes a token, and its item for the file of `--tokens`.

use std::io::Write;

use sluice_auth::NewToken;

/// Prints a new token, and its item for the file. The token itself is stored nowhere.
///
/// # Errors
/// When the system has no random numbers, or standard output cannot be written.
pub fn run(settings: &NewToken) -> anyhow::Result<()> {
    let (token, item) = settings.make()?;
    let text =
        format!("{token}\n\n# For the file of --tokens, which has the hash of the token and not the token:\n{item}");
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
