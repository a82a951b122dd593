# The verbs of the project; `make` lists them.

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- development: everything runs in .venv

PY = .venv/bin/python
WORKERS ?= 4
# tests on the cluster mostly wait
E2E_WORKERS ?= 6

# what a target needs is made in the order of its prerequisites, also with -j
.NOTPARALLEL:

.PHONY: packages venv fmt lint unit component install uninstall e2e e2e-parallel e2e-serial test bench demo demo-snapshot
packages: ## Install the Debian packages that cluster, image, demo and tests need (root)
	@python3 hack/cluster packages

venv: .venv/ok ## Make .venv with the locked dependencies of the project and its tests
.venv/ok: hack/requirements-dev.txt pyproject.toml
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { apt-get update -q && apt-get install -qy python3-venv; }
	python3 -m venv .venv
	$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r hack/requirements-dev.txt
	@touch $@

fmt: venv ## Format the code
	$(PY) -m ruff format -q .
	$(PY) -m ruff check -q --fix .

lint: venv ## ruff, mypy --strict, import-linter, the CRDs against their source
	$(PY) -m ruff format --check -q .
	$(PY) -m ruff check -q .
	$(PY) -m mypy controller runner hack/bench hack/crds hack/cluster hack/image tests
	MYPYPATH=hack/demo $(PY) -m mypy hack/demo hack/install.py
	.venv/bin/lint-imports --no-cache
	$(PY) hack/crds --check

unit: venv ## Unit tests: no cluster, no root
	$(PY) -m pytest -n $(WORKERS) tests/unit

component: tools ## Tests against a real API server, the real restic, and csi-sanity (root)
	$(PY) -m pytest -n $(WORKERS) tests/component

install: venv image ## Install Drey, as it is in this tree, in the cluster of `make cluster`
	$(PY) hack/install.py up

uninstall: venv ## Remove Drey from the cluster; CRDs and data stay
	$(PY) hack/install.py down

e2e: e2e-parallel e2e-serial ## Tests on the whole cluster: one test for each step, each fault, the counts

e2e-parallel: cluster install ## Those of them that have namespaces of their own
	$(PY) -m pytest -n $(E2E_WORKERS) -m "not serial" --timeout 600 tests/e2e

e2e-serial: cluster install ## Those that concern the whole cluster: the operator or the API server goes away
	$(PY) -m pytest -m serial --timeout 900 tests/e2e

# the serial tests wait for three quarters of their time, those beside them hardly at all
test: ## Everything: lint, unit, component, e2e; prints how long each took
	@hack/test.sh packages venv lint tools test-cluster cluster install e2e-serial+unit,component e2e-parallel

bench: cluster install ## Print ratios: Drey against a bare Job with restic, and a bare client of VolumeSnapshots (BENCH=--quick for 3 runs)
	$(PY) hack/bench $(BENCH)

demo: packages venv ## Cluster, install, backup on a schedule, destroy, restore, compare: what a user sees
	@python3 hack/demo restic

demo-snapshot: packages venv ## The same with VolumeSnapshots of a StatefulSet of three replicas
	@python3 hack/demo snapshot

# PROVIDER=auto|kind|native and DREY_STATE (default /var/lib/drey-cluster) are read from the environment.
.PHONY: cluster cluster-down cluster-status tools test-cluster
cluster: packages venv ## Bring a real cluster up: no-op when healthy, anew when half-dead (PROVIDER=auto|kind|native)
	@python3 hack/cluster up

cluster-down: ## Remove the cluster and everything that it changed on this machine
	@python3 hack/cluster down

cluster-status: ## Show the cluster's processes and what is wrong
	@python3 hack/cluster status

tools: packages venv ## Build the cluster's binaries, as far as the per-user cache lacks them
	$(PY) hack/cluster tools

test-cluster: tools ## Start a second cluster, kill it without clean-up, repair it, remove it, compare the machine
	$(PY) -m pytest tests/cluster

# PROVIDER=auto|kind|native, IMAGE=<name:tag>, BASE=<base image> are read from the environment.
.PHONY: image lock
image: venv ## Build the image when its inputs changed, and import it into the cluster if one runs (IMAGE=name:tag)
	@python3 hack/image build --load-if-up
	@python3 hack/image build --load-if-up pushgateway

lock: ## Write hack/requirements*.txt anew from pyproject.toml (needs uv; LOCK_FLAGS=--upgrade takes newer versions)
	uv pip compile --quiet $(UV_FLAGS) --output-file hack/requirements.txt pyproject.toml
	uv pip compile --quiet $(UV_FLAGS) --extra dev --output-file hack/requirements-dev.txt pyproject.toml
	echo pip | uv pip compile --quiet $(UV_FLAGS) --output-file hack/requirements-build.txt -

UV_FLAGS = --python-version 3.11 --universal --generate-hashes --no-annotate --no-emit-index-url \
  --no-emit-find-links --custom-compile-command "make lock" $(LOCK_FLAGS)

.PHONY: csi-sanity
csi-sanity: packages venv ## Run CSI's conformance suite alone against the test driver, on a temporary btrfs pool
	@$(PY) hack/cluster/csi/sanity.py
