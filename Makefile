# Holdfast: `make` lists what there is.

# Builds go to a cache of the user's, so that a fresh clone does not start from nothing.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/holdfast/target
# Servers that the tests need and that no package has are built into the same cache.
export PATH := $(HOME)/.cache/holdfast/bin:$(PATH)

CARGO ?= cargo

.PHONY: help demo test check fuzz lab lab-down lab-test build release deb bench ship clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## protect a real database and web site, lose both, get them back (minutes; leaves nothing behind)
	@scripts/demo

test: ## install what the tests need, build, run all tests
	@scripts/test

check: ## what must hold before a commit, without the tests: format, lints, shell scripts
	@scripts/check

fuzz: ## look for inputs that break a parser, a minute each (half an hour; `scripts/fuzz --help` for less or more)
	@scripts/fuzz

lab: ## the whole cluster in containers on this machine (root, minutes; docs/cluster.md)
	@scripts/lab up

lab-down: ## remove the cluster's containers; the image stays in the cache
	@scripts/lab down

lab-test: ## bring the cluster up, break it in every way, measure, remove it
	@scripts/lab-test

build: ## the programs, as the tests and the demo use them
	@scripts/install-deps
	$(CARGO) build --locked --workspace

release: ## the programs, optimized
	@scripts/install-deps
	$(CARGO) build --locked --workspace --release

deb: ## a Debian package of all programs
	@scripts/deb

bench: ## measure backup and restore against other tools (half an hour, 20 GB of disk)
	@scripts/install-deps --bench
	@tests/bench/backup
	@tests/bench/pitr

ship: ## measure log shipping against rsyslog (ten minutes, 1 GB of disk)
	@scripts/install-deps --bench
	@tests/bench/ship

clean: ## remove what was built, and the cache of the tests' servers
	$(CARGO) clean
	rm -rf "$(HOME)/.cache/holdfast"
