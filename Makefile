# `make lab` opens the tutorial, `make test` checks it. Both create .venv first. `make help` lists the rest.
# The first Python that runs here and is 3.11 or 3.12; `setup` says what to do where there is none.
PYTHON ?= $(or $(shell for p in python3 python3.12 python3.11; do \
            $$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; \
          done),python3)
RUN    := $(if $(shell command -v $(firstword $(PYTHON)) 2>/dev/null),$(PYTHON),uv run --no-project --python 3.12 python)
VENV   ?= .venv
BIN    := $(VENV)/bin

# Choices, which are remembered: TENSORRT=standard or rtx, which TensorRT a machine with an NVIDIA GPU gets; ENGINES=0
# leaves out what builds TensorRT engines without a GPU (100 MB to download, under NVIDIA's licence); TORCH=2.13 or 2.14,
# which has several profiles in one engine and on Linux brings CUDA (6 GB). OFFLINE=FOLDER takes everything from a
# wheelhouse. tutorial_lib/cli/setup.py does the work.
SETUP := $(RUN) -m tutorial_lib setup --venv $(VENV) $(if $(TENSORRT),--tensorrt $(TENSORRT)) \
         $(if $(ENGINES),--engines $(ENGINES)) $(if $(TORCH),--torch $(TORCH)) $(if $(OFFLINE),--offline $(OFFLINE)) $(if $(WITH),--with $(WITH))

PYTEST := $(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 \
          --nbval-sanitize-with=tests/nbval_sanitize.cfg
# Three files at a time, since many tests wait for a process that starts; never a notebook in pieces. Each has half of the
# cores: with all of them, they would wait for each other. The notebooks, which take longest, come first.
HALF     := $(shell echo $$(( ($$(getconf _NPROCESSORS_ONLN) + 1) / 2 )))
THREE    := -n 3 --dist loadfile --no-loadscope-reorder
IN_THREE := OMP_NUM_THREADS=$(HALF) $(PYTEST) $(THREE)

.PHONY: help lab test test-2.14 test-slow test-long test-gpu mutants zoo lint format notebooks students bench docs wheelhouse clean

help: ## list the commands
	@grep -hE '^[a-z0-9.-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

lab: ## open the course in JupyterLab (STUDENT=1: without solutions; FRESH=1: begin anew)
	$(SETUP) $(if $(STUDENT),--student) $(if $(FRESH),--fresh) -- $(LAB)

# What builds the documentation, unless it is there.
DOCS_GROUP = $(BIN)/python -c 'import altair, furo, myst_nb, vl_convert' 2>/dev/null || $(SETUP) --group docs

test: lint ## lint, then run the tests and notebooks 00 to 06, without what is slow
	$(IN_THREE) -m "not slow" $(TESTS)

test-slow: $(VENV)/.ready ## run the slow tests, most of which wait for a C++ compiler, and notebooks 07 to 12
	-@$(DOCS_GROUP)
	$(IN_THREE) -m "slow and not long" $(TESTS)

# The tests whose engines Torch-TensorRT makes otherwise from version to version.
ENGINES_BY_TORCH = $(filter-out %_install.py %_worker.py %_command.py,$(wildcard tests/engines/test_engines_*.py)) \
                   tests/engines/test_builder.py tests/engines/test_report.py tests/engines/test_requests.py

# In an environment of its own beside the one of `make lab`. Nothing here uses the CUDA of its torch.
test-2.14: ## test profiles and TensorRT's engines with torch 2.14, which takes 6 GB of disk
	$(MAKE) --no-print-directory VENV=$(VENV)-2.14 TORCH=2.14 $(VENV)-2.14/.ready
	OMP_NUM_THREADS=$(HALF) $(VENV)-2.14/bin/python -m pytest $(THREE) -m "not slow" $(ENGINES_BY_TORCH)
	$(VENV)-2.14/bin/python -m pytest tests/engines/test_engines_several_profiles.py
	$(VENV)-2.14/bin/python -m pytest tests/builds/test_routed.py tests/upstream/test_faults.py

test-long: $(VENV)/.ready ## run what takes longest: engines of many more models, more convolutions
	$(IN_THREE) -m long tests

test-gpu: $(VENV)/.ready ## run every test and every notebook on a GPU; without one, this fails
	TUTORIAL_LIB_TEST_GPU=1 $(PYTEST)

mutants: $(VENV)/.ready ## check that the tests notice hand-made faults (ROOMS="core checks"; all by default)
	$(BIN)/python tests/mutants/run.py $(ROOMS)

zoo: $(VENV)/.ready ## compile models from outside on every path and judge them (goes on where it was stopped)
	@$(SETUP) --group zoo
	OMP_NUM_THREADS=1 $(BIN)/python tests/zoo/run_zoo.py $(ZOO)

lint: $(VENV)/.ready ## check style, format, types, imports and that notebooks are clean
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify --keep-output --keep-count notebooks/*.ipynb

format: $(VENV)/.ready ## format the code and clean the notebooks
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/nbstripout --keep-output --keep-count notebooks/*.ipynb

notebooks: $(VENV)/.ready ## run the notebooks again and keep their outputs
	TUTORIAL_LIB_RECORD=1 $(BIN)/jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb
	$(BIN)/nbstripout --keep-output --keep-count notebooks/*.ipynb

students: $(VENV)/.ready ## write the course without outputs and solutions into build/student
	$(BIN)/python tools/course.py build/student --student $(if $(FRESH),--fresh)

bench: $(VENV)/.ready ## measure our paths against eager, torch.compile, ONNX Runtime, OpenVINO and the matrix product
	@$(SETUP) --group bench
	$(BIN)/python benchmarks/paths.py
	$(BIN)/python benchmarks/timers.py
	$(BIN)/python benchmarks/builds.py
	$(BIN)/python benchmarks/studio.py --json benchmarks/recorded/studio.json
	$(BIN)/python benchmarks/coverage_of_intervals.py --live 300
	$(BIN)/python benchmarks/tables.py

docs: $(VENV)/.ready ## build the documentation as a site in build/docs (no notebook is run, no network is used)
	@$(DOCS_GROUP)
	$(BIN)/python tools/site/build.py

wheelhouse: $(VENV)/.ready ## put all that `make lab` needs into wheelhouse/; later, offline: make lab OFFLINE=wheelhouse
	@$(SETUP) --wheelhouse wheelhouse

clean: ## remove the virtual environment
	rm -rf $(VENV)

.PHONY: FORCE
FORCE:

# It returns at once where nothing changed since the last installation.
$(VENV)/.ready: FORCE
	@$(SETUP) --no-lab
