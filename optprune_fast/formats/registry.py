"""The closed list of formats: a name in a file is looked up here and nowhere else."""

from __future__ import annotations

from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.block import Block
from optprune_fast.formats.csr import CSR
from optprune_fast.formats.delta_csr import DeltaCSR
from optprune_fast.formats.dense import Dense
from optprune_fast.formats.entropy import Entropy
from optprune_fast.formats.tiled_index import TiledIndex
from optprune_fast.formats.two_four import TwoFour

FORMATS: dict[str, type[SparseFormat]] = {
    kind.name: kind for kind in (Dense, Bitmask, TiledIndex, CSR, DeltaCSR, TwoFour, Block, Entropy)}
