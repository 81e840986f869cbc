# Python 3.11 or newer and make are all that a bare machine needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
LINKS := $(VENV)/links

.PHONY: help install search test test-long lint bench chaos lock audit sbom clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed ## Make .venv and install huetune with pinned, hashed packages

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@# The folders are parts of the package: for mypy and editors, which do not see setuptools's own way, and so that
	@# a folder `huetune` beside an importing program does not hide it.
	mkdir -p $(LINKS)/huetune
	cd $(LINKS)/huetune && ln -sfn ../../../data_tools ../../../model ../../../results ../../../search \
	    ../../../search/api/*.py ../../../search/api/py.typed .
	echo "$(CURDIR)/$(LINKS)" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/huetune-links.pth"
	touch $@

search: install ## Search on the built-in photos (a few minutes); ARGS="..." adds options
	$(BIN)/huetune search $(ARGS)

test: lint ## Install, lint, check types, run all tests
	$(BIN)/pytest

test-long: install ## Run the few tests that take minutes each
	$(BIN)/pytest --numprocesses=1 -m long

lint: install ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install ## Measure against plain Keras under plain Ray Tune; writes bench.json
	$(BIN)/python -m tests.benchmarks

chaos: install ## Kill a search N times and count what was lost (a minute and more a kill)
	$(BIN)/python -m tests.faults.chaos $(or $(N),10)

lock: install ## Renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes --upgrade \
	    --no-emit-index-url --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

# Both tools run outside of .venv: what they bring there makes `import ray` take four times as long.
# Strictly: a package of which the advisories say nothing, or advisories out of reach, are no clean bill.
audit: install ## Look up the pinned packages in the advisories of known holes
	$(BIN)/uv tool run --quiet pip-audit --strict --progress-spinner off --require-hashes --disable-pip -r requirements.lock

sbom: install ## Write sbom.json, the list of what is pinned, with hashes (CycloneDX)
	$(BIN)/uv tool run --quiet --from cyclonedx-bom cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.json requirements.lock

clean: ## Remove what was installed, not what was searched
	rm -rf $(VENV) *.egg-info
