# Everything runs in .venv, which is made and kept up to date on demand; see `make help`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What `make run` serves; empty means the embedded default.
CONFIG ?=
PYTEST_ARGS ?=
# What `make bench` runs.
BENCH ?= $(sort $(wildcard tests/benchmarks/[a-z]*.py))

.DEFAULT_GOAL := help
.PHONY: help run test lint format bench protos clean nix chromium fuse

help:  ## Show this.
	@sed -n 's/^\([a-z]*\): .*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18
	@echo "Variables: PYTHON=$(PYTHON) CONFIG=FILE PYTEST_ARGS=... BENCH=FILES"

run: $(VENV)/.run  ## Start the store (CONFIG=FILE; without it, the embedded default).
	@exec $(BIN)/tvix-store run $(CONFIG)

test: $(VENV)/.dev nix chromium fuse  ## Run the tests (PYTEST_ARGS=...).
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev  ## Check style, types, generated code and module lengths.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python protos/generate.py --check
	$(BIN)/python .ci/module_length.py

format: $(VENV)/.dev  ## Format the code and sort the imports.
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev nix fuse  ## Run the benchmarks (BENCH=FILES for some of them).
	@for script in $(BENCH); do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

protos: $(VENV)/.dev  ## Regenerate core/tvix_store/proto from protos/.
	$(BIN)/python protos/generate.py

clean:  ## Remove the venv, caches and build results.
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A real Nix, to compare with. Without it the tests that need it are skipped, except in CI.
nix:
	@command -v nix-store >/dev/null || .ci/system_package.sh nix-store nix-bin || { \
	  [ "$(CI)" != true ] && echo "Going on without nix-store: tests that compare with it will be skipped." >&2; }

# A real browser, to look at the pages of the binary cache. Without it the tests that need it are skipped, except in CI.
chromium:
	@command -v chromium >/dev/null || .ci/system_package.sh chromium chromium || { \
	  [ "$(CI)" != true ] && echo "Going on without chromium: tests that need it will be skipped." >&2; }

# What pyfuse3 is built with, what mounts, and what reads extended attributes. Without these and a pyfuse3 in $(VENV) the
# tests that mount are skipped, except in CI.
fuse: $(VENV)/.dev
	@header=`$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))'`/Python.h; \
	{ { type cc pkg-config fusermount3 getfattr && pkg-config --exists fuse3 && [ -e "$$header" ]; } >/dev/null 2>&1 || \
	  .ci/system_package.sh "what mounts the store" gcc libc6-dev pkg-config libfuse3-dev fuse3 attr \
	    `[ -e "$$header" ] || $(BIN)/python -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])'`; } && \
	$(MAKE) -s --no-print-directory $(VENV)/.fuse || { \
	  [ "$(CI)" != true ] && echo "Going on without pyfuse3: tests that mount will be skipped." >&2; }

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or later, or set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is `$(PYTHON) --version`, but 3.11 or later is needed: set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || .ci/system_package.sh "the venv module of $(PYTHON)" \
	  `$(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'`
	@echo "Setting up $(VENV)" >&2
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'  # the first with --group
	@touch $@

$(VENV)/.run: $(VENV)/.created pyproject.toml
	@echo "Installing tvix-store into $(VENV)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.created pyproject.toml
	@echo "Installing tvix-store and the development tools into $(VENV)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[testing]' --group dev
	@touch $(VENV)/.run $@

$(VENV)/.fuse: $(VENV)/.dev
	@echo "Installing pyfuse3 into $(VENV)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuse]'
	@touch $@
