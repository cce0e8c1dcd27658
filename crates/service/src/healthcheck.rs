//! The `healthcheck` subcommand: for images that have neither a shell nor curl.

use std::error::Error;
use std::time::Duration;

use anyhow::{Context, anyhow};
use reqwest::ClientBuilder;
use reqwest::header::HeaderMap;

use crate::client_tls::{self, ClientTls};

const DEADLINE: Duration = Duration::from_secs(3);
/// How often a request is sent whose connection has ended before it. In TLS 1.3 a server refuses the client's certificate
/// after the handshake, and if its reason arrives before the request is sent, it is lost.
const TRIES: u32 = 5;

/// Asks the server at `url` (such as `http://127.0.0.1:8080`), without TLS, whether it is ready.
///
/// # Errors
/// When the server is not ready or does not respond within three seconds.
pub async fn run(url: &str) -> anyhow::Result<()> {
    let client = client_tls::plain_client().map_err(|error| anyhow!(error))?;
    ask(url, client, |_| None).await
}

/// Asks the server at `url`, which may begin with `https://`, whether it is ready, with these headers, such as a token
/// for a proxy in front of it.
///
/// # Errors
/// Those of [`run`], and those of TLS.
pub async fn run_with(url: &str, tls: &ClientTls, headers: HeaderMap) -> anyhow::Result<()> {
    let config = tls.config().map_err(|error| anyhow!(error))?;
    ask(url, client_tls::client(config).default_headers(headers), |error| tls.explain(error)).await
}

async fn ask(
    url: &str,
    client: ClientBuilder,
    explain: impl Fn(&reqwest::Error) -> Option<String>,
) -> anyhow::Result<()> {
    let url = format!("{}/readyz", url.trim_end_matches('/'));
    let client = client.timeout(DEADLINE).build()?;
    let mut answer = client.get(&url).send().await;
    for _ in 1..TRIES {
        if !answer.as_ref().is_err_and(was_not_sent) {
            break;
        }
        answer = client.get(&url).send().await;
    }
    let answer = answer.map_err(|error| explain(&error).map_or_else(|| error.into(), |reason| anyhow!(reason)));
    let answer = answer.with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let body = answer.text().await.unwrap_or_default();
    anyhow::bail!("{url} returned {status}: {}", body.trim());
}

fn was_not_sent(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        cause = error.source();
    }
    false
}
