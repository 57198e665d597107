# Two commands to begin with: `make demo` and `make test`. Both run `make setup` first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIPELINE := configs/demo/pipeline.yaml

# The environment of the GPU build (10 GB). PyPI's torch is a CUDA build, so the install names no index and no backend.
# VLLM=0.24.0 tests that version instead of the one in constraints-gpu.txt.
VLLM :=
GPU_VENV := .venv-gpu$(if $(VLLM),-$(VLLM))
GPU_BIN := $(GPU_VENV)/bin
GPU_INSTALLED := $(GPU_VENV)/.installed
GPU_VERSIONS := $(if $(VLLM),vllm==$(VLLM),--constraint constraints-gpu.txt)

# The test files that use a marker, so that pytest does not import all files to find a few tests.
marked = $(sort $(shell grep -rlw --include='test_*.py' 'mark.$(1)' tests))

LATEST_BIN := .venv-latest/bin
TESTS :=

# PIP_FIND_LINKS may name a directory with the CPU build of torch. Without it, uv takes the CPU build from PyTorch's index.
export UV_FIND_LINKS := $(PIP_FIND_LINKS)
TORCH_BACKEND := $(if $(PIP_FIND_LINKS),,--torch-backend=cpu)

# The tests start hundreds of Python processes. Without bytecode files, each of them would compile this checkout again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-pipeline demo-s3 test test-slow test-models test-fast test-s3 stores test-latest test-gpu-build gpu-check docs bench chaos fuzz \
	lint format dist constraints constraints-gpu clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(INSTALLED) ## create .venv with everything the demo and the tests need (CPU)

$(INSTALLED): pyproject.toml constraints.txt configs/deploy/cpu-overrides.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode $(TORCH_BACKEND) --constraint constraints.txt \
		--override configs/deploy/cpu-overrides.txt --editable '.[cpu,retrieval,demo,dev]'
	touch $(INSTALLED)

demo: setup ## rerank the demo collection with a real (tiny) LLM in vLLM on the CPU, through Ray Data
	$(BIN)/corpus-reranker dev demo

demo-pipeline: setup ## retrieve, rerank, evaluate and export the demo collection, from one config
	rm -rf out/demo-pipeline
	$(BIN)/corpus-reranker dev demo-model
	$(BIN)/corpus-reranker retrieve --config $(PIPELINE)
	$(BIN)/corpus-reranker rerank --config $(PIPELINE)
	$(BIN)/corpus-reranker evaluate --config $(PIPELINE)
	$(BIN)/corpus-reranker export --config $(PIPELINE)

demo-s3: setup ## run the demo with input and output on a local S3 server
	PYTHONPATH=tests $(BIN)/python tests/demo_s3.py

# Real models run last, on their own, because they need both cores.
test: setup ## run the test suite without the slow tests; seven minutes on two cores
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not vllm and not slow"
	$(BIN)/python -m pytest -m "vllm and not slow" $(call marked,vllm)

# Two workers: a test here runs a whole job or a cluster, and Ray gives a node 15 s to start its agent.
test-slow: setup ## run the slow tests (clusters, faults, resumed runs, training); ten minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "slow and not vllm" $(call marked,slow)

test-models: setup ## run a job and `vllm serve` with real models; four minutes on two cores
	$(BIN)/python -m pytest -m "slow and vllm" $(call marked,vllm)

# Three workers for two cores, because some tests wait: for a time limit, a retry or a subprocess.
test-fast: setup ## run the quick tests only: no Ray, no vLLM, no S3 server, no whole jobs
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not ray and not vllm and not s3 and not slow"

test-s3: setup ## run the S3 tests on another store: make test-s3 ENDPOINT=http://host:port, credentials in AWS_* variables
	RERANKER_TEST_S3_ENDPOINT=$(or $(ENDPOINT),$(error set ENDPOINT=http://host:port)) $(BIN)/python -m pytest -m "s3 and not vllm"

stores: setup ## print the table of S3 stores (docs/stores.md); ENDPOINT=http://host:port adds a store
	RERANKER_TEST_S3_ENDPOINT=$(ENDPOINT) PYTHONPATH=tests $(BIN)/python tests/store_table.py

test-latest: ## run the tests on the newest versions that pyproject.toml allows, in .venv-latest; TESTS="tests/dataflow"
	test -x $(LATEST_BIN)/python || $(PYTHON) -m venv .venv-latest
	$(LATEST_BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=.venv-latest $(LATEST_BIN)/uv pip install --quiet --upgrade $(TORCH_BACKEND) \
		--override configs/deploy/cpu-overrides.txt --editable '.[cpu,retrieval,demo,dev]'
	$(LATEST_BIN)/python -m pytest $(TESTS)

test-gpu-build: $(GPU_INSTALLED) ## test the CUDA build of vLLM on driver stubs, without a GPU, in .venv-gpu (10 GB)
	$(GPU_BIN)/python -m pytest -c tests/gpu_build/pytest.ini tests/gpu_build

$(GPU_INSTALLED): pyproject.toml constraints-gpu.txt
	test -x $(GPU_BIN)/python || $(PYTHON) -m venv $(GPU_VENV)
	$(GPU_BIN)/python -m pip install --quiet --disable-pip-version-check uv
	UV_FIND_LINKS= VIRTUAL_ENV=$(GPU_VENV) $(GPU_BIN)/uv pip install --quiet $(GPU_VERSIONS) \
		--editable '.[gpu,cluster,test-gpu-build]'
	touch $(GPU_INSTALLED)

gpu-check: $(GPU_INSTALLED) ## check a machine with a GPU: windows/s relative to the GPU's limit, then the whole job; ten minutes
	PYTHONPATH=pipeline:tests $(GPU_BIN)/python -m gpu_check $(ARGUMENTS)

bench: setup ## measure throughput, scale and size (docs/throughput.md), with results in out/benchmarks; takes hours
	$(BIN)/python tests/benchmarks/saturation.py
	$(BIN)/python tests/benchmarks/peers.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/endpoint_concurrency.py
	$(BIN)/python tests/benchmarks/scale.py
	$(BIN)/python tests/benchmarks/size.py
	$(BIN)/python tests/benchmarks/memory.py ids
	$(BIN)/python tests/benchmarks/memory.py candidates
	$(BIN)/python -m pytest tests/benchmarks/test_microbenchmarks.py --benchmark-only --benchmark-timer=time.process_time -o addopts=""

chaos: setup ## inject faults into runs at random moments (docs/guarantees.md); an hour
	PYTHONPATH=tests $(BIN)/python tests/chaos/chaos.py
	PYTHONPATH=tests $(BIN)/python tests/chaos/replica_faults.py
	PYTHONPATH=tests $(BIN)/python tests/chaos/paused_driver.py
	PYTHONPATH=tests $(BIN)/python tests/chaos/paused_command.py

fuzz: setup ## run long property tests of the answer parsers, the prompt templates and the input readers
	$(BIN)/python -m pytest --hypothesis-profile=fuzz --timeout=0 tests/answers tests/prompts \
		tests/io/sources tests/io/test_schemas.py

lint: setup ## check with ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=pipeline $(BIN)/lint-imports

format: setup ## format the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## build the documentation site into out/site
	PYTHONPATH=pipeline $(BIN)/mkdocs build --strict

dist: setup ## build wheel and sdist into dist/
	$(BIN)/python -m hatchling build

constraints: setup ## resolve constraints.txt again
	$(BIN)/uv pip compile --quiet --no-header --no-annotate $(TORCH_BACKEND) pyproject.toml --extra cpu --extra retrieval \
		--extra demo --extra dev --override configs/deploy/cpu-overrides.txt --output-file constraints.txt

constraints-gpu: setup ## resolve constraints-gpu.txt again, for the environments in pyproject.toml
	UV_FIND_LINKS= $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
		pyproject.toml --extra gpu --extra cluster --extra test-gpu-build --output-file constraints-gpu.txt

clean: ## remove the environment, caches and outputs
	rm -rf $(VENV) .venv-gpu* .cache out dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
