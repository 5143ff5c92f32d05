"""The two models step by step: kinds, captured decoding, int8, what they refuse."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from llama_platform.errors import InputError, IntegrityError, UnavailableError
from llama_platform.inference.torch_engine.adapter_pool import AdapterPool, read_adapter
from llama_platform.inference.torch_engine.architecture import read_architecture
from llama_platform.inference.torch_engine.batch import PAGE, Chunk, arrange
from llama_platform.inference.torch_engine.cpu import kernels
from llama_platform.inference.torch_engine.cpu.model import CpuModel
from llama_platform.inference.torch_engine.torch_model import TorchModel, _DecodeInputs
from llama_platform.inference.torch_engine.weights import Weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=500, hidden_size=128, intermediate_size=320, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("base")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reference(folder):
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def logits(ids):
        return model(torch.tensor([ids])).logits[0]

    return logits


def on_kernels(folder, kind="f32", threads=2, int8=False):
    return CpuModel(read_architecture(folder), Weights(folder), kind, threads, 512, 40, 300, 16, int8)


def read(model, ids, sizes):
    """Return the logits after each chunk of these sizes."""
    rows, place = [], 0
    for size in sizes:
        chunk = Chunk(ids[place : place + size], place, list(range(3, 20)))
        rows.append(model.forward(arrange([chunk]), [])[0].clone())
        place += size
    return torch.stack(rows), np.cumsum(sizes) - 1


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("kind", "int8", "gap"), [("f32", False, 1e-5), ("bf16", False, 0.02), ("bf16", True, 0.06), ("f32", True, 0.06)]
)
def test_logits_in_chunks_of_any_size(folder, reference, kind, int8, gap, threads):
    ids = torch.randint(0, 500, (260,), generator=torch.Generator().manual_seed(1)).tolist()
    expected = reference(ids)
    if int8 and not kernels.HAS_INT8:
        with pytest.raises(InputError, match="needs a processor with AVX-512 VNNI"):
            on_kernels(folder, kind, threads, int8)
        return
    found, rows = read(on_kernels(folder, kind, threads, int8), ids, [1, 2, 3, 5, 7, 31, 33, 64, 1, 110])
    difference = (found - expected[rows]).pow(2).mean(dim=1).sqrt() / expected.std()
    assert difference.max() < gap


def test_captured_decoding_is_decoding(folder):
    """What a graph would replay, run without one: rows that only fill the batch must change nothing."""
    model = TorchModel(read_architecture(folder), Weights(folder), torch.float32, CPU, 512, 40)
    chunks = [Chunk([7 + n], 40 * n, list(range(8 * n, 8 * n + 8))) for n in range(3)]
    with torch.inference_mode():
        for place in range(80):  # something to attend to
            model.forward(arrange([Chunk([place], place, c.pages) for c in chunks]), [])
        batch = arrange(chunks)
        inputs = _DecodeInputs.empty(8, 4, CPU)
        inputs.fill(batch, spare_page=40)
        captured = model._decode(inputs)[:3]
        assert torch.allclose(captured, model.forward(batch, []), atol=1e-5)


def test_pages_may_lie_anywhere(folder, reference):
    ids = list(range(100, 190))
    model = on_kernels(folder)
    found = model.forward(arrange([Chunk(ids, 0, [31, 2, 17])]), [])[0]
    assert torch.allclose(found, reference(ids)[-1], atol=1e-5)


def test_only_sampled_chunks_have_logits_and_their_order_is_told():
    batch = arrange([Chunk([1], 0, [0], 5), Chunk([2, 3], 0, [1], -1, logits=0), Chunk([4], PAGE, [2, 3], 5)])
    assert batch.order == (1, 0, 2)
    assert batch.groups == ((2, 2, 5),)
    assert batch.slots.tolist() == [PAGE, PAGE + 1, 0, 3 * PAGE]
    assert batch.sampled_rows.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mistral"}, "model_type is 'mistral'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "'dynamic'"),
        ({"vocab_size": 600}, r"has shape \(500, 128\), config.json says \(600, 128\)"),
        ({"num_hidden_layers": 4}, "model.layers.3.*is missing"),
        ({"head_dim": 12}, "shape"),
    ],
)
def test_what_is_not_supported_is_named(folder, tmp_path, change, words):
    config = json.loads((folder / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(InputError, match=words):
        TorchModel(read_architecture(tmp_path), Weights(tmp_path), torch.float32, CPU, 64, 4)


def test_pickled_weights_are_not_opened(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="pickled weights are not opened"):
        Weights(tmp_path)


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
