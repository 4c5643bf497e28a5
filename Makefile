# What a person types. Everything else is cargo's.
#
#   make demo                        kill a node in the middle of real transfers; exit code 0: nobody noticed
#   make demo ARGS="--kill power"    with options; `make demo ARGS=--help` lists them
#   make test                        formatting, lints, all tests
#   make bench                       measurements
#   make beside ARGS=bulk            side by side with the kernel; bench/README.md lists the subjects

CARGO ?= cargo
ARGS ?=
TARGET_DIR ?= $(or $(CARGO_TARGET_DIR),target)

.PHONY: demo test bench beside build packages

demo: build
	$(TARGET_DIR)/release/understudy demo $(ARGS)

test: packages
	$(CARGO) fmt --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test --workspace

bench: packages
	$(CARGO) bench -p bench

beside: build
	$(TARGET_DIR)/release/beside $(ARGS)

build: packages
	$(CARGO) build --release

packages:
	tools/install-packages.sh
