# SPDX-License-Identifier: Apache-2.0

SHELL         := bash
.SHELLFLAGS   := -euo pipefail -c
.DEFAULT_GOAL := help
# Stages share a libvirtd, ports and two cores: one after another, whatever -j says.
.NOTPARALLEL:

PREFIX  ?= /usr/local
DESTDIR ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.0.0-dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

# libvirt_dlopen: libvirt.so is opened at run time, so a build needs neither its headers nor pkg-config.
# grpcnotrace: no golang.org/x/net/trace, whose templates call methods by name and so keep the linker from dropping any
# exported method at all: 7 MB of the daemon, which would all be resident.
# osusergo: users and groups are those of /etc/passwd and /etc/group. glibc's look-up loads the host's NSS modules, which
# would stay in the daemon too, to find the user of QEMU and the group of the socket (which may be given by its number).
TAGS    := libvirt_dlopen,grpcnotrace,osusergo
LDFLAGS := -X github.com/vmlet/vmlet/pkg/version.Version=$(VERSION) -X github.com/vmlet/vmlet/pkg/version.Commit=$(COMMIT)
STAGE   := build/stage.sh

# For all that is compiled: with other flags the same code would be compiled once more.
export GOFLAGS := $(strip $(GOFLAGS) -trimpath)

# The agent runs in guests of any distribution: static, and small.
AGENT   := env CGO_ENABLED=0 go build -buildvcs=false -ldflags '-s -w $(LDFLAGS)' -o bin/vmlet-agent ./cmd/vmlet-agent

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install the packages that running, building and testing need (apt; root)
	@$(STAGE) deps build/install-deps.sh

.PHONY: build
build: ## Build bin/vmlet, bin/vmletctl and bin/vmlet-agent
	@build/install-deps.sh build
	@$(STAGE) build go build -tags $(TAGS) -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ ./cmd/vmlet ./cmd/vmletctl
	@$(STAGE) build-agent $(AGENT)

.PHONY: tools
tools: bin/.tools ## Build crictl, critest, crane and the CNI plugins into bin/ and bin/cni/
bin/.tools: tools/go.mod tools/go.sum build/tools.sh
	@$(STAGE) tools build/tools.sh bin
	@touch $@

.PHONY: kube
kube: bin/.kube ## Build the kubelet that the tests run vmlet under (some minutes when it is the first time)
bin/.kube: tools/go.mod tools/go.sum tools/kube/main.go build/kube.sh
	@build/install-deps.sh build
	@mkdir -p bin
	@$(STAGE) kube build/kube.sh bin
	@touch $@

.PHONY: kubelet-oldest
kubelet-oldest: bin/kubelet-oldest ## Build the oldest kubelet that the tests run vmlet under (some minutes when it is the first time)
bin/kubelet-oldest: tools/kubelet-oldest/go.mod tools/kubelet-oldest/go.sum tools/kubelet-oldest/main.go build/kube.sh
	@build/install-deps.sh build
	@mkdir -p bin
	@$(STAGE) kubelet-oldest build/kube.sh bin kubelet-oldest
	@touch $@

# Minutes of work that nobody waits for until kubelet-e2e: they take what the stages before it leave of the machine.
.PHONY: kube-aside
kube-aside: ## Begin to build both kubelets beside whatever else runs
	@mkdir -p bin out
	@build/aside.sh out/kube-aside.log sh -c 'build/kube.sh bin && build/kube.sh bin kubelet-oldest'

# What the guest image is made of: its recipe, and the agent.
GUEST_SOURCES = $(shell find images/tiny -type f ! -name '*_test.go' ! -name '*.md') go.mod \
  $(shell find cmd/vmlet-agent pkg/agentlink pkg/version proto/agent -name '*.go' ! -name '*_test.go')

.PHONY: guest-image
guest-image: bin/tiny.qcow2 bin/tiny-qga.qcow2 ## Build the tiny guest image, bin/tiny.qcow2, and bin/tiny-qga.qcow2 without vmlet-agent
bin/tiny.qcow2: $(GUEST_SOURCES)
	@build/install-deps.sh test
	@mkdir -p bin
	@$(STAGE) guest-image images/tiny/build.sh $@
	@touch $@
bin/tiny-qga.qcow2: $(GUEST_SOURCES)
	@build/install-deps.sh test
	@mkdir -p bin
	@$(STAGE) guest-image-qga images/tiny/build.sh --without-agent $@
	@touch $@

.PHONY: test-binaries
test-binaries: ## Build bin/vmlet-failpoints, the daemon that tests can kill at each step, bin/vmlet-agent and bin/vmletctl
	@build/install-deps.sh build
	@$(STAGE) test-agent $(AGENT)
	@$(STAGE) test-binaries go build -tags $(TAGS),failpoints -o bin/vmlet-failpoints ./cmd/vmlet
	@$(STAGE) test-vmletctl go build -tags $(TAGS) -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ ./cmd/vmletctl

.PHONY: unit
unit: ## Run the unit tests: no root, no VMs
	@build/install-deps.sh
	@$(STAGE) unit go test -race -tags $(TAGS) ./...

# Packages with tests that need root, and some of them libvirt and guests: they bring their own libvirtd.
ADAPTERS = $(addprefix ./,$(shell grep -rl --include='*_test.go' '^//go:build integration' pkg | xargs -n 1 dirname | sort -u))
# One package at a time: each of them measures time and boots VMs.
# Vet is lint's and unit's.
INTEGRATION = go test -vet=off -count=1 -p 1 -tags $(TAGS),integration

.PHONY: integration
integration: integration-adapters integration-node ## Run the tests that need root, libvirt and VMs

.PHONY: integration-adapters
integration-adapters: test-needs
	@$(STAGE) integration-adapters $(INTEGRATION) -race -timeout 20m $(ADAPTERS)

# The half of the tests on a node that takes as long as the others.
NODE_FIRST := ^Test[A-DFGIJNR]

# Tests that draw lots draw the same in each run, unless SEED says otherwise: what turns red was changed. `make model` looks for more.
.PHONY: integration-node
integration-node: test-needs
	@$(STAGE) integration-node env VMLET_TEST_SEED=$(or $(SEED),1) build/scenarios.sh integration-node '$(NODE_FIRST)' $(INTEGRATION) -timeout 40m ./tests/integration

.PHONY: critest
critest: test-needs ## Run cri-tools' validation suite: the specs of tests/e2e/critest/passing.txt
	@$(STAGE) critest $(INTEGRATION) -timeout 30m ./tests/e2e/critest

# The half of the scenarios that takes as long as all others.
KUBELET_FIRST := ^(TestPodsLive|TestStatisticsThroughKubelet|TestResourcesThroughKubelet|TestSoak|TestTheClockIsSet|TestAFullDisk)$$

.PHONY: kubelet-e2e
kubelet-e2e: test-needs kube kubelet-oldest ## Run VM pods under a real kubelet
	@$(STAGE) kubelet-e2e build/scenarios.sh kubelet-e2e '$(KUBELET_FIRST)' $(INTEGRATION) -timeout 40m ./tests/e2e/kubelet

.PHONY: soak
soak: test-needs kube ## Start and delete 20 pods under kubelet for SOAK (10m), and look for leaks
	@$(STAGE) soak env SOAK=$(or $(SOAK),10m) $(INTEGRATION) -v -timeout 120m -run '^TestSoak$$' ./tests/e2e/kubelet

# One of each kind is in each run of integration-node.
.PHONY: model
model: test-needs ## Do OPS (300) random operations on two VMs, and hold them to a model; SEED=N has a run again
	@$(STAGE) model env VMLET_MODEL_OPS=$(or $(OPS),300) VMLET_TEST_SEED=$(SEED) $(INTEGRATION) -v -timeout 120m -run '^TestModelOfVMs$$' ./tests/integration

.PHONY: test-needs
test-needs: tools guest-image test-binaries
	@build/install-deps.sh

.PHONY: demo
demo: build tools guest-image ## Run one VM pod from image to removal in plain CRI calls; KEEP=1 leaves it running
	@build/install-deps.sh
	@$(DEMO) build/demo.sh up

.PHONY: demo-down
demo-down: ## End what `make demo KEEP=1` left running
	@build/demo.sh down

# MUTANTS=N/M runs a part of them.
.PHONY: mutants
mutants: test-needs ## Take guards out of the code, one at a time; for each a test must turn red
	@$(STAGE) mutants go run ./tests/mutants -part $(or $(MUTANTS),1/1)

# ARGS: -run REGEXP for some of it, -n N for that many samples, -docs to put the table into docs/benchmarks.md.
.PHONY: bench
bench: build test-needs kube ## Measure vmlet against the cost of its parts; write out/bench.json
	@go test -c -tags $(TAGS),bench -o bin/vmlet-bench ./tests/bench
	@$(STAGE) bench bin/vmlet-bench $(ARGS)

# The table has the stages of this run, those of `make lint test` too.
ifeq ($(MAKELEVEL) $(filter test,$(MAKECMDGOALS)),0 test)
$(shell $(STAGE) --reset)
endif

# One part of 36 of the mutants, another one with each commit.
PART = $(shell echo $$(($$(git rev-list --count HEAD) % 36)))/36

.PHONY: test
test: ## Run everything that CI runs, lint aside; end with a table of the stages
	@status=0; $(MAKE) --no-print-directory -k MUTANTS=$(PART) DEMO='$(STAGE) demo' \
	  deps build tools guest-image test-binaries kube-aside unit integration critest kubelet-e2e demo mutants || status=$$?; $(STAGE) --table; exit $$status

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (10s)
	@build/fuzz.sh $(or $(FUZZTIME),10s)

.PHONY: lint
lint: bin/golangci-lint ## Check the code: golangci-lint, vet, licenses, modules, scripts, layering
	@build/install-deps.sh build test
	@$(STAGE) lint-headers build/lint/headers.sh
	@$(STAGE) lint-shell build/lint/shell.sh
	@$(STAGE) lint-dockerfile build/lint/dockerfile.sh
	@$(STAGE) lint-modules build/lint/modules.sh
	@$(STAGE) lint-licenses go run ./build/lint/licenses . ./...
	@$(STAGE) lint-licenses-tools go run ./build/lint/licenses tools tool
	@$(STAGE) lint-layering go test ./tests/deps
	@$(STAGE) lint-generated build/generate.sh --check
	@$(STAGE) lint-vet go vet -tags $(TAGS) ./...
	@$(STAGE) lint-go bin/golangci-lint run

bin/golangci-lint: tools/lint/go.mod tools/lint/go.sum
	@mkdir -p bin
	@$(STAGE) golangci-lint env CGO_ENABLED=0 go -C tools/lint build -ldflags '-s -w' -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

.PHONY: generate
generate: ## Run the go:generate lines
	@build/install-deps.sh build test
	go generate ./...

.PHONY: install
install: build ## Install the binaries under DESTDIR/PREFIX (/usr/local)
	install -D -t $(DESTDIR)$(PREFIX)/bin bin/vmlet bin/vmletctl bin/vmlet-agent

.PHONY: clean
clean: ## Remove what the build made
	rm -rf bin out
