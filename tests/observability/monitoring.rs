//! A Prometheus and an Alertmanager of a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sluice_tests::process::{Process, tail};
use sluice_tests::wait::holds;
use sluice_tests::{Client, System, dirs, ports, wait_until};

use crate::pages::Pages;
use crate::rules;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);
/// The labels of the programs in the example of the configuration.
const RESOURCE: &str = "default/shop";

/// A Prometheus that reads the metrics of a system, and an Alertmanager that sends pages to the test.
pub struct Monitoring {
    client: Client,
    /// The pages.
    pub pages: Pages,
    prometheus: Process,
    alertmanager: Process,
    began: f64,
}

impl Monitoring {
    /// Starts both for a system, as the example of the configuration does it.
    pub async fn of(system: &mut System) -> Self {
        let publisher = system.ingest().address();
        Self::of_programs(&publisher, &system.aggregators.iter().map(|program| program.address()).collect::<Vec<_>>())
            .await
    }

    /// Starts both for the programs at these addresses.
    pub async fn of_programs(publisher: &str, aggregators: &[String]) -> Self {
        let mut config = example();
        for (job, targets) in [("sluice-publisher", json!([publisher])), ("sluice-aggregator", json!(aggregators))] {
            let jobs = config["scrape_configs"].as_array_mut().expect("scrape_configs");
            let found = jobs.iter_mut().find(|found| found["job_name"] == job).expect("the job");
            found["static_configs"][0]["targets"] = targets;
        }
        Self::start(config).await
    }

    /// Starts both for what has the metrics of an operator.
    pub async fn of_operator(address: &str, publisher: &str) -> Self {
        let mut config = example();
        let labels = json!({"namespace": "sluice-system", "pod": "sluice-0"});
        let programs = json!({"namespace": "accounts", "eventaggregator": "ledger", "component": "aggregator"});
        config["rule_files"] = json!(["rules.yaml", "operator-rules.yaml"]);
        config["scrape_configs"] = json!([
            {"job_name": "sluice-operator", "honor_labels": true,
             "static_configs": [{"targets": [address], "labels": labels}]},
            {"job_name": "sluice-aggregator", "static_configs": [{"targets": [publisher], "labels": programs}]},
        ]);
        Self::start(config).await
    }

    async fn start(mut config: Value) -> Self {
        let dir = dirs::fresh("monitoring");
        let (pages, receiver) = Pages::receive().await;
        let (prometheus_port, alertmanager_port) = (ports::free(), ports::free());
        config["global"] = json!({"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"});
        let alertmanagers = json!([{"static_configs": [{"targets": [format!("127.0.0.1:{alertmanager_port}")]}]}]);
        config["alerting"] = json!({ "alertmanagers": alertmanagers });
        let routes = json!({"receiver": "test", "group_by": ["..."], "group_wait": "1s", "group_interval": "1s",
            "repeat_interval": "1h"});
        let webhook = json!({"url": format!("http://{receiver}/"), "send_resolved": true});
        let receivers = json!([{"name": "test", "webhook_configs": [webhook]}]);
        // JSON is YAML.
        let write = |name: &str, value: &Value| fs::write(dir.join(name), value.to_string()).expect("a file");
        for path in config["rule_files"].as_array().expect("rule_files") {
            let name = path.as_str().expect("a path");
            write(name, &rules::shortened(&format!("observability/prometheus/{name}")));
        }
        write("prometheus.yaml", &config);
        write("alertmanager.yaml", &json!({ "route": routes, "receivers": receivers }));
        let alertmanager = launch(
            &dir,
            "alertmanager",
            &[
                &format!("--config.file={}", dir.join("alertmanager.yaml").display()),
                &format!("--storage.path={}", dir.join("alertmanager").display()),
                &format!("--web.listen-address=127.0.0.1:{alertmanager_port}"),
                "--cluster.listen-address=",
            ],
        );
        let prometheus = launch(
            &dir,
            "prometheus",
            &[
                &format!("--config.file={}", dir.join("prometheus.yaml").display()),
                &format!("--storage.tsdb.path={}", dir.join("prometheus").display()),
                &format!("--web.listen-address=127.0.0.1:{prometheus_port}"),
            ],
        );
        let client = Client::new(&format!("http://127.0.0.1:{prometheus_port}"));
        let made = Self { client, pages, prometheus, alertmanager, began: now() };
        for (name, client) in [
            ("Prometheus", made.client.clone()),
            ("Alertmanager", Client::new(&format!("http://127.0.0.1:{alertmanager_port}"))),
        ] {
            wait_until(&format!("{name} is ready"), START, || async {
                let answer = client.try_send(client.request("GET", "/-/ready")).await;
                holds(answer.as_ref().is_ok_and(|answer| answer.status == 200), || format!("{answer:?}"))
            })
            .await;
        }
        made
    }

    /// Waits until a page says that the alert fires. Its text must be complete.
    pub async fn fires(&self, name: &str, labels: &[(&str, &str)]) {
        let page = self.pages.wait(name, labels, "firing").await;
        let text = |field: &str| page["annotations"][field].as_str().unwrap_or_default().to_owned();
        let anchor = format!("#{}", name.to_lowercase());
        assert!(text("runbook_url").ends_with(&format!("docs/runbooks.md{anchor}")), "{page}");
        let runbooks = fs::read_to_string(rules::file("docs/runbooks.md")).expect("the runbooks");
        assert!(runbooks.contains(&format!("\n## {name}\n")), "docs/runbooks.md has no section {name}");
        for field in ["summary", "description"] {
            let text = text(field);
            assert!(text.len() > 10 && !text.contains("<no value>") && !text.contains("{{"), "{field} of {page}");
        }
        let of_program = page["labels"]["eventaggregator"] == "shop";
        assert!(!of_program || text("summary").contains(RESOURCE), "the summary does not name the resource: {page}");
        assert!(page["labels"]["severity"].is_string(), "{page}");
    }

    /// Waits until a page says that the alert has ended.
    pub async fn ends(&self, name: &str, labels: &[(&str, &str)]) {
        self.pages.wait(name, labels, "resolved").await;
    }

    /// Fails if a page about such an alert has come.
    pub fn has_not_fired(&self, name: &str) {
        let names = self.pages.names();
        assert!(!names.iter().any(|page| page.contains(&format!("\"{name}\""))), "{names:?}");
    }

    /// Returns the result of a query, as it was over the whole time of this test.
    pub async fn over_time(&self, query: &str) -> Vec<Value> {
        // Everything but letters and digits is encoded.
        let encode = |c: char| if c.is_ascii_alphanumeric() { c.to_string() } else { encoded(c) };
        let query: String = query.chars().map(encode).collect();
        let path = format!("/api/v1/query_range?start={}&end={}&step=1&query={query}", self.began, now());
        let answer = self.client.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["data"]["result"].as_array().cloned().expect("a result")
    }
}

/// Returns a character as a query of a URL has it.
fn encoded(c: char) -> String {
    c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect()
}

impl Drop for Monitoring {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for process in [&self.prometheus, &self.alertmanager] {
                println!("──── {}\n{}", process.log().display(), tail(process.log(), 20));
            }
            println!("──── pages\n{}", self.pages.names().join("\n"));
        }
    }
}

/// Returns the configuration that the repository has as an example.
fn example() -> Value {
    let text = fs::read_to_string(rules::file("observability/prometheus/prometheus.yaml")).expect("the example");
    serde_yaml::from_str(&text).expect("YAML")
}

/// Starts a program of Prometheus. Debian puts the product's name before that of Alertmanager.
fn launch(dir: &Path, name: &str, args: &[&str]) -> Process {
    let found = [format!("prometheus-{name}"), name.to_owned()].iter().find_map(|name| find(name));
    let program = found.unwrap_or_else(|| panic!("{name} is missing: scripts/prometheus installs it"));
    let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).chain(["--log.level=warn".to_owned()]).collect();
    Process::start(&program, &args, &[], None, &dir.join(format!("{name}.log")))
}

/// Returns the path of a program.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs_f64()
}
