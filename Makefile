# Everyday targets. `make demo` and `make test` do all their own set-up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
READY := $(VENV)/.ready

.PHONY: demo test lint types unit coverage presets faults bench bars sbom audit quick clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "doodle_dist needs Python 3.11 or newer"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

# Made-up drawings in, a classifier and a conditional GAN out, with two workers. No data to fetch, no GPU.
demo: $(READY)
	BIN=$(BIN) DEMO=$(DEMO) sh benchmarks/demo.sh

test: lint types unit

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

# A file's tests stay together, which share a Ray and datasets, and in the order of their names, but for the longest
# (tests/conftest.py): the long ones come first. JOBS: how many files at a time.
JOBS ?= 2
# Bytecode is kept even where the environment says not to: it is read by a hundred processes, and by the next run.
export PYTHONDONTWRITEBYTECODE :=
PYTEST := $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
unit: $(READY)
	$(PYTEST) --durations=10

# All tests again, counting the lines of the package that they run, here and in every process that they start, those of
# Ray too; an error below the floor of pyproject.toml. From Python 3.12 on, COVERAGE_CORE=sysmon has it take little longer
# than `make unit`; without, hours.
coverage: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt 'coverage>=7.13'
	rm -rf .coverage-of && mkdir .coverage-of
	$(BIN)/coverage run -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Every preset, small and short, through Ray Train with two workers: about fifteen minutes.
presets: $(READY)
	$(BIN)/pytest -n 2 tests/cluster/test_presets.py -m 'presets or not presets'

# The fault table: several hosts on this machine (Linux, root), broken in turn. Prints the times to recover.
# An hour to an hour and ten minutes; DOODLE_SOAK_MINUTES shortens the soak.
faults: $(READY)
	$(BIN)/pytest -m faults tests/cluster/faults

# Measures every bar of speed on this machine (half an hour; the cores should have nothing else to do), and prints the
# table of them. The other loaders and rasterisers are an extra: $(BIN)/pip install '.[bench]'
RESULTS := benchmarks/results
bench: $(READY)
	$(BIN)/doodle-dist bench raster -o $(RESULTS)/raster.json
	$(BIN)/doodle-dist bench growth -o $(RESULTS)/growth.json
	$(BIN)/doodle-dist bench prepare -o $(RESULTS)/prepare-0.5M.json
	$(BIN)/doodle-dist bench prepare --drawings 4000000 -o $(RESULTS)/prepare-4M.json
	$(BIN)/doodle-dist bench loaders -o $(RESULTS)/loaders.json
	$(BIN)/doodle-dist bench process -o $(RESULTS)/process.json
	$(BIN)/doodle-dist bench train -o $(RESULTS)/train.json
	$(BIN)/doodle-dist bench start -o $(RESULTS)/start.json
	$(BIN)/doodle-dist bench scale -o $(RESULTS)/scale.json
	$(MAKE) bars

# The table of bars again, from the figures that were kept, and their page of plots.
bars: $(READY)
	$(BIN)/doodle-dist bench table --results $(RESULTS) --page $(RESULTS)/page.html

# What is installed, as CycloneDX, and what is known against it. The tools have an environment of their own.
TOOLS := $(VENV)-tools/.ready
$(TOOLS):
	$(PYTHON) -m venv $(VENV)-tools
	$(VENV)-tools/bin/python -m pip install --quiet cyclonedx-bom pip-audit
	touch $@

sbom: $(READY) $(TOOLS)
	$(VENV)-tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON \
		-o sbom.cdx.json $(BIN)/python

audit: $(TOOLS)
	$(VENV)-tools/bin/pip-audit --no-deps -r constraints.txt

# The inner loop: nothing that starts a cluster or takes long.
quick: $(READY)
	$(BIN)/ruff check .
	$(PYTEST) -q --hypothesis-profile=quick -m 'not cluster and not slow and not presets and not faults'

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
