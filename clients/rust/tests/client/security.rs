//! Tokens and TLS.

use std::path::PathBuf;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use sluice_client::{BuildError, Client, Event, Outcome};
use tempfile::TempDir;

use crate::proxy::Proxy;
use crate::server::Server;
use crate::wait::{PATIENCE, holds, outcome, wait_until};

const MS: Duration = Duration::from_millis(1);

/// The file of a server with two tokens, whose hashes are in it.
pub struct Tokens {
    dir: TempDir,
    file: String,
}

impl Tokens {
    pub const FIRST: &str = "token-of-the-tests";
    pub const SECOND: &str = "second-token-of-the-tests";
    const HASHES: [&str; 2] = [
        "7b1b98835d2b9475bb5c2f28a0a212b839d44a6fcb28ecfcb46d9c63ab76d6f2",
        "f56ff0d6342e97cb1a6c211b076ed775ef94330e08f7f37a5e38396456d7d3ca",
    ];

    /// Creates a file whose tokens have this line too.
    pub fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.yaml");
        let items = Self::HASHES
            .map(|hash| format!("- name: client\n  sha256: '{hash}'\n  scopes: [publish, read]\n  {more}\n"));
        std::fs::write(&path, items.concat()).unwrap();
        Self { file: path.to_str().unwrap().to_owned(), dir }
    }

    pub fn file(&self) -> &str {
        &self.file
    }
}

fn event() -> Event {
    Event::new("t", &json!(1)).unwrap()
}

#[tokio::test]
async fn a_token_file_that_changes_is_used_from_the_next_request_on() {
    let tokens = Tokens::new("");
    let server = Server::with(&["--tokens", tokens.file()]).await;
    let proxy = Proxy::start(&server.address()).await;
    let file = tokens.dir.path().join("token");
    std::fs::write(&file, Tokens::FIRST).unwrap();
    let client = Client::builder(proxy.url()).token_file(&file).linger(MS).build().await.unwrap();
    assert_eq!(outcome(client.send(event()).await.unwrap()).await, Outcome::Delivered);
    std::fs::write(&file, format!("{}\n", Tokens::SECOND)).unwrap();
    assert_eq!(outcome(client.send(event()).await.unwrap()).await, Outcome::Delivered);
    let sent: Vec<_> = proxy.seen().into_iter().map(|seen| seen.authorization).collect();
    assert_eq!(sent, [format!("Bearer {}", Tokens::FIRST), format!("Bearer {}", Tokens::SECOND)]);
}

#[tokio::test]
async fn a_token_that_is_replaced_while_the_server_refuses_it_rejects_nothing() {
    let tokens = Tokens::new("");
    let server = Server::with(&["--tokens", tokens.file()]).await;
    let proxy = Proxy::start(&server.address()).await;
    proxy.pass_only(0);
    let file = tokens.dir.path().join("token");
    std::fs::write(&file, "withdrawn").unwrap();
    let client = Client::builder(proxy.url()).token_file(&file).linger(MS).build().await.unwrap();
    let delivery = client.send(event()).await.unwrap();
    wait_until("the request is on its way", async || holds(proxy.held() == 1, ())).await;
    std::fs::write(&file, Tokens::FIRST).unwrap();
    proxy.pass_all();
    assert_eq!(outcome(delivery).await, Outcome::Delivered);
    assert_eq!(proxy.seen().len(), 2);
}

#[tokio::test]
async fn a_token_that_is_not_accepted_rejects_the_batch() {
    let tokens = Tokens::new("");
    let server = Server::with(&["--tokens", tokens.file()]).await;
    let client = Client::builder(server.url()).token("unknown").linger(MS).build().await.unwrap();
    let Outcome::Rejected(reason) = outcome(client.send(event()).await.unwrap()).await else {
        panic!("it was not rejected")
    };
    assert_eq!((reason.status, reason.code.as_str()), (401, "unauthorized"));
}

#[tokio::test]
async fn a_certificate_of_a_ca_in_a_file_is_trusted_and_no_other() {
    let authority = Authority::new();
    let server =
        Server::with(&["--tls-cert", &authority.file("cert.pem"), "--tls-key", &authority.file("key.pem")]).await;
    let url = format!("https://{}", server.address());
    let builder = Client::builder(&url).linger(MS).backoff(MS, 10 * MS);

    let client = builder.clone().ca_file(authority.file("ca.pem")).build().await.unwrap();
    assert_eq!(outcome(client.send(event()).await.unwrap()).await, Outcome::Delivered);

    let client = builder.build().await.unwrap();
    let delivery = client.send(event()).await.unwrap();
    wait_until("an attempt failed", async || holds(client.stats().last_failure.is_some(), client.stats())).await;
    let unanswered = client.close(Duration::ZERO).await.unwrap_err();
    assert!(unanswered.to_string().contains("certificate"), "{unanswered}");
    assert_eq!(outcome(delivery).await, Outcome::Unanswered);
}

#[tokio::test]
async fn wrong_settings_are_refused_by_their_names() {
    let good = || Client::builder("http://127.0.0.1:1");
    let spool = tempfile::tempdir().unwrap();
    for (builder, expected) in [
        (Client::builder("127.0.0.1:8080"), "url"),
        (Client::builder("ftp://host"), "url"),
        (good().token("a b"), "token"),
        (good().token("a").token_file("/no/such/file"), "token"),
        (good().token_file("/no/such/file"), "token_file"),
        (good().batch_events(0), "batch_events"),
        (good().batch_events(10_001), "batch_events"),
        (good().batch_bytes(9 << 20), "batch_bytes"),
        (good().in_flight(0), "in_flight"),
        (good().memory_bytes(1 << 20), "memory_bytes"),
        (good().spool(spool.path()).spool_bytes(1 << 20), "spool_bytes"),
    ] {
        let error = builder.build().await.unwrap_err();
        assert!(matches!(&error, BuildError::Setting { setting, .. } if *setting == expected), "{expected}: {error}");
    }
    let error = Client::builder("https://127.0.0.1:1").ca_file("/no/such/file").build().await.unwrap_err();
    assert!(matches!(&error, BuildError::Http(reason) if reason.contains("/no/such/file")), "{error}");
    client_without_a_server_can_be_built().await;
}

async fn client_without_a_server_can_be_built() {
    let client = Client::builder("http://127.0.0.1:1").build().await.unwrap();
    client.close(PATIENCE).await.unwrap();
}

/// A CA, and a certificate of it for the server.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        for (name, text) in
            [("ca.pem", issuer.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())]
        {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Self(dir)
    }

    fn file(&self, name: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        path.to_str().unwrap().to_owned()
    }
}
