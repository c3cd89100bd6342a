# The steps themselves are in .ci/run, which calls the README's test command.

FUZZTIME ?= 30s
PACKAGES := ./... ./examples/...

.PHONY: help
help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## compile everything
	go build $(PACKAGES)

.PHONY: test
test: ## tests, without the race detector
	go test $(PACKAGES)

.PHONY: race
race: ## tests, as the README has them
	.ci/run test

.PHONY: lint
lint: ## formatting, go.mod, go vet, golangci-lint
	.ci/run fmt tidy vet lint

.PHONY: cross
cross: ## compile and vet for the other systems
	.ci/run cross

.PHONY: ci
ci: ## all that must pass
	.ci/run

.PHONY: fuzz
fuzz: ## each fuzz test for FUZZTIME (30s)
	@set -e; for package in $$(go list $(PACKAGES)); do \
		for name in $$(go test -list '^Fuzz' "$$package" | grep '^Fuzz' || true); do \
			echo "== $$package $$name"; \
			go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s "$$package"; \
		done; \
	done

# Two at a time: each takes one processor.
.PHONY: fuzz-release
fuzz-release: ## what reads releases from outside, for FUZZTIME each
	@printf '%s\n' ./upgrade/release:FuzzParseIndex ./upgrade/release:FuzzParseManifest \
		./upgrade/release:FuzzParseKeyring ./upgrade/release:FuzzPin ./upgrade/release:FuzzBSDiffPatch \
		./upgrade/release:FuzzBSDiffSteps ./upgrade/release:FuzzZstd ./upgrade/release/oci:FuzzReference | \
		xargs -P 2 -n 1 sh -c 'go test -run "^$$" -fuzz "^$${0#*:}$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s -parallel 1 "$${0%:*}"'

.PHONY: bench
bench: ## the figures of BENCHMARKS.md
	go run ./examples/bench
