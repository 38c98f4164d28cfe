// The kernel, written once. An instruction set's file includes its Vec, its Eight and its turns, and then this.
#ifndef OPTPRUNE_KERNELS_SPARSE_LINEAR_BODY_H
#define OPTPRUNE_KERNELS_SPARSE_LINEAR_BODY_H

#include <string.h>

#include "common/simd/turn.h"
#include "kernels/sparse_linear/rows.h"

namespace optprune::sparse_linear {
namespace {

template <int R = Vec::beside>
void many(const Chunk &chunk, const float *x, std::int64_t registers, float *sums) {
    if constexpr (R > 1) {
        if (registers < R) return many<R - 1>(chunk, x, registers, sums);
    }
    rows_of_chunk<R>(chunk, [x](std::uint8_t column) { return x + column * (R * L); }, sums, R * L);
}

// The sums of eight rows as far as all of them go.
inline Eight in_turns(const float *x, const float *values, const std::uint8_t *columns, std::int64_t full) {
    Eight sum = Eight::zero();
    std::int64_t k = 0;
    for (; k + turns_at_once <= full; k += turns_at_once) {
        __builtin_prefetch(values + 8 * k + ahead);
        Eight picked[turns_at_once];
        pick_turns(x, columns + 8 * k, picked);
        for (std::int64_t j = 0; j < turns_at_once; ++j) {
            sum = Eight::fma(Eight::load(values + 8 * (k + j)), picked[j], sum);
        }
    }
    for (; k < full; ++k) sum = Eight::fma(Eight::load(values + 8 * k), Eight::pick(x, columns + 8 * k), sum);
    return sum;
}

// What each row keeps beyond the turns that all of them go; returns how much that is.
inline std::int64_t beyond(const float *x, Slice slice, const std::int16_t *counts, float *sum) {
    const std::int64_t first = slice.full * slice.lanes;
    std::int64_t rest = first;
    for (std::int64_t i = 0; i < slice.lanes && counts[i] != slice.full; ++i) {
        for (std::int64_t k = slice.full; k < counts[i]; ++k, ++rest) {
            sum[i] = multiply_add(slice.values[rest], x[slice.columns[rest]], sum[i]);
        }
    }
    return rest - first;
}

inline void add_rows(const float *sum, const std::uint8_t *rows, std::int64_t lanes, float *sums) {
    for (std::int64_t i = 0; i < lanes; ++i) sums[rows[i]] += sum[i];
}

// sums[row] += the part of a slice; each returns how much the slice keeps. Most slices of eight rows end with one turn
// more for some of them, or none: that way goes to its end alone, which is faster than to meet the other.
inline std::int64_t eight_rows(const float *x, Slice slice, const std::int16_t *counts, const std::uint8_t *rows,
                               float *sums) {
    const std::int64_t first = slice.full * slice_rows;
    Eight eight = in_turns(x, slice.values, slice.columns, slice.full);
    float sum[slice_rows];
    if (counts[0] > slice.full + 1) {
        eight.store(sum);
        const std::int64_t more = beyond(x, slice, counts, sum);
        add_rows(sum, rows, slice_rows, sums);
        return first + more;
    }
    const std::int64_t more = one_more(x, slice.values + first, slice.columns + first, counts, slice.full, eight);
    eight.store(sum);
    add_rows(sum, rows, slice_rows, sums);
    return first + more;
}

inline std::int64_t few_rows(const float *x, Slice slice, const std::int16_t *counts, const std::uint8_t *rows,
                             float *sums) {
    float sum[slice_rows] = {};
    for (std::int64_t k = 0; k < slice.full; ++k) {
        for (std::int64_t i = 0; i < slice.lanes; ++i) {
            const std::int64_t entry = k * slice.lanes + i;
            sum[i] = multiply_add(slice.values[entry], x[slice.columns[entry]], sum[i]);
        }
    }
    const std::int64_t more = beyond(x, slice, counts, sum);
    add_rows(sum, rows, slice.lanes, sums);
    return slice.full * slice.lanes + more;
}

void one(const Chunk &chunk, const float *x, float *sums) {
    std::int64_t entry = 0;
    for (std::int64_t slot = 0; slot < chunk.R; slot += slice_rows) {
        const std::int64_t lanes = chunk.R - slot < slice_rows ? chunk.R - slot : slice_rows;
        const std::int16_t *counts = chunk.counts + slot;
        if (counts[0] == 0) break;
        const Slice slice{chunk.values + entry, chunk.columns + entry, lanes, counts[lanes - 1]};
        entry += lanes == slice_rows ? eight_rows(x, slice, counts, chunk.rows + slot, sums)
                                     : few_rows(x, slice, counts, chunk.rows + slot, sums);
    }
}

void turn(const float *x, std::int64_t samples, std::int64_t I, std::int64_t registers, float *turned) {
    for (std::int64_t j = 0; j < registers; ++j) {
        const std::int64_t left = samples - j * L, count = left < 0 ? 0 : left < L ? left : L;
        optprune::turn(x + (count > 0 ? j * L * I : 0), I, count, I, turned + j * L, registers * L, L);
    }
}

void finish(float *sums, std::int64_t R, std::int64_t registers, std::int64_t samples, const float *bias, float *out,
            std::int64_t O) {
    const std::int64_t T = registers * L;
    for (std::int64_t r = 0; r < R && bias != nullptr; ++r) {
        for (std::int64_t j = 0; j < T; j += L) {
            Vec::add(Vec::load(sums + r * T + j), Vec::spread(bias[r])).store(sums + r * T + j);
        }
    }
    for (std::int64_t r = 0; r < R; r += L) {
        const std::int64_t rows = R - r < L ? R - r : L;
        optprune::turn(sums + r * T, T, rows, samples, out + r, O, rows);
    }
}

// positions[b]: a byte for each bit set in b, the lowest first; the rest are zero
struct Positions {
    std::uint64_t of[256];

    constexpr Positions() : of() {
        for (unsigned b = 0; b < 256; ++b) {
            int n = 0;
            for (unsigned bit = 0; bit < 8; ++bit) {
                if ((b >> bit & 1) != 0) of[b] |= std::uint64_t{bit} << (8 * n++);
            }
        }
    }
};

constexpr Positions positions;

// Append the positions of the bits set in a word to a list; up to eight bytes past its end are overwritten.
inline std::int64_t list_word(std::uint64_t word, std::uint64_t first, std::uint8_t *list) {
    std::int64_t n = 0;
    std::uint64_t base = first * 0x0101010101010101u;
    for (int byte = 0; byte < 8; ++byte, word >>= 8, base += 0x0808080808080808u) {
        const std::uint64_t eight = positions.of[word & 255] + base;
        memcpy(list + n, &eight, sizeof eight);
        n += __builtin_popcountll(word & 255);
    }
    return n;
}

void list(const std::uint64_t *words, std::int64_t words_per_row, std::int64_t R, std::int16_t *counts,
          std::uint8_t *columns) {
    constexpr std::int64_t step = tile_columns + 8;
    std::uint8_t lists[slice_rows * step];
    for (std::int64_t slot = 0; slot < R; slot += slice_rows) {
        const std::int64_t lanes = R - slot < slice_rows ? R - slot : slice_rows;
        for (std::int64_t i = 0; i < lanes; ++i) {
            const std::uint64_t *word = words + (slot + i) * words_per_row;
            std::int64_t n = 0;
            for (std::int64_t w = 0; w < words_per_row; ++w) {
                n += list_word(word[w], static_cast<std::uint64_t>(64 * w), lists + i * step + n);
            }
            counts[slot + i] = static_cast<std::int16_t>(n);
        }
        const std::int64_t full = counts[slot + lanes - 1];
        if (lanes == slice_rows) {
            interleave(lists, step, full, columns);
        } else {
            for (std::int64_t k = 0; k < full; ++k) {
                for (std::int64_t i = 0; i < lanes; ++i) columns[k * lanes + i] = lists[i * step + k];
            }
        }
        columns += full * lanes;
        for (std::int64_t i = 0; i < lanes; ++i) {
            const std::int64_t rest = counts[slot + i] - full;
            memcpy(columns, lists + i * step + full, static_cast<std::size_t>(rest));
            columns += rest;
        }
    }
}

void widen(const std::uint16_t *values, Type type, std::int64_t count, float *out) {
    if (type == Type::float16) return widen_halves(values, count, out);
    for (std::int64_t i = 0; i < count; ++i) {
        const std::uint32_t bits = static_cast<std::uint32_t>(values[i]) << 16;
        memcpy(out + i, &bits, sizeof bits);
    }
}

constexpr Kernel kernel{L, Vec::beside, turn, one, many<>, finish, list, widen, narrow};

}  // namespace
}  // namespace optprune::sparse_linear

#endif
