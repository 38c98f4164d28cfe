// Few samples: a picture is cut into bands of rows, and each lane of a register holds one.
//
//   two samples of eight rows, four lanes a sample, eight lanes:
//
//   lane     0     1     2     3     4     5     6     7
//   sample   0     0     0     0     1     1     1     1        register (c, y, x): row y of every band
//   rows    0 1   2 3   4 5   6 7   0 1   2 3   4 5   6 7       border row -1: lanes moved by one, row 1 of the band above
//
// So a convolution is the one that runs on samples, on pictures of fewer rows.
#ifndef OPTPRUNE_KERNELS_POPULATION_BANDS_H
#define OPTPRUNE_KERNELS_POPULATION_BANDS_H

#include "kernels/population/tile.h"

namespace optprune::population {
namespace {

// Row y of a picture becomes row `to_y` of another, register by register, its lanes as listed.
inline void take_row(const Tensor &shape, const float *from, std::int64_t from_c, float *to, std::int64_t to_c,
                     const std::int32_t *lane) {
    for (std::int64_t c = 0; c < shape.shape[0]; ++c) {
        for (std::int64_t x = 0; x < shape.shape[2]; ++x) {
            Vec::take(from + (c * from_c + x) * L, lane).store(to + (c * to_c + x) * L);
        }
    }
}

// numbers: bands of a sample, rows of the whole picture, rows of border above and below. Rows beyond the picture,
// which a last band may have, become zero as well.
inline void halo(const Tile &tile, const Step &step) {
    const std::int64_t bands = step.numbers[0], height = step.numbers[1], h = step.out.shape[1];
    const std::int64_t step_c = step.out.stride[0], step_y = step.out.stride[1];
    float *picture = at(tile, step.out);
    for (std::int64_t y = -step.numbers[2]; y < h + step.numbers[3]; ++y) {
        const bool inside = y >= 0 && y < h;
        if (inside && bands * h <= height) continue;
        const std::int64_t away = y < 0 ? -((h - 1 - y) / h) : y / h, row = y - away * h;  // whose row, and which
        std::int32_t lane[L];
        for (std::int64_t l = 0; l < L; ++l) {
            const std::int64_t band = l % bands + away;
            const bool there = band >= 0 && band < bands && band * h + row < height;
            lane[l] = there ? static_cast<std::int32_t>(l + away) : -1;
        }
        take_row(step.out, picture + row * step_y * L, step_c, picture + y * step_y * L, step_c, lane);
    }
}

// numbers: bands of a sample
inline void gather(const Tile &tile, const Step &step) {
    const std::int64_t bands = step.numbers[0], h = step.a.shape[1];
    for (std::int64_t y = 0; y < step.out.shape[1]; ++y) {
        std::int32_t lane[L];
        for (std::int64_t l = 0; l < L; ++l) {
            lane[l] = l < L / bands ? static_cast<std::int32_t>(l * bands + y / h) : -1;
        }
        take_row(step.out, at(tile, step.a) + y % h * step.a.stride[1] * L, step.a.stride[0],
                 at(tile, step.out) + y * step.out.stride[1] * L, step.out.stride[0], lane);
    }
}

}  // namespace
}  // namespace optprune::population

#endif
