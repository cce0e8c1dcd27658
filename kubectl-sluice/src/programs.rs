//! Requests to the programs of a resource.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{HOST, HeaderMap, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sluice_operator::contract::PUBLISHER_PORT;
use sluice_operator::controller::build::names::Component;
use sluice_service::client_tls::ClientFiles;
use url::Url;

use crate::context::Context;
use crate::link::{Link, Tls};
use crate::outcome::Late;
use crate::pods;
use crate::server_tls;

/// The maximum size of an answer in bytes. The largest is a page of events: 16 MiB and one event more.
const MAX_ANSWER: usize = 64 << 20;

/// The programs of a resource.
pub struct Programs {
    target: Target,
    headers: HeaderMap,
    timeout: Duration,
    link: Option<Link>,
}

/// Where connections are opened.
enum Target {
    /// To a ready publisher; `next` is the one after that of the last connection.
    Pods {
        pods: Box<Api<Pod>>,
        names: Vec<String>,
        next: usize,
        tls: Option<Tls>,
    },
    Host {
        host: String,
        port: u16,
        prefix: String,
        tls: Option<Tls>,
    },
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What a program refuses.
#[derive(Debug, thiserror::Error)]
#[error("the answer is {status}{}{}", named(.code), said(.detail))]
pub struct Refused {
    /// The status.
    pub status: StatusCode,
    /// The code of the problem, or an empty text.
    pub code: String,
    /// The problem in words, or an empty text.
    pub detail: String,
    /// Which event of the request is refused.
    pub index: Option<usize>,
    /// When to repeat the request.
    pub retry_after: Option<Duration>,
}

fn named(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!(" {code}") }
}

fn said(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {}", crate::table::one_line(detail)) }
}

impl Programs {
    /// Finds the programs of a resource. Nothing is sent to them yet.
    ///
    /// # Errors
    /// If no publisher is ready, or the options of the command cannot be used.
    pub async fn of(context: &Context, name: &str) -> anyhow::Result<Self> {
        let global = &context.global;
        let headers = global.token().headers()?;
        let target = match &global.url {
            Some(url) => host(url, global.files())?,
            None => {
                let pods = pods::of_resource(context, &context.names(name)).await?;
                let names = pods::ready(&pods, Component::Publisher)?;
                let tls = server_tls::of_resource(context, name).await?;
                Target::Pods { pods: Box::new(context.api()?), names, next: 0, tls }
            }
        };
        Ok(Self { target, headers, timeout: global.request_timeout, link: None })
    }

    /// Returns the answer to a GET as this type.
    ///
    /// # Errors
    /// If there is no answer, or it is another one.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::GET, path).await
    }

    /// Returns the answer to a request without a body as this type.
    ///
    /// # Errors
    /// If there is no answer, or it is another one.
    pub async fn ask<T: DeserializeOwned>(&mut self, method: Method, path: &str) -> anyhow::Result<T> {
        let about = format!("{method} {path}");
        let answer = self.send(method, path, &[], Bytes::new()).await?;
        let body = answer.accepted().with_context(|| about.clone())?;
        serde_json::from_slice(&body).with_context(|| format!("{about}: the answer is not that of a publisher"))
    }

    /// Sends a request, and returns whatever is answered. A GET is sent once more, on another connection, if the
    /// first one breaks.
    ///
    /// # Errors
    /// If there is no answer within the deadline.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let timeout = self.timeout;
        let is_safe = method == Method::GET;
        let answer = async {
            match self.send_once(&method, path, headers, body.clone()).await {
                Err(_) if is_safe => self.send_once(&method, path, headers, body).await,
                answer => answer,
            }
        };
        match tokio::time::timeout(timeout, answer).await {
            Ok(answer) => answer.with_context(|| format!("{method} {path}: no answer")),
            Err(_) => {
                self.link = None;
                Err(Late(format!("{method} {path}: the programs did not answer within {timeout:?}")).into())
            }
        }
    }

    async fn send_once(
        &mut self,
        method: &Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.target.prefix()));
        request = request.header(HOST, self.target.authority());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(body))?;
        request.headers_mut().extend(self.headers.clone());
        // A connection that the server has closed meanwhile is replaced.
        let mut link = match self.link.take().filter(|link| !link.sender.is_closed()) {
            Some(link) => link,
            None => self.target.connect().await?,
        };
        let sent = async {
            link.sender.ready().await?;
            let (head, body) = link.sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| anyhow::anyhow!("{error}"))?;
            anyhow::Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        match sent.await {
            Ok(answer) => {
                self.link = Some(link);
                Ok(answer)
            }
            Err(error) => Err(link.explain(error).await),
        }
    }
}

impl Target {
    async fn connect(&mut self) -> anyhow::Result<Link> {
        let (link, tls) = match self {
            Self::Host { host, port, tls, .. } => (Link::to_host(host, *port, tls.as_ref()).await, tls),
            Self::Pods { pods, names, next, tls } => {
                let pod = &names[*next % names.len()];
                *next += 1;
                let port = u16::try_from(PUBLISHER_PORT)?;
                (Link::to_pod(pods, pod, port, tls.as_ref()).await, tls)
            }
        };
        link.map_err(|error| {
            let explained = tls.as_ref().and_then(|_| server_tls::OPTIONS.names.explain(error.as_ref()));
            explained.map_or(error, anyhow::Error::msg)
        })
    }

    fn prefix(&self) -> &str {
        if let Self::Host { prefix, .. } = self { prefix } else { "" }
    }

    fn authority(&self) -> String {
        match self {
            Self::Host { host, port, .. } => format!("{host}:{port}"),
            Self::Pods { .. } => format!("localhost:{PUBLISHER_PORT}"),
        }
    }
}

fn host(url: &Url, files: ClientFiles) -> anyhow::Result<Target> {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        bail!("--url: {url} names no host");
    };
    let tls = match url.scheme() {
        "http" => {
            server_tls::unused(&files, "--url must begin with https://")?;
            None
        }
        "https" => Some(server_tls::of_host(files, host.trim_matches(['[', ']']))?),
        scheme => bail!("--url: {scheme} is neither http nor https"),
    };
    Ok(Target::Host { host: host.to_owned(), port, prefix: url.path().trim_end_matches('/').to_owned(), tls })
}

impl Answer {
    /// Returns the body of an answer that is a success.
    ///
    /// # Errors
    /// [`Refused`] for any other.
    pub fn accepted(self) -> Result<Bytes, Refused> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Problem {
            code: String,
            detail: String,
            index: Option<usize>,
        }
        if self.status.is_success() {
            return Ok(self.body);
        }
        let Problem { code, mut detail, index } = serde_json::from_slice(&self.body).unwrap_or_default();
        if self.status == StatusCode::UNAUTHORIZED {
            detail.push_str(" (a token is given with --token-file or SLUICE_TOKEN)");
        }
        let seconds = self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let retry_after = seconds.map(Duration::from_secs);
        Err(Refused { status: self.status, code, detail, index, retry_after })
    }
}

/// The header of a body that is JSON.
pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

/// Returns a path with a query of those parameters that have a value.
pub(crate) fn path(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let given: Vec<_> = parameters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    if given.is_empty() {
        return path.to_owned();
    }
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish();
    format!("{path}?{query}")
}
