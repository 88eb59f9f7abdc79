# Everything is set up in .venv of this folder; only Python 3.11 or newer and make are needed.
# Example: make demo

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest

.PHONY: demo up test check chaos bench clean
.DEFAULT_GOAL := demo

demo: $(READY)
	$(BIN)/arcfleet demo

up: $(READY)
	$(BIN)/arcfleet up

test: $(READY)
	$(PYTEST) -n 2 tests/unit tests/integration tests/acceptance

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: $(READY)
	$(PYTEST) tests/chaos

bench: $(READY)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) *.egg-info

# The file is touched last, so a set-up that was interrupted is done again.
$(READY): requirements-dev.lock pyproject.toml
	@python=; \
	for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "make: no Python 3.11 or newer found as python3, python3.14 ... python3.11: install one" >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "make: $$python has no venv module: install it (Debian, Ubuntu: the package python3-venv)" >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(READY)
