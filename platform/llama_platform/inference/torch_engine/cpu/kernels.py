"""CPU kernels: what a step of the model does, as one numba function that runs in torch's own OpenMP threads.

A step is a program, an int64 array with a row for each kernel: a counter of the work items taken, the kernel's number,
then its values, addresses among them. Threads take items one by one, so one that another process slows down takes
fewer, and meet after each row; Python is not asked again before the end. Running in the pool of the OpenMP library that
torch has loaded (`GOMP_parallel`) keeps one set of threads for both.

Sums and the residual stream are float32; inputs of products and the KV cache are of `kind`, float32 or bfloat16.
Everything is one function because numba compiles, links and caches each one with all that it calls. Its cache on disk
notices changes of this file alone: what is compiled lies here or in `tile`, `matrix_unit` and `row_math`, whose
changes `_drop_stale_cache` notices.
"""

import ctypes
from contextlib import suppress
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import torch
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from llama_platform.inference.torch_engine.batch import PAGE
from llama_platform.inference.torch_engine.cpu import matrix_unit, row_math, tile
from llama_platform.inference.torch_engine.cpu.matrix_unit import (
    HAS_MATRIX_UNIT,
    MATRIX_ROWS,
    MATRIX_STEPS,
    matrix_tile,
)
from llama_platform.inference.torch_engine.cpu.row_math import norm_row, silu_row, softmax_row
from llama_platform.inference.torch_engine.cpu.tile import (
    BLOCK,
    GROUP,
    INT8_ROWS,
    LANES,
    WeightFormat,
    has_feature,
    int8_tile,
    prefetch,
    tile_rows,
    unpack_int8,
    vector_tile,
)

MAX_HEAD = 256
"""Largest head dimension."""
_SPAN = 4 * PAGE
"""Positions whose scores are normalised together."""
QUERIES = 32
"""The most rows of queries that are attended together."""
_INNER = 1024
"""Steps of the inner dimension whose weights stay in the second-level cache while many rows pass."""
_ROWS = tile_rows()
_MATRIX_INNER, _UNPACKED_INNER = 512, 256
"""Steps of the inner dimension that pass on the matrix unit before the next columns come; fewer where weights are
unpacked to bfloat16 first."""
_GROUPED_BLOCKS = 8
"""Blocks of columns that pass together there, so that rows stay in the second-level cache."""

WORDS = 16
"""Length of a program's row."""
_SCORES, _SUMS = QUERIES * _SPAN * 4, QUERIES * MAX_HEAD * 4
_WEIGHTS_AT, _SUMS_AT, _MAXIMA_AT = _SCORES, 2 * _SCORES, 2 * _SCORES + _SUMS
_TOTALS_AT = _MAXIMA_AT + QUERIES * 4
_SCRATCH = max(_TOTALS_AT + QUERIES * 4, _UNPACKED_INNER * BLOCK * 4)
"""Bytes of memory of its own that a thread computes in: scores, weights, sums, maxima and totals of attention; or a
row; or unpacked weights. Arrays on the stack of this size keep LLVM busy for half a minute."""
NORM, LINEAR, SILU, ROPE, ATTEND, SHRINK, EXPAND, QUANTIZE, LINEAR_INT8, LINEAR_MATRIX, LINEAR_INT8_MATRIX = range(11)
_FAST = {"fastmath": True, "nogil": True, "error_model": "numpy"}
_ONE, _LOWEST = np.float32(1), np.float32(-1e30)
_ZERO = np.float32(0)


class Kernels:
    """Runs kernels; compiled when first made, in about ten seconds, and kept on disk by numba."""

    def __init__(self, threads: int) -> None:
        """Prepare to run in `threads` threads.

        Raises:
            OSError: torch has loaded no OpenMP library of this interface.
        """
        openmp = ctypes.CDLL("libgomp.so.1")
        llvm.add_symbol("GOMP_barrier", ctypes.cast(openmp.GOMP_barrier, ctypes.c_void_p).value)
        llvm.add_symbol("omp_get_thread_num", ctypes.cast(openmp.omp_get_thread_num, ctypes.c_void_p).value)
        self._body = _body().address
        self._parallel = openmp.GOMP_parallel
        self._parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        self._threads = threads
        self._scratch = torch.empty(threads, _SCRATCH, dtype=torch.uint8)

    def run(self, program: np.ndarray) -> None:
        """Run a program to its end.

        Args:
            program: int64 [kernels, WORDS], contiguous; its counters are set to zero.
        """
        program[:, 0] = 0
        task = (ctypes.c_int64 * 3)(len(program), program.ctypes.data, self._scratch.data_ptr())
        self._parallel(self._body, ctypes.addressof(task), self._threads, 0)


def kind_number(kind: WeightFormat) -> int:
    """Return how kernels are told the kind."""
    return 1 if kind == "bf16" else 0


# --- what numba has no words for ---------------------------------------------------------------------------------


@intrinsic
def _take(typing_context, address):
    """Return the number at an address and add one, at once for all threads."""

    def emit(_, builder, __, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, ir.IntType(64)(1), "monotonic")

    return types.int64(types.int64), emit


def _pointer_to(numba_type):
    @intrinsic
    def pointer(typing_context, address):
        def emit(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(numba_type)(types.int64), emit

    return pointer


@intrinsic
def _meet(typing_context):
    """Wait until all threads are here."""

    def emit(_, builder, __, ___):
        signature = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, signature, "GOMP_barrier"), [])
        return cgutils.get_null_value(ir.IntType(64).as_pointer())

    return types.void(), emit


@intrinsic
def _thread_number(typing_context):
    """Return the number of this thread in its team, from 0."""

    def emit(_, builder, __, ___):
        signature = ir.FunctionType(ir.IntType(32), [])
        number = builder.call(cgutils.get_or_insert_function(builder.module, signature, "omp_get_thread_num"), [])
        return builder.zext(number, ir.IntType(64))

    return types.int64(), emit


@intrinsic
def _fetch_line(typing_context, address):
    """Ask for the 64 bytes at an address."""

    def emit(_, builder, __, arguments):
        prefetch(builder, builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()))
        return cgutils.get_null_value(ir.IntType(64).as_pointer())

    return types.void(types.int64), emit


def _bitcast(source, target):
    @intrinsic
    def cast(typing_context, value):
        def emit(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

        return target(source), emit

    return cast


_to_f32, _to_i64 = _pointer_to(types.float32), _pointer_to(types.int64)
_to_u16, _to_u32, _to_i8 = _pointer_to(types.uint16), _pointer_to(types.uint32), _pointer_to(types.int8)
_bits_as_float, _float_as_bits = _bitcast(types.int32, types.float32), _bitcast(types.float32, types.uint32)


@njit(**_FAST)
def _floats(address, count):
    return carray(_to_f32(address), (count,))


@njit(**_FAST)
def _halves(address, count):
    return carray(_to_u16(address), (count,))


@njit(**_FAST)
def _words(address, count):
    return carray(_to_u32(address), (count,))


@njit(**_FAST)
def _bytes(address, count):
    return carray(_to_i8(address), (count,))


@njit(**_FAST)
def _integers(address, count):
    return carray(_to_i64(address), (count,))


@njit(**_FAST)
def _bf16(value):
    """Round to the nearest bfloat16, ties to even; finite values only."""
    bits = _float_as_bits(np.float32(value))
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


# --- products ----------------------------------------------------------------------------------------------------


def _chooser(kind, vectors):
    """Return a numba function that multiplies one to `_ROWS` rows."""
    tiles = [vector_tile(kind, min(n, _ROWS), vectors) for n in range(1, 7)]
    one, two, three, four, five, six = tiles

    @njit(**_FAST)
    def product(rows, add, w, x, x_stride, out, out_stride, steps, step_vectors):
        if rows == 1:
            one(add, w, x, x_stride, out, out_stride, steps, step_vectors)
        elif rows == 2:
            two(add, w, x, x_stride, out, out_stride, steps, step_vectors)
        elif rows == 3:
            three(add, w, x, x_stride, out, out_stride, steps, step_vectors)
        elif rows == 4:
            four(add, w, x, x_stride, out, out_stride, steps, step_vectors)
        elif rows == 5:
            five(add, w, x, x_stride, out, out_stride, steps, step_vectors)
        else:
            six(add, w, x, x_stride, out, out_stride, steps, step_vectors)

    return product


def _multiplier(vectors):
    """Return a numba function that multiplies any number of rows with 16·vectors columns, of either kind."""
    of_floats, of_halves = _chooser("f32", vectors), _chooser("bf16", vectors)

    @njit(**_FAST)
    def multiply(kind, add, rows, w, x, x_stride, out, out_stride, steps, step_vectors):
        tiles = (rows + _ROWS - 1) // _ROWS
        done = 0
        for number in range(tiles):
            left = tiles - number
            count = (rows - done + left - 1) // left
            x_at, out_at = x + done * x_stride * 4, out + done * out_stride * 4
            if kind == 1:
                of_halves(count, add, w, x_at, x_stride, out_at, out_stride, steps, step_vectors)
            else:
                of_floats(count, add, w, x_at, x_stride, out_at, out_stride, steps, step_vectors)
            done += count

    return multiply


_by_16, _by_32, _by_64 = _multiplier(1), _multiplier(2), _multiplier(4)
_BLOCK_BYTES, _BLOCK_VECTORS = BLOCK * 4, BLOCK // LANES


@njit(**_FAST)
def _by_columns(kind, add, rows, w, x, x_stride, out, out_stride, steps, step_vectors, columns):
    """Multiply with columns that lie beside each other in every step; a multiple of 16."""
    column = 0
    while column < columns:
        if columns - column >= BLOCK:
            _by_64(kind, add, rows, w + column * 4, x, x_stride, out + column * 4, out_stride, steps, step_vectors)
            column += BLOCK
        else:
            _by_16(kind, add, rows, w + column * 4, x, x_stride, out + column * 4, out_stride, steps, step_vectors)
            column += LANES


@njit(**_FAST)
def _linear(a):
    """Product of rows with packed weights; values: kind, add, rows, w, x, out, steps, blocks, strides of out and x."""
    kind, add, rows, w, x, out, steps, blocks, out_stride = a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10]
    address, x_stride = a.ctypes.data, a[11]
    block = _take(address)
    while block < blocks:
        first = 0
        while first < steps:
            inner = steps - first if rows <= _ROWS else min(_INNER, steps - first)
            _by_64(
                kind,
                add if first == 0 else 1,
                rows,
                w + (block * steps + first) * _BLOCK_BYTES,
                x + first * 4,
                x_stride,
                out + block * _BLOCK_BYTES,
                out_stride,
                inner,
                _BLOCK_VECTORS,
            )
            first += inner
        block = _take(address)


# --- products on the matrix unit ---------------------------------------------------------------------------------

if HAS_MATRIX_UNIT:
    _two_by_two, _one_by_four, _one_by_two = matrix_tile(2, 2), matrix_tile(1, 4), matrix_tile(1, 2)
    _two_by_one, _one_by_one = matrix_tile(2, 1), matrix_tile(1, 1)
    _configure, _release = matrix_unit.configure, matrix_unit.release
else:

    @njit(**_FAST)
    def _no_tile(add, w, w_stride, x, x_stride, out, out_stride, count):
        """Stand where the instructions are missing; no program asks for them there."""

    @njit(**_FAST)
    def _configure(rows):
        """Stand where the instruction is missing."""

    @njit(**_FAST)
    def _release():
        """Stand where the instruction is missing."""

    _two_by_two = _one_by_four = _one_by_two = _two_by_one = _one_by_one = _no_tile


@njit(**_FAST)
def _on_matrix_unit(rows, columns, add, w, w_stride, x, x_stride, out, out_stride, count):
    """Multiply any rows with a multiple of 16 columns that lie beside each other in every step; strides in bytes.

    The unit is configured for whole registers before, and afterwards.
    """
    done = 0
    while rows - done >= 2 * MATRIX_ROWS:
        x_at, out_at, column = x + done * x_stride, out + done * out_stride, 0
        while columns - column >= 32:
            _two_by_two(add, w + column * 4, w_stride, x_at, x_stride, out_at + column * 4, out_stride, count)
            column += 32
        if column < columns:
            _two_by_one(add, w + column * 4, w_stride, x_at, x_stride, out_at + column * 4, out_stride, count)
        done += 2 * MATRIX_ROWS
    while done < rows:
        left = min(MATRIX_ROWS, rows - done)
        if left < MATRIX_ROWS:
            _configure(left)
        x_at, out_at, column = x + done * x_stride, out + done * out_stride, 0
        while columns - column >= 64:
            _one_by_four(add, w + column * 4, w_stride, x_at, x_stride, out_at + column * 4, out_stride, count)
            column += 64
        if columns - column >= 32:
            _one_by_two(add, w + column * 4, w_stride, x_at, x_stride, out_at + column * 4, out_stride, count)
            column += 32
        if column < columns:
            _one_by_one(add, w + column * 4, w_stride, x_at, x_stride, out_at + column * 4, out_stride, count)
        if left < MATRIX_ROWS:
            _configure(MATRIX_ROWS)
        done += left


@njit(**_FAST)
def _linear_matrix(a):
    """Product as `_linear`'s of bfloat16, on the matrix unit; steps are a multiple of 16."""
    add, rows, w, x, out, steps, blocks, out_stride, x_stride = a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]
    together = _GROUPED_BLOCKS if rows > 128 and steps > _MATRIX_INNER and blocks >= 4 * _GROUPED_BLOCKS else 1
    address, groups = a.ctypes.data, (blocks + together - 1) // together
    _configure(MATRIX_ROWS)
    group = _take(address)
    while group < groups:
        first = 0
        while first < steps:
            inner = min(_MATRIX_INNER, steps - first)
            for block in range(group * together, min(blocks, (group + 1) * together)):
                _on_matrix_unit(
                    rows, BLOCK, add if first == 0 else 1, w + (block * steps + first) * _BLOCK_BYTES, _BLOCK_BYTES,
                    x + first * 4, x_stride * 4, out + block * _BLOCK_BYTES, out_stride * 4, inner // MATRIX_STEPS,
                )  # fmt: skip
            first += inner
        group = _take(address)
    _release()


# --- int8 weights ------------------------------------------------------------------------------------------------

HAS_INT8 = has_feature("avx512vnni")
"""Whether this processor multiplies bytes."""
if HAS_INT8:
    _int8_one, _int8_two, _int8_three = (int8_tile(rows) for rows in range(1, INT8_ROWS + 1))
else:

    @njit(**_FAST)
    def _no_int8(add, w, w_scales, x, x_scales, beginnings, out, out_stride, groups):
        """Stand where the instructions are missing; such weights are refused before they are packed."""

    _int8_one = _int8_two = _int8_three = _no_int8
_BYTE, _WEIGHT_ZERO = np.float32(127), np.int32(128)
_SHIFT_F, _SHIFT_I = np.float32(1024.5), np.int32(1024)


@njit(**_FAST)
def _quantize(a, scratch):
    """Round rows to int8, a scale for each group; values: kind, rows, x, width, out, scales, beginnings, x's stride."""
    kind, rows, x, width, out, scales, beginnings, x_stride = a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]
    address, groups, size = a.ctypes.data, width // GROUP, 2 if a[2] == 1 else 4
    values = _floats(scratch, GROUP)
    row = _take(address)
    while row < rows:
        scale_of, begin = _floats(scales + row * groups * 4, groups), _words(beginnings + row * groups * 4, groups)
        for group in range(groups):
            start, from_x = row * width + group * GROUP, row * x_stride + group * GROUP
            if kind == 1:
                halves = _halves(x + from_x * size, GROUP)
                for i in range(GROUP):
                    values[i] = _bits_as_float(np.int32(np.uint32(halves[i]) << np.uint32(16)))
            else:
                floats = _floats(x + from_x * size, GROUP)
                for i in range(GROUP):
                    values[i] = floats[i]
            largest = _ZERO
            for i in range(GROUP):
                largest = max(largest, abs(values[i]))
            factor = _BYTE / largest if largest > _ZERO else _ZERO
            quantized, total = _bytes(out + start, GROUP), np.int32(0)
            for i in range(GROUP):
                # Truncation of a positive number is its floor.
                number = np.int32(np.int32(values[i] * factor + _SHIFT_F) - _SHIFT_I)
                quantized[i] = np.int8(number)
                total += number
            scale_of[group] = largest / _BYTE
            begin[group] = np.uint32(np.int32(-_WEIGHT_ZERO * total))
        row = _take(address)


@njit(**_FAST)
def _linear_int8(a):
    """Product of int8 rows with packed int8 weights.

    values: kind, add, rows, w, scales of w, x, scales of x, beginnings, out, groups, blocks, out_stride; what was
    rounded and its stride follow, for `_linear_int8_matrix`.
    """
    add, rows, w, w_scales, x, x_scales, beginnings = a[3], a[4], a[5], a[6], a[7], a[8], a[9]
    out, groups, blocks, out_stride = a[10], a[11], a[12], a[13]
    address = a.ctypes.data
    block = _take(address)
    while block < blocks:
        tiles = (rows + INT8_ROWS - 1) // INT8_ROWS
        done = 0
        for number in range(tiles):
            left = tiles - number
            count = (rows - done + left - 1) // left
            at = w + block * groups * GROUP * BLOCK
            of_columns, of_rows = w_scales + block * BLOCK * 4, x_scales + done * groups * 4
            begin, x_at = beginnings + done * groups * 4, x + done * groups * GROUP
            to = out + (done * out_stride + block * BLOCK) * 4
            if count == 1:
                _int8_one(add, at, of_columns, x_at, of_rows, begin, to, out_stride, groups)
            elif count == 2:
                _int8_two(add, at, of_columns, x_at, of_rows, begin, to, out_stride, groups)
            else:
                _int8_three(add, at, of_columns, x_at, of_rows, begin, to, out_stride, groups)
            done += count
        block = _take(address)


@njit(**_FAST)
def _linear_int8_matrix(a, unpacked):
    """Product of bfloat16 rows with packed int8 weights that are unpacked on the way; values: see `_linear_int8`."""
    add, rows, w, w_scales, out, groups, blocks, out_stride = a[3], a[4], a[5], a[6], a[10], a[11], a[12], a[13]
    address, x, x_stride, steps = a.ctypes.data, a[14], a[15], groups * GROUP // 2
    _configure(MATRIX_ROWS)
    block = _take(address)
    while block < blocks:
        first = 0
        while first < steps:
            inner = min(_UNPACKED_INNER, steps - first)
            at = w + (block * steps + first) // 2 * _BLOCK_BYTES
            unpack_int8(at, w_scales + block * _BLOCK_BYTES, unpacked, inner // 2)
            _on_matrix_unit(
                rows, BLOCK, add if first == 0 else 1, unpacked, _BLOCK_BYTES, x + first * 4, x_stride * 4,
                out + block * _BLOCK_BYTES, out_stride * 4, inner // MATRIX_STEPS,
            )  # fmt: skip
            first += inner
        block = _take(address)
    _release()


# --- row by row --------------------------------------------------------------------------------------------------


@njit(**_FAST)
def _store(kind, address, values, factor):
    """Store `values` times `factor` as numbers of `kind`."""
    if kind == 1:
        halves = _halves(address, len(values))
        for i in range(len(values)):
            halves[i] = _bf16(values[i] * factor)
    else:
        floats = _floats(address, len(values))
        for i in range(len(values)):
            floats[i] = values[i] * factor


_norm_of_floats, _norm_of_halves = norm_row("f32"), norm_row("bf16")
_silu_of_floats, _silu_of_halves = silu_row("f32"), silu_row("bf16")
_softmax_of_floats, _softmax_of_halves = softmax_row("f32"), softmax_row("bf16")


@njit(**_FAST)
def _norm(a):
    """RMSNorm of rows; values: kind, rows, x, weight, out, width, epsilon's bits, which rows (0: all), out's stride."""
    kind, rows, x, weight, out, width, epsilon, out_stride = a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[10]
    address = a.ctypes.data
    row = _take(address)
    while row < rows:
        source = row if a[9] == 0 else _integers(a[9], rows)[row]
        if kind == 1:
            _norm_of_halves(x + source * width * 4, weight, out + row * out_stride * 2, width, epsilon)
        else:
            _norm_of_floats(x + source * width * 4, weight, out + row * out_stride * 4, width, epsilon)
        row = _take(address)


@njit(**_FAST)
def _silu(a):
    """SwiGLU's product of rows; values: kind, rows, gate and up, out, width, stride, parts of a row, out's stride."""
    kind, rows, x, out, width, stride, parts, out_stride = a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]
    address, vectors = a.ctypes.data, width // LANES
    item = _take(address)
    while item < rows * parts:
        row, part = item // parts, item % parts
        start, end = part * vectors // parts * LANES, (part + 1) * vectors // parts * LANES
        gate, to = x + (row * stride + start) * 4, row * out_stride + start
        if kind == 1:
            _silu_of_halves(gate, gate + width * 4, out + to * 2, end - start)
        else:
            _silu_of_floats(gate, gate + width * 4, out + to * 4, end - start)
        item = _take(address)


# --- attention ---------------------------------------------------------------------------------------------------


@njit(**_FAST)
def _rotate(kind, address, values, cos, sin, half, factor):
    """Store `values`, rotated and times `factor`, as numbers of `kind`."""
    if kind == 1:
        low_half, high_half = _halves(address, half), _halves(address + half * 2, half)
        for i in range(half):
            low, high = values[i], values[i + half]
            low_half[i] = _bf16((low * cos[i] - high * sin[i]) * factor)
            high_half[i] = _bf16((high * cos[i] + low * sin[i]) * factor)
    else:
        low_float, high_float = _floats(address, half), _floats(address + half * 4, half)
        for i in range(half):
            low, high = values[i], values[i + half]
            low_float[i] = (low * cos[i] - high * sin[i]) * factor
            high_float[i] = (high * cos[i] + low * sin[i]) * factor


@njit(**_FAST)
def _rope(a, rounded):
    """Rotate queries and keys (RoPE), and put keys and values into their pages.

    values: kind, rows, qkv, queries out, key pages, value pages, cos and sin, positions, slots, heads, kv heads, head
    dimension, row stride. A page holds keys as weights of a product with queries, `[dimension][token]`, and values as
    weights of a product with attention weights, `[token][dimension]`, both in units of four bytes.
    """
    kind, rows, qkv, queries, keys, values, table = a[2], a[3], a[4], a[5], a[6], a[7], a[8]
    positions, slots = _integers(a[9], rows), _integers(a[10], rows)
    heads, kv_heads, width, stride = a[11], a[12], a[13], a[14]
    address, half, size = a.ctypes.data, width // 2, 2 if kind == 1 else 4
    # Tokens of a page lie in the same lines: of a prompt, a thread takes 16 that follow each other.
    together = 16 if rows > 16 else 1
    scale, units = _ONE / np.sqrt(np.float32(width)), width * size // 4
    words, halves = _words(rounded, units), _halves(rounded, width)
    item = _take(address)
    while item * together < rows:
        for row in range(item * together, min(rows, (item + 1) * together)):
            angles = table + positions[row] * width * 4
            cos, sin = _floats(angles, half), _floats(angles + half * 4, half)
            start = qkv + row * stride * 4
            for head in range(heads):
                q = _floats(start + head * width * 4, width)
                _rotate(kind, queries + (row * heads + head) * width * size, q, cos, sin, half, scale)
            page, place = slots[row] // PAGE, slots[row] % PAGE
            for head in range(kv_heads):
                k = _floats(start + (heads + head) * width * 4, width)
                v = _floats(start + (heads + kv_heads + head) * width * 4, width)
                offset = (page * kv_heads + head) * PAGE * width * size
                _rotate(kind, rounded, k, cos, sin, half, _ONE)
                k_page = _words(keys + offset, PAGE * units)
                for unit in range(units):
                    k_page[unit * PAGE + place] = words[unit]
                if kind == 1:
                    # Only its own half of each word: another thread may be writing the other.
                    _store(kind, rounded, v, _ONE)
                    v_page = _halves(values + offset + (place // 2) * width * 4 + (place % 2) * 2, 2 * width)
                    for d in range(width):
                        v_page[d * 2] = halves[d]
                else:
                    _store(kind, values + offset + place * width * 4, v, _ONE)
        item = _take(address)


@njit(**_FAST)
def _fetch_pages(cache, pages, first, end, kv_heads, head, page_bytes):
    """Ask for the pages of one span, which lie anywhere in memory; a single query does too little to hide the wait."""
    for place in range(first // PAGE, (min(end, first + _SPAN) + PAGE - 1) // PAGE):
        page = cache + (pages[place] * kv_heads + head) * page_bytes
        for line in range(page_bytes // 64):
            _fetch_line(page + line * 64)


@njit(**_FAST)
def _attend_rows(
    kind, q, q_stride, rows, seen, growth, keys, values, pages, kv_heads, head, width, out, out_stride, on_unit, scratch
):
    """Attend `rows` rows of one key head; row i sees the first `seen + i·growth` positions. Strides in elements."""
    size, per_unit = (2, 2) if kind == 1 else (4, 1)
    scores, weights, sums = scratch, scratch + _WEIGHTS_AT, scratch + _SUMS_AT
    maxima, totals = _floats(scratch + _MAXIMA_AT, rows), _floats(scratch + _TOTALS_AT, rows)
    for i in range(rows):
        maxima[i], totals[i] = _LOWEST, _ZERO
    everything = _floats(sums, rows * width)
    for i in range(rows * width):
        everything[i] = _ZERO
    longest = seen + (rows - 1) * growth
    page_bytes, span_units = PAGE * width * size, _SPAN // per_unit
    if growth == 0:
        _fetch_pages(keys, pages, 0, longest, kv_heads, head, page_bytes)
    first = 0
    while first < longest:
        count = min(_SPAN // PAGE, (longest - first + PAGE - 1) // PAGE)
        if growth == 0:
            _fetch_pages(values, pages, first, longest, kv_heads, head, page_bytes)
        for number in range(count):
            page = (pages[first // PAGE + number] * kv_heads + head) * page_bytes
            if on_unit:
                _on_matrix_unit(
                    rows, PAGE, 0, keys + page, PAGE * 4, q, q_stride * 2, scores + number * PAGE * 4, _SPAN * 4,
                    width // (2 * MATRIX_STEPS),
                )  # fmt: skip
            else:
                _by_32(
                    kind, 0, rows, keys + page, q, q_stride // per_unit, scores + number * PAGE * 4, _SPAN,
                    width // per_unit, PAGE // LANES,
                )  # fmt: skip
        if growth == 0:
            _fetch_pages(keys, pages, first + _SPAN, longest, kv_heads, head, page_bytes)
        for i in range(rows):
            row, to, left = scores + i * _SPAN * 4, weights + i * _SPAN * size, max(0, seen + i * growth - first)
            maximum, total, of_row = scratch + _MAXIMA_AT + i * 4, scratch + _TOTALS_AT + i * 4, sums + i * width * 4
            if kind == 1:
                _softmax_of_halves(row, to, left, count * PAGE, maximum, total, of_row, width)
            else:
                _softmax_of_floats(row, to, left, count * PAGE, maximum, total, of_row, width)
        for number in range(count):
            page = (pages[first // PAGE + number] * kv_heads + head) * page_bytes
            if on_unit:
                _on_matrix_unit(
                    rows, width, 1, values + page, width * 4, weights + number * PAGE * size, _SPAN * 2, sums,
                    width * 4, 1,
                )  # fmt: skip
            else:
                _by_columns(
                    kind, 1, rows, values + page, weights + number * PAGE * size, span_units, sums, width,
                    PAGE // per_unit, width // LANES, width,
                )  # fmt: skip
        first += count * PAGE
    for i in range(rows):
        _store(kind, out + i * out_stride * size, _floats(sums + i * width * 4, width), _ONE / totals[i])


@njit(**_FAST)
def _attend(a, scratch):
    """Causal attention over pages.

    values: kind, spans, table of spans, queries, key pages, value pages, page table, heads, kv heads, head dimension,
    out, out's stride, and whether several rows are attended on the matrix unit. A span is (first row, rows, position of
    the first row, place in the page table); several rows of a span are attended for each head, a single row for all
    heads that share a key head.
    """
    kind, spans, table, queries, keys, values = a[2], a[3], a[4], a[5], a[6], a[7]
    page_table, heads, kv_heads, width, out, out_stride, matrix = a[8], a[9], a[10], a[11], a[12], a[13], a[14]
    address, size, shared = a.ctypes.data, 2 if kind == 1 else 4, heads // kv_heads
    if matrix:
        _configure(MATRIX_ROWS)
    item = _take(address)
    while item < spans * kv_heads:
        # Later spans of a prompt see more: begin with the long ones.
        span = _integers(table + (spans - 1 - item // kv_heads) * 32, 4)
        head = item % kv_heads
        first, rows, position = span[0], span[1], span[2]
        pages = _integers(page_table + span[3] * 8, (position + rows + PAGE - 1) // PAGE)
        q_at = queries + (first * heads + head * shared) * width * size
        out_at = out + (first * out_stride + head * shared * width) * size
        if rows == 1:
            done = 0
            while done < shared:
                count, at = min(QUERIES, shared - done), done * width * size
                _attend_rows(
                    kind, q_at + at, width, count, position + 1, 0, keys, values, pages, kv_heads, head, width,
                    out_at + at, width, 0, scratch,
                )  # fmt: skip
                done += count
        else:
            for one in range(shared):
                at = one * width * size
                _attend_rows(
                    kind, q_at + at, heads * width, rows, position + 1, 1, keys, values, pages, kv_heads, head,
                    width, out_at + at, out_stride, matrix, scratch,
                )  # fmt: skip
        item = _take(address)
    if matrix:
        _release()


# --- adapters ----------------------------------------------------------------------------------------------------
# A group is (first row, rows, address of the adapter's table); its table has, for each layer and projection,
# (address of A, address of B, rank padded to 16), zeros where the adapter leaves the projection alone.


@njit(**_FAST)
def _shrink(a):
    """Products with A.

    values: kind, groups, table, entry of the first part, parts, x, steps, sums, out, rank, x's stride, and from how
    many rows on they are computed on the matrix unit.
    """
    kind, groups, table, entry, parts, x, steps = a[2], a[3], a[4], a[5], a[6], a[7], a[8]
    sums, out, longest, x_stride, many = a[9], a[10], a[11], a[12], a[13]
    address, size = a.ctypes.data, 2 if kind == 1 else 4
    if many:
        _configure(MATRIX_ROWS)
    item = _take(address)
    while item < groups * parts:
        group, part = _integers(table + (item // parts) * 24, 3), item % parts
        matrices = _integers(group[2] + (entry + part) * 24, 3)
        for block in range(matrices[2] // LANES):
            at = ((group[0] * parts) + part) * longest + block * LANES
            w_at, x_at = matrices[0] + block * steps * LANES * 4, x + group[0] * x_stride * 4
            if many and group[1] >= many:
                _on_matrix_unit(
                    group[1], LANES, 0, w_at, LANES * 4, x_at, x_stride * 4, sums + at * 4, parts * longest * 4,
                    steps // MATRIX_STEPS,
                )  # fmt: skip
            else:
                _by_16(kind, 0, group[1], w_at, x_at, x_stride, sums + at * 4, parts * longest, steps, 1)
        for row in range(group[0], group[0] + group[1]):
            at = (row * parts + part) * longest
            _store(kind, out + at * size, _floats(sums + at * 4, matrices[2]), _ONE)
        item = _take(address)
    if many:
        _release()


@njit(**_FAST)
def _expand(a):
    """Add products with B.

    values: kind, groups, table, entry, parts, their widths, x, out, stride, rank, blocks, and from how many rows on
    they are computed on the matrix unit.
    """
    kind, groups, table, entry, parts, widths = a[2], a[3], a[4], a[5], a[6], _integers(a[7], a[6])
    x, out, stride, longest, blocks, many = a[8], a[9], a[10], a[11], a[12], a[13]
    address, per_unit = a.ctypes.data, 2 if kind == 1 else 1
    size = 4 // per_unit
    if many:
        _configure(MATRIX_ROWS)
    item = _take(address)
    while item < groups * blocks:
        group, block = _integers(table + (item // blocks) * 24, 3), item % blocks
        part, offset = 0, 0
        while block >= (widths[part] + BLOCK - 1) // BLOCK:
            block -= (widths[part] + BLOCK - 1) // BLOCK
            offset += widths[part]
            part += 1
        matrices = _integers(group[2] + (entry + part) * 24, 3)
        if matrices[2] > 0:
            steps, columns = matrices[2] // per_unit, min(BLOCK, widths[part] - block * BLOCK)
            w_at, x_at = matrices[1] + block * steps * _BLOCK_BYTES, x + (group[0] * parts + part) * longest * size
            out_at = out + (group[0] * stride + offset + block * BLOCK) * 4
            if many and group[1] >= many and steps % MATRIX_STEPS == 0:
                _on_matrix_unit(
                    group[1], columns, 1, w_at, _BLOCK_BYTES, x_at, parts * longest * size, out_at, stride * 4,
                    steps // MATRIX_STEPS,
                )  # fmt: skip
            else:
                _by_columns(
                    kind, 1, group[1], w_at, x_at, parts * longest // per_unit, out_at, stride, steps, _BLOCK_VECTORS,
                    columns,
                )  # fmt: skip
        item = _take(address)
    if many:
        _release()


def _run(task):
    kernels, program, scratch = task[0], task[1], task[2] + _thread_number() * _SCRATCH
    for number in range(kernels):
        a = _integers(program + number * WORDS * 8, WORDS)
        kernel = a[1]
        if kernel == NORM:
            _norm(a)
        elif kernel == LINEAR:
            _linear(a)
        elif kernel == SILU:
            _silu(a)
        elif kernel == ROPE:
            _rope(a, scratch)
        elif kernel == ATTEND:
            _attend(a, scratch)
        elif kernel == SHRINK:
            _shrink(a)
        elif kernel == EXPAND:
            _expand(a)
        elif kernel == QUANTIZE:
            _quantize(a, scratch)
        elif kernel == LINEAR_INT8:
            _linear_int8(a)
        elif kernel == LINEAR_MATRIX:
            _linear_matrix(a)
        elif kernel == LINEAR_INT8_MATRIX:
            _linear_int8_matrix(a, scratch)
        _meet()


def _drop_stale_cache() -> None:
    """Remove machine code that was compiled with earlier tiles: numba would go on using it."""
    changed = max(Path(str(module.__file__)).stat().st_mtime for module in (matrix_unit, row_math, tile))
    for file in (Path(__file__).parent / "__pycache__").glob(f"{Path(__file__).stem}.*.nb[ic]"):
        with suppress(FileNotFoundError):  # another process drops it, too
            if file.stat().st_mtime < changed:
                file.unlink()


@cache
def _body():
    """Return the compiled `_run`: one for the life of a process.

    Loaded twice, of which once from a file that another process wrote meanwhile, functions of one name and different
    content would meet, and LLVM links either.
    """
    _drop_stale_cache()
    return cfunc(types.void(types.CPointer(types.int64)), cache=True, **_FAST)(_run)
