//! Leader election: of several operators only the one that holds a Lease acts. The clocks of other machines are
//! not trusted: a lease has expired when it has not changed for its duration, measured by the clock of this machine.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use sluice_service::backoff::Backoff;
use tokio_util::sync::CancellationToken;

/// One operator's participation in the leader election.
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    duration: Duration,
    contact: Mutex<Option<Instant>>,
}

/// The version of the lease that was observed last, and the time since which it has not changed.
struct Observed {
    version: Option<String>,
    since: Instant,
}

impl Election {
    /// Creates the participation of an operator. No other operator may have the same `identity`.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, duration: Duration) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            duration,
            contact: Mutex::default(),
        }
    }

    /// Returns when the API server last responded.
    pub fn last_contact(&self) -> Option<Instant> {
        *self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this operator holds the lease, and returns true. Returns false if `stop` is cancelled first.
    pub async fn win(&self, stop: &CancellationToken) -> bool {
        let mut observed = Observed { version: None, since: Instant::now() };
        let mut backoff = Backoff::new(self.duration / 10, self.duration / 3);
        loop {
            match self.try_win(&mut observed).await {
                Ok(true) => return true,
                Ok(false) => backoff.reset(),
                Err(error) => tracing::warn!(%error, lease = self.name, "cannot request the lease, trying again"),
            }
            // At least a tenth of the duration: with a backoff of zero the loop would send requests without a pause.
            let wait = self.duration / 10 + backoff.next();
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Renews the held lease until `stop` is cancelled.
    ///
    /// # Errors
    /// If another operator took the lease, or if it could not be renewed in time.
    pub async fn renew_until(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        // Earlier than the lease expires: this operator must have stopped before another one takes over.
        let deadline = self.duration * 2 / 3;
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(self.duration / 5) => {}
            }
            let left = deadline.saturating_sub(renewed.elapsed());
            let began = Instant::now();
            match tokio::time::timeout(left.min(self.duration / 4), self.renew()).await {
                Ok(Ok(true)) => renewed = began,
                Ok(Ok(false)) => anyhow::bail!("the lease {} was taken by another operator", self.name),
                Ok(Err(error)) => tracing::warn!(%error, lease = self.name, "cannot renew the lease, trying again"),
                Err(_) => tracing::warn!(lease = self.name, "the API server did not respond in time"),
            }
            if renewed.elapsed() >= deadline {
                anyhow::bail!("the lease {} could not be renewed for {deadline:?}", self.name);
            }
        }
    }

    /// Releases the lease, so that another operator need not wait until it expires.
    pub async fn release(&self) {
        let released = async {
            let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
            if holder(&lease) != self.identity {
                return Ok(());
            }
            let spec = lease.spec.get_or_insert_default();
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            self.api.replace(&self.name, &PostParams::default(), &lease).await.map(|_| ())
        };
        match tokio::time::timeout(self.duration / 3, released).await {
            Ok(Ok(())) => tracing::info!(lease = self.name, "released the lease"),
            Ok(Err(error)) => tracing::warn!(%error, lease = self.name, "cannot release the lease: it will expire"),
            Err(_) => tracing::warn!(lease = self.name, "cannot release the lease in time: it will expire"),
        }
    }

    async fn try_win(&self, observed: &mut Observed) -> kube::Result<bool> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            self.contacted();
            return self.create().await;
        };
        self.contacted();
        if observed.version != lease.metadata.resource_version {
            *observed = Observed { version: lease.metadata.resource_version.clone(), since: Instant::now() };
        }
        let current = holder(&lease);
        if current.is_empty() || current == self.identity || observed.since.elapsed() >= self.held_for(&lease) {
            return self.take(lease).await;
        }
        Ok(false)
    }

    async fn create(&self) -> kube::Result<bool> {
        let lease = Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: Some(self.spec(1)),
        };
        won(self.api.create(&PostParams::default(), &lease).await)
    }

    async fn take(&self, mut lease: Lease) -> kube::Result<bool> {
        let changes = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
        lease.spec = Some(self.spec(changes + 1));
        // The request contains the version, so only one of several operators succeeds.
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    /// Renews the lease. Returns false when another operator holds it now.
    async fn renew(&self) -> kube::Result<bool> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else { return self.create().await };
        self.contacted();
        if holder(&lease) != self.identity {
            return Ok(false);
        }
        lease.spec.get_or_insert_default().renew_time = Some(MicroTime(Timestamp::now()));
        match self.api.replace(&self.name, &PostParams::default(), &lease).await {
            // Another client changed the lease meanwhile. The next renewal shows who holds it.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(true),
            renewed => renewed.map(|_| true),
        }
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.duration.as_secs().max(1)).unwrap_or(i32::MAX)),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Returns the duration that the holder of the lease requested.
    fn held_for(&self, lease: &Lease) -> Duration {
        let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(self.duration, Duration::from_secs)
    }

    fn contacted(&self) {
        *self.contact.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or("")
}

/// Returns whether a write succeeded. A conflict means that another operator was faster.
fn won(written: kube::Result<Lease>) -> kube::Result<bool> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
