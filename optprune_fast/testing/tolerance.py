"""How exact a result must be.

Bits, indices and formats are equal. For floating sums, with e(·) the largest error against float64,

    e(ours) ≤ 2 · e(torch, same dtype) + floor          floor = u · (1 + √terms) · magnitude

`u` is the unit roundoff of the dtype, or for float32 that of a precision asked for by name (`ops/precision.py`), whose
factors are rounded, each product by up to 2 u; torch's error stays that of float32 in full.
`terms` is the length of the longest sum and `magnitude` the largest sum of the *absolute* products. A sum that takes
its terms one by one is rounded `terms` times, by at most u · magnitude each; the errors of a random walk grow with the
root. Torch sums in blocks, so on long rows its error is far smaller than that of any plain sum; on short ones it may be
none at all; hence the floor. It is small enough that one wrong weight shows: for 513 terms of standard normals in
float32 it is some 0.0005, where a product is about 0.6.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from optprune_fast.ops.precision import DEFAULT, PRECISIONS


def assert_as_accurate(ours: Tensor, torch_same_dtype: Tensor, reference64: Tensor, *, terms: int,
                       magnitude: float, precision: str = DEFAULT) -> None:
    """Raise an `AssertionError` unless `ours` is about as close to `reference64` as torch itself gets.

    ours:              the result to judge
    torch_same_dtype:  what plain torch gives for the same inputs, in the same dtype
    reference64:       the same in float64
    terms:             products in the longest sum
    magnitude:         the largest sum of absolute products
    precision:         how factors in float32 were multiplied

    >>> x = torch.tensor([0.1, 0.2])
    >>> assert_as_accurate(x, x, x.double(), terms=1, magnitude=0.2)
    """
    assert ours.shape == torch_same_dtype.shape == reference64.shape, (
        f"shape {list(ours.shape)}; torch has {list(torch_same_dtype.shape)}, float64 {list(reference64.shape)}")
    assert ours.dtype == torch_same_dtype.dtype, f"dtype {ours.dtype}, torch has {torch_same_dtype.dtype}"
    assert ours.device == torch_same_dtype.device, f"device {ours.device}, torch has {torch_same_dtype.device}"
    assert reference64.dtype == torch.float64, f"the reference must be float64, not {reference64.dtype}"
    assert reference64.isfinite().all(), "the rule judges finite results; this reference has others"
    if ours.numel() == 0:
        return
    error, torch_error = (_largest_error(t, reference64) for t in (ours, torch_same_dtype))
    limit = 2 * torch_error + floor(ours.dtype, terms, magnitude, precision)
    # Said this way round, a NaN fails.
    assert error <= limit, (
        f"largest error {error:.3g}, at most {limit:.3g} allowed (torch {torch_error:.3g}, {terms} terms, "
        f"magnitude {magnitude:.3g})")


def floor(dtype: torch.dtype, terms: int, magnitude: float, precision: str = DEFAULT) -> float:
    """The error that rounding alone may bring about, however exact torch happens to be.

    >>> floor(torch.float32, 0, 1.0) == 2.0**-24
    True
    >>> floor(torch.float32, 3, 1.0, "bf16") == (1 + 3**0.5) * 2.0**-8
    True
    """
    roundoff = torch.finfo(dtype).eps / 2 if precision == DEFAULT else PRECISIONS[precision].roundoff
    return roundoff * (1 + math.sqrt(terms)) * magnitude


def network_limit(outputs64: Tensor, torch_float32: Tensor, *, terms: int, layers: int, precision: str = DEFAULT
                  ) -> float:
    """How far the outputs of a network in float32, or its mean losses, may be from float64: the rule, with the floor
    once for each masked layer and the largest output as its magnitude.

    terms: products in the longest sum;   layers: how many are masked
    """
    error, largest = _largest_error(torch_float32, outputs64), max(1.0, float(outputs64.abs().max()))
    return 2 * error + layers * floor(torch.float32, terms, largest, precision)


def _largest_error(values: Tensor, reference64: Tensor) -> float:
    return float((values.to(reference64) - reference64).abs().max())
