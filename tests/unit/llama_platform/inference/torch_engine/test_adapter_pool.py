import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from llama_platform.errors import IntegrityError, UnavailableError
from llama_platform.inference.torch_engine.adapter_pool import AdapterPool, read_adapter
from llama_platform.inference.torch_engine.architecture import read_architecture
from torch_models import on_kernels


@pytest.fixture
def adapter(folder, tmp_path):
    from peft import LoraConfig, get_peft_model

    base = LlamaForCausalLM.from_pretrained(folder)
    config = LoraConfig(r=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(base, config).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use_dora": True}, "use_dora"),
        ({}, "rank 8; at most 4 are served"),
        ({"r": 4}, r"is \[8, 320\], which does not fit the rank 4"),
        ({"peft_type": "IA3"}, "IA3"),
    ],
)
def test_adapters_of_other_kinds_are_refused_by_name(folder, adapter, change, words):
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(IntegrityError, match=words):
        read_adapter(adapter, read_architecture(folder), max_rank=4)


@pytest.mark.parametrize("damage", ["other layer", "half"])
def test_adapters_that_do_not_fit_are_refused(folder, adapter, damage):
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "layers.2" in name and "lora_A" in name)
    value = tensors.pop(name)
    if damage == "other layer":
        tensors[name.replace("layers.2", "layers.9")] = value
    save_file(tensors, path)
    with pytest.raises(IntegrityError, match="layers.9" if damage == "other layer" else "only one of its two"):
        read_adapter(adapter, read_architecture(folder), max_rank=64)


def test_an_adapter_that_two_load_at_once_takes_one_place(folder, adapter, monkeypatch):
    model = on_kernels(folder)
    pool = AdapterPool(model, 3 * model.pack_adapter(read_adapter(adapter, model.architecture, 64)).size_bytes, 64)
    for name in "abc":
        pool.load(name, adapter)
    both, pack = threading.Barrier(2), model.pack_adapter

    def meet(matrices):
        both.wait(20)  # neither has found it loaded
        return pack(matrices)

    monkeypatch.setattr(model, "pack_adapter", meet)
    with ThreadPoolExecutor(2) as threads:
        gone = list(threads.map(lambda _: pool.load("d", adapter), range(2)))
    assert sorted(gone) == [[], ["a"]]
    assert pool.digests() == ("b", "c", "d")


def test_the_adapter_unused_for_longest_gives_way_but_none_in_use(folder, adapter):
    model = on_kernels(folder)
    size = model.pack_adapter(read_adapter(adapter, model.architecture, 64)).size_bytes
    bank = AdapterPool(model, 2 * size, max_rank=64)
    assert bank.load("a", adapter) == []
    assert bank.load("b", adapter) == []
    bank.load("a", adapter)  # now the latest
    assert bank.load("c", adapter) == ["b"]
    bank.acquire("a")
    bank.acquire("c")
    with pytest.raises(UnavailableError, match="adapter_memory_mib"):
        bank.load("d", adapter)
    bank.unload("a")
    assert bank.digests() == ("c",)
    assert bank.size_bytes == 2 * size  # its request still runs
    bank.release("a")
    assert bank.size_bytes == size
