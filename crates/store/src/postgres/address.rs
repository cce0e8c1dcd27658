//! The address of the database, and how connections to it are encrypted.
//!
//! The modes are those of libpq. The driver has no `allow` and does not check a certificate with `require` and a CA, so
//! both are made here of its other modes. It does not know several hosts either: they are tried here in turn, until one
//! accepts writes ([`super::hosts`]).

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sluice_service::encryption::{Encryption, Transport, is_loopback};
use sluice_service::tls::{self, Names};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Error};
use url::Url;

use super::errors::within;
use super::hosts::{self, Hosts};
use super::password;
use super::settings::PostgresSettings;
use crate::StoreError;

/// The longest that a connection to one of several hosts may take. A host that is cut off does not answer at all, and
/// the wait for a connection, which is longer, must suffice for the next one.
const HOST_TIMEOUT: Duration = Duration::from_secs(2);

const NAMES: Names = Names {
    server: "PostgreSQL",
    url: "--database-url",
    ca: "sslrootcert in --database-url",
    certificate: "sslcert and sslkey in --database-url",
};

/// Parameters of libpq that make a connection safer, which the driver does not know and would leave out without an
/// error; and the values with which they demand nothing.
const NOT_SUPPORTED: [(&str, &[&str]); 11] = [
    ("channel_binding", &["disable", "prefer"]),
    ("gssencmode", &["disable", "prefer"]),
    ("require_auth", &[]),
    ("requirepeer", &[]),
    ("ssl_max_protocol_version", &[]),
    ("ssl_min_protocol_version", &["TLSv1", "TLSv1.1", "TLSv1.2"]),
    ("sslcertmode", &["allow", "disable"]),
    ("sslcrl", &[]),
    ("sslcrldir", &[]),
    ("sslnegotiation", &["postgres"]),
    ("sslpassword", &[]),
];

/// The URL of a database, parsed.
#[derive(Clone)]
pub(super) struct Address {
    hosts: Arc<[Host]>,
    /// The host to try first: the one that was connected to last, or the one after the last that failed.
    first: Arc<AtomicUsize>,
    /// Whether a server that accepts no writes is left for the next one.
    must_write: bool,
    /// The file with the password, read at each connection.
    password_file: Option<Arc<Path>>,
    encryption: Encryption,
}

/// One host of the URL.
struct Host {
    options: PgConnectOptions,
    mode: PgSslMode,
    is_local: bool,
    require_tls: bool,
}

/// How a connection was opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened {
    mode: PgSslMode,
    is_local: bool,
}

impl Address {
    /// Parses the URL of the settings.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if it cannot be parsed.
    pub fn new(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let address = Self::parse(&settings.url, settings.require_tls, &settings.application_name());
        let password_file = settings.password_file.as_deref().map(Arc::from);
        address.map(|address| Self { password_file, ..address }).map_err(StoreError::Failed)
    }

    fn parse(url: &str, require_tls: bool, application: &str) -> Result<Self, String> {
        let Hosts { urls, must_write } = hosts::split(url)?;
        let hosts = urls.iter().map(|url| Host::parse(url, require_tls, application)).collect::<Result<_, _>>()?;
        let encryption = Encryption::of("PostgreSQL");
        Ok(Self { hosts, first: Arc::default(), must_write, password_file: None, encryption })
    }

    /// Returns whether connections are encrypted.
    pub fn encryption(&self) -> &Encryption {
        &self.encryption
    }

    /// Warns if a certificate of any CA of the system is accepted, whatever its name: with `verify-ca` the driver
    /// trusts these CAs too, and anybody can get a certificate from them.
    pub fn warn_if_any_name_is_accepted(&self) {
        let is_checked_by_ca = self.hosts.iter().any(|host| matches!(host.mode, PgSslMode::VerifyCa));
        if is_checked_by_ca && tls::system_has_roots() {
            tracing::warn!(
                "sslmode=verify-ca, or require with sslrootcert, accepts every certificate of the CAs of this system: \
                 use verify-full, or set SSL_CERT_FILE to the file of sslrootcert"
            );
        }
    }

    /// Opens a connection to the first host that can be used; returns with it how that was possible.
    ///
    /// # Errors
    /// What a server or the driver reports. If TLS is the reason, the message says what helps.
    pub async fn connect(&self) -> Result<(PgConnection, Opened), Error> {
        if self.hosts.len() == 1 {
            return self.connect_to(0).await;
        }
        let mut failure = None;
        for _ in 0..self.hosts.len() {
            let number = self.first.load(Ordering::Relaxed) % self.hosts.len();
            // If the caller gives up meanwhile, the next attempt begins with the next host.
            self.first.store(number + 1, Ordering::Relaxed);
            match within(HOST_TIMEOUT, self.connect_to(number)).await {
                Ok(opened) => {
                    self.first.store(number, Ordering::Relaxed);
                    return Ok(opened);
                }
                Err(error) => {
                    tracing::debug!(%error, number, "a host of --database-url cannot be used");
                    // A refused password, for example, says more than a host that is away.
                    let says_more = !matches!(error, Error::Io(_));
                    failure = Some(failure.filter(|_| !says_more).unwrap_or(error));
                }
            }
        }
        Err(failure.unwrap_or_else(|| Error::Configuration("--database-url has no host".into())))
    }

    async fn connect_to(&self, number: usize) -> Result<(PgConnection, Opened), Error> {
        self.hosts[number].connect(self.must_write, self.password_file.as_deref()).await
    }

    /// Records how a connection is encrypted that was opened so; `by_server` is what the server says of it. That is
    /// asked only where the client cannot know, because behind a pooler it is another connection.
    pub fn record(&self, Opened { mode, is_local }: Opened, by_server: Option<bool>) {
        let is_encrypted = match mode {
            PgSslMode::Disable | PgSslMode::Allow => false,
            PgSslMode::Prefer => by_server.unwrap_or(false),
            PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => true,
        };
        self.encryption.record(Transport::new(is_encrypted, is_local));
    }
}

impl Host {
    fn parse(url: &Url, require_tls: bool, application: &str) -> Result<Self, String> {
        let options =
            PgConnectOptions::from_url(url).map_err(|error| format!("--database-url cannot be used: {error}"))?;
        let mode = match options.get_ssl_mode() {
            // There is no network to listen to, and no name to compare.
            _ if has_socket(&options) => PgSslMode::Disable,
            PgSslMode::Require if parameter(url, &ROOT).is_some() => PgSslMode::VerifyCa,
            mode => mode,
        };
        let is_local = has_socket(&options) || is_loopback(options.get_host());
        let options = options.application_name(application).disable_statement_logging();
        Ok(Self { options, mode, is_local, require_tls })
    }

    async fn connect(&self, must_write: bool, password_file: Option<&Path>) -> Result<(PgConnection, Opened), Error> {
        let (mut connection, mode) = match password_file {
            Some(file) => self.open_by_password(file).await?,
            None => self.open(&self.options).await?,
        };
        if must_write && !hosts::accepts_writes(&mut connection).await? {
            let reason = format!("the server at {} accepts no writes: it is a standby", self.options.get_host());
            return Err(Error::Io(std::io::Error::other(reason)));
        }
        Ok((connection, Opened { mode, is_local: self.is_local }))
    }

    /// Opens a connection with the first password of the file that is not refused.
    async fn open_by_password(&self, file: &Path) -> Result<(PgConnection, PgSslMode), Error> {
        let mut refused = None;
        for password in password::read(file).map_err(|reason| Error::Io(std::io::Error::other(reason)))? {
            match self.open(&self.options.clone().password(&password)).await {
                Err(error) if password::is_refused(&error) => refused = Some(error),
                opened => return opened,
            }
        }
        Err(refused.unwrap_or_else(|| Error::Configuration("--database-password-file has no password".into())))
    }

    async fn open(&self, options: &PgConnectOptions) -> Result<(PgConnection, PgSslMode), Error> {
        let open = async |mode| Ok::<_, Error>((options.clone().ssl_mode(mode).connect().await?, mode));
        let (first, second) = self.modes();
        let error = match open(first).await {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        if let Some(second) = second
            && refuses_authorization(&error)
            && let Ok(opened) = open(second).await
        {
            return Ok(opened);
        }
        Err(self.explain(error))
    }

    /// Returns the mode to try first, and the one to try if the server does not authorise such a connection.
    fn modes(&self) -> (PgSslMode, Option<PgSslMode>) {
        match self.mode {
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer if self.require_tls && !self.is_local => {
                (PgSslMode::Require, None)
            }
            PgSslMode::Allow => (PgSslMode::Disable, Some(PgSslMode::Require)),
            PgSslMode::Prefer => (PgSslMode::Prefer, Some(PgSslMode::Disable)),
            mode => (mode, None),
        }
    }

    fn explain(&self, error: Error) -> Error {
        if let Some(reason) = NAMES.explain(&error) {
            return Error::Tls(reason.into());
        }
        let reason = match &error {
            Error::Tls(reason) if reason.to_string().contains("does not support TLS") => {
                let by = match self.mode {
                    PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => "sslmode in --database-url",
                    _ => "--require-tls",
                };
                format!("PostgreSQL does not offer TLS (`ssl` is off there), which {by} demands")
            }
            // A file is read at each connection, and may be in the middle of being replaced.
            Error::Configuration(reason) => {
                format!("the files of sslrootcert, sslcert and sslkey in --database-url cannot be used: {reason}")
            }
            Error::Io(reason) if reason.kind() == ErrorKind::NotFound && !has_socket(&self.options) => {
                format!("a file of sslrootcert, sslcert or sslkey in --database-url is gone: {reason}")
            }
            Error::Database(refusal) if refusal.message().contains("valid client certificate") => {
                format!("PostgreSQL demands a certificate of the client: give it with {}", NAMES.certificate)
            }
            Error::Database(refusal) if matches!(self.mode, PgSslMode::Disable) && is_for_plain(refusal.message()) => {
                format!(
                    "PostgreSQL does not let this user in without TLS: set sslmode in --database-url to require, \
                     verify-ca or verify-full ({})",
                    refusal.message()
                )
            }
            _ => return error,
        };
        Error::Tls(reason.into())
    }
}

/// Checks the URL, and reads the files that it names.
///
/// # Errors
/// The name of the option and of the parameter that cannot work, and the reason.
pub fn check_connection(url: &str, require_tls: bool) -> Result<(), String> {
    let address = Address::parse(url, require_tls, "")?;
    // The parameters are those of all hosts.
    let urls = hosts::split(url)?.urls;
    let url = &urls[0];
    for (name, value) in url.query_pairs() {
        if NOT_SUPPORTED.iter().any(|(parameter, harmless)| *parameter == name && !harmless.contains(&&*value)) {
            return Err(format!(
                "--database-url: {name} is not supported: without it the connection would be less safe"
            ));
        }
    }
    let is_refused = |host: &Host| !host.is_local && matches!(host.mode, PgSslMode::Disable | PgSslMode::Allow);
    if require_tls && address.hosts.iter().any(is_refused) {
        return Err("--require-tls: sslmode in --database-url must be require, verify-ca or verify-full".into());
    }
    let in_url = |names: &Parameter| names.0.iter().any(|name| url.query_pairs().any(|(given, _)| given == *name));
    let checks_certificates =
        address.hosts.iter().all(|host| matches!(host.mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull));
    if in_url(&ROOT) && !checks_certificates {
        return Err("--database-url: sslrootcert needs sslmode=verify-full, verify-ca or require".into());
    }
    check_files(url)
}

fn check_files(url: &Url) -> Result<(), String> {
    const CA: &str = "--database-url: sslrootcert";
    const CERT: &str = "--database-url: sslcert";
    const KEY: &str = "--database-url: sslkey";
    let file = |names| parameter(url, names).filter(|value| !value.trim_start().starts_with("-----BEGIN"));
    match file(&ROOT).as_deref() {
        Some("system") => return Err(format!("{CA}: the CAs of the system are trusted without it")),
        Some(ca) => tls::check_ca(CA, Path::new(ca))?,
        None => {}
    }
    match (parameter(url, &CLIENT_CERT).is_some(), parameter(url, &CLIENT_KEY).is_some()) {
        (true, false) => return Err(format!("{CERT} needs sslkey")),
        (false, true) => return Err(format!("{KEY} needs sslcert")),
        _ => {}
    }
    match (file(&CLIENT_CERT), file(&CLIENT_KEY)) {
        (Some(cert), Some(key)) => tls::check_client((CERT, Path::new(&cert)), (KEY, Path::new(&key))),
        _ => Ok(()),
    }
}

/// A parameter that names a file: its names in the URL, and the environment variable that the driver reads without it.
struct Parameter(&'static [&'static str], &'static str);

const ROOT: Parameter = Parameter(&["sslrootcert", "ssl-root-cert", "ssl-ca"], "PGSSLROOTCERT");
const CLIENT_CERT: Parameter = Parameter(&["sslcert", "ssl-cert"], "PGSSLCERT");
const CLIENT_KEY: Parameter = Parameter(&["sslkey", "ssl-key"], "PGSSLKEY");

fn parameter(url: &Url, Parameter(names, variable): &Parameter) -> Option<String> {
    let given = url.query_pairs().filter(|(name, _)| names.contains(&&**name)).last();
    given.map(|(_, value)| value.into_owned()).or_else(|| std::env::var(variable).ok())
}

/// Returns whether connections are made through a socket in the file system.
fn has_socket(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || options.get_host().starts_with('/')
}

/// Returns whether the server has no rule that lets this user in on such a connection.
fn refuses_authorization(error: &Error) -> bool {
    error.as_database_error().is_some_and(|refusal| refusal.code().is_some_and(|code| code == "28000"))
}

/// Returns whether the server says that no rule fits because the connection is not encrypted: in the words of
/// version 14 and later, or in the earlier ones.
fn is_for_plain(message: &str) -> bool {
    message.contains("no encryption") || message.contains("SSL off")
}

#[cfg(test)]
mod tests {
    use sluice_service::durability::Requirement;

    use super::*;

    #[test]
    fn urls_that_cannot_work_are_refused_by_the_name_of_the_parameter() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for (parameters, expected) in [
            ("sslmode=sometimes", "unknown value \"sometimes\" for `ssl_mode`".to_owned()),
            ("channel_binding=require", "channel_binding is not supported".to_owned()),
            ("sslcrl=/revoked", "sslcrl is not supported".to_owned()),
            ("sslmode=verify-full&sslrootcert=system", "without it".to_owned()),
            ("sslrootcert=/ca", "sslrootcert needs sslmode".to_owned()),
            ("sslmode=require&sslcert=/c", "sslcert needs sslkey".to_owned()),
            ("sslmode=require&sslkey=/k", "sslkey needs sslcert".to_owned()),
            ("sslmode=verify-full&sslrootcert=/no/such/file", "sslrootcert: /no/such/file cannot be read".to_owned()),
            (
                &format!("sslmode=verify-ca&sslrootcert={manifest}"),
                format!("sslrootcert: {manifest} holds no certificate"),
            ),
            (
                &format!("sslmode=require&sslcert={manifest}&sslkey={manifest}"),
                format!("sslcert: {manifest} holds no certificate"),
            ),
        ] {
            let refused =
                check_connection(&format!("postgres://db.example/x?{parameters}"), false).expect_err(parameters);
            assert!(refused.contains("--database-url") && refused.contains(&expected), "{parameters}: {refused}");
        }
        for parameters in ["", "sslmode=disable", "sslmode=verify-full", "channel_binding=prefer"] {
            assert_eq!(check_connection(&format!("postgres://db.example/x?{parameters}"), false), Ok(()));
        }
    }

    #[test]
    fn required_tls_refuses_each_of_several_hosts_without_it() {
        let url = "postgres://localhost,db.example/x?sslmode=disable";
        assert!(check_connection(url, true).unwrap_err().starts_with("--require-tls"));
        assert_eq!(check_connection("postgres://localhost,127.0.0.1:5433/x?sslmode=disable", true), Ok(()));
    }

    #[test]
    fn required_tls_refuses_a_mode_that_begins_without_it_and_never_tries_another() {
        for (url, refused) in [
            ("postgres://db.example/x?sslmode=disable", true),
            ("postgres://db.example/x?sslmode=allow", true),
            ("postgres://localhost/x?sslmode=disable", false),
            ("postgres:///x?host=/run/postgresql&sslmode=disable", false),
            ("postgres://db.example/x", false),
            ("postgres://db.example/x?sslmode=verify-full", false),
        ] {
            let checked = check_connection(url, true);
            assert_eq!(checked.is_err(), refused, "{url}: {checked:?}");
            assert!(checked.err().is_none_or(|reason| reason.starts_with("--require-tls")));
        }
        for mode in ["disable", "allow", "prefer", "require"] {
            let address = Address::parse(&format!("postgres://db.example/x?sslmode={mode}"), true, "").unwrap();
            assert!(matches!(address.hosts[0].modes(), (PgSslMode::Require, None)), "{mode}");
        }
    }

    #[test]
    fn what_the_server_says_counts_only_where_the_driver_decides_by_itself() {
        let address = Address::parse("postgres://db.example/x", false, "").unwrap();
        let requirement = Requirement { encryption: vec![address.encryption().clone()], ..Requirement::default() };
        for (mode, by_server, notes) in [
            (PgSslMode::Prefer, Some(true), 0),
            (PgSslMode::Prefer, Some(false), 1),
            (PgSslMode::Prefer, None, 1),
            (PgSslMode::Disable, Some(true), 1),
            (PgSslMode::Require, Some(false), 0),
        ] {
            address.record(Opened { mode, is_local: false }, by_server);
            assert_eq!(requirement.check().unwrap().len(), notes, "{mode:?} {by_server:?}");
        }
    }

    #[test]
    fn a_ca_makes_require_check_the_certificate() {
        let mode = |url| Address::parse(url, false, "").unwrap().hosts[0].mode;
        assert!(matches!(mode("postgres://db.example/x?sslmode=require"), PgSslMode::Require));
        assert!(matches!(mode("postgres://db.example/x?sslmode=require&sslrootcert=/ca"), PgSslMode::VerifyCa));
    }
}
