//! Certificates that are replaced while the programs run.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sluice_tests::certificates::{Authority, HOST, Identity, client_config, ours};
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Client, Load, LoadOptions, Setup, System, dirs, metrics, raw, wait_until};
use tokio::net::TcpStream;

on_both_backends!(
    a_certificate_is_replaced_under_load_and_no_request_fails,
    files_that_cannot_be_used_are_told_and_the_former_ones_are_used_on,
);

const SOON: Duration = Duration::from_secs(120);
const RELOAD_ERRORS: &str = "sluice_tls_reload_errors_total";

/// A folder with the files of a listener, as Kubernetes mounts a Secret: the files are links into a folder, to which
/// another link leads that is replaced.
struct Secret {
    dir: PathBuf,
    versions: u32,
}

impl Secret {
    fn new(identity: &Identity, client_ca: &Path) -> Self {
        let mut secret = Self { dir: dirs::fresh("secret"), versions: 0 };
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            symlink(Path::new("..data").join(name), secret.dir.join(name)).expect("a link");
        }
        secret.replace(&identity.cert, &identity.key, client_ca);
        secret
    }

    /// Replaces all files at once.
    fn replace(&mut self, cert: &Path, key: &Path, client_ca: &Path) {
        self.versions += 1;
        let version = format!("..{}", self.versions);
        let folder = self.dir.join(&version);
        std::fs::create_dir(&folder).expect("a folder");
        for (from, name) in [(cert, "tls.crt"), (key, "tls.key"), (client_ca, "ca.crt")] {
            std::fs::copy(from, folder.join(name)).expect("a copy");
        }
        let link = self.dir.join("..next");
        symlink(&version, &link).expect("a link");
        std::fs::rename(link, self.dir.join("..data")).expect("the link is replaced");
    }

    async fn start(&self, backend: Backend) -> System {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let setup = Setup::new(backend).over_tls().await;
        let setup = setup.env("SLUICE_TLS_CERT", &file("tls.crt")).env("SLUICE_TLS_KEY", &file("tls.key"));
        setup.env("SLUICE_TLS_CLIENT_CA", &file("ca.crt")).start().await
    }
}

/// Returns the certificate that a server shows to a new connection.
async fn shown(address: &str) -> Vec<u8> {
    let config = client_config(Some(ours().authority.ca()), Some(&ours().client));
    let stream = TcpStream::connect(address).await.expect("a connection");
    let stream = raw::handshake(stream, config).await.expect("a handshake");
    stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec()
}

fn addresses(system: &mut System) -> Vec<String> {
    system.programs().map(|program| program.address()).collect()
}

/// Opens a connection for each request until it is told to stop. Returns how many were answered; none may fail.
async fn open_connections(base: String, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        Client::new(&base).get("/healthz").await.assert_status(200);
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

async fn a_certificate_is_replaced_under_load_and_no_request_fails(backend: Backend) {
    let ca = ours().authority.ca();
    let mut secret = Secret::new(&ours().server, ca);
    let mut system = secret.start(backend).await;
    let load = Load::start(&system.base(), LoadOptions { clients: 4, unkeyed: 4, ..LoadOptions::default() });
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let opening = tokio::spawn(open_connections(system.base(), stop.clone(), answered.clone()));
    for _ in 0..2 {
        load.more(200).await;
        let new = ours().authority.issue(HOST);
        let before = shown(&system.programs().next().expect("a program").address()).await;
        secret.replace(&new.cert, &new.key, ca);
        for address in addresses(&mut system) {
            wait_until("the new certificate is shown", SOON, || async {
                holds(shown(&address).await != before, || "it is the former one".to_owned())
            })
            .await;
        }
        let opened = answered.load(Ordering::Relaxed);
        load.more(200).await;
        wait_until("more connections are opened", SOON, || async {
            holds(answered.load(Ordering::Relaxed) > opened, || opened.to_string())
        })
        .await;
        // Queries go over a connection of the publisher to an aggregator.
        system.client.get("/stats").await.assert_status(200);
    }
    stop.store(true, Ordering::Relaxed);
    opening.await.expect("every request was answered");
    let sent = load.stop().await;
    assert_eq!(sent.repeats, 0, "{sent:?}");
    system.wait_until_stored(sent.accepted).await;
}

async fn files_that_cannot_be_used_are_told_and_the_former_ones_are_used_on(backend: Backend) {
    let (ca, first) = (ours().authority.ca(), &ours().server);
    let mut secret = Secret::new(first, ca);
    let mut system = secret.start(backend).await;
    let (other_ca, second) = (Authority::new(), ours().authority.issue(HOST));
    let before = shown(&addresses(&mut system)[0]).await;

    // A key that is not that of the certificate.
    secret.replace(&second.cert, &first.key, ca);
    for program in system.programs() {
        wait_until("it is told", SOON, || async {
            let told = program.log().contains("is not the key of --tls-cert");
            holds(told && program.log().contains("the former certificate is used on"), || program.log())
        })
        .await;
        assert_eq!(shown(&program.address()).await, before);
        let text = Client::new(&program.base()).get("/metrics").await.text;
        assert!(metrics::sum(&text, RELOAD_ERRORS) >= 1.0, "{text}");
    }
    // No file at all.
    std::fs::remove_file(secret.dir.join("tls.crt")).expect("a link");
    for program in system.programs() {
        wait_until("it is told", SOON, || async {
            holds(program.log().contains("tls.crt cannot be read"), || program.log())
        })
        .await;
    }
    // All of it is right again, and the clients must have certificates of another CA.
    symlink("..data/tls.crt", secret.dir.join("tls.crt")).expect("a link");
    secret.replace(&second.cert, &second.key, other_ca.ca());
    let their_client = other_ca.issue("client.example");
    for program in system.programs() {
        let base = program.base();
        let theirs = || Client::with_tls(&base, client_config(Some(ca), Some(&their_client)));
        wait_until("a client of the other CA is served", SOON, || async {
            let client = theirs();
            client.try_send(client.request("GET", "/healthz")).await.map(|_| ()).map_err(|error| format!("{error:?}"))
        })
        .await;
        let ours = Client::new(&base);
        let refused = ours.try_send(ours.request("GET", "/healthz")).await;
        assert!(refused.is_err(), "{refused:?}");
    }
}
