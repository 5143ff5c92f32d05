"""Tiles: the products of a few rows with 16·n columns of packed weights, as LLVM instructions for numba kernels.

All matrix work on the CPU (linear layers, LoRA, attention) is made of these. Weights are packed in units of four bytes,
`[columns / block][steps][block][4 bytes]`: a step holds one float32, two bfloat16 or four int8 values of the inner
dimension, so one loop serves all of them and every vector of weights is read once, in order. bfloat16 uses the
processor's dot product where it has one (AVX-512 BF16) and shifts with float32 products elsewhere; vectors wider than
the machine's are split by LLVM.

numba's cache does not notice changes of this file; `kernels` drops what was compiled before one.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WeightFormat = Literal["f32", "bf16"]
LANES = 16
BLOCK = 64
"""Columns of a packed block."""

_AHEAD = 16
"""Steps between the weights that are asked for and those that are used."""

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _WORDS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)


class _BFloat(ir.types.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite has no class for."""

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_BFLOATS = ir.VectorType(_BFloat(), 2 * LANES)


@cache
def has_feature(name: str) -> bool:
    """Return whether this processor has a feature, such as `avx512bf16`."""
    return bool(llvm.get_host_cpu_features().get(name, False))


def tile_rows() -> int:
    """Return the rows of the largest tile: as many accumulators as the registers hold."""
    return 6 if has_feature("avx512f") else 2


@cache
def tile(kind: WeightFormat, rows: int, vectors: int) -> Any:
    """Return the product of `rows` rows with 16·`vectors` columns, callable in numba code.

    Its arguments are int64: whether to add to what the result holds, address of the first weights, address of the first
    row, row stride in units of four bytes, address of the float32 result, its row stride in floats, steps, and the
    distance of steps in vectors.
    """

    @intrinsic
    def product(typing_context, add, w, x, x_stride, out, out_stride, steps, step_vectors):
        return types.void(*[types.int64] * 8), lambda _, builder, __, arguments: _emit(
            builder, arguments, kind, rows, vectors
        )

    return product


def _emit(builder: Any, arguments: Any, kind: WeightFormat, rows: int, vectors: int) -> Any:
    add, w, x, x_stride, out, out_stride, steps, step_vectors = arguments
    weights = builder.inttoptr(w, _WORDS.as_pointer())
    first_row, result = builder.inttoptr(x, _I32.as_pointer()), builder.inttoptr(out, _F32.as_pointer())
    row_at = [builder.gep(first_row, [builder.mul(x_stride, _I64(row))]) for row in range(rows)]
    out_at = [
        [
            builder.bitcast(
                builder.gep(result, [builder.add(builder.mul(out_stride, _I64(row)), _I64(LANES * v))]),
                _FLOATS.as_pointer(),
            )
            for v in range(vectors)
        ]
        for row in range(rows)
    ]
    zero = ir.Constant(_FLOATS, [0.0] * LANES)
    adding = builder.icmp_signed("!=", add, _I64(0))
    start = [[builder.select(adding, builder.load(p, align=4), zero) for p in line] for line in out_at]
    entry, loop, end = builder.block, builder.append_basic_block("steps"), builder.append_basic_block("end")
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(_I64)
    step.add_incoming(_I64(0), entry)
    sums = [[builder.phi(_FLOATS) for _ in line] for line in start]
    for phis, values in zip(sums, start, strict=True):
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(value, entry)
    base = builder.mul(step, step_vectors)
    columns = [builder.load(builder.gep(weights, [builder.add(base, _I64(v))]), align=4) for v in range(vectors)]
    if rows <= 2:  # the processor's own prefetching ends at each 4 KiB page; more rows hide that
        for v in range(vectors):
            prefetch(builder, builder.gep(weights, [builder.add(base, _I64(_AHEAD * vectors + v))]))
    multiply_add = _MULTIPLY_ADD[kind]()
    new = []
    for row in range(rows):
        word = _broadcast(builder, builder.load(builder.gep(row_at[row], [step])))
        new.append([multiply_add(builder, total, c, word) for total, c in zip(sums[row], columns, strict=True)])
    following = builder.add(step, _I64(1))
    step.add_incoming(following, loop)
    for phis, values in zip(sums, new, strict=True):
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, steps), loop, end)
    builder.position_at_end(end)
    for pointers, values in zip(out_at, new, strict=True):
        for pointer, value in zip(pointers, values, strict=True):
            builder.store(value, pointer, align=4)
    return cgutils.get_null_value(_I64.as_pointer())


GROUP = 64
"""Activations that share a scale where weights are int8."""
INT8_ROWS = 3
"""Rows of the largest tile of int8 weights: it holds whole sums beside those of a group."""


@cache
def int8_tile(rows: int) -> Any:
    """Return the product of `rows` rows with 64 columns of int8 weights, callable in numba code.

    Weights are stored plus 128, as the processor's product of unsigned with signed bytes (AVX-512 VNNI) wants it; each
    sum of a group begins with -128 times the sum of its activations, which takes that out again. Arguments, int64:
    whether to add to the result, address of the weights, of their 64 scales, of the first row of int8 activations, of
    its scales and of its beginnings (both per group), of the result, its row stride in floats, and the groups.
    """

    @intrinsic
    def product(typing_context, add, w, w_scales, x, x_scales, beginnings, out, out_stride, groups):
        return types.void(*[types.int64] * 9), lambda _, builder, __, arguments: _emit_int8(builder, arguments, rows)

    return product


def _emit_int8(builder: Any, arguments: Any, rows: int) -> Any:
    add, w, w_scales, x, x_scales, beginnings, out, out_stride, groups = arguments
    vectors, steps = BLOCK // LANES, GROUP // 4
    byte_vector = ir.VectorType(ir.IntType(8), 64)
    name = "llvm.x86.avx512.vpdpbusd.512"
    dot = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(_WORDS, [_WORDS, byte_vector, byte_vector]), name
    )
    weights, activations = builder.inttoptr(w, _WORDS.as_pointer()), builder.inttoptr(x, _I32.as_pointer())
    scale_at, begin_at = builder.inttoptr(x_scales, _F32.as_pointer()), builder.inttoptr(beginnings, _I32.as_pointer())
    entry, outer = builder.block, builder.append_basic_block("groups")
    inner, after = builder.append_basic_block("steps"), builder.append_basic_block("after")
    end = builder.append_basic_block("end")
    zero = ir.Constant(_FLOATS, [0.0] * LANES)
    builder.branch(outer)
    builder.position_at_end(outer)
    group = builder.phi(_I64)
    group.add_incoming(_I64(0), entry)
    totals = [[builder.phi(_FLOATS) for _ in range(vectors)] for _ in range(rows)]
    places = [builder.add(builder.mul(groups, _I64(row)), group) for row in range(rows)]
    starts = [_broadcast(builder, builder.load(builder.gep(begin_at, [place]))) for place in places]
    builder.branch(inner)
    builder.position_at_end(inner)
    step = builder.phi(_I64)
    step.add_incoming(_I64(0), outer)
    sums = [[builder.phi(_WORDS) for _ in range(vectors)] for _ in range(rows)]
    at = builder.add(builder.mul(group, _I64(steps)), step)
    base = builder.mul(at, _I64(vectors))
    columns = [builder.load(builder.gep(weights, [builder.add(base, _I64(v))]), align=4) for v in range(vectors)]
    for v in range(vectors):
        prefetch(builder, builder.gep(weights, [builder.add(base, _I64(_AHEAD * vectors + v))]))
    new = []
    for row in range(rows):
        place = builder.add(builder.mul(builder.mul(groups, _I64(steps)), _I64(row)), at)
        word = builder.bitcast(_broadcast(builder, builder.load(builder.gep(activations, [place]))), byte_vector)
        new.append(
            [
                builder.call(dot, [s, builder.bitcast(c, byte_vector), word])
                for s, c in zip(sums[row], columns, strict=True)
            ]
        )
    following = builder.add(step, _I64(1))
    step.add_incoming(following, inner)
    for row in range(rows):
        for v in range(vectors):
            sums[row][v].add_incoming(starts[row], outer)
            sums[row][v].add_incoming(new[row][v], inner)
    builder.cbranch(builder.icmp_signed("<", following, _I64(steps)), inner, after)
    builder.position_at_end(after)
    grown = []
    for row in range(rows):
        scale = builder.load(builder.gep(scale_at, [places[row]]))
        scales = builder.bitcast(_broadcast(builder, builder.bitcast(scale, _I32)), _FLOATS)
        grown.append([
            builder.fadd(
                totals[row][v], builder.fmul(builder.sitofp(new[row][v], _FLOATS), scales, flags=("contract",)),
                flags=("contract",),
            )
            for v in range(vectors)
        ])  # fmt: skip
    next_group = builder.add(group, _I64(1))
    group.add_incoming(next_group, after)
    for row in range(rows):
        for v in range(vectors):
            totals[row][v].add_incoming(zero, entry)
            totals[row][v].add_incoming(grown[row][v], after)
    builder.cbranch(builder.icmp_signed("<", next_group, groups), outer, end)
    builder.position_at_end(end)
    result, of_columns = builder.inttoptr(out, _F32.as_pointer()), builder.inttoptr(w_scales, _FLOATS.as_pointer())
    adding = builder.icmp_signed("!=", add, _I64(0))
    for row in range(rows):
        for v in range(vectors):
            pointer = builder.bitcast(
                builder.gep(result, [builder.add(builder.mul(out_stride, _I64(row)), _I64(LANES * v))]),
                _FLOATS.as_pointer(),
            )
            value = builder.fmul(grown[row][v], builder.load(builder.gep(of_columns, [_I64(v)]), align=4))
            held = builder.select(adding, builder.load(pointer, align=4), zero)
            builder.store(builder.fadd(value, held), pointer, align=4)
    return cgutils.get_null_value(_I64.as_pointer())


def prefetch(builder: Any, pointer: Any) -> None:
    """Emit a request for the 64 bytes at a pointer."""
    byte_pointer = ir.IntType(8).as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [byte_pointer, _I32, _I32, _I32])
    fetch = builder.module.declare_intrinsic("llvm.prefetch", [byte_pointer], signature)
    builder.call(fetch, [builder.bitcast(pointer, byte_pointer), _I32(0), _I32(3), _I32(1)])


def _broadcast(builder: Any, word: Any) -> Any:
    undefined = ir.Constant(_WORDS, ir.Undefined)
    lane = builder.insert_element(undefined, word, _I32(0))
    return builder.shuffle_vector(lane, undefined, ir.Constant(_WORDS, [0] * LANES))


def _f32() -> Callable[..., Any]:
    def multiply_add(builder: Any, total: Any, weights: Any, word: Any) -> Any:
        product = builder.fmul(builder.bitcast(weights, _FLOATS), builder.bitcast(word, _FLOATS), flags=("contract",))
        return builder.fadd(total, product, flags=("contract",))

    return multiply_add


def _bf16_native() -> Callable[..., Any]:
    def multiply_add(builder: Any, total: Any, weights: Any, word: Any) -> Any:
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        dot = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(_FLOATS, [_FLOATS, _BFLOATS, _BFLOATS]), name
        )
        return builder.call(dot, [total, builder.bitcast(weights, _BFLOATS), builder.bitcast(word, _BFLOATS)])

    return multiply_add


def _bf16_by_shifts() -> Callable[..., Any]:
    shift, mask = ir.Constant(_WORDS, [16] * LANES), ir.Constant(_WORDS, [0xFFFF0000] * LANES)
    plain = _f32()

    def multiply_add(builder: Any, total: Any, weights: Any, word: Any) -> Any:
        total = plain(builder, total, builder.shl(weights, shift), builder.shl(word, shift))
        return plain(builder, total, builder.and_(weights, mask), builder.and_(word, mask))

    return multiply_add


_MULTIPLY_ADD: dict[WeightFormat, Callable[[], Callable[..., Any]]] = {
    "f32": _f32,
    "bf16": lambda: _bf16_native() if has_feature("avx512bf16") else _bf16_by_shifts(),
}
