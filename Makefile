# Everything sets itself up: `make demo` and `make test` work in a fresh clone.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
NATIVE ?= .native
WITH ?=
IMAGES ?= .images
NO_PYTHON := echo "hpcbench needs Python 3.11 or newer, and none is on the PATH; name one:" \
    "make PYTHON=/path/to/python3.11" >&2; exit 3
ANALYZER ?= .venv-analyzer
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
INSTALLED := $(VENV)/.installed
MODELS := jobs/demo/models/jet_tagger/config.pbtxt
BOX := $(abspath $(or $(HPCBENCH_BOX),.box))
CAMPAIGNS := tests/cluster/test_batch_campaigns.py
# Several pytests would trip over one cache.
PYTEST := $(BIN)/python -m pytest -p no:cacheprovider
# The files that a mark stands in: each pytest would spend five to ten seconds of CPU on all others.
MARKED = $$(grep -rlE "$(1)" tests --include="test_*.py")
# What fills the CPUs that the tests of the real Triton leave, whose numbers depend on them.
BEHIND := $(BIN)/python tests/in_background.py $(PYTEST)
QUICK := $(BEHIND) -m "not native and not leaves_nothing and not box"

export HPCBENCH_NATIVE := $(abspath $(NATIVE))
# Each of the hundreds of Pythons that tests start would compile hpcbench again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo docs docs-site test packages soak box test-box test-campaigns test-images test-native \
    test-analysis test-others test-newer test-fast lint bench native bench-decisions bench-cost \
    bench-isolation bench-sessions bench-capacity bench-analyzer bench-intervals bench-records \
    public-sets images venv newest clean

help:
	@echo "make demo       sets everything up, then scans a model on a real Triton (about 2 minutes)"
	@echo "make test       sets everything up and runs all tests (about 25 minutes on two cores);"
	@echo "                those for root, a Debian family or a browser are skipped elsewhere, and counted"
	@echo "make test-fast  the tests that need no Triton and no browser"
	@echo "make test-box   a Slurm and an HTCondor on this machine (root, Debian family), and their tests"
	@echo "make test-campaigns, make test-images  campaigns there, also in images of Apptainer"
	@echo "make soak FAULTS=1000   the tests that run long, and campaigns under a thousand faults"
	@echo "make lint       ruff, mypy, import contracts, docstrings"
	@echo "make bench      hpcbench beside a bare loop over perf_analyzer, in one run"
	@echo "make bench-cost, bench-isolation, bench-sessions, bench-capacity, bench-analyzer"
	@echo "                what watching and isolation cost; whether sessions agree; the search for a"
	@echo "                capacity beside a scan; Model Analyzer's grid: a few minutes on a quiet machine"
	@echo "make bench-intervals whether the intervals of a precision hold: simulated, a minute"
	@echo "make public-sets whether each cell of what others published arrives: clones from GitHub"
	@echo "make docs       the figures and the reference of columns, and the site in docs/_build/"
	@echo "make bench-records   a million records: merging, deciding, beside a loop over csv.reader"
	@echo "make bench-decisions the truth table of compare and recommend: promised beside found"
	@echo "make newest     brings $(VENV) the newest dask, distributed and dask-jobqueue that are allowed"
	@echo "make native     Triton and perf_analyzer from wheels into $(NATIVE);"
	@echo "                with WITH=pytorch or tensorflow it serves such models, too"
	@echo "make images     images of both for Apptainer, without a registry, into $(IMAGES)"
	@echo "make clean      removes $(VENV), $(NATIVE), $(IMAGES) and caches; keeps results/"

demo: $(RUNS) $(MODELS) native
	@$(BIN)/hpcbench run jobs/demo/campaign.yaml --site local --results results/demo
	@$(BIN)/hpcbench plot results/demo --out results/demo/figures

# Apt works alone. Then each group of tests begins when what it needs is there, none of which keeps
# two cores busy, and prints when it has ended.
test: packages
	@$(MAKE) --no-print-directory --jobs=6 --keep-going --output-sync=target \
	    test-images test-campaigns test-box test-native test-analysis test-others \
	    $(if $(NEWER),test-newer)

# Of CI: another Python, while the longest groups are still at work.
NEWER ?=
test-newer: test-analysis test-others
	@$(BIN)/python tests/in_background.py $(NEWER)

# Only where it can be: elsewhere its tests are skipped.
box:
	@[ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || $(PYTHON) tests/box/box build

# The tests that run long, or many times over; then campaigns in the box under so many faults. Their
# disks are mounted where no other program sees them, and so are gone however it ends.
FAULTS ?= 1000
soak: box $(INSTALLED) $(MODELS) native
	@$(PYTEST) -m soak
	@unshare --mount --propagation private $(BIN)/python -m tests.soak --faults $(FAULTS)

# The real Slurm and HTCondor of tests/box; as root on a Debian family.
test-box: box $(INSTALLED) $(MODELS)
	@$(BEHIND) -m "box and not images" $(call MARKED,mark\.box) --deselect $(CAMPAIGNS)

# Each group has a box of its own: nodes are broken, and nothing may be left in a queue.
test-campaigns: box $(INSTALLED) $(MODELS)
	@HPCBENCH_BOX=$(BOX)/third $(BEHIND) $(CAMPAIGNS)

# The real Apptainer there, with images that are built first.
test-images: box $(INSTALLED) $(MODELS)
	@HPCBENCH_BOX=$(BOX)/second $(BEHIND) -m images $(call MARKED,mark\.images)

# The real Triton; and what must not run beside it.
test-native: native $(INSTALLED) $(MODELS)
	@$(PYTEST) -m "(native or leaves_nothing) and not box" \
	    $(call MARKED,mark\.native|leaves_nothing)

test-analysis: $(INSTALLED) $(MODELS)
	@$(QUICK) tests/analysis

test-others: $(INSTALLED) $(MODELS)
	@$(QUICK) --ignore=tests/analysis

test-fast: $(INSTALLED)
	@$(PYTEST) -m "not native and not box and not browser"

lint: $(INSTALLED)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python docs/check_docstrings.py $$(git ls-files "hpcbench/*.py" "analysis/*.py")

bench: $(INSTALLED) $(MODELS) native
	@$(BIN)/python tests/benchmarks/beside_the_loop.py

# What quiet machines are for: each prints a table in Markdown, after 3 to 6 minutes.
bench-cost: $(INSTALLED) $(MODELS) native
	@$(BIN)/python -m tests.benchmarks.cost_of_observing

bench-isolation: $(INSTALLED) $(MODELS) native
	@$(BIN)/python -m tests.benchmarks.isolation

bench-sessions: $(INSTALLED) $(MODELS) native
	@$(BIN)/python -m tests.benchmarks.three_sessions

bench-capacity: $(INSTALLED) $(MODELS) native
	@$(BIN)/python -m tests.benchmarks.capacity_and_rates

bench-intervals: $(INSTALLED)
	@$(BIN)/python -m tests.benchmarks.precise_intervals

# Model Analyzer has requirements that would change those of hpcbench.
bench-analyzer: $(INSTALLED) $(MODELS) native
	@[ -x $(ANALYZER)/bin/model-analyzer ] || { $(PYTHON) -m venv $(ANALYZER) && \
	    $(ANALYZER)/bin/pip install --disable-pip-version-check --quiet triton-model-analyzer; }
	@$(BIN)/python -m tests.benchmarks.beside_model_analyzer $(ANALYZER)/bin/model-analyzer

docs: $(INSTALLED)
	@$(BIN)/python docs/build.py
	@$(MAKE) --no-print-directory docs-site

# A warning of Sphinx is an error: a broken link, a docstring that does not parse, or a cell of the
# notebook that fails. The notebook needs the model of the demo, and no Triton.
docs-site: $(INSTALLED) $(MODELS)
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build
	@echo "docs/_build/index.html"

# Clones repositories from GitHub. PLACES="OWNER/NAME=FOLDER ..." names those that are here.
PLACES ?=
public-sets: $(INSTALLED)
	@$(BIN)/python -m tests.public_sets $(PLACES)

bench-records: $(INSTALLED)
	@$(BIN)/python tests/benchmarks/million_records.py

# A Monte Carlo with fixed seeds; about 30 minutes on one core. It writes the tables of the document.
bench-decisions: $(INSTALLED)
	@$(BIN)/python -m tests.benchmarks.decisions --into docs/decisions.md

venv: $(INSTALLED)

# Private names of Dask are used: what is tested is the newest release that pyproject.toml allows,
# also in an environment that was made long ago.
newest: $(INSTALLED)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --upgrade --editable . \
	    dask distributed dask-jobqueue
	@$(BIN)/python -m pip list --disable-pip-version-check | grep -iE "^(dask|distributed)"

# Debian packages that tests need. Those that cannot be had are tried again where they are used, or
# tests are skipped.
packages:
	@[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || lacking="python3-venv"; \
	command -v mmdebstrap >/dev/null || lacking="$$lacking mmdebstrap debian-archive-keyring"; \
	command -v chromium >/dev/null || lacking="$$lacking chromium"; \
	[ -z "$$lacking" ] || \
	    { apt-get update -q && apt-get install -y -q --no-install-recommends $$lacking; } || \
	    echo "could not be installed: $$lacking" >&2

native:
	@test -n "$(PYTHON)" || { $(NO_PYTHON); }
	@$(PYTHON) containers/native.py $(NATIVE) $(addprefix --with ,$(WITH))

images: $(INSTALLED)
	@$(BIN)/python containers/images.py $(IMAGES)

# What runs campaigns, and no linter, test tool or driver of a browser: the demo waits for no more.
$(RUNS): pyproject.toml
	@test -n "$(PYTHON)" || { $(NO_PYTHON); }
	@echo "setting up $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || [ "$$(id -u)" != 0 ] || \
	    ! command -v apt-get >/dev/null || \
	    { apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv; }
	@$(PYTHON) -m venv $(VENV) || { echo "this Python cannot make virtual environments;" \
	    "on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 3; }
	@[ -t 1 ] || quiet=--quiet; $(BIN)/python -m pip install --disable-pip-version-check $$quiet \
	    --editable '.[analysis,demo]'
	@touch $@

$(INSTALLED): $(RUNS)
	@[ -t 1 ] || quiet=--quiet; $(BIN)/python -m pip install --disable-pip-version-check $$quiet \
	    --editable '.[analysis,demo,dev]'
	@touch $@

$(MODELS): jobs/demo/make_model.py $(RUNS)
	@$(BIN)/python jobs/demo/make_model.py jobs/demo/models

clean:
	rm -rf $(VENV) $(NATIVE) $(IMAGES) jobs/demo/models .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
