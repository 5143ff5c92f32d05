import sys
import types

import pytest
import torch

from llama_platform.device import CPU
from llama_platform.errors import InputError
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.make_engine import engine_kind, make_engine
from llama_platform.inference.torch_engine.engine import TorchEngine
from llama_platform.models.base_model import load_template

GPU = torch.device("cuda", 0)


def test_the_own_engine_is_the_default_on_a_cpu(tiny_config):
    tokenizer = load_template(tiny_config).tokenizer
    assert isinstance(make_engine(tiny_config, tokenizer, 1, EngineConfig(kv_cache_mib=16)), TorchEngine)


@pytest.mark.parametrize(
    ("kind", "device", "expected"),
    [("auto", CPU, "torch"), ("auto", GPU, "vllm"), ("torch", CPU, "torch"), ("vllm", CPU, "vllm")],
)
def test_the_device_decides_unless_the_configuration_does(kind, device, expected):
    assert engine_kind(EngineConfig(kind=kind), device) == expected


def test_the_own_engine_is_refused_on_a_gpu():
    with pytest.raises(InputError, match="computes on a CPU"):
        engine_kind(EngineConfig(kind="torch"), GPU)


def test_vllm_that_is_not_installed_is_named(tiny_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(InputError, match="vllm"):
        make_engine(tiny_config, load_template(tiny_config).tokenizer, 1, EngineConfig(), GPU)


def test_vllm_takes_no_gpu_that_is_not_assigned(tiny_config, monkeypatch):
    parts = {
        name: types.ModuleType(f"vllm.{name}") for name in ("engine.arg_utils", "platforms", "v1.engine.async_llm")
    }
    parts["engine.arg_utils"].AsyncEngineArgs = parts["v1.engine.async_llm"].AsyncLLM = None
    parts["platforms"].current_platform = types.SimpleNamespace(is_cuda=lambda: True)
    for name, module in {"vllm": types.ModuleType("vllm"), **{f"vllm.{n}": m for n, m in parts.items()}}.items():
        monkeypatch.setitem(sys.modules, name, module)
    tokenizer = load_template(tiny_config).tokenizer
    with pytest.raises(InputError, match="assigned no GPU, and this build of vLLM would take one"):
        make_engine(tiny_config, tokenizer, 1, EngineConfig(kind="vllm"), CPU)


def test_settings_of_vllm_are_refused_by_the_own_engine(tiny_config):
    config = EngineConfig.model_validate({"vllm": {"max_loras": 2}})
    with pytest.raises(InputError, match=r"engine\.vllm: is for vLLM"):
        make_engine(tiny_config, load_template(tiny_config).tokenizer, 1, config)
