# Every verb sets up what it needs by itself; nothing outside this folder and ~/.cache is written
# but Debian packages, installed without starting their services.
.DEFAULT_GOAL := help
BIN := .venv/bin

help: ## what there is to do
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/ready: pyproject.toml constraints.txt
	local/packages python3-venv
	test -x $(BIN)/python || python3 -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

setup: .venv/ready ## the Python environment and the Debian packages
	local/packages rabbitmq-server mariadb-server prometheus curl iproute2

demo: setup ## the whole kit on this machine: a burst, workers rise and fall, nothing left running
	$(BIN)/python -m local demo

up: setup ## start the kit on this machine and leave it running
	$(BIN)/python -m local up

down: .venv/ready ## end what `make up` started
	$(BIN)/python -m local down

lint: .venv/ready ## format, lint, types, import contracts
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: setup lint ## all of lint, then unit, contract and integration tests on real services
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

faults: setup ## break broker, database, network and workers under load; writes docs/reliability.md
	local/packages faketime
	$(BIN)/pytest -m fault tests/faults
	$(BIN)/python -m tests.faults.report

bench-waits: setup ## a thousand waits at once on one gateway: build/bench/waits.json
	$(BIN)/python -m tests.bench.waits

bench-gateway: setup ## the gateway beside its floors and its peers: build/bench/gateway.json, docs/performance.md
	local/packages nghttp2-client redis-server
	$(BIN)/python -m tests.bench.gateway
	$(BIN)/python -m tests.bench.worker_cost
	$(BIN)/python docs/performance.py

bench-autoscaler: setup ## every load under every policy, simulated; TRACES=DIR has those of published traces
	$(BIN)/python -m tests.bench.autoscaler
	$(BIN)/python -m tests.bench.autoscaler_cost
	$(BIN)/python -m tests.bench.truth  # for half an hour
	$(BIN)/python docs/performance.py

bench-cluster: cluster-up ## one load for two pools on a real cluster, by the promise and by a tuned HPA
	$(BIN)/python -m tests.bench.cluster
	$(BIN)/python docs/performance.py

format: .venv/ready ## rewrite the code as the formatter wants it
	$(BIN)/ruff format --quiet .
	$(BIN)/ruff check --quiet --fix .

docs: .venv/ready ## rewrite the generated pages
	$(BIN)/python docs/settings.py
	$(BIN)/python docs/changes.py
	$(BIN)/python docs/values.py
	$(BIN)/python docs/behaviours.py
	$(BIN)/python docs/performance.py
	$(BIN)/python docs/simulations.py
	$(BIN)/python monitoring/dashboards.py
	cp monitoring/rules/*.yaml helm/celery-kit/files/rules/
	cp monitoring/dashboards/*.json helm/celery-kit/files/dashboards/

manifests: .venv/ready ## rewrite k8s/ from the chart
	$(BIN)/python -m tests.cluster helm
	$(BIN)/python -m k8s.render

pin: .venv/ready ## write constraints.txt anew from what is installed
	{ sed -n 1p constraints.txt; $(BIN)/pip freeze --exclude-editable; } > build-pins && mv build-pins constraints.txt

.PHONY: help setup demo up down lint test format docs manifests pin faults bench-waits bench-gateway bench-autoscaler bench-cluster

COMPONENTS := gateway worker autoscaler flower
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REGISTRY ?= docker.io# where `make push` takes the images, with a folder: registry.example/team
BUILD_FLAGS ?=# more flags for the image builder
# Docker where it runs, else buildah without a daemon
BUILDER = $(shell docker info >/dev/null 2>&1 && echo docker || echo buildah)
BUILD_docker = docker build
BUILD_buildah = buildah build --isolation chroot --network host --format docker --layers

images: ## build the kit's four images, with Docker or else buildah
	test $(BUILDER) = docker || local/packages buildah
	for component in $(COMPONENTS); do \
	    $(BUILD_$(BUILDER)) $(BUILD_FLAGS) --build-arg VERSION=$(VERSION) --target $$component \
	        --tag $(REGISTRY)/celery-kit/$$component:$(VERSION) . || exit 1; \
	done

push: ## build the images for, and push them to REGISTRY
	test '$(origin REGISTRY)' != file || { echo 'REGISTRY: is required: make push REGISTRY=registry.example/team' >&2; exit 2; }
	$(MAKE) images
	for component in $(COMPONENTS); do \
	    $(BUILDER) push $(REGISTRY)/celery-kit/$$component:$(VERSION) || exit 1; \
	done

cluster-up: setup ## a real Kubernetes with the kit's images; prints the path of its kubeconfig
	$(BIN)/python -m tests.cluster images
	$(BIN)/python -m tests.cluster up

cluster-down: .venv/ready ## end it; nothing of it is left running
	$(BIN)/python -m tests.cluster down

e2e: setup ## the charts on a real cluster: E2E_CONTEXT's, else kind's where Docker is, else one made here
	local/packages chromium chromium-driver
	$(BIN)/python -m tests.cluster build  # here and not within a test, which has no time for it
	$(BIN)/python -m tests.cluster images
	$(BIN)/pytest -m e2e tests/cluster/test_node.py
	$(BIN)/python -m tests.cluster up
	$(BIN)/pytest -m e2e; code=$$?; $(BIN)/python -m tests.cluster down; exit $$code

.PHONY: images push cluster-up cluster-down e2e
