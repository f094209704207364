# `make demo` and `make test` need nothing but Python 3.10, 3.11 or 3.12: each first creates .venv, if there is none, from the
# versions that constraints.txt pins. Another interpreter: make test PYTHON=/path/to/python3.12

VERSIONS := 3.10 3.11 3.12
PYTHON ?=
BIN := .venv/bin
READY := .venv/.ready
PYTEST_FLAGS ?= --numprocesses=logical --maxprocesses=4 --dist=worksteal
TF_CPP_MIN_LOG_LEVEL ?= 3
export TF_CPP_MIN_LOG_LEVEL

# Exits with 0 where the interpreter can run the package and make environments.
SUITABLE := -c 'import sys, venv, ensurepip; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])' $(VERSIONS)

.DEFAULT_GOAL := help
.PHONY: help demo test test-site test-slow test-all test-versions convert lint types check site dist clean

help:
	@echo "make demo       a pretrained 1-bit network: summary, evaluation, fine-tuning, a picture (offline, under 3 minutes)"
	@echo "make test       each formula, one network per paper, each format"
	@echo "make test-all   all tests: test-slow and test; with make convert before it, those that need PyTorch, too"
	@echo "make check      lint, types and test-all"
	@echo "make convert    add PyTorch, which reads the papers' official checkpoints"
	@echo "make site       the documentation as a site, build/site/index.html (needs npm)"
	@echo "make test-site  the tests of the site, in Chromium where there is one"
	@echo "make dist       the sdist and the wheel, in dist/"
	@echo "make clean      remove whatever these commands made, .venv included"

demo: $(READY)
	$(BIN)/onebit demo

test: $(READY)
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

# The largest models take up to 8 GB for each process: two at most.
test-slow: $(READY)
	$(BIN)/python -m pytest $(PYTEST_FLAGS) --maxprocesses=2 -m slow

test-all: test-slow test

# The lowest and the newest versions that setup.cfg allows, each in an environment of its own (2 GB), recorded in docs/compatibility.md.
test-versions: $(READY)
	$(BIN)/python tools/test_versions.py --pytest "$(PYTEST_FLAGS)"

# PyTorch, for the tests of official checkpoints; they are skipped without it.
convert: $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[convert]'

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy knows nothing of package_dir, so it is shown the packages as an installation lays them out.
types: $(READY)
	@rm -rf .venv/typed && mkdir -p .venv/typed/onebit
	@ln -s "$(CURDIR)"/onebit/* "$(CURDIR)/quantizers" "$(CURDIR)/zoo" "$(CURDIR)/recipes" .venv/typed/onebit/
	MYPYPATH=.venv/typed $(BIN)/mypy

# The tests come last: the figure to look at is then at the end.
check: lint types test-all

# Warnings are errors.
site: $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Skipped where there is no Chromium with its driver, or no npm.
test-site: site
	$(BIN)/python -m pytest -m slow tests/test_site.py tests/test_site_browser.py

dist: $(READY)
	$(BIN)/python -m build

clean:
	rm -rf .venv build dist onebit-demo *.egg-info .pytest_cache .mypy_cache .ruff_cache

# The stamp is written last. Without it an environment is incomplete (an interrupted installation) and is made anew.
$(READY): setup.cfg pyproject.toml constraints.txt
	@set -e; python=""; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",$(addprefix python,$(VERSIONS)) python3 python); do \
	    if "$$candidate" $(SUITABLE) 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "onebit needs Python 3.10, 3.11 or 3.12 with the venv module (Debian and Ubuntu: python3-venv);" >&2; \
	    echo "$(if $(PYTHON),$(PYTHON) is none of them,none of them is on the PATH). Choose one: make PYTHON=/path/to/python3.11" >&2; \
	    exit 1; \
	fi; \
	if [ ! -e $@ ]; then "$$python" -m venv --clear .venv; fi; \
	rm -f $@; \
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	touch $@
