"""How exactly products are formed, by name: a choice for float32 tensors, reported and never silent.

    name      factors of a product                               products and sums      roundoff
    fp32      as they are                                        float32                2^-24
    tf32x3    in two parts of 11 bits each, three products       float32                2^-20
    tf32      the first 11 bits of each, perhaps cut off         float32                2^-10
    fp16      rounded to float16: at most 65504                  exact, then float32    2^-11
    bf16      rounded to bfloat16                                exact, then float32    2^-8

`roundoff` is the u of the tolerance rule (`testing/tolerance.py`): what the names round, and not the sums, decides it.
Tensors of 16 bits have their own type's precision, and no choice.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from optprune_fast.runtime.errors import message

DEFAULT = "fp32"


class Precision(NamedTuple):
    """dot: how tensor cores take float32 factors;   dtype: what factors are rounded to first;   roundoff: see above"""

    dot: str
    dtype: torch.dtype
    roundoff: float


PRECISIONS = {
    "fp32": Precision("ieee", torch.float32, 2.0**-24),
    "tf32x3": Precision("tf32x3", torch.float32, 2.0**-20),
    "tf32": Precision("tf32", torch.float32, 2.0**-10),
    "fp16": Precision("ieee", torch.float16, 2.0**-11),
    "bf16": Precision("ieee", torch.bfloat16, 2.0**-8),
}


def check_precision(where: str, name: str) -> None:
    """Raise `ValueError` for a name that is none.

    >>> check_precision("masked_linear", "tf32")
    """
    if name not in PRECISIONS:
        raise ValueError(message(where, f"precision must be one of {', '.join(PRECISIONS)}",
                                 "fp32 is exact to float32, the others round factors first", precision=name))


def chosen(where: str, name: str) -> dict[str, str]:
    """The name as an option of a call: none where it is the default, which every backend serves.

    >>> chosen("masked_linear", "fp32"), chosen("masked_linear", "tf32")
    ({}, {'precision': 'tf32'})
    """
    check_precision(where, name)
    return {} if name == DEFAULT else {"precision": name}


def declines_precision(x: Tensor, name: str) -> str | None:
    """Why a tensor has no such choice, or None.

    >>> declines_precision(torch.zeros(1, dtype=torch.float16), "tf32")
    'precision is a choice for float32 tensors, these are float16: leave it at fp32'
    """
    if name == DEFAULT or x.dtype == torch.float32:
        return None
    return (f"precision is a choice for float32 tensors, these are {str(x.dtype).removeprefix('torch.')}: leave it at "
            f"{DEFAULT}")
