# What there is to do here. `make help` lists it; the longer recipes are scripts in tests/setup.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run setup test test-unit test-chart test-api test-faults lint bench bench-quick fuzz

# Where `make run` listens.
LISTEN ?= 127.0.0.1:8080
# API tests wait more than they compute.
API_THREADS ?= 4

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: ## build, start the whole system in one process, publish 20,000 events, stay up until Ctrl-C
	cargo build --release --locked -p sluice-publisher -p sluice-aggregator
	@LISTEN=$(LISTEN) tests/setup/demo

test: setup ## lint and all tests; installs what is missing, on Debian as root
	@tests/setup/phases lint test-unit test-api test-faults

test-unit: setup ## the crates' own tests
	cargo test --locked --workspace --exclude sluice-tests

test-chart: ## the Helm chart as it renders, without a cluster
	@tests/setup/helm
	cargo test --locked --workspace --test chart

test-api: setup programs ## the API suite, against Redis and Postgres, and against SQLite
	cargo test --locked --workspace --test api -- --test-threads=$(API_THREADS)

test-faults: setup programs ## everything killed under load
	cargo test --locked --workspace --test faults -- --test-threads=1 --show-output

lint: ## format, clippy, licences and sources of dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@tests/setup/deny

bench: setup ## events per second, end to end, beside COPY alone: five minutes
	cargo run --release --locked -p sluice-bench

bench-quick: setup ## the same in a minute, less exact
	cargo run --release --locked -p sluice-bench -- --quick

fuzz: ## each fuzz target for a minute
	@tests/setup/fuzz

setup: ## the servers that the tests start: Redis and PostgreSQL
	@tests/setup/servers

.PHONY: programs
# With the features of the whole workspace, as the tests are built: dependencies compile once.
programs:
	cargo build --locked --workspace --bins

# The cluster that kind-up and kind-down speak of.
KIND_CLUSTER ?= sluice

.PHONY: images kind-up kind-down test-kind
images: ## the three container images, tagged by the checksum of what is in them
	@tests/kind/cluster/images

kind-up: ## a kind cluster of three nodes, from nothing where need be; says how to reach it
	@tests/kind/cluster/up $(KIND_CLUSTER)

test-kind: ## the operator on that cluster: pods, processes and nodes killed under load, rows compared
	@tests/kind/run $(KIND_CLUSTER)

kind-down: ## removes that cluster, and the container engine if kind-up started it
	@tests/kind/cluster/down $(KIND_CLUSTER)
