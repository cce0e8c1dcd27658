//! Compares the operator's contract with the programs that it runs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use clap::{Command, CommandFactory};
use k8s_openapi::api::core::v1::Container;
use sluice_operator::contract::{AGGREGATOR_PORT, BACKLOG_METRIC, PUBLISHER_PORT, env};
use support::objects;

fn container(name: &str, component: &str) -> Container {
    let objects = objects(name);
    let sets = objects.stateful_sets.into_iter().map(|set| set.spec.unwrap().template);
    let deployments = objects.deployments.into_iter().map(|deployment| deployment.spec.unwrap().template);
    let mut containers = sets.chain(deployments).flat_map(|template| template.spec.unwrap().containers);
    containers.find(|container| container.name == component).unwrap()
}

/// Runs the program's own parser on the arguments and variables of a container.
fn accepts(program: Command, container: &Container) {
    let mut program = program;
    program.build();
    let command = container.args.as_ref().unwrap()[0].clone();
    let options = program.find_subcommand(&command).unwrap_or_else(|| panic!("no subcommand {command}")).clone();
    let mut line = vec![program.get_name().to_owned(), command.clone()];
    for variable in container.env.iter().flatten().filter(|variable| variable.name.starts_with("SLUICE_")) {
        let named = |option: &&clap::Arg| option.get_env().is_some_and(|env| env == variable.name.as_str());
        let option = options.get_arguments().find(named);
        let option = option.unwrap_or_else(|| panic!("{command} has no option for {}", variable.name));
        // The value of a Secret is not available here. Any valid URL is sufficient.
        let value = variable.value.clone().unwrap_or_else(|| "redis://somewhere".to_owned());
        line.extend([format!("--{}", option.get_long().unwrap()), value]);
    }
    let parsed = program.try_get_matches_from(&line);
    assert!(parsed.is_ok(), "{line:?}: {}", parsed.unwrap_err());
}

#[test]
fn the_aggregator_accepts_every_setting_it_is_given() {
    accepts(sluice_aggregator::settings::Cli::command(), &container("ledger.yaml", "aggregator"));
    accepts(sluice_aggregator::settings::Cli::command(), &container("tiny.yaml", "aggregator"));
}

#[test]
fn the_publisher_accepts_every_setting_it_is_given() {
    accepts(sluice_publisher::settings::Cli::command(), &container("ledger.yaml", "publisher"));
    accepts(sluice_publisher::settings::Cli::command(), &container("tiny.yaml", "publisher"));
}

#[test]
fn programs_listen_where_their_services_and_probes_look() {
    for (component, port) in [("aggregator", AGGREGATOR_PORT), ("publisher", PUBLISHER_PORT)] {
        let container = container("ledger.yaml", component);
        let listen = container.env.iter().flatten().find(|variable| variable.name == env::LISTEN).unwrap();
        assert_eq!(listen.value, Some(format!("0.0.0.0:{port}")));
        assert_eq!(container.ports.unwrap()[0].container_port, port);
    }
}

/// The operator reads this gauge from the publisher's `/metrics`.
#[test]
fn the_publisher_measures_the_backlog_under_the_name_that_is_read() {
    assert_eq!(BACKLOG_METRIC, sluice_publisher::metrics::BACKLOG_EVENTS.name);
    assert_eq!(sluice_publisher::metrics::BACKLOG_EVENTS.kind, sluice_service::metrics::MetricKind::Gauge);
}
