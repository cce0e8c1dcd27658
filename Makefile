# What there is to do here. `make help` lists it; the longer recipes are scripts in scripts/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run setup test test-unit test-chart test-api test-faults lint bench bench-quick fuzz
.PHONY: bench-instructions bench-instructions-accept

# Where `make run` listens.
LISTEN ?= 127.0.0.1:8080
# The suites that run the programs from outside. Each command builds the whole workspace: so all of them agree on
# the features of what they share, which is then compiled once.
SUITES := --test api --test faults --test chart --test kind
# API tests wait more than they compute.
API_THREADS ?= 4

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 28

run: ## build, start the whole system in one process, publish 20,000 events, stay up until Ctrl-C
	cargo build --locked -p sluice-publisher -p sluice-aggregator
	@LISTEN=$(LISTEN) scripts/demo

test: setup ## lint and all tests, the kind cluster's too; installs what is missing, on Debian as root
	@scripts/phases lint test-unit test-api test-faults kind-up test-chart test-kind $(kind_end)

test-unit: setup ## the crates' own tests
	cargo test --locked --workspace

test-chart: ## the Helm chart as it renders, without a cluster
	@scripts/helm
	cargo test --locked --workspace --test chart

test-api: setup programs ## the API suite, against Redis and Postgres, and against SQLite
	cargo test --locked --workspace --test api -- --test-threads=$(API_THREADS)

test-faults: setup programs ## everything killed under load
	cargo test --locked --workspace --test faults -- --test-threads=1 --show-output

lint: ## format, clippy, licences and sources of dependencies, the hot path's instructions
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets $(SUITES) -- -D warnings
	@scripts/deny
	@scripts/instructions

bench: setup ## rates, latency, growth and cost, beside COPY and beside what Sluice replaces: ten minutes
	cargo run --release --locked -p sluice-bench

bench-quick: setup ## the same in two minutes: fewer rounds, no growth
	cargo run --release --locked -p sluice-bench -- --quick

bench-instructions: ## instructions of the hot path, against the figures in the repository (in lint too)
	@scripts/instructions

bench-instructions-accept: ## records those of today instead
	@scripts/instructions accept

fuzz: ## each fuzz target for a minute
	@scripts/fuzz

setup: ## the servers that the tests start: Redis and PostgreSQL
	@scripts/servers

.PHONY: programs
# With the tests, which decide features too: dependencies compile once.
programs:
	cargo build --locked --workspace --bins --tests $(SUITES)

# The cluster that kind-up and kind-down speak of.
KIND_CLUSTER ?= sluice
# `make test` removes the cluster that it made, and leaves one that stood before it.
kind_end := $(if $(wildcard $(or $(SLUICE_KIND_DIR),target/kind)/$(KIND_CLUSTER).kubeconfig),,kind-down)

PROGRAMS := sluice-operator sluice-aggregator sluice-publisher
VERSION = $(shell sed -n 's/^appVersion: *//p' charts/sluice/Chart.yaml)

.PHONY: images kind-up kind-load kind-down test-kind measure-operator
images: ## the three container images, tagged by version and by the checksum of what is in them
	@scripts/images

kind-up: ## a kind cluster of three nodes, from nothing where need be; says how to reach it
	@tests/kind/cluster/up $(KIND_CLUSTER)

kind-load: images ## the images into that cluster's nodes, under the version that the chart installs
	@tests/kind/cluster/load $(KIND_CLUSTER) $(foreach program,$(PROGRAMS),$(program):$(VERSION))

test-kind: ## the operator on that cluster: pods, processes and nodes killed under load, rows compared
	@tests/kind/run $(KIND_CLUSTER)

measure-operator: ## what the operator takes there while nothing changes: memory, requests to the API server
	@PROFILE=release tests/kind/run $(KIND_CLUSTER) --ignored footprint

kind-down: ## removes that cluster, and the container engine if kind-up started it
	@tests/kind/cluster/down $(KIND_CLUSTER)
