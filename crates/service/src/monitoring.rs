//! Where the probes and the metrics are served: by the main listener, or by one of their own.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use futures::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::options::ServeOptions;
use crate::probes::{self, Readiness};
use crate::{problem, server};

/// The maximum number of connections to the listener of the probes and the metrics. Their files are among those that
/// the main listener leaves to everything else.
const MAX_CONNECTIONS: usize = 64;
/// How long answers of probes and metrics may take to finish at the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// The routes of the probes and the metrics, and their listener if they have their own.
pub struct Monitoring {
    main: Router,
    own: Option<(TcpListener, Router)>,
}

impl Monitoring {
    /// Binds the address, if there is one. The main listener then serves the probes too, which balancers of its load
    /// ask, but not the metrics.
    ///
    /// # Errors
    /// When the address is in use or invalid.
    pub async fn bind<F>(address: Option<SocketAddr>, metrics: PrometheusHandle, ready: F) -> anyhow::Result<Self>
    where
        F: Fn() -> BoxFuture<'static, Readiness> + Clone + Send + Sync + 'static,
    {
        let Some(address) = address else { return Ok(Self { main: probes::router(metrics, ready), own: None }) };
        let listener = server::bind(&address.to_string()).await?;
        let own = probes::router(metrics, ready.clone()).fallback(problem::not_found);
        Ok(Self { main: probes::without_metrics(ready), own: Some((listener, own)) })
    }

    /// Returns the routes that the main listener serves.
    pub fn routes(&self) -> Router {
        self.main.clone()
    }

    /// Runs the main server, and beside it, until its end, the listener of the probes and the metrics. That one speaks
    /// plain HTTP, and no guard checks its requests.
    ///
    /// # Errors
    /// That of the main server.
    pub async fn beside(self, serving: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        let Some((listener, router)) = self.own else { return serving.await };
        let stop = CancellationToken::new();
        let options = ServeOptions::new(SHUTDOWN_TIMEOUT).at_most(MAX_CONNECTIONS);
        let monitoring = server::run(listener, router, stop.clone(), options);
        let serving = async {
            let served = serving.await;
            stop.cancel();
            served
        };
        let (served, monitored) = tokio::join!(serving, monitoring);
        served.and(monitored)
    }
}
