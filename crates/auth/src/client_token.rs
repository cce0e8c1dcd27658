//! The token of a client, which `simulate` and `healthcheck` are.

use std::path::PathBuf;

use axum::http::{HeaderMap, HeaderValue, header};
use clap::Args;

use crate::bearer::is_token;

/// The token that is sent with each request.
#[derive(Clone, Default, Args)]
pub struct ClientTokenArgs {
    /// Token for a server that needs one
    #[arg(long, env = "SLUICE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// File with the token, instead of --token
    #[arg(long, env = "SLUICE_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
}

/// Written without the token, so that no message shows it.
impl std::fmt::Debug for ClientTokenArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("ClientTokenArgs").field("token", &token).field("token_file", &self.token_file).finish()
    }
}

impl ClientTokenArgs {
    /// Returns the headers that each request needs: none without a token.
    ///
    /// # Errors
    /// When the file cannot be read, or what is given cannot be a token.
    pub fn headers(&self) -> anyhow::Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        let (setting, token) = match (&self.token, &self.token_file) {
            (Some(token), _) => ("--token", token.clone()),
            (None, Some(file)) => {
                let read = std::fs::read_to_string(file);
                let read = read.map_err(|error| anyhow::anyhow!("--token-file: {}: {error}", file.display()))?;
                ("--token-file", read.trim().to_owned())
            }
            (None, None) => return Ok(headers),
        };
        anyhow::ensure!(is_token(&token), "{setting}: this is not a token");
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_from_the_option_or_from_a_file() {
        let given = |token: Option<&str>, token_file| ClientTokenArgs { token: token.map(str::to_owned), token_file };
        assert!(given(None, None).headers().unwrap().is_empty());
        assert_eq!(given(Some("abc"), None).headers().unwrap()[header::AUTHORIZATION], "Bearer abc");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "abc\n").unwrap();
        assert_eq!(given(None, Some(file.clone())).headers().unwrap()[header::AUTHORIZATION], "Bearer abc");
        std::fs::write(&file, "a b").unwrap();
        for (args, expected) in [
            (given(Some(""), None), "--token: this is not a token"),
            (given(None, Some(file)), "--token-file: this is not a token"),
            (given(None, Some("/no/such/file".into())), "--token-file: /no/such/file: "),
        ] {
            let error = args.headers().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(!format!("{:?}", given(Some("abc"), None)).contains("abc"));
    }
}
