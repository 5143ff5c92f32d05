"""Tiles: the products of a few rows with 16·n columns of packed weights, as LLVM instructions for numba kernels.

All matrix work on the CPU (linear layers, LoRA, attention) is made of these. Weights are packed in units of four bytes,
`[columns / block][steps][block][4 bytes]`: a step holds one float32, two bfloat16 or four int8 values of the inner
dimension, so one loop serves all of them and every vector of weights is read once, in order. bfloat16 uses the
processor's dot product where it has one (AVX-512 BF16) and shifts with float32 products elsewhere; vectors wider than
the machine's are split by LLVM.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

Kind = Literal["f32", "bf16"]
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
def tile(kind: Kind, rows: int, vectors: int) -> Any:
    """Return the product of `rows` rows with 16·`vectors` columns, callable in numba code.

    Its arguments are int64: whether to add to what the result holds, address of the first weights, address of the first
    row, row stride in units of four bytes, address of the float32 result, its row stride in floats, steps, and the
    distance of steps in vectors.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def product(typing_context, add, w, x, x_stride, out, out_stride, steps, step_vectors):  # type: ignore[no-untyped-def] # noqa: ARG001
        return types.void(*[types.int64] * 8), lambda _, builder, __, arguments: _emit(
            builder, arguments, kind, rows, vectors
        )

    return product


def _emit(builder: Any, arguments: Any, kind: Kind, rows: int, vectors: int) -> Any:
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


_MULTIPLY_ADD: dict[Kind, Callable[[], Callable[..., Any]]] = {
    "f32": _f32,
    "bf16": lambda: _bf16_native() if has_feature("avx512bf16") else _bf16_by_shifts(),
}
