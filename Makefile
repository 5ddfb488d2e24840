# paramedic: what one does with it. Everything else is in docs/testing.md.

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
GOLANGCI  := v2.15.0
TOOLS     := $(CURDIR)/.tools/bin
FUZZTIME  ?= 10s
SIMTIME   ?= 1m

export CGO_ENABLED := 0
# git describes the version above; go's own stamping fails in a checkout that belongs to somebody else (sudo, containers).
export GOFLAGS += -buildvcs=false
# su without "-" leaves out the system's directories, where libvirtd and qemu's helpers are.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

# All but the lab's own. $(shell) of make 4.3 does not see what is exported above.
# With -e a package that cannot be read stays in the list and fails where it is used; an empty list would test nothing.
UNIT = $(or $(shell GOFLAGS='$(GOFLAGS)' go list -e ./... | grep -v /agent/e2e),$(error go list names no package))

# What has no goroutine (a test holds the pure ones to it), and the command line: e2e-race runs them with the detector. Here they would
# take four minutes more, and the whole is to be done in twenty.
PLAIN := $(addprefix github.com/paramedic-ha/paramedic/,correlate notify/delivery gossip/watch gossip/takeover agent/ledger agent/sim agent/sim/cluster agent/sim/hostloss agent/cli)

# Packages with tests in bubbles of testing/synctest. All timers of a bubble share one context of the race detector, and two goroutines
# whose channels' timers are due use it at once: the detector then ends the binary ("ThreadSanitizer: CHECK failed", golang/go#78156).
# On one processor there are no two at once. The detector goes by what happens before what, and finds races there too.
BUBBLES = $(shell GOFLAGS='$(GOFLAGS)' go list -e -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | grep testing/synctest | cut -d' ' -f1)

# The emulated compute host takes seven minutes and a whole machine: make lab; one with systemd some minutes more: make vm.
E2E = $(or $(shell GOFLAGS='$(GOFLAGS)' go list -e ./agent/e2e/... | grep -v -e /hardware -e /vm),$(error go list names no package))

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## install what the lab lacks (root, Debian 12; says what it does)
	@.ci/deps.sh

.PHONY: build
build: ## bin/paramedic, static
	go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/paramedic .

.PHONY: test
test: deps unit e2e ## everything: unit tests, then the lab (root)

.PHONY: unit
unit: ## unit, golden, property and simulation tests, with -race where goroutines are (root: hw/nic, hw/virt and notify use namespaces, libvirtd, mounts)
	CGO_ENABLED=1 go test -race -timeout 10m -cpu 1 $(BUBBLES)
	CGO_ENABLED=1 go test -race -timeout 10m $(filter-out $(PLAIN) $(BUBBLES),$(UNIT))
	go test -timeout 10m $(PLAIN)

.PHONY: e2e
e2e: build deb rpm ## the real binary on real links, libvirtd and qemu, and twenty of it together (root)
	PARAMEDIC_BIN=$(CURDIR)/bin/paramedic go test -count=1 -p 1 -timeout 15m $(E2E)

.PHONY: lab
lab: deps build ## the emulated compute host alone: each fault of its hardware, who is hit, after how long (root)
	PARAMEDIC_BIN=$(CURDIR)/bin/paramedic go test -count=1 -v -timeout 20m ./agent/e2e/hardware

.PHONY: vm
vm: deps deb ## the Debian package on a systemd of its own, in an emulated machine: install, reboot, watchdog, stop, reload, upgrade, purge (root)
	@.ci/root.sh
	go test -count=1 -v -timeout 30m ./agent/e2e/vm

# The detector ends the agent at its first race, and does not linger at each of its ends.
.PHONY: e2e-race
e2e-race: ## the same with the race detector in the binary, and with it what make unit runs without (root)
	CGO_ENABLED=1 go test -race -timeout 15m $(PLAIN)
	CGO_ENABLED=1 go build -race -trimpath -o bin/paramedic-race .
	GORACE='halt_on_error=1 atexit_sleep_ms=0' PARAMEDIC_BIN=$(CURDIR)/bin/paramedic-race go test -count=1 -p 1 -timeout 15m ./agent/e2e ./agent/e2e/cluster ./agent/e2e/hostloss

.PHONY: lint
lint: $(TOOLS)/golangci-lint-$(GOLANGCI) ## gofmt, golangci-lint (go vet among its checks)
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt -w these:"; echo "$$unformatted"; exit 1; }
	$(TOOLS)/golangci-lint-$(GOLANGCI) run --allow-parallel-runners ./...

# Built from source with our own Go, outside go.mod.
$(TOOLS)/golangci-lint-$(GOLANGCI):
	GOBIN=$(TOOLS) go install -trimpath -ldflags '-s -w' github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	mv $(TOOLS)/golangci-lint $@

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (10s)
	@set -e; for pkg in $(UNIT); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; done

.PHONY: sim
sim: ## the simulations, new seeds for SIMTIME (1m) each
	go test -count=1 -v -timeout 0 ./agent/sim/... -sim.for=$(SIMTIME)

.PHONY: bench
bench: deps build ## one table: fault to callback beside the floor and Prometheus, clusters, host loss (root; SHORT=1: one host; UPDATE=1: into the manual)
	@PARAMEDIC_BIN=$(CURDIR)/bin/paramedic go run ./agent/e2e/bench $(if $(SHORT),-short) $(if $(UPDATE),-update docs/performance.md)

.PHONY: demo
demo: deps build ## three hosts, three consumers, faults, a peer that stands in, in words (root)
	@PARAMEDIC_BIN=$(CURDIR)/bin/paramedic go run ./agent/e2e/demo

# Packages are of the commit: its version, its time, and nothing of this machine, so that two builds are the same bytes.
ARCHES    := amd64 arm64
EPOCH     := $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
PACKAGE_VERSION := $(shell packaging/version 2>/dev/null || echo 0)
NFPM      := go -C packaging tool nfpm package --config nfpm.yaml
PACKAGED   = ARCH=$(1) PACKAGE_VERSION=$(PACKAGE_VERSION) SOURCE_DATE_EPOCH=$(EPOCH) $(NFPM)

.PHONY: binaries
binaries:
	@rm -rf dist && mkdir -p dist
	$(foreach a,$(ARCHES),GOARCH=$(a) go build -trimpath -ldflags '-s -w -X main.version=$(PACKAGE_VERSION)' -o dist/$(a)/paramedic . &&) true
	SOURCE_DATE_EPOCH=$(EPOCH) go run . manual | gzip -9n >dist/paramedic.8.gz

.PHONY: deb rpm
deb rpm: binaries ## packages for amd64 and arm64, in dist/
	$(foreach a,$(ARCHES),$(call PACKAGED,$(a)) --packager $@ --target ../dist/ &&) true

.PHONY: clean
clean: ## what the other targets made here
	rm -rf bin dist .tools .lab
