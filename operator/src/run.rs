//! The command `run`: serves health checks and metrics, and reconciles while it holds the lease.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kube::Config;
use kube::client::ClientBuilder;
use kube::runtime::reflector::Store;
use sluice_service::options::ServeOptions;
use sluice_service::{metrics, probes, server, shutdown};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::api_request_metrics;
use crate::controller::plan::Defaults;
use crate::controller::server_restarts::ServerRestarts;
use crate::controller::{self, Context, Slots};
use crate::installed_schema::InstalledSchema;
use crate::lease::Election;
use crate::observe::Observer;
use crate::program_client::Programs;
use crate::resource_metrics::Resources;
use crate::settings::RunSettings;

/// Resources that autoscaling can queue for a reconcile.
const WAKE_QUEUE: usize = 256;

/// Runs until SIGTERM, or until the lease is lost.
///
/// # Errors
/// When the address is in use, the API server cannot be reached, or the lease is lost. The process must
/// then be started again.
pub async fn run(settings: RunSettings) -> anyhow::Result<()> {
    let stop = shutdown::on_signal();
    let metrics = metrics::install();
    let config = Config::infer().await.context("there is neither a kubeconfig nor a pod's service account")?;
    let client = ClientBuilder::try_from(config)?.with_layer(&api_request_metrics::counted()).build();
    let identity = identity(&settings);
    let namespace = settings.lease.operator_namespace.clone();
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let election = Arc::new(Election::new(
        client.clone(),
        &namespace,
        &settings.lease.lease_name,
        &identity,
        settings.lease.lease_duration,
    ));
    let defaults = defaults(&settings, namespace);
    let mut context = Context::new(client.clone(), Programs::new()?, defaults, settings.resync, identity);
    context.server_restarts = ServerRestarts::new(settings.server_restarts.into());
    let context = Arc::new(context);
    let schema = Arc::new(InstalledSchema::default());

    let listener = server::bind(&settings.listen.to_string()).await?;
    let patience = settings.lease.lease_duration * 2;
    let resources = Arc::new(Resources::default());
    let shown = resources.clone();
    let router = probes::router_with(
        metrics,
        move || shown.render(),
        live(context.clone()),
        ready(election.clone(), context.clone(), schema.clone(), patience),
    );
    let serving = server::run(listener, router, stop.clone(), ServeOptions::new(settings.shutdown_timeout));
    let leading = async {
        // The process ends together with this task, whatever the reason.
        let _ending = stop.clone().drop_guard();
        lead(&settings, &election, context, &resources, &stop).await
    };
    let comparing = schema.keep_comparing(&client, settings.resync, &stop);
    let (led, served, ()) = tokio::join!(leading, serving, comparing);
    led.and(served)
}

/// Waits for the lease, works while it is held, and releases it.
async fn lead(
    settings: &RunSettings,
    election: &Election,
    context: Arc<Context>,
    resources: &Resources,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let leader = ::metrics::gauge!(crate::metrics::LEADER.name);
    leader.set(0.0);
    tracing::info!("waiting for the lease");
    if !election.win(stop).await {
        return Ok(());
    }
    tracing::info!("holding the lease: reconciling");
    leader.set(1.0);
    let (working, released) = (stop.child_token(), CancellationToken::new());
    let work = async {
        work(settings, context, resources, working).await;
        // Another operator may begin only when this one has stopped writing.
        released.cancel();
    };
    tokio::select! {
        renewed = election.renew_until(&released) => renewed?,
        () = work => {}
    }
    leader.set(0.0);
    election.release().await;
    Ok(())
}

/// Watches and observes until `stop` is cancelled, and then finishes the work in flight.
async fn work(settings: &RunSettings, context: Arc<Context>, resources: &Resources, stop: CancellationToken) {
    let namespaces: Vec<Option<&str>> = match settings.namespaces.as_slice() {
        [] => vec![None],
        some => some.iter().map(|name| Some(name.as_str())).collect(),
    };
    let observer = Observer::new(context.clone());
    let slots = Arc::new(Slots::new(settings.concurrency));
    let watched = namespaces.into_iter().map(|namespace| {
        let (wake, woken) = mpsc::channel(WAKE_QUEUE);
        let (started, store) = oneshot::channel();
        let started = |store: Store<_>| {
            resources.add(store.clone());
            // The receiver exists for as long as this function runs.
            let _ = started.send(store);
        };
        let watching = controller::watch(context.clone(), namespace, slots.clone(), woken, started, stop.clone());
        let observing = async {
            if let Ok(store) = store.await {
                observer.run(store, wake, settings.observe, stop.clone()).await;
            }
        };
        async { tokio::join!(watching, observing) }
    });
    let all = futures::future::join_all(watched);
    let cut = async {
        stop.cancelled().await;
        tokio::time::sleep(settings.shutdown_timeout).await;
    };
    tokio::select! {
        _ = all => {}
        () = cut => tracing::warn!("the work in flight did not end within the shutdown timeout: stopping"),
    }
}

fn identity(settings: &RunSettings) -> String {
    let given = settings.lease.identity.clone().or_else(|| std::env::var("HOSTNAME").ok());
    given.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("sluice-operator-{}", std::process::id()))
}

fn defaults(settings: &RunSettings, namespace: String) -> Defaults {
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    Defaults {
        image_aggregator: settings.images.image_aggregator.clone(),
        image_publisher: settings.images.image_publisher.clone(),
        image_redis: settings.images.image_redis.clone(),
        image_postgres: settings.images.image_postgres.clone(),
        operator_namespace: in_cluster.then_some(namespace),
        fixed_user_ids: settings.fixed_user_ids,
        secret_selector: settings.secret_selector.clone(),
        runbooks: settings.runbooks.runbook_url.clone(),
    }
}

/// Live while reconciles end. A process that hangs keeps the lease, and nothing but a restart helps.
fn live(context: Arc<Context>) -> impl Fn() -> Result<(), String> + Clone + Send + Sync + 'static {
    move || context.progress.check(Instant::now())
}

/// Ready while the API server responds, and the leader can watch the resources. Both the leader and an operator that
/// waits for the lease are ready.
fn ready(
    election: Arc<Election>,
    context: Arc<Context>,
    schema: Arc<InstalledSchema>,
    patience: Duration,
) -> impl Fn() -> futures::future::BoxFuture<'static, probes::Readiness> + Clone + Send + Sync + 'static {
    move || {
        let contact: Option<Instant> = election.last_contact();
        let watches = context.watches.readiness(Instant::now());
        let note = schema.note();
        Box::pin(async move {
            match contact {
                Some(contact) if contact.elapsed() < patience => {
                    watches.map(|lines| lines.into_iter().chain(note).collect())
                }
                Some(contact) => Err(format!("the API server has not answered for {} s", contact.elapsed().as_secs())),
                None => Err("the API server has not answered yet".to_owned()),
            }
        })
    }
}
