"""The ways to a mask. Each module has

- `NAME`, and `EXACT`: whether it keeps exactly k (else all that equal the threshold)
- `declines(case) -> str | None`
- `prepare(tensors, k, pool) -> (run, masks)`: `run()` is timed; `masks()` gives bool [O, I] of each tensor afterwards.
  What a call writes is allocated before
"""

from benchmarks.threshold.rivals import (
    native,
    numba,
    numpy_partition,
    torch_kthvalue,
    torch_sort,
    torch_topk,
)

WAYS = {module.NAME: module for module in (native, numba, numpy_partition, torch_kthvalue, torch_topk, torch_sort)}
