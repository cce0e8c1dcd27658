//! TLS of the listeners of our programs, and of the connections between them.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use sluice_tests::certificates::{Authority, HOST, Identity, client_config, ours};
use sluice_tests::program::{Program, find};
use sluice_tests::redis::RedisServer;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Client, Setup, dirs, metrics, process, wait_until};
use tokio::net::{TcpListener, TcpStream};

use crate::common::events;

on_both_backends!(openssl_finds_tls_1_2_and_1_3_with_strong_ciphers_alone);

const SOON: Duration = Duration::from_secs(180);
const NO_TRUST: &str = "is not from a trusted CA: give the CA with";
const NO_NAME: &str = "is not for 127.0.0.1, the host in";
const EXPIRED: &str = "has expired";
const NOT_YET: &str = "is not valid yet: compare the clocks of both hosts";
const PLAIN: &str = "does not answer in TLS";
const DEMANDS: &str = "demands a certificate of the client: give it with";
const REFUSES: &str = "refuses the certificate of the client";

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Starts a program that serves with a certificate, and waits until it listens.
async fn serve(identity: Option<&Identity>, client_ca: Option<&Path>) -> Program {
    let dir = dirs::fresh("listener");
    let mut args = vec!["standalone".to_owned(), "--data".to_owned(), text(&dir.join("data"))];
    if let Some(Identity { cert, key }) = identity {
        args.extend(["--tls-cert".to_owned(), text(cert), "--tls-key".to_owned(), text(key)]);
    }
    if let Some(ca) = client_ca {
        args.extend(["--tls-client-ca".to_owned(), text(ca)]);
    }
    let mut program = Program::new("server", "sluice-aggregator", args, &[], &dir);
    program.launch();
    wait_until("it listens", SOON, || async {
        TcpStream::connect(program.address()).await.map(|_| ()).map_err(|error| format!("{error}: {}", program.log()))
    })
    .await;
    program
}

/// Servers that clients cannot use, with the options of a client and the reason that it must give.
struct Cases {
    ours: Authority,
    other: Authority,
    good: Identity,
    expired: Identity,
    stranger: Identity,
}

/// The certificate of the server, the CA of its clients, whether the client trusts the CA of the server, the certificate of
/// the client, and the reason.
type Case<'a> = (Option<Identity>, Option<&'a Path>, bool, Option<&'a Identity>, &'static str);

impl Cases {
    fn new() -> Self {
        let (ours, other) = (Authority::new(), Authority::new());
        let (good, expired, stranger) = (ours.issue(HOST), ours.issue_expired(), other.issue("other.example"));
        Self { ours, other, good, expired, stranger }
    }

    fn all(&self) -> [Case<'_>; 7] {
        let [good, expired] = [&self.good, &self.expired].map(|identity| Some(identity.clone()));
        let client_ca = Some(self.ours.ca());
        [
            (good.clone(), None, false, None, NO_TRUST),
            (Some(self.ours.issue("other.example")), None, true, None, NO_NAME),
            (expired, None, true, None, EXPIRED),
            (Some(self.ours.issue_not_valid_yet()), None, true, None, NOT_YET),
            (None, None, true, None, PLAIN),
            (good.clone(), client_ca, true, None, DEMANDS),
            (good, client_ca, true, Some(&self.stranger), REFUSES),
        ]
    }

    /// Returns the options of a client with this prefix.
    fn options(&self, prefix: &str, trusts: bool, identity: Option<&Identity>) -> Vec<String> {
        let ca = if trusts { self.ours.ca() } else { self.other.ca() };
        let mut options = vec![format!("--{prefix}ca"), text(ca)];
        if let Some(Identity { cert, key }) = identity {
            options.extend([format!("--{prefix}cert"), text(cert), format!("--{prefix}key"), text(key)]);
        }
        options
    }
}

/// Waits until a program has logged this. Its log is written by a thread of its own.
async fn says(program: &Program, text: &str) {
    wait_until(&format!("it says {text:?}"), SOON, || async { holds(program.log().contains(text), || program.log()) })
        .await;
}

async fn run(command: &str, url: &str, options: Vec<String>) -> Output {
    let mut program: Command = process::command(&find("sluice-publisher"), None);
    program.args([command, "--url", url]).args(options).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || program.output().expect("the program runs")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthcheck_and_simulate_say_why_no_tls_connection_comes_about() {
    let cases = Cases::new();
    for (server, client_ca, trusts, identity, reason) in cases.all() {
        let program = serve(server.as_ref(), client_ca).await;
        let url = format!("https://{}", program.address());
        for command in ["healthcheck", "simulate"] {
            let output = run(command, &url, cases.options("", trusts, identity)).await;
            assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(reason), "{command}, {reason}: {said}");
        }
    }
    let program = serve(Some(&cases.good), Some(cases.ours.ca())).await;
    let url = format!("https://{}", program.address());
    let good = || cases.options("", true, Some(&cases.good));
    let output = run("healthcheck", &url, good()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let options = [good(), ["--events", "500", "--verify"].map(str::to_owned).to_vec()].concat();
    let output = run("simulate", &url, options).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = run("healthcheck", &url.replace("https", "http"), Vec::new()).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("this port speaks TLS: use https://"), "{output:?}");
}

/// Starts a publisher that forwards queries to this URL.
async fn publisher(redis: &RedisServer, query_url: &str, options: Vec<String>) -> (Program, Client) {
    let args = ["serve", "--redis-url", &redis.url(), "--query-url", query_url].map(str::to_owned).to_vec();
    let args = [args, options].concat();
    let mut publisher = Program::new("publisher", "sluice-publisher", args, &[], &dirs::fresh("listener"));
    publisher.start().await;
    let client = Client::new(&publisher.base());
    (publisher, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_cannot_reach_its_aggregators_by_tls_says_why_and_publishes_on() {
    let (redis, cases) = (RedisServer::start(), Cases::new());
    for (server, client_ca, trusts, identity, reason) in cases.all() {
        let aggregator = serve(server.as_ref(), client_ca).await;
        let url = format!("https://{}", aggregator.address());
        let (publisher, client) = publisher(&redis, &url, cases.options("query-", trusts, identity)).await;
        client.get("/stats").await.assert_problem(503, "query_unavailable");
        assert_eq!(client.publish(&events("t", 0..3)).await, 3);
        says(&publisher, reason).await;
    }
    let aggregator = serve(Some(&cases.good), Some(cases.ours.ca())).await;
    let options = || cases.options("query-", true, Some(&cases.good));
    let (_publisher, client) = publisher(&redis, &format!("https://{}", aggregator.address()), options()).await;
    client.get("/stats").await.assert_status(200);
    let (_publisher, client) = publisher(&redis, &format!("http://{}", aggregator.address()), Vec::new()).await;
    let answer = client.get("/stats").await.assert_status(400);
    assert!(answer.text.contains("this port speaks TLS: use https://"), "{}", answer.text);

    // A server that accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let (publisher, client) = publisher(&redis, &url, options()).await;
    client.get("/stats").await.assert_problem(503, "query_unavailable");
    says(&publisher, "the TLS handshake took too long").await;
}

/// Connects with OpenSSL's client. Returns whether a connection came about, and all that it wrote.
async fn openssl(address: &str, options: &str) -> (bool, String) {
    let (ca, client) = (ours().authority.ca(), &ours().client);
    let mut command: Command = process::command(Path::new("openssl"), None);
    command.args(["s_client", "-connect", address, "-verify_return_error", "-brief", "-CAfile"]).arg(ca);
    command.arg("-cert").arg(&client.cert).arg("-key").arg(&client.key).args(options.split_whitespace());
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().expect("openssl runs")).await.unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.success() && said.contains("CONNECTION ESTABLISHED"), said)
}

async fn openssl_finds_tls_1_2_and_1_3_with_strong_ciphers_alone(backend: Backend) {
    let mut system = Setup::new(backend).over_tls().await.start().await;
    for address in system.programs().map(|program| program.address()).collect::<Vec<_>>() {
        for (options, expected) in [
            ("-tls1_2", "TLSv1.2"),
            ("-tls1_3", "TLSv1.3"),
            ("-tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
            ("-tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305"),
            ("-alpn h2,http/1.1", "TLSv1.3"),
        ] {
            let (connected, said) = openssl(&address, options).await;
            assert!(connected && said.contains(expected), "{options}: {said}");
        }
        // It is the server that refuses, with an alert: at this level the client would take anything.
        for (options, alert) in [
            ("-tls1_1 -cipher ALL:@SECLEVEL=0", "handshake failure"),
            ("-tls1 -cipher ALL:@SECLEVEL=0", "handshake failure"),
            ("-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0", "handshake failure"),
            ("-tls1_2 -cipher ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0", "handshake failure"),
            ("-tls1_2 -cipher AES128-GCM-SHA256:AES128-SHA:@SECLEVEL=0", "handshake failure"),
            ("-tls1_2 -cipher DHE-RSA-AES256-GCM-SHA384:@SECLEVEL=0", "handshake failure"),
            ("-tls1_2 -cipher AECDH-AES128-SHA:AECDH-NULL-SHA:@SECLEVEL=0", "handshake failure"),
            ("-alpn h2", "no application protocol"),
        ] {
            let (connected, said) = openssl(&address, options).await;
            assert!(!connected && said.to_lowercase().contains(alert), "{options}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_certificate_is_a_metric_and_a_warning_when_it_is_near() {
    const DAY: u64 = 24 * 3_600;
    let expiry = "sluice_tls_certificate_expiry_timestamp_seconds";
    let (ca, now) = (Authority::new(), std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap());
    for (days, warned) in [(3, true), (30, false)] {
        let identity = ca.issue_ending_in(Duration::from_secs(days * DAY));
        let program = serve(Some(&identity), None).await;
        let client = Client::with_tls(&program.base(), client_config(Some(ca.ca()), None));
        let seen = wait_until("the metric", SOON, || async {
            let text = client.get("/metrics").await.text;
            let seen = metrics::sum(&text, expiry);
            holds(seen > 0.0, || text).map(|()| seen)
        })
        .await;
        let expected = (now.as_secs() + days * DAY) as f64;
        assert!((seen - expected).abs() < 3_600.0, "{seen}, not {expected}");
        let warning = "the certificate in --tls-cert expires in less than";
        if warned {
            says(&program, warning).await;
        } else {
            assert!(!program.log().contains(warning), "{days} days: {}", program.log());
        }
    }
    says(&serve(Some(&ca.issue_expired()), None).await, "the certificate in --tls-cert has expired").await;
}
