# `make` sets everything up in .venv; `make help` lists the rest. Works with GNU make 3.81 (macOS) and newer.

PYTHON  ?= python3
DATASET ?= toybox
JOBS    ?= 2

PY        := .venv/bin/python
READY     := .venv/.ready
DEV_READY := .venv/.ready-dev
NOTEBOOKS  = $(sort $(wildcard notebooks/*.ipynb)) $(sort $(wildcard notebooks/solutions/*.ipynb))

# uv finds a Python that is new enough by itself, unless PYTHON was set.
CHOSEN = $(if $(filter file,$(origin PYTHON)),,--python $(PYTHON))

# One resolution for everything, so torch and torchvision fit each other: $(call install,EXTRA)
define install
@if uv --version >/dev/null 2>&1; then uv="uv"; \
elif $(PYTHON) -m uv --version >/dev/null 2>&1; then uv="$(PYTHON) -m uv"; else uv=""; fi; \
set -e; \
if [ -n "$$uv" ]; then \
	[ -x $(PY) ] || $$uv venv --allow-existing $(CHOSEN) .venv; \
	$$uv pip install --compile-bytecode --python $(PY) --editable '.[$(1)]'; \
else \
	$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv; \
	$(PY) -m pip install --editable '.[$(1)]'; \
fi
@touch $@
endef

.PHONY: setup help demo test lab notebooks bench lint clean

setup: $(READY)          ## install the course into .venv (also what plain `make` does)

$(READY): pyproject.toml
	$(call install,test)
	@echo "Ready. 'make demo' shows the course at work; 'make help' lists the other commands."

$(DEV_READY): pyproject.toml $(READY)
	$(call install,dev)

help:                    ## list these commands
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/make \1|\2/' | awk -F'|' '{printf "%-15s %s\n", $$1, $$2}'

demo: $(READY)           ## run notebook 00 on Toybox and write out/00_start_here.html (DATASET=cifar10 for real pictures)
	@mkdir -p out
	COURSE_PROFILE=laptop $(PY) -m papermill --cwd notebooks -p DATASET $(DATASET) notebooks/00_start_here.ipynb out/00_start_here.ipynb
	$(PY) -m nbconvert --to html out/00_start_here.ipynb
	@echo "Open out/00_start_here.html"

test: $(READY)           ## run the unit tests and every notebook, in the smoke profile
	COURSE_PROFILE=smoke OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist loadfile \
		--nbval-lax --nbval-current-env tests notebooks

lab: $(READY)            ## open the notebooks in JupyterLab
	$(PY) -m jupyterlab notebooks

notebooks: $(READY)      ## execute every notebook in place, in the laptop profile, each from a fresh kernel
	@set -e; for notebook in $(NOTEBOOKS); do \
		COURSE_PROFILE=laptop TQDM_DISABLE=1 $(PY) -m nbconvert --to notebook --execute --inplace \
			--ExecutePreprocessor.record_timing=False $$notebook; \
	done

bench: $(DEV_READY)      ## measure speed and memory, beside other libraries
	@set -e; for script in tests/bench/*.py; do echo "== $$script"; $(PY) $$script; done

lint: $(DEV_READY)       ## check the style of code and notebooks
	$(PY) -m ruff check .

clean:                   ## remove what make demo and the tools wrote; .venv stays
	rm -rf out .pytest_cache .ruff_cache .hypothesis
	find course_lib tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} +
