# Two commands do it all: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export DAGSTER_HOME ?= $(CURDIR)/.dagster_home

# What Blender and OpenCV load; the GL ones are for EEVEE.
LIBRARIES := libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libglib2.0-0 libgomp1 libxkbcommon0 libsm6 libxi6 libxrender1 libxxf86vm1 libxfixes3

.PHONY: setup system-packages demo demo-remote docs test test-fast coverage soak dev bench bench-casting bench-remote bench-variants prove-gate test-diffusers test-people lint test-packages clean

setup: system-packages $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed; name it with PYTHON=…"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	# Compiled now and by all cores: where Python may not write bytecode, each command would else spend seconds on it.
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.[dev]'
	touch $@

system-packages:
	@PACKAGES="$(LIBRARIES)" sh tools/system_packages.sh

# What single tests need; elsewhere those skip and say so.
test-packages:
	@OPTIONAL=1 PACKAGES="chromium postgresql" sh tools/system_packages.sh

demo: setup
	@$(BIN)/posefactory demo

# The same on a simulated bucket and simulated pods: nothing is rented, no key is needed.
demo-remote: setup
	@$(BIN)/python -m tools.rehearse_remote

dev: setup
	@$(BIN)/posefactory dev

# The site in build/site, links checked.
docs: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[docs]'
	$(BIN)/python -m typer posefactory_dagster.cli.app utils docs --name posefactory --output docs/reference.md
	$(BIN)/mkdocs build --strict --quiet
	@echo "open build/site/index.html"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases benchmarks tools
	$(BIN)/lint-imports

# The habit of every change: what needs no other process, in under a minute.
test-fast: setup lint
	$(BIN)/pytest -n 2 -m 'unit and not soak'

# What of the code the tests run, branches included; child processes and Blender's own scripts count as far as they are imported here.
coverage: setup test-packages
	$(BIN)/pytest -n 3 --dist loadgroup -m 'not soak' --cov --cov-report=term:skip-covered

test: setup test-packages lint
	$(BIN)/pytest -n 3 --dist loadgroup -m 'not soak'

# In an environment of its own, as torch is large.
test-diffusers: setup
	test -x $(VENV)-diffusers/bin/python || $(PYTHON) -m venv $(VENV)-diffusers
	$(VENV)-diffusers/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,diffusers]'
	$(VENV)-diffusers/bin/pytest -n 2 tests/variants/test_diffusion.py tests/variants/test_diffusion_pods.py

# In an environment of its own, as torch is large: people are built, measured, dressed.
test-people: setup
	test -x $(VENV)-people/bin/python || $(PYTHON) -m venv $(VENV)-people
	$(VENV)-people/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,people]'
	$(VENV)-people/bin/pytest -n 2 tests/people

soak: setup test-packages
	$(BIN)/pytest -m soak -s

# The error of casts, over the motions that ship.
bench-casting: setup
	$(BIN)/python benchmarks/casting.py

bench: setup
	$(BIN)/python benchmarks/run.py

bench-variants: setup
	$(BIN)/python benchmarks/variants.py

prove-gate: setup
	$(BIN)/python benchmarks/gate/prove.py --seed 1

bench-remote: setup
	$(BIN)/python benchmarks/remote.py

clean:
	rm -rf $(VENV) .dagster_home build
