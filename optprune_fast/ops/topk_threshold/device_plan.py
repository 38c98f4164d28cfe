"""What the GPU kernels of topk_threshold are told: where the tensors lie, which ranks are wanted, how many samples.

One array of int64, built here and sent once. Kernels for Triton and for CUDA read the same one.

    header                        HEADER numbers, below
    a field of all tensors        FIELDS rows of `tensors` numbers, below

A tile is some words of mask, as many as suit the kernels. Tiles are numbered through all tensors in their order; a tile
never spans two tensors, and nobody else writes its words.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from optprune_fast.ops.cuda_support import declines_device, declines_dtype, sent, with_unit_steps
from optprune_fast.ops.words import WORD_BITS, as_rows, matrix, word_count

BATCH_TILES = 32  # patched by one program, or block

# Header. A sample rank is that of a bound of the bracket around a wanted rank: upper and lower of the first, then of
# the second.
(TENSORS, TILES, WORDS, WEIGHTS, SAMPLES, CAPACITY, SEARCH_STEPS, DIRECT, WANTED, _SECOND, SAMPLE_RANKS) = range(11)
HEADER = 16

# Fields. Rows of contiguous tensors whose rows are whole words count as one long row.
(FIRST_TILE, FIRST_WORD, FIRST_WEIGHT, TENSOR_WORDS, ADDRESS, WORDS_ADDRESS, POOL_ADDRESS, COLUMNS, STEP, ROW_WORDS,
 KIND, WIDE_LOADS) = range(12)
FIELDS = 12

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
INFINITY = 0x7F800000  # keys above it are NaN

# Up to here the ranks are found by histograms of all keys, four reads of what a GPU's cache holds, without a sample.
DIRECT_WEIGHTS = 1 << 20
FEWEST_SAMPLES, MOST_SAMPLES = 1 << 14, 1 << 19
# Bytes of a load that takes several weights at a time.
WIDE_BYTES = 16
MOST_ROW_WORDS = (1 << 31) - (1 << 10)  # kernels count the words of a row in 32 bits, from there on a tile further


class Plan(NamedTuple):
    """`numbers` is what the kernels read; the rest is for whoever launches them."""

    numbers: Tensor  # int64 [HEADER + FIELDS * tensors]
    tiles: int
    ranks: int       # 2 with a pool
    samples: int
    capacity: int    # entries of 8 bytes for each rank: the list, or the bitmap of ties, whichever a rank needs
    direct: bool


def declines_tensors(tensors: Sequence[Tensor], oldest: tuple[int, int] | None) -> str | None:
    """Why kernels for cards from compute capability `oldest` on, None for an interpreter, do not take them, or None.

    >>> declines_tensors([torch.zeros(2, 3), torch.zeros(2, 3).double()], None)
    'takes float32 or bfloat16 or float16, not float64'
    """
    for t in tensors:
        reason = declines_dtype(t, *KINDS) or (declines_device(t, oldest) if oldest else None)
        columns = matrix(t.shape)[1]
        if reason is None and word_count(columns) > MOST_ROW_WORDS:
            reason = f"takes rows of at most {WORD_BITS * MOST_ROW_WORDS} weights, not {columns}"
        if reason:
            return reason
    return None


def run_planned(enqueue: Callable[[Plan], Tensor], tile_words: int, tensors: list[Tensor], k: int, pool: int,
                words: list[Tensor], pool_words: list[Tensor] | None, nan: str) -> tuple[float, int]:
    """What `run` of an implementation returns.

    enqueue:  from a plan to int64 [2] on the device, read here: the key of rank k; how many tensors of the plan there
              are from the first that holds NaN on, or 0
    """
    filled = [i for i, t in enumerate(tensors) if t.numel()]
    if not filled:
        return math.inf, -1
    own = [with_unit_steps(as_rows(tensors[i])) for i in filled]
    plan = make_plan(own, tile_words, k, pool, [words[i] for i in filled],
                     None if pool_words is None else [pool_words[i] for i in filled])
    key, nans = enqueue(plan).tolist()
    return value_of(key) if k else math.inf, filled[len(filled) - nans] if nans and nan == "raise" else -1


def make_plan(rows: Sequence[Tensor], tile_words: int, k: int, pool: int, words: Sequence[Tensor],
              pool_words: Sequence[Tensor] | None, *, direct: bool | None = None, samples: int | None = None,
              spare: int = 1 << 17, bracket: Callable[[int, int, int], tuple[int, int]] | None = None) -> Plan:
    """Lay out the work on `rows`, of which none is empty and all have neighbouring columns.

    direct:   False brackets the ranks by a sample however few the weights, True never does; None decides by the number
    samples:  how many weights the sample takes
    spare:    entries of a list beyond one for each word of the mask
    bracket:  in the place of `sample_ranks`: a bad one costs time and no bit
    """
    n = sum(r.numel() for r in rows)
    direct = n <= DIRECT_WEIGHTS if direct is None else direct
    samples = 0 if direct else samples or sample_size(n)
    table = _table(rows, tile_words, words, pool_words)
    last_words = int(table[TENSOR_WORDS, -1])
    tiles = int(table[FIRST_TILE, -1]) + -(-last_words // tile_words)
    word_total = int(table[FIRST_WORD, -1]) + last_words
    wanted = [k, k + pool] if pool_words is not None else [k]
    capacity = word_total + spare
    header = torch.zeros(HEADER, dtype=torch.int64)
    header[:WANTED] = torch.tensor([len(rows), tiles, word_total, n, samples, capacity, (len(rows) - 1).bit_length(),
                                    int(direct)])
    for j, rank in enumerate(wanted):
        header[WANTED + j] = rank
        header[SAMPLE_RANKS + 2 * j], header[SAMPLE_RANKS + 2 * j + 1] = (bracket or sample_ranks)(n, rank, samples)
    numbers = sent(torch.cat([header, table.flatten()]), rows[0].device)
    return Plan(numbers, tiles, len(wanted), samples, capacity, direct)


def value_of(key: int) -> float:
    """The magnitude whose float32 has these bits; NaN for those of NaN.

    >>> value_of(0x3F800000), value_of(1), value_of(INFINITY), value_of(-1)
    (1.0, 1.401298464324817e-45, inf, nan)
    """
    if not 0 <= key <= INFINITY:
        return math.nan
    value: float = struct.unpack("<f", struct.pack("<i", key))[0]
    return value


def sample_size(n: int) -> int:
    """Weights to sample of `n`. The list shrinks with the root of it, and a sample costs the read of a sector.

    >>> sample_size(10**6), sample_size(10**7), sample_size(10**9)
    (20000, 92832, 524288)
    """
    return int(min(max(round(2 * n ** (2 / 3)), FEWEST_SAMPLES), MOST_SAMPLES))


def sample_ranks(n: int, rank: int, samples: int) -> tuple[int, int]:
    """Ranks in the sample of the keys between which the key of `rank` lies, but for one call in some ten thousand.

    The sample takes one weight of each of `samples` equal stretches. How many of those are among the first `rank` then
    varies at most as in a binomial distribution, however the weights are arranged; four deviations are left to each
    side. The upper rank is 0 where no sample bounds the key from above.

    >>> sample_ranks(1000, 100, 100), sample_ranks(1000, 1, 100)
    ((0, 26), (0, 6))
    """
    share = rank / n
    reach = 4 * math.sqrt(samples * share * (1 - share)) + 4
    return max(0, math.ceil(samples * share - reach)), math.ceil(samples * share + reach)


def _table(rows: Sequence[Tensor], tile_words: int, words: Sequence[Tensor],
           pool_words: Sequence[Tensor] | None) -> Tensor:
    table = []
    tile = word = weight = 0
    for r, out, pool_out in zip(rows, words, pool_words or words, strict=True):
        lines, columns = r.shape
        step = r.stride(0) if lines > 1 else 0
        if columns % WORD_BITS == 0 and step == columns:  # no gap in memory, no idle bit: one long row
            lines, columns, step = 1, r.numel(), 0
        wide = r.data_ptr() % WIDE_BYTES == 0 and step * r.itemsize % WIDE_BYTES == 0
        own_words = lines * word_count(columns)
        table.append([tile, word, weight, own_words, r.data_ptr(), out.data_ptr(), pool_out.data_ptr(), columns, step,
                      word_count(columns), KINDS[r.dtype], int(wide)])
        tile, word, weight = tile + -(-own_words // tile_words), word + own_words, weight + r.numel()
    return torch.tensor(table, dtype=torch.int64).T
