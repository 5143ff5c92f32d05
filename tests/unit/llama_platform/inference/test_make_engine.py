import sys

import pytest

from llama_platform.errors import InputError
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.make_engine import make_engine
from llama_platform.inference.torch_engine.engine import TorchEngine
from llama_platform.models.base_model import load_template


def test_the_own_engine_is_the_default(tiny_config):
    tokenizer = load_template(tiny_config).tokenizer
    assert isinstance(make_engine(tiny_config, tokenizer, 1, EngineConfig(kv_cache_mib=16)), TorchEngine)


def test_vllm_that_is_not_installed_is_named(tiny_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(InputError, match="vllm"):
        make_engine(tiny_config, load_template(tiny_config).tokenizer, 1, EngineConfig(kind="vllm"))
