# `make lab` opens the tutorial, `make test` checks it. Both create .venv first. `make help` lists the rest.
# The first Python that runs here and is 3.11 or 3.12.
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
            $$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; \
          done)
VENV   ?= .venv
BIN    := $(VENV)/bin
UV     := $(shell command -v uv 2>/dev/null)
GPU    := $(shell nvidia-smi -L 2>/dev/null | head -n 1)

# The two choices, which are remembered: TENSORRT=standard or rtx, which TensorRT a machine with an NVIDIA GPU gets;
# ENGINES=0 leaves out what builds TensorRT engines without a GPU (100 MB to download, under NVIDIA's licence).
CHOICES  := $(VENV)/.choices
TENSORRT ?= $(or $(word 1,$(shell cat $(CHOICES) 2>/dev/null)),standard)
ENGINES  ?= $(or $(word 2,$(shell cat $(CHOICES) 2>/dev/null)),1)
ifeq ($(filter $(TENSORRT),standard rtx),)
$(error TENSORRT is '$(TENSORRT)'; use standard or rtx)
endif
LINUX_X86 := $(filter Linux_x86_64,$(shell uname -s)_$(shell uname -m))
ifdef GPU
CARDS     := $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null)
RTX_CARDS := $(and $(LINUX_X86),$(filter 7.5 8.% 12.%,$(CARDS)))
endif

# uv finds wheels in the folders that pip is told of; where there are none and no GPU, it takes
# PyTorch's small CPU build (pip would take the one with CUDA: see the README).
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
ifeq ($(strip $(GPU)$(UV_FIND_LINKS)),)
export UV_TORCH_BACKEND ?= cpu
endif

PYTEST := $(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 \
          --nbval-sanitize-with=tests/nbval_sanitize.cfg
# Two files at a time, and never a notebook in pieces. Each has half of the cores: with all of them, both would wait for
# each other. The notebooks, which take longest, come first.
HALF   := $(shell echo $$(( ($$(getconf _NPROCESSORS_ONLN) + 1) / 2 )))
IN_TWO := OMP_NUM_THREADS=$(HALF) $(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help lab test test-slow test-long test-gpu mutants zoo lint format notebooks students write-course bench clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# A copy of the course to work in, so that running it changes no file of the checkout; what one worked in stays.
COURSE       := build/$(if $(STUDENT),student,course)
WRITE_COURSE  = $(BIN)/python tools/course.py $(COURSE) $(if $(STUDENT),--student) $(if $(FRESH),--fresh)

lab: $(VENV)/.ready ## open the course in JupyterLab (STUDENT=1: without solutions; FRESH=1: begin anew)
	$(WRITE_COURSE)
	$(BIN)/jupyter lab --ip=127.0.0.1 --notebook-dir=$(COURSE) --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	  --ContentsManager.hide_globs="['*.json','*.png','recorded','diagrams','__pycache__']" $(LAB)

test: lint ## lint, then run the tests, notebooks included, without the slowest
	$(IN_TWO) -m "not slow" $(TESTS)

test-slow: $(VENV)/.ready ## run the slow tests, most of which wait for a C++ compiler
	$(IN_TWO) -m "slow and not long" tests

test-long: $(VENV)/.ready ## build TensorRT's engines of many more models, without a GPU
	$(IN_TWO) -m long tests

test-gpu: $(VENV)/.ready ## run every test and every notebook on a GPU; without one, this fails
	TUTORIAL_LIB_TEST_GPU=1 $(PYTEST)

mutants: $(VENV)/.ready ## check that the tests notice hand-made faults (ROOMS="core checks"; all by default)
	$(BIN)/python tests/mutants/run.py $(ROOMS)

zoo: $(VENV)/.ready ## compile models from outside on every path and judge them (goes on where it was stopped)
	$(INSTALL) -c constraints.txt --group zoo
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
	$(MAKE) STUDENT=1 write-course

write-course: $(VENV)/.ready
	$(WRITE_COURSE)

bench: $(VENV)/.ready ## measure our paths against eager, torch.compile, ONNX Runtime, OpenVINO and the matrix product
	$(INSTALL) -c constraints.txt --group bench
	$(BIN)/python benchmarks/paths.py
	$(BIN)/python benchmarks/timers.py
	$(BIN)/python benchmarks/builds.py
	$(BIN)/python benchmarks/studio.py --json benchmarks/recorded/studio.json
	$(BIN)/python benchmarks/coverage_of_intervals.py --live 300

clean: ## remove the virtual environment
	rm -rf $(VENV)

ifdef UV
INSTALL   := $(UV) pip install --quiet --python $(BIN)/python
UNINSTALL := $(UV) pip uninstall --quiet --python $(BIN)/python
else
INSTALL   := $(BIN)/python -m pip install --quiet
UNINSTALL := $(BIN)/python -m pip uninstall --quiet --yes
endif

STANDARD_PACKAGES := torch-tensorrt tensorrt tensorrt-cu13 tensorrt-cu13-bindings tensorrt-cu13-libs
RTX_PACKAGES      := torch-tensorrt-rtx tensorrt-rtx tensorrt-rtx-cu13 tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs
# Both flavours own the module torch_tensorrt. Where the other one is installed, it goes first, and so does the module of
# this one, whose files it may have overwritten.
other_goes = if ls -d $(VENV)/lib/python3*/site-packages/$(1)-*.dist-info >/dev/null 2>&1; \
             then $(UNINSTALL) torch-tensorrt torch-tensorrt-rtx $(2); fi
install_standard = $(call other_goes,torch_tensorrt_rtx,$(RTX_PACKAGES)); $(INSTALL) -r requirements-tensorrt.txt
install_rtx      = $(call other_goes,torch_tensorrt,$(STANDARD_PACKAGES)); $(INSTALL) -r requirements-tensorrt-rtx.txt
rtx_instead      = echo "Data-centre TensorRT could not be installed; TensorRT for RTX, which runs here, comes instead." >&2; \
                   $(install_rtx)
no_tensorrt      = echo "warning: TensorRT could not be installed; everything but the backend tensorrt works without it." >&2

# Written only where a choice changes, so that only a change installs again.
$(CHOICES): FORCE
ifneq ($(and $(GPU),$(filter rtx,$(TENSORRT))),)
ifeq ($(RTX_CARDS),)
	@echo "error: TensorRT for RTX does not run on compute capability $(or $(sort $(CARDS)),unknown) ($(shell uname -m));" \
	  "use data-centre TensorRT there: make lab TENSORRT=standard" >&2; exit 2
endif
endif
	@mkdir -p $(VENV)
	@echo '$(TENSORRT) $(ENGINES)' | cmp -s - $@ || echo '$(TENSORRT) $(ENGINES)' > $@

.PHONY: FORCE
FORCE:

$(VENV)/.ready: pyproject.toml constraints.txt $(wildcard requirements-*.txt) \
                $(wildcard tutorial_lib/engines/requirements-*.txt) $(CHOICES)
ifdef UV
	$(UV) venv --quiet --allow-existing --python $(or $(PYTHON),3.12) $(VENV)
else
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or 3.12 is needed; install one, or uv, which brings its own." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade 'pip>=25.1'
endif
	$(INSTALL) -c constraints.txt -e . --group dev
ifneq ($(GPU),)
ifeq ($(TENSORRT),rtx)
	$(install_rtx) || $(no_tensorrt)
else
	$(install_standard) || $(if $(RTX_CARDS),{ $(rtx_instead); } ||) $(no_tensorrt)
endif
endif
ifneq ($(LINUX_X86),)
ifneq ($(ENGINES),0)
	$(BIN)/python -m tutorial_lib.engines install --optional
endif
endif
	touch $@
