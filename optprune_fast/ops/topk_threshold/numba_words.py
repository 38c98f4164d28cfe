"""Words of comparisons for Numba, which has no name for them: 64 magnitudes against one, from an address.

Importing this module imports Numba. A type is a number: 0 float32, 1 float16, 2 bfloat16, 3 float64.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

_i32, _i64 = ir.IntType(32), ir.IntType(64)
LANES = 32  # compared at a time: a register of bytes


def _comparing(bits: int) -> Any:
    lane = ir.IntType(bits)
    vector = ir.VectorType(lane, LANES)
    magnitude = ir.Constant(vector, [(1 << (bits - 1)) - 1] * LANES)

    def spread(builder: Any, number: Any) -> Any:
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), builder.trunc(number, lane) if bits < 64
                                     else number, _i32(0))
        zeros = ir.Constant(ir.VectorType(_i32, LANES), [0] * LANES)
        return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        address, level = given
        word = _i64(0)
        for half in range(0, 64, LANES):
            place = builder.add(address, _i64(half * bits // 8))
            keys = builder.load(builder.inttoptr(place, vector.as_pointer()), align=bits // 8)
            above = builder.icmp_signed(">", builder.and_(keys, magnitude), spread(builder, level))
            part = builder.zext(builder.bitcast(above, ir.IntType(LANES)), _i64)
            word = builder.or_(word, builder.shl(part, _i64(half)))
        return word

    def typed(_: Any, address: Any, level: Any) -> Any:
        """uint64: bit i is set where the key of weight i is more than `level`."""
        return types.uint64(types.int64, types.int64), code

    return intrinsic(typed)


def _loading(bits: int) -> Any:
    lane = ir.IntType(bits)

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        weight = builder.load(builder.inttoptr(given[0], lane.as_pointer()), align=bits // 8)
        key = builder.and_(weight, lane((1 << (bits - 1)) - 1))
        return builder.zext(key, _i64) if bits < 64 else key

    def typed(_: Any, address: Any) -> Any:
        """int64: the key of the weight at an address."""
        return types.int64(types.int64), code

    return intrinsic(typed)


def _load_word(_: Any, address: Any) -> Any:
    """uint64: the word at an address."""
    return types.uint64(types.int64), lambda context, builder, signature, given: builder.load(
        builder.inttoptr(given[0], _i64.as_pointer()))


def _store_word(_: Any, address: Any, word: Any) -> Any:
    """Write a word to an address."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        builder.store(given[1], builder.inttoptr(given[0], _i64.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.uint64), code


above16, above32, above64 = _comparing(16), _comparing(32), _comparing(64)
key16, key32, key64 = _loading(16), _loading(32), _loading(64)
load_word: Any = intrinsic(_load_word)
store_word: Any = intrinsic(_store_word)
