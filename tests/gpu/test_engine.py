"""The engine's steps with the shapes of Llama-2-7B, random weights, bfloat16, on one GPU, without Ray.

make test-gpu; the correctness of the engine on a GPU is tested by the unit tests of torch_engine, which find it.
"""

import json
import statistics
import time

import pytest
import torch

from llama_platform.inference.torch_engine.architecture import Architecture
from llama_platform.inference.torch_engine.batch import PAGE, Chunk, arrange
from llama_platform.inference.torch_engine.torch_model import TorchModel

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
LLAMA_2_7B = Architecture(
    vocab_size=32_000,
    hidden=4096,
    layers=32,
    heads=32,
    kv_heads=32,
    head_dim=128,
    intermediate=11_008,
    norm_epsilon=1e-5,
    tied_embeddings=False,
    max_positions=4096,
    inverse_frequencies=tuple(10_000.0 ** (-place / 64) for place in range(64)),
    rope_scale=1.0,
)
ROWS, PAGES_EACH, LONG = 16, 40, 1024


class RandomWeights:
    """Weights that are made when they are read."""

    def __contains__(self, name):
        return True

    def read(self, name, shape):
        if "norm" in name:
            return torch.ones(shape, device="cuda", dtype=torch.bfloat16)
        return torch.randn(shape, device="cuda", dtype=torch.bfloat16) * 0.02


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return TorchModel(LLAMA_2_7B, RandomWeights(), torch.bfloat16, torch.device("cuda"), 4096, ROWS * PAGES_EACH)


def seconds(work, times=20):
    work()
    torch.cuda.synchronize()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def decoding(rows, adapter_of=lambda row: -1):
    pages = [list(range(row * PAGES_EACH, (row + 1) * PAGES_EACH)) for row in range(rows)]
    return arrange([Chunk([7 + row], 200, pages[row], adapter_of(row)) for row in range(rows)])


def test_captured_decoding_is_decoding(model):
    for row in range(3):
        model.forward(arrange([Chunk(list(range(200)), 0, list(range(row * PAGES_EACH, (row + 1) * PAGES_EACH)))]), [])
    batch = decoding(3)
    captured = model.forward(batch, [])
    model_graphs, model._replay = model._replay, None
    try:
        # An adapter that changes nothing keeps the step from being replayed.
        nothing = model.pack_adapter({})
        eager = model.forward(decoding(3, lambda row: 0), [nothing])
    finally:
        model._replay = model_graphs
    difference = (captured - eager).pow(2).mean().sqrt() / eager.std()
    assert difference < 0.05


def test_figures_of_7b(model, capsys):
    weights = model.memory()["weight_bytes"] - model._embedding.numel() * 2
    flat = torch.empty(2**30, device="cuda", dtype=torch.int32)
    read = flat.numel() * 4 / seconds(flat.amax)
    a = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
    gemm = 2 * 4096**3 / seconds(lambda: a @ a)
    one, many = (seconds(lambda rows=rows: model.forward(decoding(rows), [])) for rows in (1, ROWS))
    generator = torch.Generator().manual_seed(1)
    adapters = []
    for _ in range(8):
        matrices = {
            (layer, name): (
                torch.randn(16, i, generator=generator) * 0.01,
                torch.randn(o, 16, generator=generator) * 0.01,
            )
            for layer in range(LLAMA_2_7B.layers)
            for name, (o, i) in LLAMA_2_7B.projections.items()
        }
        adapters.append(model.pack_adapter(matrices))
    mixed = seconds(lambda: model.forward(decoding(ROWS, lambda row: row % 8), adapters))
    prompt = [Chunk(list(range(LONG)), 0, list(range(LONG // PAGE)))]
    prefill = seconds(lambda: model.forward(arrange(prompt), []))
    parameters = weights / 2 - LLAMA_2_7B.vocab_size * LLAMA_2_7B.hidden
    share = weights / (weights + sum(adapter.size_bytes for adapter in adapters))
    figures = {
        "gpu": torch.cuda.get_device_name(),
        "decode_b1_tokens_per_s": round(1 / one, 1),
        "decode_b1_bandwidth_share": round(weights / one / read, 3),
        f"decode_b{ROWS}_tokens_per_s": round(ROWS / many, 1),
        "prefill_tokens_per_s": round(LONG / prefill),
        "prefill_gemm_share": round(2 * parameters * LONG / prefill / gemm, 3),
        "multi_lora_vs_base": round(many / mixed / share, 3),
    }
    assert all(value > 0 for value in figures.values() if not isinstance(value, str))
    with capsys.disabled():
        print(json.dumps(figures))
