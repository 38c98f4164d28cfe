"""Elementary functions and activations in Numba: the formulas of the native kernels, so results are the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from optprune_fast.engine.numba_vectors import bits_of, float_of
from optprune_fast.ops.numba_support import called, fma

_f = np.float32
ZERO, HALF, ONE, TWO, THREE, SIX = _f(0), _f(0.5), _f(1), _f(2), _f(3), _f(6)
INFINITY = _f(np.inf)
# Constants of csrc/common/simd/math.h.
EXP_LEAST, EXP_MOST, WHOLE = _f(-87.3), _f(88.3), _f(12582912 + 127)
LOG2_E, LN2_HIGH, LN2_LOW = _f(1.44269504), _f(0.693359375), _f(-2.12194440e-4)
E2, E3, E4, E5, E6 = map(_f, (0.5, 0.16666573, 0.041666456, 0.0083637768, 0.0013934545))
P1, P2, P3, P4, P5, P6 = map(_f, (0.69314718, 0.24022648, 0.055503324, 0.0096184369, 0.0013398875, 0.00015353362))
POWER_LEAST = _f(-126)
ROOT_TWO = _f(1.41421356)
FLOOR = _f(-80)
G0, G1, G2, G3, G4, G5, G6, G7, G8 = map(_f, (
    0.33333331, -0.2499999, 0.20000714, -0.1666843, 0.14249641, -0.12412216, 0.11666141, -0.1156366, 0.071254596))
H1, H2, H3, H4, H5, H6 = HALF, _f(0.125), E3 / _f(8), E4 / _f(16), E5 / _f(32), E6 / _f(64)
N0, N1, N2, N3, N4 = map(_f, (0.5, 0.434975654, 0.1807836, 0.0398086496, 0.00399433402))
D1, D2, D3, D4, D5 = map(_f, (1.66783623, 1.19230402, 0.4629997, 0.0997931361, 0.0100121601))
HALF_LOG2_E, THIRTEEN = _f(0.72134752), _f(13)
T0, T1, T2, T3, T4 = map(_f, (-0.33333328, 0.13332783, -0.053852499, 0.021003641, -0.006104948))
S0, S1, S2, S3, S4 = map(_f, (0.5, 0.16666667, 0.041666667, 0.0083333333, 0.0013888889))
TANH_SMALL, ELU_NEAR, GELU_ROOT, GELU_CUBE = _f(0.625), _f(-0.3), _f(0.79788456), _f(0.044715)


@called
def largest(a: Any, b: Any) -> Any:
    """The larger; b where one is not a number."""
    return a if a > b else b


@called
def smallest(a: Any, b: Any) -> Any:
    return a if a < b else b


@called
def clamp(x: Any, low: Any, high: Any) -> Any:
    return smallest(high, largest(low, x))


@called
def magnitude(x: Any) -> Any:
    return largest(ZERO - x, x)


@called
def exponential(x: Any) -> Any:
    x = smallest(EXP_MOST, largest(EXP_LEAST, x))
    counted = fma(x, LOG2_E, WHOLE)
    n = counted - WHOLE
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    rest = fma(fma(fma(fma(E6, r, E5), r, E4), r, E3), r, E2)
    return (ONE + fma(r * r, rest, r)) * float_of(bits_of(counted) << 23)


@called
def add_exponential(total: Any, x: Any) -> Any:
    """total + e^x for x <= 0 and a total that gets to one or more."""
    t = largest(POWER_LEAST, x * LOG2_E)
    counted = t + WHOLE
    r = t - (counted - WHOLE)
    power = fma(fma(fma(fma(fma(fma(P6, r, P5), r, P4), r, P3), r, P2), r, P1), r, ONE)
    return fma(power, float_of(bits_of(counted) << 23), total)


@called
def logarithm(x: Any) -> Any:
    bits = bits_of(x)
    m = float_of((bits & 0x007FFFFF) | 0x3F800000)
    e = _f(np.int32(((bits >> 23) & 0x1FF) - 127))
    e = e if m < ROOT_TWO else e + ONE
    f = (m if m < ROOT_TWO else m * HALF) - ONE
    square = f * f
    rest = fma(fma(fma(fma(G8, f, G7), f, G6), f, G5), f, G4)
    rest = fma(fma(fma(fma(rest, f, G3), f, G2), f, G1), f, G0)
    rest = fma(square, -HALF, fma(e, LN2_LOW, square * f * rest))
    return fma(e, LN2_HIGH, f + rest)


@called
def logistic(x: Any) -> Any:
    e = exponential(ZERO - magnitude(x))
    small = ONE / (ONE + e)
    return e * small if x < ZERO else small


@called
def hyperbolic_tangent(x: Any) -> Any:
    size, square = magnitude(x), x * x
    small = fma(square * size, fma(fma(fma(fma(T4, square, T3), square, T2), square, T1), square, T0), size)
    e = exponential(size * -TWO)
    both = small if size < TANH_SMALL else (ONE - e) / (ONE + e)
    return ZERO - both if x < ZERO else both


@called
def unit(x: Any) -> Any:
    """What a share is multiplied with: shares end at 2^-126, so a number may not get larger below."""
    return FLOOR if x < FLOOR else x


@called
def gaussian_unit(x: Any) -> Any:
    u = smallest(THIRTEEN, magnitude(x))
    minus = ZERO - u
    square = minus * u
    lost = fma(minus, minus, square)
    counted = fma(square, HALF_LOG2_E, WHOLE)
    n = counted - WHOLE
    r = fma(n, -TWO * LN2_LOW, fma(n, -TWO * LN2_HIGH, square)) - lost
    e = fma(fma(fma(fma(fma(fma(H6, r, H5), r, H4), r, H3), r, H2), r, H1), r, ONE)
    p = fma(fma(fma(fma(N4, u, N3), u, N2), u, N1), u, N0)
    q = fma(fma(fma(fma(fma(D5, u, D4), u, D3), u, D2), u, D1), u, ONE)
    return largest(ZERO, x) + minus * float_of(bits_of(counted) << 23) * e * p / q


@called
def gelu_tanh(x: Any) -> Any:
    inner = GELU_ROOT * fma(x * x * x, GELU_CUBE, x)
    return unit(x) * logistic(inner + inner)


@called
def elu(x: Any, alpha: Any) -> Any:
    y = smallest(ZERO, x)
    near = fma(y * y, fma(fma(fma(fma(S4, y, S3), y, S2), y, S1), y, S0), y)
    curve = exponential(y) - ONE if y < ELU_NEAR else near
    return curve * alpha if x < ZERO else x


@called
def hardsigmoid(x: Any) -> Any:
    return clamp(x + THREE, ZERO, SIX) / SIX
