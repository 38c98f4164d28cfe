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

// What is not a row of the picture is the least number there is, for a maximum, where it was zero.
inline void lower_outside(const Tensor &shape, float *row, const std::int32_t *lane) {
    for (std::int64_t l = 0; l < L; ++l) {
        for (std::int64_t c = 0; lane[l] < 0 && c < shape.shape[0]; ++c) {
            float *own = row + c * shape.stride[0] * L + l;
            for (std::int64_t x = 0; x < shape.shape[2]; ++x) own[x * L] = -__builtin_inff();
        }
    }
}

// numbers: bands of a sample, rows of the whole picture, rows of border above and below, 1 if what is outside of it is
// the least number and not zero. Rows beyond the picture, which a last band may have, are outside as well.
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
        if (step.numbers[4] != 0) lower_outside(step.out, picture + y * step_y * L, lane);
    }
}

// Where a lane of a row comes from: which row of a band, and which lane; -1: beyond the picture.
struct Origin {
    std::int64_t row[L];
    std::int32_t lane[L];

    bool is_one_row() const {
        for (std::int64_t l = 0; l < L; ++l) {
            if (row[l] != row[0]) return false;
        }
        return true;
    }
};

// A row whose lanes come from several rows.
inline void take_lanes(const Step &step, const float *from, float *to, const Origin &origin) {
    for (std::int64_t c = 0; c < step.out.shape[0]; ++c) {
        for (std::int64_t x = 0; x < step.out.shape[2]; ++x) {
            const float *own = from + (c * step.a.stride[0] + x) * L;
            float *lanes = to + (c * step.out.stride[0] + x) * L;
            for (std::int64_t l = 0; l < L; ++l) {
                lanes[l] = origin.lane[l] < 0 ? 0.0f : own[origin.row[l] * step.a.stride[1] * L + origin.lane[l]];
            }
        }
    }
}

// numbers: bands of a sample, and of it afterwards: as many, or one; rows of the whole picture
inline void regroup(const Tile &tile, const Step &step) {
    const std::int64_t bands = step.numbers[0], into = step.numbers[1], height = step.numbers[2];
    const std::int64_t before = step.a.shape[1], after = step.out.shape[1];
    const float *from = at(tile, step.a);
    for (std::int64_t y = 0; y < after; ++y) {
        Origin origin{};
        for (std::int64_t l = 0; l < L; ++l) {
            const std::int64_t sample = l / into, row = l % into * after + y;  // of the picture
            const bool there = sample < L / bands && row < height;
            origin.lane[l] = there ? static_cast<std::int32_t>(sample * bands + row / before) : -1;
            origin.row[l] = there ? row % before : l == 0 ? 0 : origin.row[l - 1];
        }
        float *to = at(tile, step.out) + y * step.out.stride[1] * L;
        if (origin.is_one_row()) {
            take_row(step.out, from + origin.row[0] * step.a.stride[1] * L, step.a.stride[0], to, step.out.stride[0],
                     origin.lane);
        } else {
            take_lanes(step, from, to, origin);
        }
    }
}

// numbers: bands of a sample
inline void spread(const Tile &tile, const Step &step) {
    std::int32_t lane[L];
    for (std::int64_t l = 0; l < L; ++l) lane[l] = static_cast<std::int32_t>(l / step.numbers[0]);
    take_row(step.out, at(tile, step.a), step.a.stride[0], at(tile, step.out), step.out.stride[0], lane);
}

}  // namespace
}  // namespace optprune::population

#endif
