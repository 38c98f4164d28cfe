"""What slices mean, one kept weight after another: slow, and what everything else is judged by."""

from __future__ import annotations

from collections.abc import Iterator

from optprune_fast.ops.slices import SLICE, TILE, Slices, bands, tile_count
from optprune_fast.ops.words import word_count


def walk(slices: Slices, rows: int, columns: int, *, groups: int = 1) -> Iterator[tuple[int, int, int]]:
    """(place of the value, row, column) of every kept weight, in no particular order."""
    tiles, words = tile_count(columns), word_count(columns)
    places, counts, order, starts = (t.tolist() for t in slices[1:])
    for band, (first, many) in enumerate(bands(rows, groups)):
        for tile in range(tiles):
            at = first * tiles + tile * many
            named = order[at : at + many]
            if slices.coded:
                width = min(4, words - 4 * tile)
                at = first * words + 4 * tile * many
                bits = [[64 * w + j for w in range(width) for j in range(64) if places[at + r * width + w] >> j & 1]
                        for r in range(many)]
                kept = [len(row) for row in bits]
            else:
                kept = counts[at : at + many]
            entry = starts[band * tiles + tile]
            for top in range(0, many, SLICE):
                here = range(top, min(top + SLICE, many))
                full = min(kept[i] for i in here)
                in_turns = [(k, slot) for k in range(full) for slot in here]
                rests = [(k, slot) for slot in here for k in range(full, kept[slot])]
                for k, i in in_turns + rests:
                    yield entry, first + named[i], tile * TILE + (bits[i][k] if slices.coded else places[entry])
                    entry += 1
