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
TAGS    := libvirt_dlopen
LDFLAGS := -X github.com/vmlet/vmlet/pkg/version.Version=$(VERSION) -X github.com/vmlet/vmlet/pkg/version.Commit=$(COMMIT)
STAGE   := build/stage.sh

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install the packages that running, building and testing need (apt; root)
	@$(STAGE) deps build/install-deps.sh

.PHONY: build
build: ## Build bin/vmlet and bin/vmletctl
	@build/install-deps.sh build
	@$(STAGE) build go build -tags $(TAGS) -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

.PHONY: tools
tools: bin/.tools ## Build crictl, critest, crane and the CNI plugins into bin/ and bin/cni/
bin/.tools: tools/go.mod tools/go.sum build/tools.sh
	@$(STAGE) tools build/tools.sh bin
	@touch $@

.PHONY: guest-image
guest-image: bin/tiny.qcow2 ## Build the tiny guest image, bin/tiny.qcow2
bin/tiny.qcow2: $(shell find images/tiny -type f)
	@build/install-deps.sh test
	@mkdir -p bin
	@$(STAGE) guest-image images/tiny/build.sh $@
	@touch $@

.PHONY: unit
unit: ## Run the unit tests: no root, no VMs
	@build/install-deps.sh runtime build
	@$(STAGE) unit go test -race -tags $(TAGS) ./pkg/... ./build/... ./tests/deps/...

.PHONY: test
test: ## Run everything that CI runs, lint aside; end with a table of the stages
	@$(STAGE) --reset
	@status=0; $(MAKE) --no-print-directory deps unit || status=$$?; $(STAGE) --table; exit $$status

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
	@$(STAGE) golangci-lint env CGO_ENABLED=0 go -C tools/lint build -trimpath -ldflags '-s -w' -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

.PHONY: generate
generate: ## Run the go:generate lines
	@build/install-deps.sh build test
	go generate ./...

.PHONY: install
install: build ## Install the binaries under DESTDIR/PREFIX (/usr/local)
	install -D -t $(DESTDIR)$(PREFIX)/bin bin/vmlet bin/vmletctl

.PHONY: clean
clean: ## Remove what the build made
	rm -rf bin out
