//! What `promtool` says of the rules and configurations, and its tests of the real times.

use std::fs;
use std::path::Path;
use std::process::Command;

use sluice_tests::dirs;

use crate::monitoring::find;
use crate::rules;

fn promtool(args: &[&str], file: &Path) -> String {
    let program = find("promtool").expect("promtool is missing: scripts/prometheus installs it");
    let output = Command::new(program).args(args).arg(file).output().expect("promtool runs");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "promtool {args:?} {}: {text}", file.display());
    text
}

#[test]
fn promtool_accepts_the_rules() {
    for path in rules::FILES {
        let said = promtool(&["check", "rules", "--lint-fatal"], &rules::file(path));
        assert!(said.contains("SUCCESS") && !said.contains("0 rules found"), "{said}");
    }
}

#[test]
fn promtool_accepts_the_configurations() {
    promtool(&["check", "config"], &rules::file("observability/prometheus/prometheus.yaml"));
    // Debian builds Prometheus without the discovery of Kubernetes. All else is checked.
    let path = rules::file("observability/prometheus/kubernetes.yaml");
    let text = fs::read_to_string(&path).expect("the configuration");
    let copy = dirs::fresh("config").join("kubernetes.yaml");
    let discovery = "    kubernetes_sd_configs:\n      - role: pod\n";
    assert_eq!(text.matches(discovery).count(), 2, "the discovery is not written as this test knows it");
    let text = text.replace(discovery, "    static_configs:\n      - targets: [localhost]\n");
    fs::write(&copy, text).expect("a copy");
    for rules in ["rules.yaml", "operator-rules.yaml"] {
        fs::copy(path.with_file_name(rules), copy.with_file_name(rules)).expect("the rules");
    }
    promtool(&["check", "config"], &copy);
}

#[test]
fn the_alerts_fire_and_end_after_the_real_times() {
    promtool(&["test", "rules"], &rules::file("observability/prometheus/rules.test.yaml"));
}
