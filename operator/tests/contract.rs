//! Compares the operator's contract with the programs that it runs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use clap::{Command, CommandFactory};
use k8s_openapi::api::core::v1::Container;
use sluice_operator::contract::{
    AGGREGATOR_COMMAND, AGGREGATOR_PORT, BACKLOG_METRIC, PUBLISHER_COMMAND, PUBLISHER_PORT, env,
};
use sluice_operator::controller::build::{self, build};
use sluice_operator::controller::plan::Checksums;
use sluice_operator::controller::validate::validate;
use sluice_operator::crd::{DurabilitySetting, OtlpProtocol, TracingSpec};
use support::objects;

fn container(name: &str, component: &str) -> Container {
    let objects = objects(name);
    let sets = objects.stateful_sets.into_iter().map(|set| set.spec.unwrap().template);
    let deployments = objects.deployments.into_iter().map(|deployment| deployment.spec.unwrap().template);
    let mut containers = sets.chain(deployments).flat_map(|template| template.spec.unwrap().containers);
    containers.find(|container| container.name == component).unwrap()
}

/// The variables that no program has an option for: the library for OTLP reads the first two, and the kubelet replaces a
/// reference to the last one.
const WITHOUT_OPTION: [&str; 3] = [env::OTLP_HEADERS, env::RESOURCE_ATTRIBUTES, env::RESOURCE_POD_NAME];

/// Runs the program's own parser on the arguments and variables of a container.
fn accepts(program: Command, container: &Container) {
    let mut program = program;
    program.build();
    let command = container.args.as_ref().unwrap()[0].clone();
    let options = program.find_subcommand(&command).unwrap_or_else(|| panic!("no subcommand {command}")).clone();
    let mut line = vec![program.get_name().to_owned(), command.clone()];
    let ours = |name: &str| name.starts_with("SLUICE_") || name.starts_with("OTEL_") && !WITHOUT_OPTION.contains(&name);
    for variable in container.env.iter().flatten().filter(|variable| ours(&variable.name)) {
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
    for fixture in ["sealed.yaml", "remote.yaml", "harbor.yaml"] {
        accepts(sluice_aggregator::settings::Cli::command(), &container(fixture, "aggregator"));
    }
}

#[test]
fn the_publisher_accepts_every_setting_it_is_given() {
    accepts(sluice_publisher::settings::Cli::command(), &container("ledger.yaml", "publisher"));
    accepts(sluice_publisher::settings::Cli::command(), &container("tiny.yaml", "publisher"));
    for fixture in ["sealed.yaml", "remote.yaml", "harbor.yaml"] {
        accepts(sluice_publisher::settings::Cli::command(), &container(fixture, "publisher"));
    }
}

/// What the resource leaves out is what the programs have as their defaults.
#[test]
fn traces_have_the_defaults_of_the_programs() {
    let spec: TracingSpec = serde_json::from_value(serde_json::json!({"endpoint": "http://collector"})).unwrap();
    let expected = [
        (env::OTLP_PROTOCOL, spec.protocol.as_str().to_owned()),
        (env::TRACE_RATIO, spec.ratio),
        (env::TRACE_LIMIT, spec.traces_per_second.to_string()),
    ];
    for (program, command) in [
        (sluice_publisher::settings::Cli::command(), PUBLISHER_COMMAND),
        (sluice_aggregator::settings::Cli::command(), AGGREGATOR_COMMAND),
    ] {
        let options = program.find_subcommand(command).unwrap();
        for (variable, value) in &expected {
            let named = |option: &&clap::Arg| option.get_env().is_some_and(|env| env == *variable);
            let option = options.get_arguments().find(named);
            let option = option.unwrap_or_else(|| panic!("{command} has no option for {variable}"));
            assert_eq!(option.get_default_values(), [value.as_str()], "{command}: {variable}");
        }
        let protocols = [OtlpProtocol::HttpProtobuf, OtlpProtocol::Grpc].map(|one| one.as_str().to_owned());
        assert_eq!(values_of(&program, command, env::OTLP_PROTOCOL), protocols.into());
    }
}

/// The containers of backups have arguments and no variables of ours but those of the database.
#[test]
fn the_aggregator_accepts_the_arguments_of_backups_and_restores() {
    let plan = support::plan("vault.yaml");
    let restore = build::backup::restore_job(&plan, plan.postgres.managed().unwrap(), plan.restore.as_ref().unwrap());
    let backup = objects("vault.yaml").cron_jobs.remove(0).spec.unwrap().job_template.spec.unwrap().template;
    for (template, name) in [(restore.spec.unwrap().template, "fetch"), (backup, "store")] {
        let containers = template.spec.unwrap().containers;
        let container = containers.iter().find(|container| container.name == name).unwrap();
        let mut line = vec!["sluice-aggregator".to_owned()];
        line.extend(container.args.clone().unwrap());
        if container.env.iter().flatten().any(|variable| variable.name == env::DATABASE_URL) {
            line.push("--database-url=postgres://somewhere".to_owned());
        }
        let parsed = sluice_aggregator::settings::Cli::command().try_get_matches_from(&line);
        assert!(parsed.is_ok(), "{line:?}: {}", parsed.unwrap_err());
    }
}

#[test]
fn programs_listen_where_their_services_and_probes_look() {
    for (component, port) in [("aggregator", AGGREGATOR_PORT), ("publisher", PUBLISHER_PORT)] {
        let container = container("ledger.yaml", component);
        let listen = container.env.iter().flatten().find(|variable| variable.name == env::LISTEN).unwrap();
        assert_eq!(listen.value, Some(format!("[::]:{port}")));
        assert_eq!(container.ports.unwrap()[0].container_port, port);
    }
}

/// The names of settings in `spec.durability.acceptUnknown` are those that the programs take.
#[test]
fn the_settings_that_may_be_unknown_are_those_of_the_programs() {
    let names = |settings: &[DurabilitySetting]| {
        settings.iter().map(|setting| setting.as_str().to_owned()).collect::<BTreeSet<_>>()
    };
    let of_redis: Vec<_> = DurabilitySetting::ALL.into_iter().filter(|setting| setting.is_of_redis()).collect();
    let publisher = sluice_publisher::settings::Cli::command();
    let aggregator = sluice_aggregator::settings::Cli::command();
    assert_eq!(names(&of_redis), values_of(&publisher, PUBLISHER_COMMAND, env::ACCEPT_UNKNOWN_DURABILITY));
    let all = values_of(&aggregator, AGGREGATOR_COMMAND, env::ACCEPT_UNKNOWN_DURABILITY);
    assert_eq!(names(&DurabilitySetting::ALL), all);
    for setting in DurabilitySetting::ALL {
        assert_eq!(serde_json::to_value(setting).unwrap(), setting.as_str(), "in a resource");
    }
}

/// Returns the values that an option takes.
fn values_of(program: &Command, command: &str, variable: &str) -> BTreeSet<String> {
    let options = program.find_subcommand(command).unwrap();
    let option = options.get_arguments().find(|option| option.get_env().is_some_and(|env| env == variable)).unwrap();
    option.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
}

/// A resource that does not require durability, as all were before the field existed, has the pods of that time.
#[test]
fn what_may_be_unknown_is_no_setting_of_a_program_that_requires_nothing() {
    let mut resource = support::fixture("ledger.yaml");
    resource.spec.durability.require = false;
    let plan = validate(&resource, &support::external_secrets(), &support::defaults(), None).unwrap();
    let built = serde_json::to_string(&build(&plan, &Checksums::default())).unwrap();
    for name in [env::REQUIRE_DURABLE, env::ACCEPT_UNKNOWN_DURABILITY] {
        assert!(!built.contains(name), "{name}");
    }
}

/// The operator reads this gauge from the publisher's `/metrics`.
#[test]
fn the_publisher_measures_the_backlog_under_the_name_that_is_read() {
    assert_eq!(BACKLOG_METRIC, sluice_publisher::metrics::BACKLOG_EVENTS.name);
    assert_eq!(sluice_publisher::metrics::BACKLOG_EVENTS.kind, sluice_service::metrics::MetricKind::Gauge);
}
