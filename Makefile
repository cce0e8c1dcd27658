# All tasks of a developer. `make help` lists them; the longer ones are scripts in scripts/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run setup test test-full test-unit test-chart test-api test-faults test-powercut lint bench bench-quick fuzz
.PHONY: test-api-tls test-share test-upgrade test-matrix bench-bounds bench-instructions bench-instructions-accept sim soak

# A failed test names its place and its reason. The backtraces of asynchronous tests are long and hide both.
# To see one: make test-api RUST_BACKTRACE=1
export RUST_BACKTRACE := 0

# Where `make run` listens.
LISTEN ?= 127.0.0.1:8080
# The suites that run the programs from outside. Each command builds the whole workspace, so that all of them
# use the same features of shared dependencies, which are then compiled once.
SUITES := --test api --test faults --test powercut --test chart --test kind --test observability --test traces
# How many API tests run in parallel. They mostly wait, so this may exceed the number of cores.
API_THREADS ?= 4
# How many fault tests run in parallel: each has a load that keeps half of a core busy.
FAULT_THREADS ?= 2

help: ## prints this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 28

run: ## builds (dev profile), starts the whole system in one process, publishes and verifies 20,000 events
	cargo build --locked -p sluice-publisher -p sluice-aggregator
	@LISTEN=$(LISTEN) scripts/demo

# After so many seconds `make test` leaves out what rotates by date: a machine that is half as fast still ends in time.
TEST_LIMIT ?= 3600
test: setup ## lint and all tests, those on a kind cluster too; installs what is missing, on Debian as root
	@LIMIT=$(TEST_LIMIT) scripts/phases lint test-unit sim test-api test-faults test-powercut kind-up \
		test-cluster-scripts test-chart test-kind-share $(kind_end) 'test-docs?' 'test-share?' 'test-openapi?' 'test-clients?' 'test-ui?'

# What `make test` does for a minute or once, for hours: new seeds find what a minute does not.
FULL_PHASES := lint test-unit sim test-api test-api-tls test-openapi test-clients test-cloudevents test-ui test-docs test-faults soak test-powercut test-upgrade test-matrix test-observability test-traces fuzz \
	bench-bounds test-compose release-check test-kind-older
test-full: setup ## all of it, for a night: an hour of sim, two hours of soak, 100 power cuts of each kind, fuzz
	@SIM_SECONDS=3600 SECONDS_=7200 SEEDS=100 SECONDS_EACH=600 scripts/phases $(FULL_PHASES) \
		test-docs-kind kind-up test-cluster-scripts test-chart test-kind test-many $(kind_end)

test-unit: setup ## the tests inside the crates
	cargo test --locked --workspace

test-chart: ## the Helm chart as it is rendered, without a cluster
	@scripts/helm
	cargo test --locked --workspace --test chart

.PHONY: chart-docs
chart-docs: ## generates the README of the chart from the comments in its values.yaml
	@scripts/chart-docs

.PHONY: book test-docs test-docs-kind docs-generated docs-times docs-clean readme-svg
book: ## target/book/index.html: the documentation as a book, with a search
	@scripts/book

test-docs: setup programs ## the documentation: its book, its links, and its sessions, whose commands are run and compared
	@scripts/test-docs

test-docs-kind: ## the session of the platform engineer, operations.md and the runbooks, on a kind cluster of their own; TIMES=1 writes times
	@scripts/test-docs kind

docs-generated: programs ## writes the pages of the documentation that are generated from the programs
	@scripts/test-docs generated

docs-times: programs ## writes how long the sessions of the documentation take into their pages
	@scripts/test-docs times

docs-clean: ## the session of the application developer in a clone of the last commit, in which nothing is built yet; TIMES=1 writes its times
	@scripts/test-docs clean

readme-svg: programs ## draws the session of README.md in a terminal, from a recording of it
	@scripts/test-docs svg

# Further arguments of `helm template`: make manifests MANIFEST_ARGS='--set imageRegistry=registry.example/team'
MANIFEST_ARGS ?=
.PHONY: manifests
manifests: ## target/install.yaml: the chart for `kubectl apply --server-side -f`, for users without Helm
	@scripts/helm
	@mkdir -p target
	scripts/manifests $(MANIFEST_ARGS) > target/install.yaml

test-api: setup programs ## the API suite, on Redis with PostgreSQL and on SQLite
	cargo test --locked --workspace --test api -- --test-threads=$(API_THREADS)

test-api-tls: setup programs ## the API suite with TLS on every connection, and certificates of the clients
	SLUICE_TEST_TLS=1 cargo test --locked --workspace --test api -- --test-threads=$(API_THREADS)

# The number of requests of one operation in a phase of `make test-openapi`: 60 make more than 2,000 in all.
CASES ?= 60
.PHONY: test-openapi test-clients test-cloudevents
test-cloudevents: programs ## the official CloudEvents SDKs of Python, JavaScript, Go and Java publish, and read back
	@scripts/cloudevents

test-openapi: programs ## the server against its OpenAPI document: 2,000 requests of schemathesis; SEED=n repeats a run
	@SEED=$(SEED) CASES=$(CASES) scripts/test-openapi

test-clients: programs ## the client for Python, and clients that are generated for Python and TypeScript (needs python3 and npm)
	@clients/python/check
	@scripts/generated-clients

.PHONY: ui test-ui
ui: ## builds the page for browsers into ui/dist, which is committed: only who changes the page needs Node.js and npm
	@scripts/ui

test-ui: setup programs ## what a person does with the page, in Chromium on real programs; screenshots in target/ui-screenshots
	@scripts/test-ui

test-faults: setup programs ## each process killed, frozen or cut off under load, and a minute of soak
	cargo test --locked --workspace --test faults -- --test-threads=$(FAULT_THREADS) --show-output

# How long `make soak` runs, and with which seed: make soak SECONDS_=600 SEED=7. Without a seed, each day has another.
# (SECONDS without the underscore is a variable of the shell.)
SECONDS_ ?= 600
SEED ?=

soak: setup programs ## random faults, alone and in pairs, on real servers; ten minutes
	SLUICE_SOAK_SECONDS=$(SECONDS_) SLUICE_SOAK_SEED=$(SEED) \
		cargo test --locked --workspace --test faults -- --test-threads=1 --nocapture soak::random

.PHONY: test-observability dashboards
test-observability: setup programs ## each alert by its fault, its page and its cure, with a real Prometheus; all queries of the dashboards
	@scripts/prometheus
	@scripts/dashboards check
	cargo test --locked --workspace --test observability -- --test-threads=$(FAULT_THREADS) --show-output

.PHONY: test-traces
test-traces: setup programs ## the traces of requests, as a real OpenTelemetry Collector gets them: their spans, what is lost, faults
	@scripts/collector >/dev/null
	cargo test --locked --workspace --test traces -- --test-threads=$(FAULT_THREADS) --show-output

dashboards: ## writes the dashboards for Grafana into observability/grafana and the chart
	@scripts/dashboards

test-powercut: setup programs ## the power cut under load; SEEDS=n runs n seeds, from SEED on (as root, with /dev/fuse)
	cargo test --locked --workspace --test powercut -- --test-threads=2 --show-output

# How many seconds `make sim` runs schedules; with SIM_SEED=n it runs that schedule alone and prints its trace.
SIM_SECONDS ?= 60
SIM_SEED ?=
sim: ## publishers and aggregators over model servers: simulated schedules with faults; SIM_SECONDS=60 SIM_SEED=
	cargo build --locked --profile sim -p sluice-sim --bin sluice-sim
	@$${CARGO_TARGET_DIR:-target}/sim/sluice-sim --seconds $(SIM_SECONDS) $(if $(SIM_SEED),--seed $(SIM_SEED))

lint: ## format, clippy, shellcheck, licences of dependencies, instruction counts of the hot path, the chart's README
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	# With --all-targets cargo ignores the names of targets, and leaves the suites out, which no plain `cargo test` runs.
	cargo clippy --locked --workspace $(SUITES) -- -D warnings
	cargo test --locked -q -p sluice-structure
	@scripts/deny
	@scripts/instructions
	@scripts/shellcheck
	@scripts/chart-docs check

bench: setup ## rates, latency, growth and cost, compared with COPY, a bare server, older programs and services; 15 minutes
	cargo run --release --locked -p sluice-bench

bench-quick: setup ## the same with fewer rounds, and without growth and older programs; three minutes
	cargo run --release --locked -p sluice-bench -- --quick

OLD_BIN ?= /usr/lib/postgresql/16/bin
NEW_BIN ?= /usr/lib/postgresql/17/bin
.PHONY: measure-major-upgrade
measure-major-upgrade: ## ways to a newer PostgreSQL, by time: OLD_BIN and NEW_BIN are the folders of their programs
	scripts/measure-major-upgrade $(OLD_BIN) $(NEW_BIN)

GROW_TO ?= 20
.PHONY: bench-growth
bench-growth: setup ## the rate as tables grow to GROW_TO million rows, compared with empty ones; a quarter of an hour for 20
	cargo run --release --locked -p sluice-bench -- --only growth --grow-to $(GROW_TO)

.PHONY: bench-row-cost
bench-row-cost: setup ## what indexes, types and settings cost a row: COPY into variants of the table; seven minutes
	cargo run --release --locked -p sluice-bench -- --compare row-cost

.PHONY: bench-meters
bench-meters: setup ## what three meters cost an event, and how long their figures take to read, also ten million events later; ten minutes
	cargo run --release --locked -p sluice-bench -- --compare meters

.PHONY: bench-traces
bench-traces: setup ## what traces cost an event: none, a hundredth of the requests, all of them; eight minutes
	cargo run --release --locked -p sluice-bench -- --compare traces

.PHONY: bench-scaling
bench-scaling: setup ## the rate and the cost with 1, 2, 4 streams and 1 to 8 aggregators; four minutes
	cargo run --release --locked -p sluice-bench -- --compare scaling

.PHONY: k6
k6: ## constant rates with k6: failures, p95, p99, exact statistics; beside the simulator; four minutes
	@[[ -n "$$PROGRAMS_DIR" ]] || cargo build --release --locked -p sluice-publisher -p sluice-aggregator
	@PROGRAMS_DIR=$${PROGRAMS_DIR:-$${CARGO_TARGET_DIR:-target}/release} scripts/k6

.PHONY: bench-server-settings
bench-server-settings: setup ## the rate and the cost with other settings of PostgreSQL, each alone; eight minutes
	cargo run --release --locked -p sluice-bench -- --compare server-settings

RETENTION_SECONDS ?= 600
.PHONY: bench-retention
bench-retention: setup ## the rate under retention compared with none: RETENTION_SECONDS=600, and two minutes more
	cargo run --release --locked -p sluice-bench -- --only retention --retention-seconds $(RETENTION_SECONDS)

SCENARIO ?= ingest1
PROGRAM ?= sluice-publisher
.PHONY: bench-profile
bench-profile: setup ## how the CPU time of SCENARIO is divided between programs and, in PROGRAM, functions; as root
	@scripts/profile $(SCENARIO) $(PROGRAM)

.PHONY: bench-plots
bench-plots: ## copies the plots of the latest runs of the benchmark to docs/images
	mkdir -p docs/images
	cp $${CARGO_TARGET_DIR:-target}/bench/*.svg docs/images/

bench-bounds: setup ## what hostile clients can do: memory, and the share that an honest client still gets; four minutes
	cargo run --release --locked -p sluice-bench -- --bounds

bench-instructions: ## instruction counts of the hot path, compared with the recorded ones (part of lint)
	@scripts/instructions

bench-instructions-accept: ## records the present instruction counts
	@scripts/instructions accept

.PHONY: test-compose
test-compose: ## compose.yaml: crashes under load, down and up, each profile; on the container engine of the kind tests
	@tests/compose/run

test-share: setup programs ## one part of what only test-full runs whole, in turn by date
	@scripts/share

test-upgrade: setup programs ## the programs of an older commit beside these under load, forward and back
	SLUICE_OLD_BIN_DIR=$$(scripts/old-programs upgrade) \
		cargo test --locked --workspace --test faults -- --show-output --ignored upgrade

test-matrix: setup programs ## the API suite with each version of PostgreSQL, Redis and Valkey; a quarter of an hour
	@scripts/matrix $(MATRIX)

fuzz: ## runs each fuzz target for a minute (needs the nightly toolchain)
	@scripts/fuzz

setup: ## installs the servers that the tests start: Redis, PostgreSQL and an S3 server
	@scripts/servers
	@scripts/moto >/dev/null

.PHONY: programs
# Built together with the tests: cargo unifies features over one build, so dependencies compile only once.
programs:
	cargo build --locked --workspace --bins --tests --example spooling_writer $(SUITES)

# Where `make kubectl-plugin` installs to: PREFIX/bin.
PREFIX ?= $(HOME)/.local
.PHONY: kubectl-plugin
kubectl-plugin: ## builds the plugin `kubectl sluice`, and installs it with its completion into PREFIX/bin
	cargo build --release --locked -p kubectl-sluice
	install -d $(PREFIX)/bin
	install $${CARGO_TARGET_DIR:-target}/release/kubectl-sluice $(PREFIX)/bin/kubectl-sluice
	$${CARGO_TARGET_DIR:-target}/release/kubectl-sluice completions kubectl > $(PREFIX)/bin/kubectl_complete-sluice
	chmod +x $(PREFIX)/bin/kubectl_complete-sluice

# Name of the cluster that kind-up, kind-load, test-kind and kind-down use.
KIND_CLUSTER ?= sluice
# `make test` removes the cluster that it created, and leaves one that existed before. This is evaluated before the
# first phase. A kubeconfig alone means that the container engine has not been started yet.
kind_end = $(if $(shell docker ps -aq --filter label=io.x-k8s.kind.cluster=$(KIND_CLUSTER) 2>/dev/null; \
	ls "$${SLUICE_KIND_DIR:-target/kind}/$(KIND_CLUSTER).kubeconfig" 2>/dev/null),,kind-down)

.PHONY: release release-check
release: ## target/release-kit: archives, manual pages, completions, images, chart, SBOMs, checksums; docs/releasing.md
	@scripts/release

release-check: ## makes these files twice, compares every byte, and checks what is in them
	@scripts/release-check

PROGRAMS := sluice-operator sluice-aggregator sluice-publisher
VERSION = $(shell sed -n 's/^appVersion: *//p' charts/sluice/Chart.yaml)

.PHONY: images kind-up kind-load kind-down test-kind test-kind-share test-kind-older test-cluster-scripts test-many
.PHONY: measure-operator
# BUILDER=1: in a container, so that the machine needs Docker but no Rust.
images: ## builds the three container images, tagged with the version and a checksum; BUILDER=1 needs no Rust here
	@scripts/images

kind-up: ## creates a kind cluster of three nodes, prints the line that a shell needs to use it; KUBERNETES=1.33
	@tests/kind/cluster/up $(KIND_CLUSTER)

kind-load: images ## loads the images into the nodes, tagged with the version that the chart installs
	@tests/kind/cluster/load $(KIND_CLUSTER) $(foreach program,$(PROGRAMS),$(program):$(VERSION))

test-kind-share: ## test-kind without the tests that take their turn on other days
	@options=$$(tests/kind/rotation) && tests/kind/run $(KIND_CLUSTER) $$options

test-kind: ## the operator on that cluster: pods, processes and nodes fail under load, rows are compared
	@tests/kind/run $(KIND_CLUSTER)

# What differs between versions of Kubernetes is how objects are admitted, defaulted and merged, and what becomes of pods:
# these tests install the chart, let others change each object, and restart each part under load.
OLDER_TESTS := flow:: reconcile::security reconcile::drift restarts::
test-kind-older: ## some of these tests with an older Kubernetes, on a cluster that is created for them and removed
	@status=0; KUBERNETES=1.33 tests/kind/run $(KIND_CLUSTER)-older $(OLDER_TESTS) || status=$$?; \
		tests/kind/cluster/down $(KIND_CLUSTER)-older && exit $$status

test-cluster-scripts: ## that kind-up and kind-down touch no other cluster, and use theirs again; needs kind-up once
	@tests/kind/cluster/check

test-many: ## an operator with 1,000 resources on that cluster: its memory, its requests, and how soon it acts
	@PROFILE=release tests/kind/run $(KIND_CLUSTER) --ignored many

measure-operator: ## memory and API requests of the operator on that cluster while nothing changes
	@PROFILE=release tests/kind/run $(KIND_CLUSTER) --ignored footprint

kind-down: ## removes that cluster, and stops the container engine if kind-up started it
	@tests/kind/cluster/down $(KIND_CLUSTER)
