"""Slices: how a weight lies in memory for the kernels that skip its zeros, and the way there and back.

A weight [O, I] is cut into chunks of 256 rows (a band) by 256 columns (a tile), tile by tile, then band by band. So a
column of a chunk is one byte, and the activations that a chunk reads stay in the first-level cache. In a chunk the rows
are sorted by how many weights they keep, most first, and taken eight at a time, so that eight rows run side by side and
end together:

    rows of a slice        a: a0 a1 a2 a3    b: b0 b1 b2    c: c0 c1          kept weights, ascending columns
    as they lie            [ a0 b0 c0 | a1 b1 c1 | a2 a3 | b2 ]               in turns as far as all go, then the rest

Nothing is padded. Rows of different groups of a convolution are never in one band.

| plane | |
|---|---|
| `values` | [nnz], in that order |
| `places` | uint8 [nnz]: columns within the tile, in that order; or int64 words: of each chunk, its rows in order |
| `counts` | int16 [T * O]: kept weights of a row of a chunk, descending; empty beside words |
| `rows` | uint8 [T * O]: which row of the band it is |
| `starts` | int64 [chunks + 1]: first value of each chunk |

Bytes a weight at density D, float32: 5 D + 0.012 with columns, 4 D + 0.129 with words (1/8, and a byte a row and tile).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from optprune_fast.ops.words import pack, popcount, row_counts, tail_mask, unpack, word_count
from optprune_fast.runtime.errors import message

TILE, BAND, SLICE = 256, 256, 8
_ROWS_AT_ONCE = 16


class Slices(NamedTuple):
    """The planes of one weight."""

    values: Tensor
    places: Tensor
    counts: Tensor
    rows: Tensor
    starts: Tensor

    @property
    def coded(self) -> bool:
        """Whether the places are words."""
        return self.places.dtype == torch.int64


def tile_count(columns: int) -> int:
    return -(-columns // TILE)


def bands(rows: int, groups: int = 1) -> Iterator[tuple[int, int]]:
    """(first row, rows) of each band.

    >>> list(bands(600, 2))
    [(0, 256), (256, 44), (300, 256), (556, 44)]
    """
    per_group = rows // groups
    for group in range(groups):
        for first in range(0, per_group, BAND):
            yield group * per_group + first, min(BAND, per_group - first)


def to_slices(words: Tensor, values: Tensor, columns: int, *, groups: int = 1, coded: bool = False) -> Slices:
    """Slices of a weight from its mask and its kept values; a band at a time, so that little memory is needed.

    words:    int64 [O, ⌈I/64⌉]
    values:   [nnz], any dtype, row after row, ascending columns
    coded:    words for places: smaller from a density of 1/8 on
    """
    device, row_count, tiles = words.device, words.shape[0], tile_count(columns)
    if row_counts(words).sum() != values.numel():
        raise ValueError(message("to_slices", "there must be a value for each bit set", words=words, values=values))
    out = torch.empty_like(values)
    places = [] if coded else [torch.empty(values.numel(), dtype=torch.uint8, device=device)]
    counts, rows, sizes, done = [], [], [], 0
    for first, many in bands(row_count, groups):
        own = words[first : first + many]
        order = _Order(own, columns)
        part = slice(done, done + order.kept)
        for some, place, column in order.parts():
            out[part][place] = values[part][some]
            if not coded:
                places[0][part][place] = (column % TILE).to(torch.uint8)
        if coded:
            by_tile = torch.nn.functional.pad(own, (0, -own.shape[1] % 4)).view(many, tiles, 4)
            ordered = by_tile.transpose(0, 1).gather(1, order.rows[..., None].expand(-1, -1, 4))
            places += [t[:, : min(4, own.shape[1] - 4 * i)].flatten() for i, t in enumerate(ordered)]
        else:
            counts.append(order.counts.flatten().to(torch.int16))
        rows.append(order.rows.flatten().to(torch.uint8))
        sizes.append(order.counts.sum(1))
        done = part.stop
    starts = torch.zeros(1, dtype=torch.int64, device=device)
    return Slices(out, _cat(places, torch.int64 if coded else torch.uint8, device), _cat(counts, torch.int16, device),
                  _cat(rows, torch.uint8, device), torch.cat([starts, _cat(sizes, torch.int64, device).cumsum(0)]))


def from_slices(slices: Slices, rows: int, columns: int, *, groups: int = 1) -> tuple[Tensor, Tensor]:
    """The mask, int64 [O, ⌈I/64⌉], and the kept values, row after row."""
    parts = [(words, values) for _, words, values in _bands(slices, rows, columns, groups)]
    device = slices.values.device
    words = torch.cat([w for w, _ in parts]) if parts else torch.zeros(rows, word_count(columns), dtype=torch.int64,
                                                                       device=device)
    return words, _cat([v for _, v in parts], slices.values.dtype, device)


def dense_bands(slices: Slices, rows: int, columns: int, *, groups: int = 1) -> Iterator[tuple[slice, Tensor]]:
    """(rows, weight [many, I]) of each band, zeros where nothing is kept."""
    for part, words, values in _bands(slices, rows, columns, groups):
        mask = unpack(words, columns)
        yield part, values.new_zeros(mask.shape).masked_scatter_(mask, values)


def dense_weight(slices: Slices, shape: Sequence[int], *, groups: int = 1) -> Tensor:
    """The weight [*shape] with its zeros."""
    columns = math.prod(shape[1:])
    out = slices.values.new_empty(shape[0], columns)
    for part, weight in dense_bands(slices, shape[0], columns, groups=groups):
        out[part] = weight
    return out.view(*shape)


def check_slices(slices: Slices, rows: int, columns: int, *, groups: int = 1, where: str = "slices") -> None:
    """Raise `ValueError` unless kernels may follow these planes: they look at nothing twice."""
    def require(holds: bool | Tensor, rule: str) -> None:
        if not bool(holds):
            raise ValueError(message(where, rule, "to_slices makes them", shape=[rows, columns],
                                     **slices._asdict()))

    tiles, values = tile_count(columns), slices.values.numel()
    all_bands = list(bands(rows, groups))
    require(slices.rows.dtype == torch.uint8 and slices.rows.numel() == tiles * rows, "rows must be uint8 [T * O]")
    require(slices.starts.dtype == torch.int64 and slices.starts.numel() == len(all_bands) * tiles + 1,
            "starts must be int64 [chunks + 1]")
    require(slices.starts[0] == 0 and slices.starts[-1] == values, "starts must lead from 0 to the values' number")
    expected = rows * word_count(columns) if slices.coded else values
    require(slices.places.numel() == expected, "places must be a column a value, or the words of all rows")
    if not slices.coded:
        require(slices.places.dtype == torch.uint8 and slices.counts.dtype == torch.int16
                and slices.counts.numel() == tiles * rows, "columns must be uint8 and counts int16 [T * O]")
    for number, (first, many) in enumerate(all_bands):
        here = slice(first * tiles, (first + many) * tiles)
        ordered = slices.rows[here].view(tiles, many).long()
        require((ordered.sort(1).values == torch.arange(many, device=ordered.device)).all(),
                "rows must name each row of a band once")
        chunks = slices.starts[number * tiles : (number + 1) * tiles + 1]
        if slices.coded:
            own = _band_words(slices, first, many, columns)
            ends = own[-1:, :, (word_count(columns) - 1) % 4]
            require(not (ends & ~tail_mask(columns)).any(), "words must be zero past the last column")
            counts = popcount(own).sum(-1)
        else:
            counts = slices.counts[here].view(tiles, many).long()
            last = slices.places[int(chunks[-2]) : int(chunks[-1])] if tiles else slices.places
            require((last <= (columns - 1) % TILE).all(), "columns must lie within the weight")
        require((counts >= 0).all() and (counts <= TILE).all() and (counts[:, 1:] <= counts[:, :-1]).all(),
                "counts of a chunk must descend, from 256 at most")
        require((counts.sum(1) == chunks.diff()).all(), "starts must agree with the counts")


def _bands(slices: Slices, rows: int, columns: int, groups: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """(rows, their words, their kept values row after row) of each band."""
    tiles = tile_count(columns)
    for number, (first, many) in enumerate(bands(rows, groups)):
        chunks = slices.starts[number * tiles : (number + 1) * tiles + 1]
        part, here = slice(int(chunks[0]), int(chunks[-1])), slice(first * tiles, (first + many) * tiles)
        order = slices.rows[here].view(tiles, many).long()
        if slices.coded:
            ordered = _band_words(slices, first, many, columns)
            by_row = torch.empty_like(ordered).scatter_(1, order[..., None].expand(-1, -1, 4), ordered)
            words = by_row.transpose(0, 1).flatten(1)[:, : word_count(columns)]
        else:
            counts = slices.counts[here].view(tiles, many).long()
            words = pack(_listed_mask(slices.places[part], counts, columns, order))
        values = torch.empty_like(slices.values[part])
        for some, place, _ in _Order(words, columns).parts():
            values[some] = slices.values[part][place]
        yield slice(first, first + many), words, values


def _cat(parts: list[Tensor], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.cat(parts) if parts else torch.empty(0, dtype=dtype, device=device)


class _Order:
    """Where the kept weights of a band, row after row, lie among its slices.

    counts, rows:  int64 [T, R], descending; which row
    kept:          weights
    """

    def __init__(self, words: Tensor, columns: int) -> None:
        self._words, self._columns = words, columns
        many, tiles = words.shape[0], tile_count(columns)
        self._by_row = torch.nn.functional.pad(popcount(words), (0, -words.shape[1] % 4)).view(many, tiles, 4).sum(-1)
        self.counts, self.rows = self._by_row.T.sort(dim=1, descending=True, stable=True)
        self.kept = int(self._by_row.sum())
        self._slot = torch.empty_like(self.rows)
        self._slot.scatter_(1, self.rows, torch.arange(many, device=words.device).expand(tiles, many))
        self._starts = _slice_starts(self.counts)

    def parts(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """(which of the kept weights, int64 place of each, int64 column of each), a few rows at a time: these numbers
        take more memory than the weights."""
        done, tiles = 0, tile_count(self._columns)
        for top in range(0, self._words.shape[0], _ROWS_AT_ONCE):
            row, column = unpack(self._words[top : top + _ROWS_AT_ONCE], self._columns).nonzero(as_tuple=True)
            tile = column // TILE
            each = self._by_row[top : top + _ROWS_AT_ONCE].flatten()
            first = each.cumsum(0) - each
            k = torch.arange(row.numel(), device=row.device) - first[row * tiles + tile]
            yield (slice(done, done + row.numel()),
                   _place(*self._starts, tile, self._slot[tile, row + top], k), column)
            done += row.numel()


def _slice_starts(counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each slice: its first place [T, S], how far all rows go [T, S], its rows [S]; of each row: its rest [T, R]."""
    tiles, many = counts.shape
    slices = -(-many // SLICE)
    lanes = torch.full((slices,), SLICE, device=counts.device)
    lanes[-1:] = many - SLICE * (slices - 1)
    full = counts[:, torch.arange(slices, device=counts.device) * SLICE + lanes - 1]
    padded = torch.nn.functional.pad(counts, (0, slices * SLICE - many)).view(tiles, slices, SLICE)
    sizes = padded.sum(-1).flatten()
    extra = (padded - full[..., None]).clamp(min=0)
    rest = (extra.cumsum(-1) - extra).view(tiles, slices * SLICE)[:, :many]
    return (sizes.cumsum(0) - sizes).view(tiles, slices), full, lanes, rest


def _place(start: Tensor, full: Tensor, lanes: Tensor, rest: Tensor, tile: Tensor, slot: Tensor, k: Tensor) -> Tensor:
    """The place of the k-th kept weight of a row of a tile."""
    number, lane = slot // SLICE, slot % SLICE
    all_go, side = full[tile, number], lanes[number]
    in_turn = k * side + lane
    return start[tile, number] + torch.where(k < all_go, in_turn, all_go * side + rest[tile, slot] + k - all_go)


def _listed_mask(listed: Tensor, counts: Tensor, columns: int, rows: Tensor) -> Tensor:
    tiles, many = counts.shape
    each = counts.flatten()
    which = torch.arange(tiles * many, device=each.device).repeat_interleave(each)
    k = torch.arange(which.numel(), device=each.device) - (each.cumsum(0) - each)[which]
    tile, slot = which // many, which % many
    places = _place(*_slice_starts(counts), tile, slot, k)
    mask = torch.zeros(many, columns, dtype=torch.bool, device=each.device)
    mask[rows[tile, slot], tile * TILE + listed[places].long()] = True
    return mask


def _band_words(slices: Slices, first: int, many: int, columns: int) -> Tensor:
    """int64 [T, many, 4]: the words of a band in the order of the chunks' rows."""
    words, tiles = word_count(columns), tile_count(columns)
    own = slices.places[first * words : (first + many) * words]
    parts = own.split([many * min(4, words - 4 * t) for t in range(tiles)])
    padded = [torch.nn.functional.pad(p.view(many, -1), (0, 4 - p.numel() // many)) for p in parts]
    return torch.stack(padded) if padded else own.view(0, many, 4)
