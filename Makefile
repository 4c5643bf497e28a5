# What a person types. Everything else is cargo's.
#
#   make demo                        kill a node in the middle of real transfers; exit code 0: nobody noticed
#   make demo ARGS="--kill power"    with options; `make demo ARGS=--help` lists them
#   make test                        formatting, lints, all tests, instructions of a segment beside those that are kept
#   make bench                       beside HAProxy, nginx and no balancer: out/bench/report.html; `ARGS=--help` lists options
#   make micro                       what a segment costs, in instructions and nanoseconds
#   make beside ARGS=bulk            side by side with the kernel; bench/README.md lists the subjects
#   make install PREFIX=/usr/local   the program, its units for systemd, samples, completion

CARGO ?= cargo
ARGS ?=
TARGET_DIR ?= $(or $(CARGO_TARGET_DIR),target)

PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: demo test bench micro beside build packages install

demo: build
	$(TARGET_DIR)/release/understudy demo $(ARGS)

test: packages
	$(CARGO) fmt --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test --workspace
	$(CARGO) test --workspace --bench segment_path -- --counts

bench: build
	$(TARGET_DIR)/release/beside balancers $(ARGS)

micro: packages
	$(CARGO) bench -p bench -- $(ARGS)

beside: build
	$(TARGET_DIR)/release/beside $(ARGS)

build: packages
	$(CARGO) build --release

install: build
	install -D -m 755 $(TARGET_DIR)/release/understudy $(DESTDIR)$(PREFIX)/bin/understudy
	for unit in understudy understudy-witness; do \
	    sed 's|@PREFIX@|$(PREFIX)|g' tools/systemd/$$unit.service > $(TARGET_DIR)/$$unit.service && \
	    install -D -m 644 $(TARGET_DIR)/$$unit.service $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit.service || exit 1; \
	done
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/understudy README.md CHANGELOG.md LICENSE
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/understudy/examples tools/examples/*.toml
	$(TARGET_DIR)/release/understudy completions bash > $(TARGET_DIR)/understudy.bash
	install -D -m 644 $(TARGET_DIR)/understudy.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/understudy

packages:
	tools/install-packages.sh
