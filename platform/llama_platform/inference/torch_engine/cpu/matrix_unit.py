"""Products on a processor's matrix unit (Intel AMX), as LLVM instructions for numba kernels.

A register holds 16 rows of 64 bytes. With weights packed as `tile` has them, 16 steps of 16 columns are a register, and
so are 32 bfloat16 values of 16 rows; one instruction adds their product to 16 × 16 float32 sums. Registers 0 to 3 hold
sums, 4 and 5 rows, 6 and 7 weights. How many rows the first six have is configured, so nothing is computed or written
beyond the last row.

numba's cache does not notice changes of this file; `kernels` drops what was compiled before one.
"""

import ctypes
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llama_platform.inference.torch_engine.cpu.tile import call_once, has_feature

MATRIX_ROWS = 16
"""Rows of a register."""
MATRIX_STEPS = 16
"""Steps of packed weights in a register."""
HAS_MATRIX_UNIT = has_feature("amx-tile") and has_feature("amx-bf16")
"""Whether this processor has instructions for it; the system may still refuse them, see `request_matrix_unit`."""

_I8, _I64 = ir.IntType(8), ir.IntType(64)
_BYTES, _VOID = _I8.as_pointer(), ir.VoidType()
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18


@cache
def request_matrix_unit() -> bool:
    """Ask the system to let this process use the matrix unit; return whether it may."""
    return HAS_MATRIX_UNIT and ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA) == 0


@intrinsic  # type: ignore[untyped-decorator]
def configure(typing_context: Any, rows: Any) -> Any:
    """Begin to use the unit, with 1 to 16 rows in the registers of rows and sums; their content is lost."""

    def emit(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        table = cgutils.global_constant(builder, "matrix_configurations", _configurations())
        place = builder.gep(table, [_I64(0), arguments[0], _I64(0)])
        _call(builder, "ldtilecfg", builder.bitcast(place, _BYTES))
        return cgutils.get_null_value(_I64.as_pointer())

    return types.void(types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def release(typing_context: Any) -> Any:
    """End the use of the unit; the system then has less to save when it switches threads."""

    def emit(_: Any, builder: Any, __: Any, ___: Any) -> Any:
        _call(builder, "tilerelease")
        return cgutils.get_null_value(_I64.as_pointer())

    return types.void(), emit


@cache
def matrix_tile(row_registers: int, column_registers: int) -> Any:
    """Return the product of rows with 16·`column_registers` columns of bfloat16 weights, callable in numba code.

    Its arguments are int64: whether to add to what the result holds, address of the first weights, their step in bytes,
    address of the first row, row stride in bytes, address of the float32 result, its row stride in bytes, and the
    number of registers of steps.

    Args:
        row_registers: 1 for as many rows as are configured, 2 for 32 where 16 are.
        column_registers: the product of both is at most 4.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def product(
        typing_context: Any, add: Any, w: Any, w_stride: Any, x: Any, x_stride: Any, out: Any, out_stride: Any, n: Any
    ) -> Any:
        return call_once(
            f"matrix_tile_{row_registers}_{column_registers}",
            8,
            lambda builder, arguments: _emit(builder, arguments, row_registers, column_registers),
        )

    return product


def _emit(builder: Any, arguments: Any, row_registers: int, column_registers: int) -> None:
    add, w, w_stride, x, x_stride, out, out_stride, count = arguments
    rows, columns = range(row_registers), range(column_registers)
    sums = [
        (row * column_registers + column, _at(builder, out, builder.mul(out_stride, _I64(16 * row)), 64 * column))
        for row in rows
        for column in columns
    ]
    with builder.if_else(builder.icmp_signed("!=", add, _I64(0))) as (held, fresh):
        with held:
            for register, place in sums:
                _call(builder, "tileloadd64", _I8(register), place, out_stride)
        with fresh:
            for register, _ in sums:
                _call(builder, "tilezero", _I8(register))
    with cgutils.for_range(builder, count, intp=_I64) as loop:
        of_rows, of_weights = (
            builder.mul(loop.index, _I64(64)),
            builder.mul(loop.index, builder.mul(w_stride, _I64(16))),
        )
        for row in rows:
            offset = builder.add(of_rows, builder.mul(x_stride, _I64(16 * row)))
            _call(builder, "tileloadd64", _I8(4 + row), _at(builder, x, offset), x_stride)
        for column in columns:
            weights = _I8(6 + column % 2)
            _call(builder, "tileloadd64", weights, _at(builder, w, of_weights, 64 * column), w_stride)
            for row in rows:
                _call(builder, "tdpbf16ps", _I8(row * column_registers + column), _I8(4 + row), weights)
    for register, place in sums:
        _call(builder, "tilestored64", _I8(register), place, out_stride)


def _at(builder: Any, address: Any, offset: Any, further: int = 0) -> Any:
    return builder.inttoptr(builder.add(address, builder.add(offset, _I64(further))), _BYTES)


def _call(builder: Any, instruction: str, *arguments: Any) -> None:
    name = f"llvm.x86.{instruction}"
    function = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(_VOID, [argument.type for argument in arguments]), name
    )
    builder.call(function, arguments)


def _configurations() -> Any:
    """Return 17 configurations of 64 bytes, by the number of rows: palette 1, bytes of a row, and rows."""
    tables = []
    for count in range(MATRIX_ROWS + 1):
        table = bytearray(64)
        table[0] = 1
        for register in range(8):
            table[16 + 2 * register] = 64
            table[48 + register] = count if register < 6 else MATRIX_ROWS
        tables.append(ir.Constant(ir.ArrayType(_I8, 64), table))
    return ir.Constant(ir.ArrayType(ir.ArrayType(_I8, 64), len(tables)), tables)
