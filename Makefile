# make help says what there is. Everything that is made lies in build/.

SHELL := /bin/bash
GO ?= go
ARCH ?= $(shell $(GO) env GOARCH)
STEPS := $(wildcard step[0-9][0-9]-*)
LAST := $(lastword $(STEPS))
# The folder of the step STEP=3, 03 or step03-pid-mount; and its number with two digits.
NN = $(shell printf %02d $$((10#$(patsubst step%,%,$(firstword $(subst -, ,$(STEP)))))))
STEPDIR = $(wildcard step$(NN)-*)
# Namespaces and mounts need root: where we are not, ask sudo, and keep the environment.
# What root compiles then goes into a cache of its own, and not into yours.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E env "PATH=$(PATH)" \
	"GOCACHE=$(CURDIR)/build/gocache" "GOMODCACHE=$(shell $(GO) env GOMODCACHE)")

GOLANGCI_LINT_VERSION := v2.15.0
# Compiled as whoever you are; what it runs as root does not touch your build cache.
WEAVE := build/bin/weave

export CGO_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help build rootfs demo shell test check mutants diff diff-mine forward docs docs-check lint doctor clean need-step

help: ## this list
	@echo "minidocker: build your own Docker, one kernel feature at a time"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

need-step:
	@test -d "$(STEPDIR)" || { echo "say which step, as in: make $(MAKECMDGOALS) STEP=03" >&2; exit 2; }

build: ## all programs, into build/bin/STEP/minidocker
	@for s in $(STEPS); do $(GO) build -o build/bin/$$s/minidocker ./$$s || exit 1; done
	@$(GO) build -o build/bin/ ./docs/labs/...

rootfs: build/rootfs/$(ARCH) ## the busybox root file system, into build/rootfs/ARCH (ARCH=amd64|arm64)

build/rootfs/%: final/rootfs/build final/rootfs/pins
	final/rootfs/build $* $@
	@touch $@

.PHONY: weave
weave:
	@$(GO) build -o $(WEAVE) ./docs/weave

CMD ?= sh
demo: build rootfs ## a container on the busybox root file system: a shell, or CMD='ls -l /'
	@$(if $(filter sh,$(CMD)),echo 'This is a shell in a container. Try: ps; hostname; ls /; mount. It ends with: exit')
	@$(AS_ROOT) build/bin/$(LAST)/minidocker run --hostname demo --rootfs build/rootfs/$(ARCH) $(CMD)

shell: need-step rootfs weave ## STEP=03: a root shell in which the commands of that lesson work as written
	@$(AS_ROOT) $(WEAVE) shell $(STEP)

# The tests see the machine from outside, as root. They are compiled as whoever you are.
test: build rootfs ## all tests, or those of one step: STEP=03
	MINIDOCKER_BIN=$(CURDIR)/build/bin $(GO) test -count=1 $(if $(AS_ROOT),-exec '$(AS_ROOT)') \
		$(if $(STEP),./$(STEPDIR),./...)

check: need-step build rootfs ## STEP=03 BIN=path [EX=2]: the tests of a step, or the check of an exercise, on your own program
	@test -n "$(BIN)" || { echo "say which program, as in: make check STEP=$(NN) BIN=./minidocker" >&2; exit 2; }
	@$(GO) build -o build/bin/check ./final/tests/check
	@$(AS_ROOT) build/bin/check -step $(NN) -bin $(BIN) $(if $(EX),-exercise $(EX)) $(if $(V),-v)

mutants: rootfs ## take isolation out line by line and see that a test notices (some minutes)
	MINIDOCKER_MUTANTS=1 $(GO) test -count=1 -timeout 30m $(if $(AS_ROOT),-exec '$(AS_ROOT)') -run TestMutants ./final/tests

diff: need-step weave ## STEP=03: what is new since step 02
	@$(WEAVE) diff $(STEP)

diff-mine: need-step weave ## STEP=03 DIR=path: your own folder beside step 03
	@test -d "$(DIR)" || { echo "say which folder, as in: make diff-mine STEP=$(NN) DIR=~/mine" >&2; exit 2; }
	@$(WEAVE) diff $(STEP) $(DIR)

FROM ?=
forward: weave ## FROM=02 [BASE=commit]: carry a change in step 02 to all later steps
	@test -n "$(FROM)" || { echo "say from which step, as in: make forward FROM=02" >&2; exit 2; }
	@$(WEAVE) forward $(if $(BASE),-base $(BASE)) $(FROM)

docs: weave ## write the code and the diffs into the lessons
	$(WEAVE) fill

docs-check: rootfs weave ## see that the lessons are true: every excerpt, every link, every command
	$(WEAVE) check
	$(AS_ROOT) $(WEAVE) run

lint: ## the linters, and that all compiles for arm64 and says so on a Mac
	@test -x build/tools/golangci-lint-$(GOLANGCI_LINT_VERSION) || { \
		GOBIN=$(CURDIR)/build/tools $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION) && \
		mv build/tools/golangci-lint build/tools/golangci-lint-$(GOLANGCI_LINT_VERSION); }
	build/tools/golangci-lint-$(GOLANGCI_LINT_VERSION) run
	GOARCH=arm64 $(GO) vet ./...
	for s in $(STEPS); do GOOS=darwin $(GO) build -o /dev/null ./$$s || exit 1; done
	shellcheck final/rootfs/build final/tests/doctor .ci/run

doctor: ## what this machine lacks for the tutorial, and how to get it
	@final/tests/doctor

clean: ## remove everything that was made here
	rm -rf --one-file-system build
