"""Measured on one thread of a Zen 3 under load, where ours come out rather dear: what layers take, and where sparse
convolutions win. `python -m benchmarks.deploy.latency` measures a machine's own.
"""

from __future__ import annotations

from dataclasses import dataclass

BATCHES = (1, 4, 16, 64, 256, 1024)  # "any batch size" is these


@dataclass(frozen=True)
class LinearCost:
    """Nanoseconds of a float32 layer.

    dense:   torch reads a weight once a call, from a cache or (`far` weights and more) from memory, and multiplies it
             once a sample; a single sample costs the reading alone
    sparse:  a call; a kept weight for one sample, or for each of a whole register of samples; an input and an output of
             each sample are turned
    """

    far: int = 6_000_000
    near_read: float = 0.085
    far_read: float = 0.25
    dense_product: float = 0.023
    call: float = 40_000
    kept: float = 0.38
    kept_product: float = 0.042
    turned: float = 0.5
    lanes: int = 8

    def dense(self, weights: int, batch: int) -> float:
        read = weights * (self.near_read if weights < self.far else self.far_read)
        return read if batch == 1 else read + weights * batch * self.dense_product

    def sparse(self, rows: int, columns: int, kept: int, batch: int) -> float:
        if batch == 1:
            return self.call + kept * self.kept
        whole = -(-batch // self.lanes) * self.lanes
        return self.call + kept * max(self.kept, whole * self.kept_product) + batch * (rows + columns) * self.turned


@dataclass(frozen=True)
class ConvRule:
    """Sparsity from which a convolution without groups wins at every batch size, and the columns that it must have."""

    unit_stride: float = 0.8
    any_stride: float = 0.95
    columns: int = 128


# Instruction sets for which there are figures. On others a layer stays dense where speed is preferred.
LINEAR = {"avx2": LinearCost()}
CONV = {"avx2": ConvRule()}
