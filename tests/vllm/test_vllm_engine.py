"""The engine contract on vLLM; run by `make test-vllm` in an environment where vLLM is installed."""

import pytest

from engine_contract import EngineContract, ModelContract
from llama_platform.inference.config import EngineConfig


@pytest.fixture(scope="module")
def engine(tiny_config, tiny_template):
    from llama_platform.inference.vllm_engine import VllmEngine

    config = EngineConfig(max_running=8, kv_cache_mib=256, max_adapter_rank=16)
    return VllmEngine(tiny_config, tiny_template.tokenizer, config)


class TestVllmEngine(EngineContract, ModelContract):
    """The contract, on vLLM."""

    scores_prompts = False  # not on the CPU
