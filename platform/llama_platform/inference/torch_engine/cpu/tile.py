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
_ZEROS = ir.Constant(_FLOATS, [0.0] * LANES)


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
def vector_tile(kind: WeightFormat, rows: int, vectors: int) -> Any:
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
    first_row = builder.inttoptr(x, _I32.as_pointer())
    row_at = [builder.gep(first_row, [builder.mul(x_stride, _I64(row))]) for row in range(rows)]
    places = _result_places(builder, out, out_stride, rows, vectors)
    multiply_add = _MULTIPLY_ADD[kind]()

    def step(index: Any, sums: list[Any]) -> list[Any]:
        base = builder.mul(index, step_vectors)
        columns = _load_columns(builder, weights, base, vectors)
        if rows <= 2:  # the processor's own prefetching ends at each 4 KiB page; more rows hide that
            _prefetch_columns(builder, weights, base, vectors)
        grown = []
        for row, place in enumerate(row_at):
            word = broadcast(builder, builder.load(builder.gep(place, [index])))
            of_row = sums[row * vectors : (row + 1) * vectors]
            grown += [multiply_add(builder, total, column, word) for total, column in zip(of_row, columns, strict=True)]
        return grown

    start = [_held(builder, add, place) for place in places]
    for place, total in zip(places, _loop(builder, steps, start, step), strict=True):
        builder.store(total, place, align=4)
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
    vectors, steps = BLOCK // LANES, _I64(GROUP // 4)
    weights, activations = builder.inttoptr(w, _WORDS.as_pointer()), builder.inttoptr(x, _I32.as_pointer())
    scale_at, begin_at = builder.inttoptr(x_scales, _F32.as_pointer()), builder.inttoptr(beginnings, _I32.as_pointer())
    row_at = [builder.gep(activations, [builder.mul(builder.mul(groups, steps), _I64(row))]) for row in range(rows)]

    def group(index: Any, totals: list[Any]) -> list[Any]:
        at = [builder.add(builder.mul(groups, _I64(row)), index) for row in range(rows)]
        first = builder.mul(index, steps)

        def step(inner: Any, sums: list[Any]) -> list[Any]:
            word_at = builder.add(first, inner)
            base = builder.mul(word_at, _I64(vectors))
            columns = _load_columns(builder, weights, base, vectors)
            _prefetch_columns(builder, weights, base, vectors)
            grown = []
            for row, place in enumerate(row_at):
                word = broadcast(builder, builder.load(builder.gep(place, [word_at])))
                of_row = sums[row * vectors : (row + 1) * vectors]
                grown += [_dot(builder, total, column, word) for total, column in zip(of_row, columns, strict=True)]
            return grown

        starts = [broadcast(builder, builder.load(builder.gep(begin_at, [place]))) for place in at]
        sums = _loop(builder, steps, [start for start in starts for _ in range(vectors)], step)
        scales = [broadcast(builder, builder.load(builder.gep(scale_at, [place]))) for place in at]
        return [
            builder.fadd(
                total,
                builder.fmul(builder.sitofp(of_group, _FLOATS), scales[i // vectors], flags=("contract",)),
                flags=("contract",),
            )
            for i, (total, of_group) in enumerate(zip(totals, sums, strict=True))
        ]

    totals = _loop(builder, groups, [_ZEROS] * (rows * vectors), group)
    column_scales = _load_columns(builder, builder.inttoptr(w_scales, _FLOATS.as_pointer()), _I64(0), vectors)
    places = _result_places(builder, out, out_stride, rows, vectors)
    for i, (place, total) in enumerate(zip(places, totals, strict=True)):
        value = builder.fmul(total, column_scales[i % vectors])
        builder.store(builder.fadd(value, _held(builder, add, place)), place, align=4)
    return cgutils.get_null_value(_I64.as_pointer())


def _dot(builder: Any, total: Any, columns: Any, word: Any) -> Any:
    """Add, to 16 int32 sums, the products of four unsigned bytes of each column with four signed activations."""
    byte_vector = ir.VectorType(ir.IntType(8), 64)
    name = "llvm.x86.avx512.vpdpbusd.512"
    dot = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(_WORDS, [_WORDS, byte_vector, byte_vector]), name
    )
    return builder.call(dot, [total, builder.bitcast(columns, byte_vector), builder.bitcast(word, byte_vector)])


@intrinsic
def unpack_int8(typing_context: Any, w: Any, scales: Any, out: Any, quads: Any) -> Any:
    """Turn int8 weights of a block into bfloat16 ones, times the scales of their columns; for numba code.

    Args:
        typing_context: numba's, which passes it.
        w: int64 address of the packed weights.
        scales: int64 address of the float32 scales of their 64 columns.
        out: int64 address of the bfloat16 weights.
        quads: int64 number of steps of four weights, each of which becomes two steps of two.
    """
    return types.void(*[types.int64] * 4), lambda _, builder, __, arguments: _emit_unpacking(builder, arguments)


def _emit_unpacking(builder: Any, arguments: Any) -> Any:
    w, scales, out, quads = arguments
    weights, unpacked = (builder.inttoptr(address, _WORDS.as_pointer()) for address in (w, out))
    vectors = BLOCK // LANES
    column_scales = _load_columns(builder, builder.inttoptr(scales, _FLOATS.as_pointer()), _I64(0), vectors)
    zero, byte = ir.Constant(_WORDS, [128] * LANES), ir.Constant(_WORDS, [255] * LANES)
    half, upper = ir.Constant(_WORDS, [0x8000] * LANES), ir.Constant(_WORDS, [0xFFFF0000] * LANES)
    sixteen = ir.Constant(_WORDS, [16] * LANES)

    def step(index: Any, _: list[Any]) -> list[Any]:
        base = builder.mul(index, _I64(vectors))
        for vector, words in enumerate(_load_columns(builder, weights, base, vectors)):
            rounded = []
            for place in range(4):
                shifted = builder.lshr(words, ir.Constant(_WORDS, [8 * place] * LANES))
                number = builder.sub(builder.and_(shifted, byte), zero)
                value = builder.fmul(builder.sitofp(number, _FLOATS), column_scales[vector])
                rounded.append(builder.add(builder.bitcast(value, _WORDS), half))
            for pair in range(2):
                low, high = rounded[2 * pair : 2 * pair + 2]
                both = builder.or_(builder.lshr(low, sixteen), builder.and_(high, upper))
                place_of = builder.add(builder.mul(base, _I64(2)), _I64(pair * vectors + vector))
                builder.store(both, builder.gep(unpacked, [place_of]), align=4)
        return []

    _loop(builder, quads, [], step)
    return cgutils.get_null_value(_I64.as_pointer())


def _loop(builder: Any, count: Any, start: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Emit a loop of at least one round that carries values from round to round; return those of the last.

    Args:
        builder: stands behind the loop afterwards.
        count: rounds, int64, at least 1.
        start: values before the first round.
        body: emits a round from its number and the values; returns the new values.
    """
    entry, rounds = builder.block, builder.append_basic_block("rounds")
    end = builder.append_basic_block("end")
    builder.branch(rounds)
    builder.position_at_end(rounds)
    index, carried = builder.phi(_I64), [builder.phi(value.type) for value in start]
    grown = body(index, list(carried))
    following = builder.add(index, _I64(1))
    for phi, before, after in zip([index, *carried], [_I64(0), *start], [following, *grown], strict=True):
        phi.add_incoming(before, entry)
        phi.add_incoming(after, builder.block)  # the body may have ended in a block of its own
    builder.cbranch(builder.icmp_signed("<", following, count), rounds, end)
    builder.position_at_end(end)
    return grown


def _result_places(builder: Any, out: Any, out_stride: Any, rows: int, vectors: int) -> list[Any]:
    """Return the addresses of the result's vectors, row by row."""
    result = builder.inttoptr(out, _F32.as_pointer())
    return [
        builder.bitcast(
            builder.gep(result, [builder.add(builder.mul(out_stride, _I64(row)), _I64(LANES * v))]),
            _FLOATS.as_pointer(),
        )
        for row in range(rows)
        for v in range(vectors)
    ]


def _held(builder: Any, add: Any, place: Any) -> Any:
    """Return what the result holds where it is added to, zeros elsewhere."""
    return builder.select(builder.icmp_signed("!=", add, _I64(0)), builder.load(place, align=4), _ZEROS)


def _load_columns(builder: Any, vectors_at: Any, base: Any, vectors: int) -> list[Any]:
    return [builder.load(builder.gep(vectors_at, [builder.add(base, _I64(v))]), align=4) for v in range(vectors)]


def _prefetch_columns(builder: Any, weights: Any, base: Any, vectors: int) -> None:
    for v in range(vectors):
        prefetch(builder, builder.gep(weights, [builder.add(base, _I64(_AHEAD * vectors + v))]))


def prefetch(builder: Any, pointer: Any) -> None:
    """Emit a request for the 64 bytes at a pointer."""
    byte_pointer = ir.IntType(8).as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [byte_pointer, _I32, _I32, _I32])
    fetch = builder.module.declare_intrinsic("llvm.prefetch", [byte_pointer], signature)
    builder.call(fetch, [builder.bitcast(pointer, byte_pointer), _I32(0), _I32(3), _I32(1)])


def broadcast(builder: Any, value: Any) -> Any:
    """Return a vector of 16 times an int32 or a float32."""
    undefined = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    lane = builder.insert_element(undefined, value, _I32(0))
    return builder.shuffle_vector(lane, undefined, ir.Constant(_WORDS, [0] * LANES))


def call_once(name: str, count: int, emit_body: Callable[[Any, Any], None]) -> Any:
    """Return an intrinsic's signature, and what emits a call of a function that stands in the module once.

    Written out wherever it is called, its body would be compiled many times.
    """

    def emit(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [_I64] * count), name)
            function.linkage = "linkonce_odr"
            function.attributes.add("noinline")
            inside = ir.IRBuilder(function.append_basic_block())
            emit_body(inside, function.args)
            inside.ret_void()
        builder.call(function, arguments)
        return cgutils.get_null_value(_I64.as_pointer())

    return types.void(*[types.int64] * count), emit


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
