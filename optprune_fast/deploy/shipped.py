"""What was measured on one thread of a machine of each instruction set: what layers take, and where sparse
convolutions win. `python -m benchmarks.deploy.latency` measures a machine's own, and to what it writes
`python -m benchmarks.deploy.costs` fits figures like these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BATCHES = (1, 2, 4, 16, 64, 256, 1024)  # "any batch size" is these


@dataclass(frozen=True)
class LinearCost:
    """Nanoseconds of a float32 layer; what has a number for each of `BATCHES` is multiplied by weights.

    near, far:  of a dense weight, which torch reads from a near cache, or, where there are more of them than
                `near_weights`, from a far one or memory
    call, kept: of a sparse layer: a call, and each kept weight
    turned:     of an input or an output of a sample, which are turned where there is more than one sample
    """

    near_weights: int
    near: Sequence[float]
    far: Sequence[float]
    call: float
    kept: Sequence[float]
    turned: float

    def dense(self, weights: int, batch: int) -> float:
        return weights * (self.near if weights < self.near_weights else self.far)[BATCHES.index(batch)]

    def sparse(self, rows: int, columns: int, kept: int, batch: int) -> float:
        turned = batch * (rows + columns) * self.turned if batch > 1 else 0.0
        return self.call + kept * self.kept[BATCHES.index(batch)] + turned


@dataclass(frozen=True)
class ConvRule:
    """Sparsity from which a convolution without groups wins at every batch size, 1 for never, and the columns that it
    must have."""

    unit_stride: float
    any_stride: float
    columns: int = 128


# Instruction sets for which there are figures. On others a layer stays dense where speed is preferred.
LINEAR = {
    # Zen 3 under load, where ours come out rather dear
    "avx2": LinearCost(6_000_000, near=(0.085, 0.131, 0.177, 0.453, 1.557, 5.973, 23.637),
                       far=(0.25, 0.296, 0.342, 0.618, 1.722, 6.138, 23.802), call=40_000,
                       kept=(0.38, 0.38, 0.38, 0.672, 2.688, 10.752, 43.008), turned=0.5),
    # An Intel Xeon with 2 MiB of second-level cache; dense ones rather cheap
    "avx512": LinearCost(750_000, near=(0.056, 0.039, 0.073, 0.29, 0.8, 2.75, 11.6),
                         far=(0.135, 0.137, 0.28, 0.385, 0.92, 2.94, 11.7), call=14_000,
                         kept=(0.3, 0.4, 0.42, 0.6, 1.75, 6.5, 26.0), turned=0.8),
}
CONV = {"avx2": ConvRule(unit_stride=0.8, any_stride=0.95), "avx512": ConvRule(unit_stride=0.9, any_stride=1.0)}
# Where torch multiplies 16-bit types no faster than float32, so that the figures hold for them too. Processors with
# AVX-512 may have units for them, which are several times as fast.
SHORT_FLOATS = ("avx2",)
