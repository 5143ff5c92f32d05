import json

import psutil
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from llama_platform.errors import InputError
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.torch_engine import loader
from llama_platform.inference.torch_engine.architecture import read_architecture
from llama_platform.inference.torch_engine.free_memory import GIB, check_memory, free_memory, weight_bytes

LLAMA_7B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
}  # fmt: skip


@pytest.fixture
def seven(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_7B))
    return read_architecture(tmp_path)


@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_counted_as_transformers_has_them(tmp_path, tied):
    config = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=500, tie_word_embeddings=tied,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    numbers = sum(p.numel() for p in LlamaForCausalLM(config).parameters() if p.ndim > 1)
    assert weight_bytes(read_architecture(tmp_path), 2) == 2 * numbers


def test_what_does_not_fit_is_refused_with_the_sum_and_with_what_would(seven):
    told = {"adapters": GIB, "kv_cache": GIB // 2}
    check_memory(seven, 2, int8=False, free=16 * GIB, **told)
    with pytest.raises(InputError, match=r"12\.6 GiB of weights \(16 bits.*10\.0 GiB .*int8 takes 6\.\d GiB .* fits"):
        check_memory(seven, 2, int8=False, free=10 * GIB, **told)
    check_memory(seven, 2, int8=True, free=10 * GIB, **told)
    with pytest.raises(InputError, match="smaller base"):
        check_memory(seven, 2, int8=True, free=4 * GIB, **told)


def test_nothing_is_read_of_a_base_that_does_not_fit(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_7B))
    monkeypatch.setattr(loader, "free_memory", lambda: 8 * GIB)
    with pytest.raises(InputError, match="does not fit"):  # there are no weights: whoever reads them fails otherwise
        loader.load_model(tmp_path, "bfloat16", 1, EngineConfig())


def test_a_container_may_have_less_than_its_machine(tmp_path):
    machine = psutil.virtual_memory().available
    assert free_memory(tmp_path) == pytest.approx(machine, rel=0.2)
    files = {"memory.max": "1000000", "memory.current": "700000", "memory.stat": "anon 5\ninactive_file 100000\n"}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert free_memory(tmp_path) == 400_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) == pytest.approx(machine, rel=0.2)
