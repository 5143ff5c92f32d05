import numpy as np
import pytest
import torch
from numba import njit

from llama_platform.inference.torch_engine.cpu.row_math import norm_row, silu_row, softmax_row


@pytest.mark.parametrize("kind", ["f32", "bf16"])
@pytest.mark.parametrize("counted", [(32, 32, 20), (128, 64, 1), (7, 0, 0)])
def test_parts_folded_one_after_another_are_the_softmax_of_all(kind, counted):
    random, fold, dimension = np.random.default_rng(3), softmax_row(kind), 32
    scores = [random.normal(0, 20, 128).astype(np.float32) for _ in counted]
    values = [random.standard_normal((128, dimension)).astype(np.float32) for _ in counted]
    weights = torch.zeros(128, dtype=torch.float32 if kind == "f32" else torch.bfloat16)
    maximum, total = np.array([-1e30], np.float32), np.zeros(1, np.float32)
    sums = np.zeros(dimension, np.float32)

    @njit
    def run(scores, weights, seen, maximum, total, sums):
        fold(scores, weights, seen, np.int64(128), maximum, total, sums, np.int64(dimension))

    for of_part, part_values, seen in zip(scores, values, counted, strict=True):
        addresses = [array.ctypes.data for array in (of_part, maximum, total, sums)]
        run(addresses[0], weights.data_ptr(), seen, *addresses[1:])
        assert (weights[seen:] == 0).all()
        sums += weights.float().numpy() @ part_values
    every = np.concatenate([s[:seen] for s, seen in zip(scores, counted, strict=True)]).astype(np.float64)
    expected = np.exp(every - every.max())
    of_values = np.concatenate([v[:seen] for v, seen in zip(values, counted, strict=True)])
    np.testing.assert_allclose(total[0], expected.sum(), rtol=1e-5)
    np.testing.assert_allclose(sums, expected @ of_values, rtol=1e-2, atol=1e-4 if kind == "f32" else 2e-2)


def stored(kind, count):
    return torch.zeros(count, dtype=torch.float32 if kind == "f32" else torch.bfloat16)


@pytest.mark.parametrize(("kind", "gap"), [("f32", 1e-5), ("bf16", 8e-3)])
def test_swiglu(kind, gap):
    random, product, count = np.random.default_rng(1), silu_row(kind), 48
    gate, up = (torch.from_numpy(random.normal(0, 40, count)).float() for _ in range(2))
    gate[:3] = torch.tensor([0.0, 3e4, -3e4])
    out = stored(kind, count)

    @njit
    def run(gate, up, out):
        product(gate, up, out, np.int64(count))

    run(gate.data_ptr(), up.data_ptr(), out.data_ptr())
    expected = torch.nn.functional.silu(gate.double()) * up.double()
    assert torch.allclose(out.double(), expected, rtol=gap, atol=1e-6)


@pytest.mark.parametrize(("kind", "gap"), [("f32", 1e-5), ("bf16", 8e-3)])
def test_rms_norm(kind, gap):
    random, normalise, count = np.random.default_rng(1), norm_row(kind), 80
    x, weights = (torch.from_numpy(random.normal(0, 3, count)).float() for _ in range(2))
    out, epsilon = stored(kind, count), int(np.float32(1e-5).view(np.int32))

    @njit
    def run(x, weights, out):
        normalise(x, weights, out, np.int64(count), np.int64(epsilon))

    run(x.data_ptr(), weights.data_ptr(), out.data_ptr())
    expected = torch.nn.functional.rms_norm(x.double(), (count,), weights.double(), 1e-5)
    assert torch.allclose(out.double(), expected, rtol=gap, atol=1e-6)
