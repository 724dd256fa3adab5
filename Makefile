# `make lab` opens the tutorial, `make test` checks it. Both create .venv first. `make help` lists the rest.
PYTHON ?= $(shell command -v python3.12 || command -v python3.11 || echo python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
UV     := $(shell command -v uv 2>/dev/null)
GPU    := $(shell nvidia-smi -L 2>/dev/null | head -n 1)

# uv finds wheels in the folders that pip is told of; where there are none and no GPU, it takes
# PyTorch's small CPU build (pip would take the one with CUDA: see the README).
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
ifeq ($(strip $(GPU)$(UV_FIND_LINKS)),)
export UV_TORCH_BACKEND ?= cpu
endif

.PHONY: help lab test lint format notebooks bench clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

lab: $(VENV)/.ready ## open the tutorial in JupyterLab (on loopback, with a token)
	$(BIN)/jupyter lab --ip=127.0.0.1 --notebook-dir=notebooks $(LAB)

test: lint ## lint, then run all tests, notebooks included
	$(BIN)/python -m pytest --nbval --nbval-current-env --nbval-cell-timeout=300 \
	  --nbval-sanitize-with=tests/nbval_sanitize.cfg $(TESTS)

lint: $(VENV)/.ready ## check style, format, types and that notebooks are clean
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/nbstripout --verify --keep-output --keep-count notebooks/*.ipynb

format: $(VENV)/.ready ## format the code and clean the notebooks
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/nbstripout --keep-output --keep-count notebooks/*.ipynb

notebooks: $(VENV)/.ready ## run the notebooks again and keep their outputs
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb
	$(BIN)/nbstripout --keep-output --keep-count notebooks/*.ipynb

bench: $(VENV)/.ready ## measure our paths against eager, torch.compile and the matrix product alone
	$(BIN)/python benchmarks/paths.py

clean: ## remove the virtual environment
	rm -rf $(VENV)

$(VENV)/.ready: pyproject.toml constraints.txt requirements-tensorrt.txt
ifdef UV
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip install --quiet --python $(BIN)/python -c constraints.txt -e . --group dev $(if $(GPU),-r requirements-tensorrt.txt)
else
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet -c constraints.txt -e . --group dev $(if $(GPU),-r requirements-tensorrt.txt)
endif
	touch $@
