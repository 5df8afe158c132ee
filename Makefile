# GNU make. Everything is a cargo command underneath; what is decided here is which Postgres it is for.
#
#   PG_CONFIG     the Postgres to build for and to install into (default: the pg_config on the PATH)
#   PROFILE       release (default) or dev: what `build` builds and `install` installs
#   DESTDIR       put in front of every installed path, for packagers
#   BUILD_PG_CONFIG   whose headers to build with, where that is not PG_CONFIG (the tests install into a copy of Postgres
#                 that has none)

PG_CONFIG ?= pg_config
BUILD_PG_CONFIG ?= $(PG_CONFIG)
PROFILE ?= release
CARGO ?= cargo

# All of these are asked for when a recipe needs them: before `make deps` there may be no pg_config.
PG_MAJOR = $(shell $(BUILD_PG_CONFIG) --version 2>/dev/null | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
PKGLIBDIR = $(DESTDIR)$(shell $(PG_CONFIG) --pkglibdir)
EXTENSIONDIR = $(DESTDIR)$(shell $(PG_CONFIG) --sharedir)/extension

TARGET = $(or $(CARGO_TARGET_DIR),$(CARGO_BUILD_TARGET_DIR),target)
LIBRARY = $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/libpancake_fdw.so

# The script of the extension is written in parts, which src/lib.rs names as well.
VERSION = 0.1
SCRIPT = sql/pancake_fdw--$(VERSION).sql sql/sync.sql sql/webhook.sql

# The extension is built by itself and never as a part of --workspace: features that only a test asks of a shared
# dependency would make a second build of pgrx.
BUILD = $(CARGO) build -p pancake_fdw --no-default-features --features pg$(PG_MAJOR)

# Where rustup puts cargo; a shell that was open before does not know.
export PATH := $(PATH):$(HOME)/.cargo/bin
# pgrx reads this one, the tests read PG_CONFIG.
export PGRX_PG_CONFIG_PATH = $(BUILD_PG_CONFIG)
export PG_CONFIG

.NOTPARALLEL:
.PHONY: help deps build install uninstall test soak lint demo psql bench clean have-cargo have-postgres

help:
	@echo "make demo        a tour of the extension over a simulated shop, in a throw-away Postgres"
	@echo "make psql        a psql prompt in the same shop"
	@echo "make test        all tests"
	@echo "make soak        tests that take hours: larger models, hundreds of kills"
	@echo "make bench       the benchmark"
	@echo "make build       [PG_CONFIG=...] [PROFILE=release|dev]"
	@echo "make install     [PG_CONFIG=...] [PROFILE=release|dev] [DESTDIR=...]"
	@echo "make uninstall   [PG_CONFIG=...] [DESTDIR=...]"
	@echo "make lint        formatting and clippy"
	@echo "make deps        installs what building and testing need (Debian, Ubuntu), or prints what is missing"
	@echo "make clean"

deps:
	@.ci/deps

build: have-cargo have-postgres
	$(BUILD) --profile $(PROFILE)

# Under sudo there is seldom a cargo, and a build by root would be in the way later: `make build && sudo make install`.
# The library comes by rename, because a running server has the old one mapped.
install: have-postgres
	@for folder in "$(PKGLIBDIR)" "$(EXTENSIONDIR)"; do \
	    while [ ! -e "$$folder" ]; do folder=$$(dirname "$$folder"); done; \
	    [ -w "$$folder" ] || { echo "make: $$(id -un) may not write to $$folder; try: make build && sudo make install $(MAKEOVERRIDES)" >&2; exit 1; }; \
	done
	@if [ -n "$(SUDO_USER)" ] && [ -f "$(LIBRARY)" ]; then echo "installing $(LIBRARY) as it was built"; \
	else $(MAKE) --no-print-directory build; fi
	install -d "$(PKGLIBDIR)" "$(EXTENSIONDIR)"
	install -m 755 "$(LIBRARY)" "$(PKGLIBDIR)/pancake_fdw.so.new"
	mv -f "$(PKGLIBDIR)/pancake_fdw.so.new" "$(PKGLIBDIR)/pancake_fdw.so"
	install -m 644 pancake_fdw.control "$(EXTENSIONDIR)"
	cat $(SCRIPT) > "$(EXTENSIONDIR)/pancake_fdw--$(VERSION).sql"

uninstall: have-postgres
	rm -f "$(PKGLIBDIR)/pancake_fdw.so" "$(EXTENSIONDIR)"/pancake_fdw.control "$(EXTENSIONDIR)"/pancake_fdw--*.sql

# The extension itself has no tests of its own: they are in the crates below it and in tests/.
test: deps have-cargo have-postgres
	$(BUILD) --profile dev
	$(CARGO) test --workspace --exclude pancake_fdw

# What takes minutes to hours: models of larger worlds, hundreds of kills.
soak: deps have-cargo have-postgres
	$(BUILD) --profile dev
	$(CARGO) test --workspace --exclude pancake_fdw -- --ignored

lint: have-cargo have-postgres
	$(CARGO) fmt --all --check
	$(CARGO) clippy -p pancake_fdw --no-default-features --features pg$(PG_MAJOR) --all-targets -- -D warnings
	$(CARGO) clippy --workspace --exclude pancake_fdw --all-targets -- -D warnings

demo: deps have-cargo have-postgres
	$(BUILD) --profile dev
	@PROFILE=dev $(CARGO) run --quiet -p e2e --bin demo -- tour

psql: deps have-cargo have-postgres
	$(BUILD) --profile dev
	@PROFILE=dev $(CARGO) run --quiet -p e2e --bin demo -- psql

bench: deps have-cargo have-postgres
	$(BUILD) --profile release
	PROFILE=release $(CARGO) run --release -p e2e --bin bench -- --write docs/benchmark.md

clean: have-cargo
	$(CARGO) clean

have-cargo:
	@command -v $(CARGO) >/dev/null || { echo "make: there is no cargo; Rust 1.91 or later comes from https://rustup.rs" >&2; exit 1; }

have-postgres:
	@command -v $(PG_CONFIG) >/dev/null || { echo "make: there is no $(PG_CONFIG): run make deps, or name one with PG_CONFIG=" >&2; exit 1; }
	@case "$(PG_MAJOR)" in 15|16|17|18) ;; \
	14) echo "make: PostgreSQL 14 is out of support since November 2026; 15 to 18 is needed" >&2; exit 1 ;; \
	*) echo "make: PostgreSQL 15 to 18 is needed, $(BUILD_PG_CONFIG) is of \"$(PG_MAJOR)\"" >&2; exit 1 ;; esac
