"""The model step by step: kinds, int8, vector and matrix units, what it refuses."""

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from llama_platform.errors import InputError
from llama_platform.inference.torch_engine.batch import Chunk, arrange
from llama_platform.inference.torch_engine.cpu import kernels
from llama_platform.inference.torch_engine.cpu.matrix_unit import request_matrix_unit
from llama_platform.inference.torch_engine.cpu.model import PRODUCTS
from torch_models import on_kernels


@pytest.fixture(scope="module")
def reference(folder):
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def logits(ids):
        return model(torch.tensor([ids])).logits[0]

    return logits


def read(model, ids, sizes):
    """Return the logits after each chunk of these sizes."""
    rows, place = [], 0
    for size in sizes:
        chunk = Chunk(ids[place : place + size], place, list(range(3, 20)))
        rows.append(model.forward(arrange([chunk]), [])[0].clone())
        place += size
    return torch.stack(rows), np.cumsum(sizes) - 1


MATRIX = pytest.param("matrix", marks=pytest.mark.skipif(not request_matrix_unit(), reason="no matrix unit here"))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("products", ["vector", MATRIX])
@pytest.mark.parametrize(
    ("kind", "int8", "gap"), [("f32", False, 1e-5), ("bf16", False, 0.02), ("bf16", True, 0.06), ("f32", True, 0.06)]
)
def test_logits_in_chunks_of_any_size(folder, reference, kind, int8, gap, products, threads):
    ids = torch.randint(0, 500, (260,), generator=torch.Generator().manual_seed(1)).tolist()
    expected = reference(ids)
    if int8 and not kernels.HAS_INT8:
        with pytest.raises(InputError, match="needs a processor with AVX-512 VNNI"):
            on_kernels(folder, kind, threads, int8, products)
        return
    model = on_kernels(folder, kind, threads, int8, products)
    assert model.products.use_matrix_unit == (products == "matrix" and kind == "bf16")
    found, rows = read(model, ids, [1, 2, 3, 5, 7, 31, 33, 64, 1, 110])
    difference = (found - expected[rows]).pow(2).mean(dim=1).sqrt() / expected.std()
    assert difference.max() < gap


def test_pages_may_lie_anywhere(folder, reference):
    ids = list(range(100, 190))
    model = on_kernels(folder)
    found = model.forward(arrange([Chunk(ids, 0, [31, 2, 17])]), [])[0]
    assert torch.allclose(found, reference(ids)[-1], atol=1e-5)


def test_what_computes_each_product_is_told(folder):
    assert on_kernels(folder).products_in_words() == dict.fromkeys(PRODUCTS, "vector always")  # of float32 weights
    assert on_kernels(folder, "bf16").products_in_words().keys() == set(PRODUCTS)
