//! The state of a namespace whose test failed: its objects, events and logs.

use std::fmt::Write;

use super::cluster::{try_kubectl, work};

/// The number of lines of each container's log that are printed.
const TAIL: &str = "--tail=15";

/// Writes objects, events and logs to a file, and prints a summary.
pub fn dump(namespace: &str) {
    let folder = work().join("dumps");
    let _ = std::fs::create_dir_all(&folder);
    let file = folder.join(format!("{namespace}.txt"));
    let mut all = String::new();
    for args in [
        ["get", "eventaggregators,all,pvc,secrets,networkpolicies,pdb,leases", "-o", "wide"].as_slice(),
        &["get", "events", "--sort-by=.lastTimestamp"],
        &["get", "eventaggregators,all,pvc,configmaps,networkpolicies,pdb", "-o", "yaml"],
    ] {
        section(&mut all, namespace, args);
    }
    let pods = output(namespace, &["get", "pods", "-o", "name"]);
    for pod in pods.lines() {
        section(&mut all, namespace, &["logs", pod, "--all-containers", "--timestamps"]);
        section(&mut all, namespace, &["logs", pod, "--all-containers", "--timestamps", "--previous"]);
    }
    section(&mut all, super::install::NAMESPACE, &["logs", "-l", super::operators::LABELS, "--tail=2000", "--prefix"]);
    let _ = std::fs::write(&file, &all);

    println!("── namespace {namespace}, completely in {}", file.display());
    for args in
        [["get", "eventaggregators,pods", "-o", "wide"].as_slice(), &["get", "events", "--sort-by=.lastTimestamp"]]
    {
        println!("{}", output(namespace, args));
    }
    for pod in pods.lines() {
        println!("── the end of the log of {pod}\n{}", output(namespace, &["logs", pod, "--all-containers", TAIL]));
    }
}

fn section(all: &mut String, namespace: &str, args: &[&str]) {
    let _ = writeln!(all, "\n════ kubectl {}\n{}", args.join(" "), output(namespace, args));
}

fn output(namespace: &str, args: &[&str]) -> String {
    let output = try_kubectl(&[&["-n", namespace], args].concat(), "");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
