# `make help` lists the targets.  `make demo` and `make test` need nothing but Python 3.11 and make: each
# makes its own virtual environment with everything declared in pyproject.toml.

PYTHON ?= python3.11
DEMO   := .venv-demo
TEST   := .venv-test
PEERS  := .venv-peers
PADDLE := .venv-paddle
ORTAPI := .venv-ort-api
STOCK  := .venv-stock
# `make check` and friends run in the present environment.
ENV    ?= $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV)/bin/,)
PY     := $(ENV)python

export TVM_BIND_THREADS := 0

.DEFAULT_GOAL := help
.PHONY: help demo test check lint typecheck pytest golden conformance stock other-pythons bench bench-steps bench-peers docs types mutants-privacy ort-api nightly wheel clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

$(DEMO)/.done: pyproject.toml
	$(PYTHON) -m venv --clear $(DEMO)
	$(DEMO)/bin/pip install --quiet --disable-pip-version-check -e '.[examples]'
	@touch $@

demo: $(DEMO)/.done ## Set up, then compile and train the digits models through the command line
	$(DEMO)/bin/python examples/demo.py

$(TEST)/.done: pyproject.toml
	$(PYTHON) -m venv --clear $(TEST)
	$(TEST)/bin/pip install --quiet --disable-pip-version-check -e '.[test,examples,plot,data,tensorboard,cuda]'
	@touch $@

test: $(TEST)/.done ## Set up, then run every check: ruff, pyright, pytest with doctests and examples
	$(MAKE) check ENV=$(CURDIR)/$(TEST)/bin/

check: lint typecheck pytest ## The same checks in the present environment

lint: ## Style and common mistakes (ruff)
	$(ENV)ruff check .
	$(ENV)ruff format --check .

typecheck: types ## Types (pyright: strict on compiler/ and runtime/)
	$(ENV)pyright --pythonpath $(PY)

pytest: ## The tests, two at a time
	$(PY) -m pytest -q -n 2 --dist loadscope -m 'not nightly'

types: ## Links through which pyright resolves `fluidc.*`
	@mkdir -p .types/fluidc
	@for room in compiler frontend runtime; do ln -sfn ../../$$room .types/fluidc/$$room; done

golden: ## Rewrite the golden files; read the diff before committing it
	$(PY) -m pytest -q -m 'not nightly' --update-golden tests

$(PEERS)/.done: Makefile
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check torch opacus jax
	@touch $@

$(PADDLE)/.done: Makefile
	$(PYTHON) -m venv --clear $(PADDLE)
	$(PADDLE)/bin/pip install --quiet --disable-pip-version-check paddlepaddle==2.6.2 'setuptools<80'
	@touch $@

# Both packages of ONNX Runtime install the same folder, so the one that is not declared gets an environment of its own.
$(STOCK)/.done: pyproject.toml Makefile
	$(PYTHON) -m venv --clear $(STOCK)
	$(STOCK)/bin/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	    needed = [*p['dependencies'], *p['optional-dependencies']['test'], *p['optional-dependencies']['examples']]; \
	    print(*(line for line in needed if not line.startswith('onnxruntime')), 'onnxruntime>=1.31', sep='\n')" \
	    > $(STOCK)/requirements.txt
	$(STOCK)/bin/pip install --quiet --disable-pip-version-check -r $(STOCK)/requirements.txt
	$(STOCK)/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

stock: $(STOCK)/.done ## Set up with the onnxruntime that has no training ops, then run the tests of ONNX
	$(STOCK)/bin/python -m pytest -q -m 'not nightly' -k onnx tests

other-pythons: ## Run bundles on the other versions of Python that are installed here
	@for version in 3.12 3.13 3.14; do \
	  command -v python$$version > /dev/null && python$$version -c '' 2> /dev/null || continue; \
	  python$$version -m venv --clear .venv-$$version && .venv-$$version/bin/pip install --quiet \
	    --disable-pip-version-check numpy && found="$$found:$(CURDIR)/.venv-$$version/bin/python"; \
	done; FLUIDC_OTHER_PYTHONS="$$found" $(PY) -m pytest -q tests/e2e/test_bundle_alone.py

gpu: ## On a machine with a GPU: every op case and model on it, and steps beside PyTorch's; takes many minutes
	rm -rf build/gpu && mkdir -p build
	$(PY) benchmarks/gpu_kit.py build/gpu
	$(PY) build/gpu/gpu.py --out benchmarks/results/gpu.json

conformance: ## onnx's backend cases through import, the cpu and ONNX Runtime; writes docs/onnx_ops.md
	$(PY) tests/onnx_conformance.py --write

bench-peers: $(PEERS)/.done $(PADDLE)/.done ## Install what steps are compared with: PyTorch, Opacus, JAX; Paddle (several GB)

bench: ## Benchmarks: ratios to peers in one run, as JSON in benchmarks/results
	$(PY) benchmarks/run.py

bench-steps: ## Only the training steps; README's table is made of them
	$(PY) benchmarks/steps.py

docs: ## Check that the documents' commands and links hold
	$(PY) -m pytest -q tests/test_docs.py

$(ORTAPI)/.done: pyproject.toml
	$(PYTHON) -m venv --clear $(ORTAPI)
	$(ORTAPI)/bin/pip install --quiet --disable-pip-version-check -e . torch
	@touch $@

ort-api: $(ORTAPI)/.done ## Set up with torch, then train on-device artifacts by onnxruntime.training.api
	PYTHONPATH=tests/support $(ORTAPI)/bin/python tests/ort_api.py

mutants-privacy: ## Break the private mechanism in every listed way; each must be noticed
	$(PY) tests/privacy/mutants.py

nightly: ## The long audits: statistical tests with fresh keys, mutants of the rules and of the mechanism
	$(PY) -m pytest -q -m nightly
	$(PY) tests/privacy/mutants.py
	$(PY) tests/mutants.py
	TVM_NUM_THREADS=1 $(PY) tests/mutants.py --cpu
	$(PY) tests/mutants.py --onnx

wheel: ## Build the wheel into dist/
	rm -rf build dist
	$(PY) -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## Remove what the targets above made
	rm -rf $(DEMO) $(TEST) $(PEERS) $(PADDLE) $(ORTAPI) $(STOCK) .venv-3.* .types build dist demo
