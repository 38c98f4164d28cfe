"""Registers of samples for Numba, which has no name for them: sums of kept weights, and the bits of a float.

Importing this module imports Numba.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

LANES = 8
MOST_POSITIONS = 14  # of 16 registers, one holds the weight
MOST_REGISTERS = 8  # that a linear layer takes at once

_i64, _f32 = ir.IntType(64), ir.FloatType()
_vector = ir.VectorType(_f32, LANES)


def rows_together(columns: int) -> int:
    """Rows of `columns` outputs that the registers hold."""
    return 4 if MOST_POSITIONS // columns >= 4 else 2 if MOST_POSITIONS // columns >= 2 else 1


# (rows, columns, whether outputs lie one after another: a step that goes into the address)
_CASES = [*((1, n, unit) for n in range(1, MOST_POSITIONS + 1) for unit in (True, False)),
          *((rows_together(n), n, True) for n in range(1, MOST_POSITIONS // 2 + 1))]


def _patch_types(_: Any, x: Any, at: Any, y_step: Any, x_step: Any, offsets: Any, weights: Any, first: Any, end: Any,
              bias: Any, low: Any, to: Any, place: Any, to_y: Any, rows: Any, columns: Any) -> Any:
    """`rows` rows of `columns` outputs: max(low, bias + the sum of weights[k] * x[at + offsets[k] + …], ascending).

    Every output is one accumulator in a register. Steps count floats; rows is 1 or `rows_together(columns)`, that
    only where x_step is LANES.
    """
    integer, real = types.int64, types.float32
    return types.void(x, integer, integer, integer, offsets, weights, integer, integer, real, real, to, integer,
                      integer, integer, integer), _add_patch


def _add_patch(context: Any, builder: Any, signature: Any, given: Any) -> Any:
    def data(i: int) -> Any:
        return context.make_array(signature.args[i])(context, builder, given[i]).data

    x, offsets, weights, to = (data(i) for i in (0, 4, 5, 10))
    at, y_step, x_step, first, end, bias, low, place, to_y, rows, columns = (
        given[i] for i in (1, 2, 3, 6, 7, 8, 9, 11, 12, 13, 14))
    unit = builder.icmp_signed("==", x_step, _i64(LANES))
    which = builder.add(builder.mul(rows, _i64(32)), builder.add(columns, columns))
    which = builder.add(which, builder.zext(unit, _i64))
    after = builder.append_basic_block("after")
    switch = builder.switch(which, after)
    x, to = builder.gep(x, [at]), builder.gep(to, [place])
    # What the pointers are made of must stand before the switch, which ends its block.
    block = builder.block
    block.instructions.remove(switch)
    block.instructions.append(switch)
    fma = builder.module.declare_intrinsic(f"llvm.fma.v{LANES}f32", (), ir.FunctionType(_vector, [_vector] * 3))
    for G, N, adjacent in _CASES:
        head, body, done = (builder.append_basic_block(name) for name in ("head", "body", "done"))
        start = builder.append_basic_block("start")
        switch.add_case(_i64(32 * G + 2 * N + adjacent), start)
        builder.position_at_end(start)
        start_sum = _spread(builder, bias)
        builder.branch(head)

        builder.position_at_end(head)
        k = builder.phi(_i64)
        k.add_incoming(first, start)
        sums = [builder.phi(_vector) for _ in range(G * N)]
        for one in sums:
            one.add_incoming(start_sum, start)
        builder.cbranch(builder.icmp_signed("<", k, end), body, done)

        builder.position_at_end(body)
        offset = builder.sext(builder.load(builder.gep(offsets, [k])), _i64)
        weight = _spread(builder, builder.load(builder.gep(weights, [k])))
        row = builder.gep(x, [offset])
        for g in range(G):
            for j in range(N):
                step = _i64(j * LANES) if adjacent else builder.mul(x_step, _i64(j))
                one = sums[g * N + j]
                loaded = builder.load(_register(builder, builder.gep(row, [step])), align=4)
                one.add_incoming(builder.call(fma, [weight, loaded, one]), body)
            row = builder.gep(row, [y_step])
        k.add_incoming(builder.add(k, _i64(1)), body)
        builder.branch(head)

        builder.position_at_end(done)
        least, row = _spread(builder, low), to
        for g in range(G):
            for j in range(N):
                one = sums[g * N + j]
                clamped = builder.select(builder.fcmp_ordered(">", least, one), least, one)
                builder.store(clamped, _register(builder, builder.gep(row, [_i64(j * LANES)])), align=4)
            row = builder.gep(row, [to_y])
        builder.branch(after)
    builder.position_at_end(after)
    return context.get_dummy_value()


def _spread(builder: Any, number: Any) -> Any:
    one = builder.insert_element(ir.Constant(_vector, ir.Undefined), number, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_vector, ir.Undefined), zeros)


def _register(builder: Any, pointer: Any) -> Any:
    return builder.bitcast(pointer, _vector.as_pointer())


def _bits_of(_: Any, number: Any) -> Any:
    """The 32 bits of a float32."""
    return types.int32(types.float32), lambda context, builder, signature, given: builder.bitcast(
        given[0], ir.IntType(32))


def _float_of(_: Any, bits: Any) -> Any:
    """The float32 of 32 bits."""
    return types.float32(types.int32), lambda context, builder, signature, given: builder.bitcast(given[0], _f32)


add_patch: Any = intrinsic(_patch_types)
bits_of: Any = intrinsic(_bits_of)
float_of: Any = intrinsic(_float_of)
