"""The products of packed weights on the matrix unit, against NumPy's, where the processor has one."""

import numpy as np
import pytest
import torch
from numba import njit

from llama_platform.inference.torch_engine.cpu import kernels
from llama_platform.inference.torch_engine.cpu.matrix_unit import MATRIX_ROWS, request_matrix_unit

needs_it = pytest.mark.skipif(not request_matrix_unit(), reason="no matrix unit here")


@njit
def multiply(rows, columns, add, w, w_stride, x, x_stride, out, out_stride, count):
    kernels._configure(MATRIX_ROWS)
    kernels._on_matrix_unit(rows, columns, add, w, w_stride, x, x_stride, out, out_stride, count)
    kernels._release()


@needs_it
@pytest.mark.parametrize("add", [0, 1])
@pytest.mark.parametrize("columns", [16, 32, 64, 112])
@pytest.mark.parametrize("rows", [1, 7, 16, 17, 32, 45, 100])
def test_any_rows_and_columns_and_nothing_beyond_them(rows, columns, add):
    random, inner = np.random.default_rng(rows), 96
    weights, x = (
        torch.from_numpy(random.standard_normal(size)).bfloat16() for size in ((inner, columns), (rows, inner))
    )
    packed = weights.view(inner // 2, 2, columns).transpose(1, 2).contiguous()
    before = random.standard_normal((rows + 1, columns + 16)).astype(np.float32)
    out = before.copy()
    multiply(
        rows, columns, add, packed.data_ptr(), columns * 4, x.data_ptr(), inner * 2, out.ctypes.data,
        (columns + 16) * 4, inner // 32,
    )  # fmt: skip
    expected = before.copy()
    expected[:rows, :columns] *= add
    expected[:rows, :columns] += (x.float() @ weights.float()).numpy()
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-4)


def test_a_processor_without_it_is_not_asked(monkeypatch):
    monkeypatch.setattr("llama_platform.inference.torch_engine.cpu.matrix_unit.HAS_MATRIX_UNIT", False)
    assert request_matrix_unit.__wrapped__() is False
