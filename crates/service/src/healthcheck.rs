//! The `healthcheck` subcommand: for images that have neither a shell nor curl.

use std::time::Duration;

use anyhow::Context;

const DEADLINE: Duration = Duration::from_secs(3);

/// Asks the server at `url` (such as `http://127.0.0.1:8080`) whether it is ready.
///
/// # Errors
/// When the server is not ready or does not respond within three seconds.
pub async fn run(url: &str) -> anyhow::Result<()> {
    let url = format!("{}/readyz", url.trim_end_matches('/'));
    let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build()?;
    let answer = client.get(&url).send().await.with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let body = answer.text().await.unwrap_or_default();
    anyhow::bail!("{url} returned {status}: {}", body.trim());
}
