//! TLS of a server's own listener: its certificate, and the next one when the files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{metrics, tls};

/// The options that messages name.
pub const CERT: &str = "--tls-cert";
/// The option with the key.
pub const KEY: &str = "--tls-key";
/// The option with the CAs of clients.
pub const CLIENT_CA: &str = "--tls-client-ca";

/// How often the files are read, to find out whether they have changed. Their times are not compared: Kubernetes
/// replaces a symbolic link of their folder.
const POLL: Duration = Duration::from_secs(5);
/// How long reading the files may take before that is logged.
const SLOW: Duration = Duration::from_secs(60);
/// A certificate that ends sooner is warned of.
const SOON: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How often what stays wrong is logged again.
const REMIND: Duration = Duration::from_secs(6 * 3_600);

/// The files of a listener's TLS, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTlsFiles {
    /// The certificate of the server, followed by those of intermediate CAs.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CAs of which each client must have a certificate.
    pub client_ca: Option<PathBuf>,
}

/// What is in the files.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What new connections use.
struct Loaded {
    config: Arc<ServerConfig>,
    contents: Contents,
    /// Seconds since 1970.
    expires: i64,
}

/// The TLS of a listener.
pub struct ServerTls {
    files: ServerTlsFiles,
    loaded: Mutex<Loaded>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// The name of the option and of the file, and what is wrong.
    pub fn load(files: ServerTlsFiles) -> Result<Arc<Self>, String> {
        let loaded = Loaded::new(&files, files.read()?)?;
        Ok(Arc::new(Self { files, loaded: Mutex::new(loaded) }))
    }

    /// Returns what the next connection uses.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.loaded().config.clone()
    }

    /// Uses new files for new connections as soon as they are found, until `shutdown` is cancelled. While they cannot be
    /// used, the former certificate is used on. Also tells when the certificate ends.
    pub(crate) async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        let (mut broken, mut ends) = (Reminder::default(), Reminder::default());
        loop {
            let expires = self.loaded().expires;
            ::metrics::gauge!(metrics::TLS_CERTIFICATE_EXPIRY.name).set(expires as f64);
            ends.tell(ends_soon(expires, now()), |text| tracing::warn!("{text}"));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(POLL) => {}
            }
            let result = tokio::select! {
                () = shutdown.cancelled() => return,
                result = self.clone().read_again() => result,
            };
            if result.is_err() {
                ::metrics::counter!(metrics::TLS_RELOAD_ERRORS.name).increment(1);
            }
            broken.tell(result.err(), |text| tracing::error!("{text}; the former certificate is used on"));
        }
    }

    /// Reads the files, and uses what is new.
    async fn read_again(self: Arc<Self>) -> Result<(), String> {
        let files = self.files.clone();
        // A thread of its own: a file system on a network may let it wait.
        let mut reading = tokio::task::spawn_blocking(move || files.read());
        let read = loop {
            match timeout(SLOW, &mut reading).await {
                Ok(read) => break read,
                Err(_) => tracing::warn!("reading the files of {CERT}, {KEY} and {CLIENT_CA} takes long"),
            }
        };
        let contents = read.map_err(|error| format!("{CERT}: the files cannot be read: {error}"))??;
        if contents == self.loaded().contents {
            return Ok(());
        }
        let new = Loaded::new(&self.files, contents)?;
        tracing::info!(expires = new.expires, "new connections use the new files of {CERT}, {KEY} and {CLIENT_CA}");
        *self.loaded() = new;
        Ok(())
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerTlsFiles {
    fn read(&self) -> Result<Contents, String> {
        let client_ca = self.client_ca.as_ref().map(|file| tls::read(CLIENT_CA, file)).transpose()?;
        Ok(Contents { cert: tls::read(CERT, &self.cert)?, key: tls::read(KEY, &self.key)?, client_ca })
    }
}

impl Loaded {
    fn new(files: &ServerTlsFiles, contents: Contents) -> Result<Self, String> {
        let (cert, key) = ((CERT, files.cert.as_path()), (KEY, files.key.as_path()));
        let chain = tls::certificates_in(cert, &contents.cert)?;
        let expires = chain.first().map_or(Ok(0), |leaf| expires(cert, leaf))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| format!("{CERT}: {error}"))?;
        let builder = match (&files.client_ca, &contents.client_ca) {
            (Some(file), Some(text)) => {
                let roots = Arc::new(tls::roots_in((CLIENT_CA, file), text)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| format!("{CLIENT_CA}: {error}"))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, tls::key_in(key, &contents.key)?)
            .map_err(|error| tls::mismatch(cert, key, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if files.client_ca.is_some() {
            // A session that is resumed would not have its client's certificate checked again.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config), contents, expires })
    }
}

/// Returns when a certificate ends, in seconds since 1970.
fn expires((option, file): (&str, &Path), certificate: &[u8]) -> Result<i64, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| format!("{option}: {} holds a certificate that cannot be used: {error}", file.display()))?;
    Ok(parsed.validity().not_after.timestamp())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Returns what is to be said of a certificate that ends at a time; `None` when it is valid for long enough.
fn ends_soon(expires: i64, now: i64) -> Option<String> {
    let left = expires.saturating_sub(now);
    match u64::try_from(left) {
        Err(_) | Ok(0) => Some(format!("the certificate in {CERT} has expired: clients refuse it")),
        Ok(left) if left < SOON.as_secs() => {
            Some(format!("the certificate in {CERT} expires in less than {} days", left / (24 * 3_600) + 1))
        }
        Ok(_) => None,
    }
}

/// Tells something when it begins or changes, and from time to time while it lasts.
#[derive(Default)]
struct Reminder {
    told: Option<(String, Instant)>,
}

impl Reminder {
    fn tell(&mut self, text: Option<String>, log: impl FnOnce(&str)) {
        let Some(text) = text else {
            self.told = None;
            return;
        };
        if self.told.as_ref().is_some_and(|(told, at)| *told == text && at.elapsed() < REMIND) {
            return;
        }
        log(&text);
        self.told = Some((text, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600;

    #[test]
    fn a_certificate_is_warned_of_in_its_last_seven_days_and_after_its_end() {
        assert_eq!(ends_soon(8 * DAY, 0), None);
        assert_eq!(ends_soon(7 * DAY, 0), None);
        for (expires, text) in
            [(7 * DAY - 1, "less than 7 days"), (1, "less than 1 days"), (0, "has expired"), (-DAY, "has expired")]
        {
            let said = ends_soon(expires, 0).unwrap();
            assert!(said.contains(text), "{expires}: {said}");
        }
    }

    #[test]
    fn what_stays_wrong_is_not_logged_at_each_look() {
        let (mut reminder, mut lines) = (Reminder::default(), Vec::new());
        for text in [Some("a"), Some("a"), Some("b"), None, Some("b")] {
            reminder.tell(text.map(str::to_owned), |text| lines.push(text.to_owned()));
        }
        assert_eq!(lines, ["a", "b", "b"]);
    }
}
