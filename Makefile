# Every target sets itself up. Override the interpreter with PYTHON=python3.13, the environment with VENV=.venv313.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: help run test lint proto bench setup lock package clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

run: $(VENV)/.runnable ## sample, store and answer, in one process on an embedded store
	@$(BIN)/tickwatch up

test: setup lint ## every test that this machine has the servers for
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup ## ruff, mypy --strict, import-linter, buf, helm lint, drift of the generated code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/buf lint protos
	@against=$$(git for-each-ref --format='branch=%(refname:short)' refs/heads/main; \
	  git describe --tags --abbrev=0 2>/dev/null | sed 's/^/tag=/'); \
	test -n "$$against" || echo "lint: no branch main and no tag here, so buf breaking has nothing to compare with" >&2; \
	for version in $$against; do \
	  $(BIN)/buf breaking protos --against "$$(git rev-parse --path-format=absolute --git-common-dir)#$$version,subdir=protos" || exit 1; \
	done
	@$(BIN)/python protos/generate.py --check
	@$(BIN)/python protos/reference.py --check
	@if command -v helm >/dev/null; then helm lint --quiet --strict charts/tickwatch --set influxdb.enabled=true; \
	else echo "lint: no helm here, so the chart is not linted" >&2; fi

proto: setup ## write the Python code and the reference of the contract
	@$(BIN)/buf lint protos
	@$(BIN)/python protos/generate.py
	@$(BIN)/python protos/reference.py

bench: setup ## measure against the peers, side by side; writes docs/benchmarks.md
	@$(BIN)/python -m benchmarks

setup: $(VENV)/.installed ## make the virtual environment with everything in it

$(VENV)/.installed: $(VENV)/.runnable requirements-dev.txt
	@echo "installing what tests need into $(VENV) (once)" >&2
	@$(INSTALL) --require-hashes -r requirements-dev.txt
	@touch $@

# Apart, because it is two fifths of the work of the whole: who only wants to run it does not wait for what tests need.
$(VENV)/.runnable: requirements-run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Tickwatch needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once)" >&2
	@$(INSTALL) --require-hashes -r requirements-run.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

lock: ## pin every dependency anew, with hashes and no addresses (needs uv)
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --custom-compile-command 'make lock' pyproject.toml -o requirements.txt
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --custom-compile-command 'make lock' --group dev --constraint requirements.txt pyproject.toml -o requirements-dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --custom-compile-command 'make lock' --group run --constraint requirements-dev.txt pyproject.toml -o requirements-run.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --custom-compile-command 'make lock' --group image --constraint requirements-dev.txt -o requirements-build.txt

package: ## the chart as an archive in dist: IMAGE=REGISTRY/NAME@sha256:… pins its image, KEY=NAME signs it (needs helm, gpg)
	@$(PYTHON) packaging/chart.py dist $(if $(IMAGE),--image '$(IMAGE)') $(if $(KEY),--key '$(KEY)')

clean: ## remove the environment, archives and caches
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
