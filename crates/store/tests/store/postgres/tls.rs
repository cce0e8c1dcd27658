//! TLS to PostgreSQL: what each `sslmode` does, and what each fault is called.

use std::time::{Duration, Instant};

use sluice_event::EntryId;
use sluice_service::durability::Requirement;
use sluice_store::postgres::{PostgresSettings, PostgresStore, check_connection};
use sluice_store::{Store, StoreError};
use sluice_tests::certificates::{Authority, HOST, Identity};
use sluice_tests::postgres::PostgresServer;
use sqlx::Connection;

use crate::stores::{direct, on_server};

const TLS_ONLY: &str = "hostssl all all all trust\nlocal all all trust\n";
const ANY: &str = "host all all all trust\n";
const PLAIN_ONLY: &str = "hostnossl all all all trust\n";

/// Settings with these parameters in the URL, and a name by which the server knows the sessions.
fn with(server: &PostgresServer, parameters: &str) -> PostgresSettings {
    let url = format!("{}?{parameters}", server.url());
    PostgresSettings { url, replica: EntryId::random().to_string(), ..on_server(server) }
}

/// Opens a connection; returns whether the server sees it encrypted.
async fn connects(settings: &PostgresSettings) -> Result<bool, StoreError> {
    let store = PostgresStore::connect(settings).unwrap();
    store.ping().await?;
    // By a mode that every one of these servers accepts.
    let base = settings.url.split('?').next().unwrap();
    let beside = PostgresSettings { url: format!("{base}?sslmode=prefer"), ..settings.clone() };
    let sessions =
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = $1";
    let mut connection = match sqlx::PgConnection::connect(&beside.url).await {
        Ok(connection) => connection,
        Err(_) => direct(&PostgresSettings { url: format!("{base}?sslmode=disable"), ..beside }).await,
    };
    let seen = sqlx::query_scalar(sessions).bind(settings.application_name()).fetch_one(&mut connection).await;
    Ok(seen.unwrap())
}

/// Returns the error with which no connection can be opened, after at most a few seconds.
async fn refused(settings: &PostgresSettings) -> String {
    let started = Instant::now();
    let error = connects(settings).await.expect_err(&settings.url);
    assert!(started.elapsed() < Duration::from_secs(9), "it took {:?}", started.elapsed());
    assert!(matches!(error, StoreError::Unavailable(_)), "it would not be tried again: {error:?}");
    error.to_string()
}

fn root(ca: &Authority) -> String {
    format!("sslrootcert={}", ca.ca().display())
}

fn client(identity: &Identity) -> String {
    format!("sslcert={}&sslkey={}", identity.cert.display(), identity.key.display())
}

#[tokio::test]
async fn each_mode_encrypts_if_the_server_allows_it_as_libpq_does() {
    let ca = Authority::new();
    let identity = ca.issue(HOST);
    let root = root(&ca);
    let modes = [
        "sslmode=disable".to_owned(),
        "sslmode=allow".to_owned(),
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        format!("sslmode=require&{root}"),
        format!("sslmode=verify-ca&{root}"),
        format!("sslmode=verify-full&{root}"),
    ];
    for (rules, expected) in [
        (TLS_ONLY, [None, Some(true), Some(true), Some(true), Some(true), Some(true), Some(true)]),
        (ANY, [Some(false), Some(false), Some(true), Some(true), Some(true), Some(true), Some(true)]),
        (PLAIN_ONLY, [Some(false), Some(false), Some(false), None, None, None, None]),
    ] {
        let server = PostgresServer::start_with_tls(&identity, ca.ca(), rules);
        for (mode, expected) in modes.iter().zip(expected) {
            let settings = with(&server, mode);
            assert_eq!(check_connection(&settings.url, false), Ok(()));
            let connected = connects(&settings).await;
            assert_eq!(connected.as_ref().ok(), expected.as_ref(), "{mode} with {rules}: {connected:?}");
        }
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_by_the_modes_that_demand_it() {
    let ca = Authority::new();
    let server = PostgresServer::start(false);
    for mode in ["disable", "allow", "prefer"] {
        assert_eq!(connects(&with(&server, &format!("sslmode={mode}"))).await.ok(), Some(false), "{mode}");
    }
    for mode in ["require".to_owned(), format!("verify-ca&{}", root(&ca)), format!("verify-full&{}", root(&ca))] {
        let error = refused(&with(&server, &format!("sslmode={mode}"))).await;
        assert!(error.contains("PostgreSQL does not offer TLS"), "{error}");
    }
}

#[tokio::test]
async fn required_tls_never_goes_on_without_it_to_another_host() {
    // The system resolves this name to the loopback interface, but the program cannot know that.
    let server = PostgresServer::start(false);
    let url = server.url().replace("127.0.0.1", "127.1");
    let settings = |require_tls| PostgresSettings { url: url.clone(), require_tls, ..with(&server, "") };
    assert_eq!(connects(&settings(false)).await.ok(), Some(false));
    let error = refused(&settings(true)).await;
    assert!(error.contains("does not offer TLS") && error.contains("--require-tls"), "{error}");
    // On the same host there is nothing to require.
    let local = PostgresSettings { require_tls: true, ..with(&server, "") };
    assert_eq!(connects(&local).await.ok(), Some(false));
}

#[tokio::test]
async fn each_fault_of_the_certificates_has_an_error_that_says_what_helps() {
    let (ca, other) = (Authority::new(), Authority::new());
    let at = |identity: &Identity| PostgresServer::start_with_tls(identity, ca.ca(), TLS_ONLY);
    let full = |authority| format!("sslmode=verify-full&{}", root(authority));

    let server = at(&ca.issue(HOST));
    for parameters in [full(&other), "sslmode=verify-full".to_owned(), format!("sslmode=require&{}", root(&other))] {
        let error = refused(&with(&server, &parameters)).await;
        assert!(error.contains("is not from a trusted CA: give the CA with sslrootcert"), "{error}");
    }
    let error = refused(&with(&server, "sslmode=disable")).await;
    assert!(
        error.contains("PostgreSQL does not let this user in without TLS: set sslmode in --database-url"),
        "{error}"
    );

    let server = at(&ca.issue("elsewhere.example"));
    let error = refused(&with(&server, &full(&ca))).await;
    assert!(error.contains("is not for 127.0.0.1, the host in --database-url, but for elsewhere.example"), "{error}");
    let any_name = with(&server, &format!("sslmode=verify-ca&{}", root(&ca)));
    assert_eq!(connects(&any_name).await.ok(), Some(true), "verify-ca does not compare names");

    let server = at(&ca.issue_expired());
    for mode in ["verify-ca", "verify-full"] {
        let error = refused(&with(&server, &format!("sslmode={mode}&{}", root(&ca)))).await;
        assert!(error.contains("the certificate of PostgreSQL has expired: PostgreSQL needs a new one"), "{error}");
    }
    assert_eq!(connects(&with(&server, "sslmode=require")).await.ok(), Some(true), "it does not check the certificate");

    let server = at(&ca.issue_not_valid_yet());
    for mode in ["verify-ca", "verify-full"] {
        let error = refused(&with(&server, &format!("sslmode={mode}&{}", root(&ca)))).await;
        let reason = "the certificate of PostgreSQL is not valid yet: compare the clocks of both hosts";
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_of_the_client_lets_in_and_a_missing_or_wrong_one_is_named() {
    let (ca, other) = (Authority::new(), Authority::new());
    let rules = "hostssl sluice all all trust clientcert=verify-ca\nhost postgres all all trust\n";
    let server = PostgresServer::start_with_tls(&ca.issue(HOST), ca.ca(), rules);
    let full = format!("sslmode=verify-full&{}", root(&ca));

    let good = with(&server, &format!("{full}&{}", client(&ca.issue("client.example"))));
    assert_eq!(check_connection(&good.url, true), Ok(()));
    PostgresStore::connect(&good).unwrap().ping().await.unwrap();

    let error = refused(&with(&server, &full)).await;
    assert!(error.contains("demands a certificate of the client: give it with sslcert and sslkey"), "{error}");
    let error = refused(&with(&server, &format!("{full}&{}", client(&other.issue("client.example"))))).await;
    assert!(error.contains("refuses the certificate of the client, sslcert and sslkey"), "{error}");
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_by_its_name() {
    let ca = Authority::new();
    let (one, another) = (ca.issue("one.example"), ca.issue("another.example"));
    let mixed = Identity { cert: one.cert, key: another.key };
    let url = format!("postgres://db.example/x?sslmode=verify-full&{}", client(&mixed));
    let refused = check_connection(&url, false).unwrap_err();
    assert!(refused.contains("sslkey") && refused.contains("is not the key of"), "{refused}");
}

#[tokio::test]
async fn a_plain_connection_that_leaves_the_host_is_noted() {
    let server = PostgresServer::start(false);
    let elsewhere = server.url().replace("127.0.0.1", "127.1");
    for (url, noted) in [(server.url(), false), (elsewhere, true)] {
        let store = PostgresStore::connect(&PostgresSettings { url, ..on_server(&server) }).unwrap();
        let requirement = Requirement { encryption: vec![store.encryption()], ..Requirement::default() };
        assert_eq!(requirement.check(), Ok(Vec::new()), "there is no connection yet");
        store.ping().await.unwrap();
        let expected = noted.then(|| "the connection to PostgreSQL is not encrypted and leaves this host".to_owned());
        assert_eq!(requirement.check(), Ok(expected.into_iter().collect()));
    }
}
