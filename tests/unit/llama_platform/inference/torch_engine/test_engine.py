import pytest

from engine_contract import EngineContract
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.torch_engine.engine import TorchEngine


@pytest.fixture(scope="module")
def engine(tiny_config, tiny_template):
    return TorchEngine(tiny_config, tiny_template.tokenizer, threads=1, config=EngineConfig(max_running=8))


class TestTorchEngine(EngineContract):
    """The contract, on the CPU kernels."""
