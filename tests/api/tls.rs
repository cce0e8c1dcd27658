//! TLS from the programs to Redis and PostgreSQL, and what is said of connections without it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sluice_tests::certificates::{Authority, HOST};
use sluice_tests::postgres::PostgresServer;
use sluice_tests::program::{Program, find};
use sluice_tests::redis::RedisServer;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Client, Setup, StoreReader, dirs, metrics, process, wait_until};
use sqlx::Executor;

use crate::common::{counts, event, events};

const SOON: Duration = Duration::from_secs(180);
const REDIS_NOTE: &str = "the connection to Redis is not encrypted and leaves this host";
const QUERY_NOTE: &str = "the connection to aggregators is not encrypted and leaves this host";
const POSTGRES_NOTE: &str = "the connection to PostgreSQL is not encrypted and leaves this host";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_published_stored_and_audited_over_tls_with_certificates_of_the_programs() {
    let setup = Setup::new(Backend::RedisPostgres).aggregators(2).over_tls().await;
    let (redis, postgres) = setup.urls().await;
    let mut system = setup.start().await;
    system.publish_and_wait(0, &events("t", 0..200)).await;
    system.publish_and_wait(200, &event("t", "evt-1")).await;
    assert_eq!(counts(&system.client).await, [201, 200, 1]);
    system.restart().await;
    system.publish_and_wait(201, &events("t", 200..300)).await;

    let StoreReader::Postgres(mut connection, _) = system.reader().await else { panic!("no PostgreSQL") };
    let plain = "SELECT 1 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                 WHERE application_name LIKE 'sluice %' AND NOT ssl";
    assert_eq!(connection.fetch_all(plain).await.unwrap().len(), 0, "sessions without TLS");
    for program in system.programs() {
        let client = Client::new(&program.base());
        assert!(!client.get("/readyz").await.text.contains("not encrypted"), "{}", program.name());
        let text = client.get("/metrics").await.text;
        assert!(text.contains("sluice_unencrypted_connection{server=\"redis\"} 0"), "{text}");
        assert_eq!(metrics::sum(&text, "sluice_unencrypted_connection"), 0.0, "{text}");
    }

    let (_, prefix) = system.stream.clone().expect("a stream");
    let [_, ca, cert, key] = std::array::from_fn(|part| {
        let query = postgres.split_once('?').expect("parameters").1;
        query.split('&').nth(part).expect("a parameter").split_once('=').expect("a value").1.to_owned()
    });
    let args = ["audit", "--redis-url", &redis, "--database-url", &postgres, "--stream-prefix", &prefix];
    let names = ["--database-schema", &prefix, "--redis-ca", &ca, "--redis-cert", &cert, "--redis-key", &key];
    let mut audit: Command = process::command(&find("sluice-aggregator"), None);
    audit.args(args).args(names).arg("--require-tls").stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || audit.output().expect("the program runs")).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_file_the_cas_of_the_system_are_trusted() {
    let (ca, other) = (Authority::new(), Authority::new());
    let postgres = PostgresServer::start_with_tls(&ca.issue(HOST), ca.ca(), "hostssl all all all trust\n");
    let migrate = async |roots: &Path| {
        let mut program: Command = process::command(&find("sluice-aggregator"), None);
        let url = format!("{}?sslmode=verify-full", postgres.url());
        program.args(["migrate", "--database-url", &url]).env("SSL_CERT_FILE", roots);
        program.env_remove("SSL_CERT_DIR").stdin(Stdio::null());
        tokio::task::spawn_blocking(move || program.output().expect("the program runs")).await.unwrap()
    };
    let output = migrate(ca.ca()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for (roots, reason) in [
        (other.ca(), "is not from a trusted CA: give the CA with sslrootcert"),
        (Path::new("/no/such/file"), "this system has no CAs of its own"),
    ] {
        let output = migrate(roots).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(reason), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mode_that_accepts_every_certificate_of_the_cas_of_the_system_is_warned_of() {
    let (ca, other) = (Authority::new(), Authority::new());
    let (redis, identity) = (RedisServer::start(), ca.issue(HOST));
    let postgres = PostgresServer::start_with_tls(&identity, ca.ca(), "hostssl all all all trust\n");
    let warning = "accepts every certificate of the CAs of this system";
    for (mode, warned) in [("verify-ca", true), ("verify-full", false)] {
        let database = format!("{}?sslmode={mode}&sslrootcert={}", postgres.url(), ca.ca().display());
        let args = ["run", "--redis-url", &redis.url(), "--database-url", &database].map(str::to_owned).to_vec();
        let roots = [("SSL_CERT_FILE".to_owned(), other.ca().display().to_string())];
        let mut aggregator = Program::new("aggregator", "sluice-aggregator", args, &roots, &dirs::fresh("tls"));
        aggregator.start().await;
        assert_eq!(aggregator.log().contains(warning), warned, "{mode}: {}", aggregator.log());
    }
}

/// Starts a program that reaches its servers under a name that the system resolves to the loopback interface, which
/// the program cannot know.
fn launch(binary: &str, args: &[&str]) -> Program {
    let args = args.iter().map(|arg| arg.replace("127.0.0.1", "127.1")).collect();
    let mut program = Program::new("program", binary, args, &[], &dirs::fresh("tls"));
    program.launch();
    program
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_tls_to_another_host_are_told_in_the_log_by_readyz_and_as_a_metric() {
    let (redis, postgres) = (RedisServer::start(), PostgresServer::start(false));
    let aggregator =
        launch("sluice-aggregator", &["run", "--redis-url", &redis.url(), "--database-url", &postgres.url()]);
    let publisher = launch("sluice-publisher", &["serve", "--redis-url", &redis.url()]);
    let args = ["serve", "--redis-url", &redis.url(), "--query-url", &aggregator.base()];
    let forwarding = launch("sluice-publisher", &args);
    for (program, notes) in [
        (&aggregator, &[REDIS_NOTE, POSTGRES_NOTE][..]),
        (&publisher, &[REDIS_NOTE][..]),
        (&forwarding, &[REDIS_NOTE, QUERY_NOTE][..]),
    ] {
        let client = Client::new(&program.base());
        wait_until("readyz tells it", SOON, || async {
            let answer = client.try_send(client.request("GET", "/readyz")).await.map_err(|error| error.to_string())?;
            let told = notes.iter().all(|note| answer.text.contains(&format!("{note}\n")));
            holds(answer.status == 200 && told, || answer.text.clone())
        })
        .await;
        let text = client.get("/metrics").await.text;
        assert_eq!(metrics::sum(&text, "sluice_unencrypted_connection"), notes.len() as f64, "{text}");
        for note in notes {
            assert!(program.log().contains(&format!("{note}: whoever can read the network")), "{}", program.log());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn required_tls_keeps_an_aggregator_from_sending_anything_without_it() {
    let (redis, postgres) = (RedisServer::start(), PostgresServer::start(false));
    // Redis is on this host for it, and PostgreSQL is not.
    let args = ["run", "--redis-url", &redis.url(), "--require-tls", "--database-url", &postgres.url()];
    let args =
        args.map(|arg| if arg.starts_with("postgres:") { arg.replace("127.0.0.1", "127.1") } else { arg.into() });
    let mut aggregator = Program::new("aggregator", "sluice-aggregator", args.to_vec(), &[], &dirs::fresh("tls"));
    aggregator.launch();
    wait_until("the log says it", SOON, || async {
        let said = "PostgreSQL does not offer TLS (`ssl` is off there), which --require-tls demands";
        holds(aggregator.log().contains(said), || aggregator.log())
    })
    .await;
    let client = Client::new(&aggregator.base());
    client.get("/readyz").await.assert_problem(503, "not_ready");
}
