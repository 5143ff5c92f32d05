"""What is computed row by row beside the products, as LLVM vector instructions for numba kernels.

numba's cache does not notice changes of this file; `kernels` drops what was compiled before one.
"""

from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from llama_platform.inference.torch_engine.cpu.tile import LANES, WeightFormat, broadcast, call_once

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _WORDS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_FAST = ("fast",)
_LOWEST = -1e30
_LOG2_E, _LEAST_EXPONENT = 1.4426950408889634, -126.0
_TAYLOR = (1.0, 0.6931471805599453, 0.24022650695910072, 0.05550410866482158, 0.009618129107628477,
           0.0013333558146428443, 0.00015403530393381608)  # fmt: skip
"""Coefficients of 2^x around 0."""


@cache
def softmax_row(kind: WeightFormat) -> Any:
    """Return what folds a row of scores into its running softmax (Milakov and Gimelshein, 2018); for numba code.

    Arguments, int64: address of the float32 scores, of the weights that they become (of `kind`), how many of the scores
    count and how many there are (a multiple of 16; the weights of the others are 0), addresses of the row's float32
    maximum and total so far, of its float32 sums, and their number (a multiple of 16).
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def fold(
        context: Any, scores: Any, weights: Any, seen: Any, width: Any, maximum: Any, total: Any, sums: Any, many: Any
    ) -> Any:
        return call_once(f"softmax_row_{kind}", 8, lambda builder, arguments: _emit_softmax(builder, arguments, kind))

    return fold


@cache
def silu_row(kind: WeightFormat) -> Any:
    """Return SwiGLU's product, SiLU(gate) · up (Shazeer, 2020), of a part of a row; for numba code.

    Arguments, int64: addresses of the float32 gate and up, of the result (of `kind`), and their number (a multiple of
    16).
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def product(context: Any, gate: Any, up: Any, out: Any, count: Any) -> Any:
        return call_once(f"silu_row_{kind}", 4, lambda builder, arguments: _emit_silu(builder, arguments, kind))

    return product


@cache
def norm_row(kind: WeightFormat) -> Any:
    """Return RMSNorm (Zhang and Sennrich, 2019) of a row; for numba code.

    Arguments, int64: addresses of the float32 values, of the float32 weights, of the result (of `kind`), their number
    (a multiple of 16), and the bits of the float32 epsilon.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def normalise(context: Any, x: Any, weights: Any, out: Any, count: Any, epsilon: Any) -> Any:
        return call_once(f"norm_row_{kind}", 5, lambda builder, arguments: _emit_norm(builder, arguments, kind))

    return normalise


def _emit_softmax(builder: Any, arguments: Any, kind: WeightFormat) -> None:
    scores, weights, seen, width, maximum, total, sums, dimension = arguments
    vectors = builder.udiv(width, _I64(LANES))
    score_at, sum_at = _vectors_at(builder, scores), _vectors_at(builder, sums)
    maximum_at, total_at = (builder.inttoptr(address, _F32.as_pointer()) for address in (maximum, total))
    before = builder.load(maximum_at)
    limit = broadcast(builder, builder.trunc(seen, _I32))
    lanes = ir.Constant(_WORDS, list(range(LANES)))

    def counted(index: Any) -> tuple[Any, Any]:
        """Return which of 16 scores count, and the scores with the others lowest."""
        first = builder.trunc(builder.mul(index, _I64(LANES)), _I32)
        mask = builder.icmp_signed("<", builder.add(broadcast(builder, first), lanes), limit)
        found = builder.load(builder.gep(score_at, [index]), align=4)
        return mask, builder.select(mask, found, _constant(_LOWEST))

    highest_16 = cgutils.alloca_once_value(builder, broadcast(builder, before))
    with cgutils.for_range(builder, vectors, intp=_I64) as loop:
        _, values = counted(loop.index)
        builder.store(_call(builder, "llvm.maxnum.v16f32", _FLOATS, builder.load(highest_16), values), highest_16)
    highest = _call(builder, "llvm.vector.reduce.fmax.v16f32", _F32, builder.load(highest_16))
    added_16 = cgutils.alloca_once_value(builder, _constant(0.0))
    with cgutils.for_range(builder, vectors, intp=_I64) as loop:
        mask, values = counted(loop.index)
        powers = _exp(builder, builder.fsub(values, broadcast(builder, highest), flags=_FAST))
        powers = builder.select(mask, powers, _constant(0.0))
        builder.store(builder.fadd(builder.load(added_16), powers, flags=_FAST), added_16)
        _store(builder, powers, weights, loop.index, kind)
    factor_16 = _exp(builder, broadcast(builder, builder.fsub(before, highest)))
    factor = builder.extract_element(factor_16, _I32(0))
    grown = builder.fadd(builder.fmul(builder.load(total_at), factor), _sum(builder, builder.load(added_16)))
    builder.store(grown, total_at)
    builder.store(highest, maximum_at)
    with (
        builder.if_then(builder.fcmp_ordered("!=", before, highest)),
        cgutils.for_range(builder, builder.udiv(dimension, _I64(LANES)), intp=_I64) as loop,
    ):
        place = builder.gep(sum_at, [loop.index])
        builder.store(builder.fmul(builder.load(place, align=4), factor_16), place, align=4)


def _emit_silu(builder: Any, arguments: Any, kind: WeightFormat) -> None:
    gate, up, out, count = arguments
    gate_at, up_at = _vectors_at(builder, gate), _vectors_at(builder, up)
    with cgutils.for_range(builder, builder.udiv(count, _I64(LANES)), intp=_I64) as loop:
        of_gate, of_up = (builder.load(builder.gep(place, [loop.index]), align=4) for place in (gate_at, up_at))
        # The sigmoid by e^-|x|, which cannot overflow.
        negated = builder.fsub(_constant(0.0), of_gate)
        power = _exp(builder, _call(builder, "llvm.minnum.v16f32", _FLOATS, of_gate, negated))
        positive = builder.fcmp_ordered(">=", of_gate, _constant(0.0))
        above = builder.select(positive, _constant(1.0), power)
        below = builder.fadd(_constant(1.0), power, flags=_FAST)
        sigmoid = builder.fdiv(above, below, flags=_FAST)
        gated = builder.fmul(builder.fmul(of_gate, sigmoid, flags=_FAST), of_up, flags=_FAST)
        _store(builder, gated, out, loop.index, kind)


def _emit_norm(builder: Any, arguments: Any, kind: WeightFormat) -> None:
    x, weights, out, count, epsilon = arguments
    x_at, weight_at = _vectors_at(builder, x), _vectors_at(builder, weights)
    vectors = builder.udiv(count, _I64(LANES))
    squares_16 = cgutils.alloca_once_value(builder, _constant(0.0))
    with cgutils.for_range(builder, vectors, intp=_I64) as loop:
        values = builder.load(builder.gep(x_at, [loop.index]), align=4)
        squares = builder.fmul(values, values, flags=_FAST)
        builder.store(builder.fadd(builder.load(squares_16), squares, flags=_FAST), squares_16)
    mean = builder.fdiv(_sum(builder, builder.load(squares_16)), builder.uitofp(count, _F32))
    shifted = builder.fadd(mean, builder.bitcast(builder.trunc(epsilon, _I32), _F32))
    factor = builder.fdiv(_F32(1.0), _call(builder, "llvm.sqrt.f32", _F32, shifted))
    factor_16 = broadcast(builder, factor)
    with cgutils.for_range(builder, vectors, intp=_I64) as loop:
        values, scales = (builder.load(builder.gep(place, [loop.index]), align=4) for place in (x_at, weight_at))
        scaled = builder.fmul(builder.fmul(values, factor_16, flags=_FAST), scales, flags=_FAST)
        _store(builder, scaled, out, loop.index, kind)


def _exp(builder: Any, x: Any) -> Any:
    """Return e^x of 16 numbers up to 0, to about 3e-7 relative: 2^n times the Taylor series of 2^f, |f| <= 1/2."""
    t = builder.fmul(x, _constant(_LOG2_E), flags=_FAST)
    t = _call(builder, "llvm.maxnum.v16f32", _FLOATS, t, _constant(_LEAST_EXPONENT))
    n = builder.fptosi(builder.fsub(t, _constant(0.5)), _WORDS)  # truncation of what is not positive
    f = builder.fsub(t, builder.sitofp(n, _FLOATS), flags=_FAST)
    series = _constant(_TAYLOR[-1])
    for coefficient in reversed(_TAYLOR[:-1]):
        series = builder.fadd(builder.fmul(series, f, flags=_FAST), _constant(coefficient), flags=_FAST)
    exponent = builder.shl(builder.add(n, ir.Constant(_WORDS, [127] * LANES)), ir.Constant(_WORDS, [23] * LANES))
    return builder.fmul(series, builder.bitcast(exponent, _FLOATS), flags=_FAST)


def _sum(builder: Any, values: Any) -> Any:
    return _call(builder, "llvm.vector.reduce.fadd.v16f32", _F32, _F32(0.0), values, fast=True)


def _store(builder: Any, values: Any, address: Any, index: Any, kind: WeightFormat) -> None:
    """Store 16 finite numbers as numbers of `kind`, rounded to the nearest, ties to even."""
    if kind == "f32":
        builder.store(values, builder.gep(_vectors_at(builder, address), [index]), align=4)
        return
    halves = ir.VectorType(ir.IntType(16), LANES)
    bits, sixteen = builder.bitcast(values, _WORDS), ir.Constant(_WORDS, [16] * LANES)
    even = builder.and_(builder.lshr(bits, sixteen), ir.Constant(_WORDS, [1] * LANES))
    rounded = builder.add(bits, builder.add(even, ir.Constant(_WORDS, [0x7FFF] * LANES)))
    place = builder.gep(builder.inttoptr(address, halves.as_pointer()), [index])
    builder.store(builder.trunc(builder.lshr(rounded, sixteen), halves), place, align=2)


def _vectors_at(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _FLOATS.as_pointer())


def _constant(value: float) -> Any:
    return ir.Constant(_FLOATS, [value] * LANES)


def _call(builder: Any, name: str, result: Any, *arguments: Any, fast: bool = False) -> Any:
    function = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(result, [argument.type for argument in arguments]), name
    )
    return builder.call(function, arguments, fastmath=_FAST if fast else ())
