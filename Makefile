# Everything that is built, generated, tested and measured here. `make help`
# lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help

GO       ?= go
BIN      := bin/ringway
LINT     := $(GO) tool -modfile=tools/lint/go.mod golangci-lint
FUZZTIME ?= 10s
# The control plane mostly waits, for etcd and for timers: its packages run beside
# each other. All others share devices, CPUs and the clock with nobody but
# themselves: they run one after the other.
WAITING  := ./control/... ./policy/... ./internal/... ./cmd/...
BUSY      = $$($(GO) list ./... | grep -Ev '^ringway/(control|policy|internal|cmd)(/|$$)')
# What runs without devices, and therefore under the race detector, too; of the
# control plane what does not take long.
RACE     := ./packet/... ./encap/... ./conntrack/... ./nat/... ./dataplane ./dataplane/port ./dataplane/fib \
            ./dataplane/icmperr ./dataplane/reassembly ./dataplane/dnsquery ./dataplane/dnsprobe

.PHONY: help build coredns etcd generate lint fmt test test-unit test-waiting test-race fuzz demo soak bench bench-smoke setup root clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/ringway, one static binary
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/ringway

coredns: ## build bin/coredns, the DNS servers of the lab
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -C tools/coredns -trimpath -ldflags='-s -w' -o $(CURDIR)/bin/coredns .

etcd: ## build bin/etcd, the members of the lab's second form
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o bin/etcd go.etcd.io/etcd/server/v3

generate: ## make the generated code again; leaves a clean diff
	@for c in clang-14 llvm-strip-14; do command -v $$c >/dev/null || { echo "$$c is missing: apt-get install clang-14 llvm-14 libbpf-dev" >&2; exit 1; }; done
	$(GO) generate ./...

lint: ## golangci-lint, the import rules among its checks
	$(LINT) run ./...

fmt: ## gofmt all
	gofmt -w $$(git ls-files '*.go')

root:
	@[ "$$(id -u)" = 0 ] || { echo "this needs root: run it by sudo, or as root" >&2; exit 1; }

setup: root ## install the Debian packages that tests, lab and bench use
	@tools/setup

test: root setup build ## every test, as root: at most 25 minutes
	$(GO) vet ./...
	$(GO) test -p 1 -count 1 -timeout 20m $(BUSY)
	$(MAKE) --no-print-directory test-race
	$(MAKE) --no-print-directory -j 2 test-waiting fuzz

test-unit: ## the tests that need no root
	$(GO) test -count 1 ./...

test-waiting: # what waits most of its time, beside the fuzz targets in make test
	$(GO) test -p 4 -parallel 4 -count 1 -timeout 10m $(WAITING)

test-race: ## the tests that need no devices, with the race detector
	$(GO) test -race -count 1 -timeout 10m $(RACE)
	$(GO) test -race -short -p 4 -parallel 4 -count 1 -timeout 10m $(WAITING)

fuzz: ## every fuzz target for FUZZTIME
	@tools/fuzz $(FUZZTIME)

demo: root setup build coredns ## bring the lab up, show what works on real traffic, take it down
	@tools/demo

soak: root setup build ## every fuzz target for 10 minutes, 10 M port operations, the dataplane and lab tests 20 times
	$(MAKE) --no-print-directory fuzz FUZZTIME=10m
	$(GO) test -count 1 -timeout 1h ./nat -operations 10000000
	$(GO) test -count 1 -timeout 1h ./lab -run 'TestPartition|TestSleepingWorkersAreWoken' -partition 60s -pingpongturns 50
	$(GO) test -p 1 -count 20 -timeout 3h ./dataplane/... ./lab

bench: root setup build ## the side-by-side table, beside the kernel, the raw limit and testpmd
	$(BIN) bench --full

bench-smoke: ## every Go benchmark once, so that none rots
	$(GO) test -run '^$$' -bench . -benchtime 1x ./...

clean: ## remove what was built
	rm -rf bin
