//! Certificates that end, and files that cannot be used.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use sluice_tests::certificates::{HOST, Identity, ours};
use sluice_tests::{Backend, Load, LoadOptions, Setup, dirs, ports};

use crate::events::execute;
use crate::monitoring::Monitoring;
use crate::servers::GENTLE;

const DAY: Duration = Duration::from_secs(24 * 3600);
const SCHEMAS: &str = "schemas: [{topic: orders, schema: {required: [amount]}}]";
const METERS: &str = "meters: [{name: orders, aggregation: count}]";
/// The hash of a token that nobody has.
const TOKENS: &str =
    "[{name: shop, sha256: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', scopes: [publish]}]";

/// The files of a publisher's listener.
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(dir: &Path) -> Self {
        Self { cert: dir.join("tls.crt"), key: dir.join("tls.key") }
    }

    fn show(&self, identity: &Identity) {
        fs::copy(&identity.key, &self.key).expect("a key");
        fs::copy(&identity.cert, &self.cert).expect("a certificate");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_ends_soon_and_files_cannot_be_used() {
    let dir = dirs::fresh("files");
    let files = Files::new(&dir);
    files.show(&ours().authority.issue_ending_in(3 * DAY));
    let declared = [("tokens.yaml", TOKENS), ("meters.yaml", METERS), ("schemas.yaml", SCHEMAS)];
    let [tokens, meters, schemas] = declared.map(|(name, content)| {
        let path = dir.join(name);
        fs::write(&path, content).expect("a file");
        path
    });
    let metrics = format!("127.0.0.1:{}", ports::free());
    let path = |path: &Path| path.display().to_string();
    let setup = Setup::without_tls(Backend::RedisPostgres).publisher("--metrics-listen", &metrics);
    let setup = setup.publisher("--tls-cert", &path(&files.cert)).publisher("--tls-key", &path(&files.key));
    let setup = setup.publisher("--tokens", &path(&tokens)).aggregator("--meters", &path(&meters));
    let setup = setup.aggregator("--schemas", &path(&schemas));
    let system = setup.start().await;
    let watch = Monitoring::of_programs(&metrics, &[system.aggregators[0].address()]).await;

    watch.fires("SluiceCertificateEnds", &[]).await;
    files.show(&ours().authority.issue(HOST));
    watch.ends("SluiceCertificateEnds", &[]).await;

    watch.has_not_fired("SluiceFileUnusable");
    fs::write(&files.cert, "no certificate").expect("a file");
    for path in [&tokens, &meters, &schemas] {
        fs::write(path, "no such thing").expect("a file");
    }
    let all = ["certificate", "credentials", "meters", "schemas"];
    for what in all {
        watch.fires("SluiceFileUnusable", &[("what", what)]).await;
    }
    files.show(&ours().authority.issue(HOST));
    for (path, content) in [(&tokens, TOKENS), (&meters, METERS), (&schemas, SCHEMAS)] {
        fs::write(path, content).expect("a file");
    }
    for what in all {
        watch.ends("SluiceFileUnusable", &[("what", what)]).await;
    }
}

/// The database takes seconds for each step of counting what was stored before the meter was put.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_meter_does_not_get_ready() {
    let mut system = Setup::without_tls(Backend::RedisPostgres).start().await;
    let watch = Monitoring::of(&mut system).await;
    let load = Load::start(&system.base(), LoadOptions { batch: 200, ..GENTLE });
    load.more(30_000).await;
    let sent = load.stop().await;
    system.wait_until_stored(sent.accepted).await;
    let slow = "CREATE FUNCTION @.slow() RETURNS trigger LANGUAGE plpgsql \
                AS 'BEGIN PERFORM pg_sleep(3); RETURN NEW; END'";
    execute(&system, slow).await;
    let trigger = "CREATE TRIGGER slow BEFORE INSERT ON @.meter_batches FOR EACH ROW EXECUTE FUNCTION @.slow()";
    execute(&system, trigger).await;
    let meter = json!({"aggregation": "count"});
    let put = system.client.request("PUT", "/meters/late").body(meter.to_string());
    let answer = system.client.send(put).await;
    assert!(answer.status < 300, "{} {}", answer.status, answer.text);
    watch.fires("SluiceMetersBehind", &[]).await;
    execute(&system, "DROP TRIGGER slow ON @.meter_batches").await;
    watch.ends("SluiceMetersBehind", &[]).await;
}
