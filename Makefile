# One word each. Needs python3 (3.11 or newer) with venv, gcc and make; everything else comes into build/ by pip.

PYTHON ?= python3
VENV = build/venv-dev
RUN = $(VENV)/bin/python -m

.PHONY: help demo test test-quick test-report core-test coverage mutate soak check-asan check-valgrind fuzz lint \
        types format bench bench-full bench-native bench-micro check-freethreaded check-memory check-tsan checked \
        clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo:  ## a year of flights by route and by day, and three ways to do it side by side
	@$(PYTHON) examples/start.py $(DEMO)

test:  ## every layer, everything fresh: lint, C core, sanitizers, Python, documents, types
	@$(PYTHON) tests/run.py

test-quick:  ## the C core and the Python tests, with what the last run left in build/
	@$(PYTHON) tests/run.py --quick

test-report:  ## what the layers and the campaigns counted when they last ran here, and at which commit
	@$(PYTHON) -m tests.campaigns report

core-test:  ## the C core alone: checked, then under the sanitizers
	@$(PYTHON) tests/run.py --quick core-checked core-asan-ubsan

coverage:  ## which lines and branches of the C core and of the Python the tests reach
	@$(PYTHON) -m tests.campaigns coverage $(COVERAGE)

mutate:  ## one small change to the C core at a time: do its tests notice? An hour, or MUTATE="--minutes 5"
	@$(PYTHON) -m tests.campaigns mutate $(MUTATE)

soak:  ## ten minutes of random operations with fresh seeds, release and checked build by turns
	@$(PYTHON) -m tests.campaigns soak $(SOAK)

check-asan:  ## all Python tests on a build with the address and undefined behaviour sanitizers
	@$(PYTHON) -m tests.campaigns asan $(ASAN)

check-valgrind:  ## views, scans and blocks, and the C core, under valgrind
	@$(PYTHON) -m tests.campaigns valgrind $(VALGRIND)

fuzz:  ## five minutes of libFuzzer and atheris; FUZZ="fuzz_ops --minutes 60" for more of one
	@$(PYTHON) -m tests.campaigns fuzz $(FUZZ)

lint:  ## looks of every file
	@$(PYTHON) tests/run.py --quick lint

types:  ## mypy --strict and stubtest
	@$(PYTHON) tests/run.py --quick types

format: $(VENV)/ready  ## put every file into its looks
	$(RUN) ruff check --fix --exit-zero --quiet .
	$(RUN) ruff format --quiet .
	find src tests/core -name '*.[ch]' -exec $(VENV)/bin/clang-format -i {} +

bench: $(VENV)/ready  ## the map, its rivals and the floor in under ten minutes: tables, JSON and a page in build/bench/
	@$(MAKE) --no-print-directory bench-native || echo "the C level is left out: it needs a C++ compiler"
	$(RUN) pip install --quiet --disable-pip-version-check --group bench
	$(RUN) pip install --quiet --no-deps --no-build-isolation --force-reinstall .
	$(RUN) bench run --quick --json build/bench/quick.json --html build/bench/quick.html $(BENCH)

bench-full: $(VENV)/ready  ## the same up to 1e7 keys, an hour or more
	$(RUN) pip install --quiet --disable-pip-version-check --group bench
	$(RUN) pip install --quiet --no-deps --no-build-isolation --force-reinstall .
	$(RUN) bench run --json build/bench/full.json --html build/bench/full.html $(BENCH)

bench-native: $(VENV)/ready  ## builds the C level of the bench: the core against absl, boost and Go, as far as they are there
	@$(VENV)/bin/cmake -S bench/native -B build/bench-native -DCMAKE_BUILD_TYPE=Release | grep -E 'takes part|left out'
	@$(VENV)/bin/cmake --build build/bench-native --parallel 2 > /dev/null

bench-micro: $(VENV)/ready  ## pytest-benchmark on single calls, and the bench's own tests; JSON kept in build/bench/micro
	$(RUN) pip install --quiet --disable-pip-version-check --group bench
	$(RUN) pip install --quiet --no-deps --no-build-isolation --force-reinstall .
	$(RUN) pytest bench

check-freethreaded:  ## the Python suite without a GIL: by INTARRAYMAP_FREETHREADED=python3.14t, or one built into build/freethreaded
	@$(PYTHON) -m tests.campaigns freethreaded $(FREETHREADED)

check-memory:  ## memory refused at every request, for every operation on every kind of map
	@$(PYTHON) -m tests.campaigns memory $(MEMORY)

check-tsan:  ## the C core's own tests under ThreadSanitizer, those with threads ten times
	@$(PYTHON) -m tests.campaigns tsan $(TSAN)

checked: $(VENV)/ready  ## a checked build into build/venv-dev: every invariant after each write
	INTARRAYMAP_CHECKED=1 $(RUN) pip install --quiet --no-deps --no-build-isolation --force-reinstall .

clean:  ## all that was made
	rm -rf build dist .pytest_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -exec rm -rf {} +

# The environment for daily work; made anew when the dependencies change.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(RUN) pip install --quiet --disable-pip-version-check --group dev
	touch $@
