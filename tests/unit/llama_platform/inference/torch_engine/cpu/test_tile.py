"""The products of packed weights with a few rows, against NumPy's."""

import numpy as np
import pytest
from llvmlite import ir
from numba import njit

from llama_platform.inference.torch_engine.cpu import tile as tile_module
from llama_platform.inference.torch_engine.cpu.tile import (
    BLOCK,
    GROUP,
    LANES,
    WeightFormat,
    has_feature,
    int8_tile,
    vector_tile,
)

WORDS = ir.VectorType(ir.IntType(32), LANES)


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Return the upper halves of float32 values, uint16."""
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def as_float(halves: np.ndarray) -> np.ndarray:
    return (halves.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("vectors", [1, 4])
@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("kind", ["f32", "bf16"])
def test_a_tile_is_the_product_of_rows_and_columns(kind: WeightFormat, rows, vectors, add):
    random, inner, columns = np.random.default_rng(rows), 10, LANES * vectors
    weights = random.standard_normal((inner, columns)).astype(np.float32)
    x = random.standard_normal((rows, inner)).astype(np.float32)
    if kind == "bf16":
        halves, x_halves = bfloat16(weights), bfloat16(x)
        weights, x = as_float(halves), as_float(x_halves)
        # a step holds two values of the inner dimension
        packed = np.ascontiguousarray(halves.reshape(inner // 2, 2, columns).transpose(0, 2, 1))
        given, steps = x_halves, inner // 2
    else:
        packed, given, steps = weights, x, inner
    before = random.standard_normal((rows, columns)).astype(np.float32)
    out, product = before.copy(), vector_tile(kind, rows, vectors)

    @njit
    def run(w, x, out):
        product(np.int64(add), w, x, np.int64(steps), out, np.int64(columns), np.int64(steps), np.int64(vectors))

    run(packed.ctypes.data, given.ctypes.data, out.ctypes.data)
    np.testing.assert_allclose(out, x @ weights + (before if add else 0), rtol=1e-5, atol=1e-5)


def products_of_bytes(builder, total, columns, word):
    """What `vpdpbusd` does, in instructions that every processor has."""
    for byte in range(4):
        shift, left = ir.Constant(WORDS, [8 * byte] * LANES), ir.Constant(WORDS, [24 - 8 * byte] * LANES)
        unsigned = builder.and_(builder.lshr(columns, shift), ir.Constant(WORDS, [0xFF] * LANES))
        signed = builder.ashr(builder.shl(word, left), ir.Constant(WORDS, [24] * LANES))
        total = builder.add(total, builder.mul(unsigned, signed))
    return total


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_an_int8_tile_sums_groups_with_their_scales(rows, add, monkeypatch):
    if not has_feature("avx512vnni"):
        monkeypatch.setattr(tile_module, "_dot", products_of_bytes)
    random, groups = np.random.default_rng(rows), 3
    weights = random.integers(-127, 128, (groups * GROUP, BLOCK)).astype(np.int32)
    x = random.integers(-127, 128, (rows, groups * GROUP)).astype(np.int8)
    w_scales = random.uniform(0.5, 2, BLOCK).astype(np.float32)
    x_scales = random.uniform(0.5, 2, (rows, groups)).astype(np.float32)
    packed = (weights + 128).astype(np.uint8).reshape(groups * GROUP // 4, 4, BLOCK).transpose(0, 2, 1).copy()
    grouped = x.astype(np.int32).reshape(rows, groups, GROUP)
    beginnings = (-128 * grouped.sum(axis=2)).astype(np.int32)
    before = random.standard_normal((rows, BLOCK)).astype(np.float32)
    out, product = before.copy(), int8_tile.__wrapped__(rows)

    @njit
    def run(w, w_scales, x, x_scales, beginnings, out):
        product(np.int64(add), w, w_scales, x, x_scales, beginnings, out, np.int64(BLOCK), np.int64(groups))

    run(*(array.ctypes.data for array in (packed, w_scales, x, x_scales, beginnings, out)))
    sums = np.einsum("rgi,gic->rgc", grouped, weights.reshape(groups, GROUP, BLOCK))
    expected = (sums * x_scales[:, :, None]).sum(axis=1) * w_scales + (before if add else 0)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-1)
