# make help says what there is. Everything that is made lies in build/.

SHELL := /bin/bash
GO ?= go
ARCH ?= $(shell $(GO) env GOARCH)
STEPS := $(wildcard step[0-9][0-9]-*)
LAST := $(lastword $(STEPS))
# The folder of the step STEP=3, 03 or step03-pid-mount; and its number with two digits.
NN = $(if $(STEP),$(shell printf %02d $$((10#$(patsubst step%,%,$(firstword $(subst -, ,$(STEP))))))))
STEPDIR = $(if $(NN),$(wildcard step$(NN)-*))
# Namespaces and mounts need root: where we are not, ask sudo, and keep the environment; an
# ordinary user's PATH has not all of root's programs. What root compiles goes into a cache of
# its own, and not into yours.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E env "PATH=$(PATH):/usr/local/sbin:/usr/sbin:/sbin" \
	"GOCACHE=$(CURDIR)/build/gocache" "GOMODCACHE=$(shell $(GO) env GOMODCACHE)")

GOLANGCI_LINT_VERSION := v2.15.0
# Compiled as whoever you are; what it runs as root does not touch your build cache.
WEAVE := build/bin/weave

export CGO_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help steps build rootfs demo shell user-shell test vm-test vm-lessons vm-service vm-shell vagrant-test check mutants interop interop-runtime bench diff diff-mine forward docs docs-check
.PHONY: site site-serve site-test slides picture bundle bundle-test lint doctor clean need-step

help: ## this list
	@echo "minidocker: build your own Docker, one kernel feature at a time"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

need-step:
	@test -d "$(STEPDIR)" || { echo "say which step, as in: make $(MAKECMDGOALS) STEP=03" >&2; exit 2; }

steps: ## the steps' programs, into build/bin/STEP/minidocker
	@for s in $(STEPS); do $(GO) build -o build/bin/$$s/minidocker ./$$s || exit 1; done
	@$(GO) build -o build/bin/ ./docs/labs/...

build: steps ## all programs: also the engine's, into build/bin/
	@$(GO) build -trimpath -ldflags '-s -w' -tags urfave_cli_no_docs -o build/bin/ ./final/cmd/...

rootfs: build/rootfs/$(ARCH) build/share/minidocker/busybox-$(ARCH).tar ## the busybox root file system, into build/rootfs/ARCH (ARCH=amd64|arm64)

build/rootfs/%: final/rootfs/build final/rootfs/pins
	final/rootfs/build $* $@
	@touch $@

# The image that the engine imports where no registry can be asked: see archive.Default.
build/share/minidocker/busybox-%.tar: build/rootfs/%
	@mkdir -p $(@D)
	@tar -C $< --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf $@.new .
	@mv $@.new $@

# Not root: look first, and ask sudo only if something is missing.
.PHONY: tools engine-tools
tools:
	@final/tests/tools || $(AS_ROOT) final/tests/tools -i
engine-tools:
	@final/tests/tools engine || $(AS_ROOT) final/tests/tools -i engine

.PHONY: weave
weave:
	@$(GO) build -o $(WEAVE) ./docs/weave

CMD ?= sh
demo: tools steps rootfs ## a container on the busybox root file system: a shell, or CMD='ls -l /'
	@$(if $(filter sh,$(CMD)),echo 'This is a shell in a container. Try: ps; hostname; ls /; mount. It ends with: exit')
	@$(AS_ROOT) build/bin/$(LAST)/minidocker run --hostname demo --rootfs build/rootfs/$(ARCH) $(CMD)$(if $(filter sh,$(CMD)), || true)

shell: need-step rootfs weave ## STEP=03: a root shell in which the commands of that lesson work as written
	@$(AS_ROOT) $(WEAVE) shell $(STEP)

user-shell: need-step rootfs weave ## STEP=05: the same as an ordinary user, for commands that begin with $
	@$(WEAVE) shell -user $(STEP)

# The tests see the machine from outside, as root. They are compiled as whoever you are.
test: $(if $(STEP),tools steps,engine-tools build) rootfs ## all tests, or those of one step: STEP=03
	MINIDOCKER_BIN=$(CURDIR)/build/bin $(GO) test -count=1 -p 4 -parallel 4 $(if $(AS_ROOT),-exec '$(AS_ROOT)') \
		$(if $(STEP),./$(STEPDIR),./...)

# The tests on another kernel, as today's distributions boot it: Debian 12 under qemu.
build/vm/root.ext4: final/vm/image final/vm/initrd
	@mkdir -p build/vm
	$(AS_ROOT) final/vm/image build/vm

vm-test: build rootfs build/vm/root.ext4 ## the tests in a virtual machine: CGROUP=v1|hybrid|v2 (v2), STEP=3, ALL=1, INIT=systemd
	@GO="$(GO)" CGROUP="$(CGROUP)" STEP="$(NN)" ALL="$(ALL)" RUN="$(RUN)" INIT="$(INIT)" MUTANTS="$(MUTANTS)" FINAL="$(FINAL)" final/vm/test

vm-lessons: build rootfs weave build/vm/root.ext4 ## the commands of the lessons in that virtual machine, with the same settings
	@GO="$(GO)" CGROUP="$(CGROUP)" STEP="$(NN)" INIT="$(INIT)" final/vm/lessons

vm-service: build rootfs build/vm/root.ext4 ## the daemon as a service of systemd, in that virtual machine
	@final/vm/service

vm-shell: build rootfs build/vm/root.ext4 ## a root shell in that virtual machine, with the same settings
	@CGROUP="$(CGROUP)" STEP="$(NN)" INIT="$(INIT)" final/vm/shell

build/vagrant/libvirt.box: final/vm/image final/vm/initrd final/vm/box
	@mkdir -p build/vagrant
	$(AS_ROOT) final/vm/box $(CURDIR)/$@

vagrant-test: build/vagrant/libvirt.box ## the Vagrantfile, tried with vagrant-libvirt (some 20 minutes without KVM)
	$(AS_ROOT) env GO="$(GO)" final/vm/vagrant-test

bench: build rootfs ## minirunc and the engine beside crun, runc, docker and podman, if they are installed, into docs/benchmarks.md
	@$(GO) build -o build/bin/bench ./final/bench
	@$(AS_ROOT) build/bin/bench -engines -o docs/benchmarks.md $(if $(ROUNDS),-rounds $(ROUNDS))

interop-runtime: build rootfs ## the real podman and containerd with minirunc as their runtime
	MINIDOCKER_BIN=$(CURDIR)/build/bin MINIDOCKER_INTEROP=1 $(GO) test -count=1 \
		$(if $(AS_ROOT),-exec '$(AS_ROOT)') -run TestInterop ./final/cmd/minirunc

check: need-step steps rootfs ## STEP=03 BIN=path [EX=2]: the tests of a step, or the check of an exercise, on your own program
	@test -n "$(BIN)" || { echo "say which program, as in: make check STEP=$(NN) BIN=./minidocker" >&2; exit 2; }
	@$(GO) build -o build/bin/check ./final/tests/check
	@$(AS_ROOT) build/bin/check -step $(NN) -bin $(BIN) $(if $(EX),-exercise $(EX)) $(if $(V),-v)

mutants: rootfs ## test the tests: take isolation out line by line, a test must notice (some minutes); STEP=4: of that step
	MINIDOCKER_MUTANTS=$(or $(patsubst 0%,%,$(NN)),1) $(GO) test -count=1 -parallel 4 -timeout 60m $(if $(AS_ROOT),-exec '$(AS_ROOT)') \
		-run '$(if $(STEP),TestMutants,TestMutants|TestSolutions)' ./final/tests

interop: build rootfs ## images to and from skopeo, umoci and podman, which must be installed
	MINIDOCKER_INTEROP=1 MINIDOCKER_BIN=$(CURDIR)/build/bin $(GO) test -count=1 -parallel 4 $(if $(AS_ROOT),-exec '$(AS_ROOT)') -run TestInterop ./final/tests

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

# The web site: its parts by weave and docs/site/lib/generate.mjs, its pages by VitePress.
docs/node_modules/.package-lock.json: docs/package-lock.json
	npm --prefix docs ci --no-audit --no-fund

site: weave docs/node_modules/.package-lock.json ## the lessons and the diffs as a web site, into build/site (needs npm)
	@mkdir -p build/site-data
	$(WEAVE) site >build/site-data/weave.json
	npm --prefix docs run --silent site

slides: weave docs/node_modules/.package-lock.json ## a deck of slides for each step, into build/slides (needs npm and chromium)
	@mkdir -p build/site-data
	$(WEAVE) site >build/site-data/weave.json
	npm --prefix docs run --silent slides

site-test: site ## that site in a real browser, Debian's chromium or CHROMIUM: every page, link and diff
	npm --prefix docs test --silent

picture: tools steps rootfs ## docs/demo.svg, the picture in the README, from a run of make demo
	$(GO) build -o build/bin/picture ./docs/picture
	@printf '%s\n' ps hostname 'ls /' 'cat /proc/self/mountinfo | wc -l' | build/bin/picture '/ # ' make demo >docs/demo.svg.new
	@mv docs/demo.svg.new docs/demo.svg

BUNDLE := build/minidocker-$(ARCH).tar.gz
bundle: build rootfs site slides ## all that a machine without a network needs, in one archive (what is committed)
	@docs/bundle/make $(BUNDLE)

bundle-test: bundle ## use it where there is no network
	$(AS_ROOT) docs/bundle/test $(BUNDLE)

site-serve: weave ## show that site at http://127.0.0.1:8090/, or at SITE_ADDR
	@test -e build/site/index.html || $(MAKE) site
	@$(WEAVE) serve $(if $(SITE_ADDR),-addr $(SITE_ADDR)) build/site

lint: ## the linters, and that all compiles for arm64 and says so on a Mac
	@test -x build/tools/golangci-lint-$(GOLANGCI_LINT_VERSION) || { \
		GOBIN=$(CURDIR)/build/tools $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION) && \
		mv build/tools/golangci-lint build/tools/golangci-lint-$(GOLANGCI_LINT_VERSION); }
	build/tools/golangci-lint-$(GOLANGCI_LINT_VERSION) run
	GOARCH=arm64 $(GO) vet ./...
	for s in $(STEPS); do GOOS=darwin $(GO) build -o /dev/null ./$$s || exit 1; done
	shellcheck final/rootfs/build final/tests/doctor final/vm/* final/tests/tools docs/bundle/make docs/bundle/test .ci/run

doctor: ## what this machine lacks for the tutorial, and how to get it
	@final/tests/doctor

clean: ## remove everything that was made here
	rm -rf --one-file-system build
