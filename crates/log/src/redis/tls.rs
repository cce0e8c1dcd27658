//! TLS to the Redis server: the settings, and their checks at the start of a program.

use std::path::PathBuf;

use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, TlsCertificates};
use sluice_service::encryption::{Transport, is_loopback};
use sluice_service::tls::{self, Names};

use super::address::{Address, SentinelLogin, Topology};
use crate::LogError;

const CA: &str = "--redis-ca";
const CERT: &str = "--redis-cert";
const KEY: &str = "--redis-key";

/// The settings as messages name them.
pub(super) const NAMES: Names =
    Names { server: "Redis", url: "--redis-url", ca: CA, certificate: "--redis-cert and --redis-key" };

/// The files of TLS, in PEM. They are read at each connection, so that they can be replaced while a program runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// Certificates of the CAs that are trusted, instead of those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate of this client, with those of intermediate CAs, if the server demands one.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// Checks the settings of the connection, and reads the files.
///
/// # Errors
/// The name of the option that cannot work, and the reason.
pub fn check_connection(
    url: &str,
    files: &RedisTls,
    sentinel: &SentinelLogin,
    require_tls: bool,
) -> Result<(), String> {
    let address = Address::parse(url).map_err(|error| format!("--redis-url: {error}"))?;
    if address.hosts.iter().any(|info| matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. })) {
        return Err("--redis-url: #insecure is not possible: the certificate of the server is always checked".into());
    }
    check_sentinel(&address.topology, sentinel)?;
    // All hosts of a URL are connected to in the same way, except that one may be on this host.
    let transport = transport(&address.hosts[0]);
    // Which hosts Sentinels and nodes of a cluster will name is not known yet.
    let elsewhere = address.topology != Topology::Single || transport == Transport::Plain;
    if require_tls && transport != Transport::Encrypted && elsewhere {
        return Err(
            "--require-tls: --redis-url must begin with rediss, because the server is, or may be, on another host"
                .into(),
        );
    }
    let given = [(CA, &files.ca), (CERT, &files.cert), (KEY, &files.key)];
    if let Some((option, _)) = given.iter().find(|(_, file)| file.is_some())
        && transport != Transport::Encrypted
    {
        return Err(format!("{option}: --redis-url must begin with rediss://, or the file has no use"));
    }
    if let Some(file) = &files.ca {
        tls::check_ca(CA, file)?;
    }
    match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => tls::check_client((CERT, cert), (KEY, key)),
        (Some(_), None) => Err(format!("{CERT} needs {KEY}")),
        (None, Some(_)) => Err(format!("{KEY} needs {CERT}")),
        (None, None) => Ok(()),
    }
}

fn check_sentinel(topology: &Topology, login: &SentinelLogin) -> Result<(), String> {
    let given = [("--redis-sentinel-user", &login.user), ("--redis-sentinel-password", &login.password)];
    match given.iter().find(|(_, value)| value.is_some()) {
        Some((option, _)) if !matches!(topology, Topology::Sentinel { .. }) => {
            Err(format!("{option}: --redis-url must begin with redis+sentinel:// or rediss+sentinel://"))
        }
        Some(_) if login.password.is_none() => Err("--redis-sentinel-user needs --redis-sentinel-password".into()),
        _ => Ok(()),
    }
}

/// Returns how connections to this address are protected.
pub(super) fn transport(info: &ConnectionInfo) -> Transport {
    match info.addr() {
        ConnectionAddr::TcpTls { .. } => Transport::Encrypted,
        ConnectionAddr::Tcp(host, _) => Transport::new(false, is_loopback(host)),
        // A socket in the file system.
        _ => Transport::Local,
    }
}

/// Returns a client of this address, with the files as they are now.
///
/// # Errors
/// When a file cannot be used. It may be in the middle of being replaced.
pub(super) fn client(info: &ConnectionInfo, files: &RedisTls) -> Result<Client, LogError> {
    if transport(info) != Transport::Encrypted {
        return Client::open(info.clone()).map_err(|error| LogError::Failed(error.to_string()));
    }
    let read = |option, file: &Option<PathBuf>| file.as_ref().map(|file| tls::read(option, file)).transpose();
    let certificates = || {
        let client = read(CERT, &files.cert)?.zip(read(KEY, &files.key)?);
        let client_tls = client.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        let certificates = TlsCertificates { client_tls, root_cert: read(CA, &files.ca)? };
        Client::build_with_tls(info.clone(), certificates)
            .map_err(|error| format!("the files of {CA}, {CERT} and {KEY} cannot be used: {error}"))
    };
    certificates().map_err(LogError::Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(ca: Option<&str>, cert: Option<&str>, key: Option<&str>) -> RedisTls {
        RedisTls { ca: ca.map(Into::into), cert: cert.map(Into::into), key: key.map(Into::into) }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_the_name_of_the_option() {
        let no_file = Some("/no/such/file");
        let manifest = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        for (url, files, option, reason) in [
            ("http://r", files(None, None, None), "--redis-url", ""),
            ("rediss://r/#insecure", files(None, None, None), "--redis-url", "always checked"),
            ("redis://r", files(no_file, None, None), "--redis-ca", "rediss://"),
            ("redis://127.0.0.1", files(None, no_file, no_file), "--redis-cert", "rediss://"),
            ("rediss://r", files(None, no_file, None), "--redis-cert", "--redis-key"),
            ("rediss://r", files(None, None, no_file), "--redis-key", "--redis-cert"),
            ("rediss://r", files(no_file, None, None), "--redis-ca", "/no/such/file"),
            ("rediss://r", files(manifest, None, None), "--redis-ca", "Cargo.toml holds no certificate"),
            ("rediss://r", files(None, manifest, manifest), "--redis-cert", "Cargo.toml holds no certificate"),
        ] {
            let refused = check_connection(url, &files, &SentinelLogin::default(), false).expect_err(url);
            assert!(refused.starts_with(option) && refused.contains(reason), "{url} {files:?}: {refused}");
        }
    }

    #[test]
    fn required_tls_refuses_an_address_on_another_host_without_tls_and_no_other() {
        for (url, refused) in [
            ("redis://redis.example", true),
            ("redis://10.1.2.3:6380/2", true),
            ("redis://localhost", false),
            ("redis://[::1]:6379", false),
            ("redis+unix:///run/redis.sock", false),
            ("redis+sentinel://localhost/name", true),
            ("redis+cluster://localhost", true),
            ("rediss+sentinel://redis.example/name", false),
            ("rediss://redis.example", false),
        ] {
            let checked = check_connection(url, &RedisTls::default(), &SentinelLogin::default(), true);
            assert_eq!(checked.is_err(), refused, "{url}: {checked:?}");
            assert!(checked.err().is_none_or(|reason| reason.starts_with("--require-tls")));
        }
    }
    #[test]
    fn the_login_of_sentinels_is_refused_where_there_are_none_or_without_its_password() {
        let check = |url: &str, user: Option<&str>, password: Option<&str>| {
            let login = SentinelLogin { user: user.map(Into::into), password: password.map(Into::into) };
            check_connection(url, &RedisTls::default(), &login, false)
        };
        assert!(check("redis://r", None, Some("p")).unwrap_err().starts_with("--redis-sentinel-password"));
        assert!(check("redis+cluster://r", Some("u"), Some("p")).unwrap_err().starts_with("--redis-sentinel-user"));
        let error = check("redis+sentinel://r/name", Some("u"), None).unwrap_err();
        assert_eq!(error, "--redis-sentinel-user needs --redis-sentinel-password");
        assert_eq!(check("redis+sentinel://r/name", Some("u"), Some("p")), Ok(()));
    }
}
