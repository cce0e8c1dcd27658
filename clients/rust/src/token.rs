//! The token that is sent with each request.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderValue;

/// Where the token comes from.
#[derive(Debug)]
pub(crate) enum Token {
    None,
    Fixed(HeaderValue),
    File(TokenFile),
}

/// A file that may be replaced while the client runs.
#[derive(Debug)]
pub(crate) struct TokenFile {
    path: PathBuf,
    /// The last one that could be read.
    last: Mutex<HeaderValue>,
}

impl Token {
    pub(crate) fn fixed(token: &str) -> Result<Self, String> {
        Ok(Self::Fixed(header(token)?))
    }

    /// Reads the file, which must have a token at the start.
    pub(crate) fn file(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let last = Mutex::new(header(text.trim()).map_err(|reason| format!("{}: {reason}", path.display()))?);
        Ok(Self::File(TokenFile { path: path.to_owned(), last }))
    }

    /// Returns the header of the next request. The file is read each time, because its times do not show every change; what
    /// cannot be a token, as while somebody writes it, is passed over for the one before.
    pub(crate) async fn header(&self) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::Fixed(header) => Some(header.clone()),
            Self::File(file) => {
                let read = tokio::fs::read_to_string(&file.path).await.map_err(|error| error.to_string());
                let current = read.and_then(|text| header(text.trim()));
                let mut last = file.last.lock().unwrap_or_else(PoisonError::into_inner);
                match current {
                    Ok(current) => *last = current,
                    Err(reason) => tracing::warn!(file = %file.path.display(), reason, "the token file cannot be used"),
                }
                Some(last.clone())
            }
        }
    }
}

/// Returns the header with a token, which no message shows.
fn header(token: &str) -> Result<HeaderValue, String> {
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = is_token.then(|| HeaderValue::try_from(format!("Bearer {token}")).ok()).flatten();
    let mut value = value.ok_or("this is not a token")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_file_is_read_anew_and_a_useless_one_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "first\n").unwrap();
        let token = Token::file(&file).unwrap();
        for (text, expected) in [("first\n", "Bearer first"), ("", "Bearer first"), ("second", "Bearer second")] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(token.header().await.unwrap(), expected);
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(token.header().await.unwrap(), "Bearer second");
    }

    #[test]
    fn what_cannot_be_a_token_is_refused_and_no_message_shows_one() {
        assert!(Token::fixed("a b").is_err() && Token::fixed("").is_err());
        assert!(Token::file(Path::new("/no/such/file")).is_err());
        assert!(!format!("{:?}", Token::fixed("secret").unwrap()).contains("secret"));
    }
}
