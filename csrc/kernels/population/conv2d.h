// A convolution of one register of samples, with what follows it: bias, residual, ReLU or its kin, 2x2 maximum.
#ifndef OPTPRUNE_KERNELS_POPULATION_CONV2D_H
#define OPTPRUNE_KERNELS_POPULATION_CONV2D_H

#include "kernels/population/conv2d_dense.h"
#include "kernels/population/grid.h"

namespace optprune::population {
namespace {

// Patches of one output channel, `across` side by side in each of `down` rows. Steps count floats.
struct Patches {
    const Kept *kept, *end;
    std::int64_t across, down;
    const float *from;                       // under the first output
    std::int64_t x_step, y_step;             // from one output to the next
    const float *residual;                   // added to the outputs, or null
    std::int64_t residual_y;
    float *to;
    std::int64_t to_y;
    float bias;
    Bounds bounds;                           // of the activation
};

// G rows of N outputs, all in registers.
template <int G, int N>
struct Sums {
    Vec of[G][N];

    template <class F>
    void each(F visit) {
        for (int g = 0; g < G; ++g) {
            for (int j = 0; j < N; ++j) visit(of[g][j], g, j);
        }
    }
};

template <bool Pools, int G, int N>
void store(Sums<G, N> &sum, float *to, std::int64_t to_y) {
    if constexpr (Pools) {
        for (int g = 0; g < G; g += 2) {
            for (int j = 0; j < N; j += 2) {
                const Vec top = Vec::max(sum.of[g][j], sum.of[g][j + 1]);
                Vec::max(top, Vec::max(sum.of[g + 1][j], sum.of[g + 1][j + 1])).store(to + g / 2 * to_y + j / 2 * L);
            }
        }
    } else {
        sum.each([&](const Vec &v, int g, int j) { v.store(to + g * to_y + j * L); });
    }
}

// Unit: outputs lie one after another, a step that goes into the address.
template <bool Unit, bool Pools, int G, int N>
void add_patches(const Patches &all) {
    constexpr int unit = Pools ? 2 : 1;
    const std::int64_t x_step = Unit ? L : all.x_step, y_step = all.y_step;
    const Kept *const first = all.kept, *const end = all.end;
    const Vec low = Vec::spread(all.bounds.low), high = Vec::spread(all.bounds.high);
    const bool has_high = all.bounds.has_high();
    for (std::int64_t d = 0; d < all.down; ++d) {
        for (std::int64_t a = 0; a < all.across; ++a) {
            const float *from = all.from + d * G * y_step + a * N * x_step;
            Sums<G, N> sum;
            const Vec bias = Vec::spread(all.bias);
            sum.each([&](Vec &v, int, int) { v = bias; });
            for (const Kept *kept = first; kept != end; ++kept) {
                const Vec weight = Vec::spread(kept->weight);
                const float *x = from + kept->offset;
                sum.each([&](Vec &v, int g, int j) {
                    v = Vec::fma(weight, Vec::load(x + g * y_step + j * x_step), v);
                });
            }
            if (all.residual != nullptr) {
                const float *residual = all.residual + d * G * all.residual_y + a * N * L;
                sum.each([&](Vec &v, int g, int j) {
                    v = Vec::add(v, Vec::load(residual + g * all.residual_y + j * L));
                });
            }
            sum.each([&](Vec &v, int, int) { v = Vec::max(low, v); });
            if (has_high) sum.each([&](Vec &v, int, int) { v = Vec::min(high, v); });
            store<Pools>(sum, all.to + d * G / unit * all.to_y + a * N / unit * L, all.to_y);
        }
    }
}

using AddPatches = void (*)(const Patches &);

// The code for patches of `rows` by `columns`.
template <bool Unit, bool Pools, int G = 4, int N = Vec::positions / 4>
AddPatches code_for(std::int64_t rows, std::int64_t columns) {
    constexpr int unit = Pools ? 2 : 1;
    if constexpr (G > unit) {
        if (rows < G) return code_for<Unit, Pools, G / 2, Vec::positions / (G / 2)>(rows, columns);
    }
    if constexpr (N % unit != 0) {
        return code_for<Unit, Pools, G, N - 1>(rows, columns);
    } else if constexpr (N == 0) {
        return nullptr;
    } else {
        if constexpr (N > unit) {
            if (columns < N) return code_for<Unit, Pools, G, N - unit>(rows, columns);
        }
        return add_patches<Unit, Pools, G, N>;
    }
}

inline AddPatches code_for(bool unit, bool pools, std::int64_t rows, std::int64_t columns) {
    if (pools) return unit ? code_for<true, true>(rows, columns) : code_for<false, true>(rows, columns);
    return unit ? code_for<true, false>(rows, columns) : code_for<false, false>(rows, columns);
}

// One step on one tile: band after band, in each one output channel after the other.
struct Convolution {
    const Tile &tile;
    const Step &step;
    const Layer &layer;
    const Rows &rows;
    const Grid grid;

    // Rows y … y + count of outputs, in patches of `height` rows; pieces first … last of each row, all of one width.
    void add_band(Patches patches, std::int64_t y, std::int64_t count, std::int64_t height, std::int64_t first,
                  std::int64_t last) const {
        if (first >= last) return;
        const std::int64_t x = grid.start(first), columns = grid.columns(first < grid.wide_pieces());
        const AddPatches add = code_for(patches.x_step == L, grid.unit == 2, height, columns);
        const std::int64_t groups = step.numbers[2], group_rows = layer.rows / groups;
        const std::int64_t group_floats = step.a.shape[0] / groups * step.a.stride[0] * L;
        const float *from = at(tile, step.a) + y * patches.y_step + x * patches.x_step;
        const bool adds = step.numbers[7] != 0;
        const float *residual = adds ? at(tile, step.b) + (y * step.b.stride[1] + x) * L : nullptr;
        float *to = at(tile, step.out) + (y / grid.unit * step.out.stride[1] + x / grid.unit) * L;
        patches.across = last - first, patches.down = count / height;
        for (std::int64_t live = 0; live < rows.live_count; ++live) {
            const std::int64_t o = rows.live[live], *start = rows.start_of(o);
            patches.kept = rows.kept + start[0], patches.end = rows.kept + start[1];
            patches.bias = step.bias == nullptr ? 0.0f : step.bias[o];
            patches.from = from + o / group_rows * group_floats;
            patches.residual = adds ? residual + o * step.b.stride[0] * L : nullptr;
            patches.to = to + o * step.out.stride[0] * L;
            add(patches);
        }
    }

    void run() const {
        Patches patches{};
        patches.x_step = step.a.stride[2] * step.numbers[1] * L;
        patches.y_step = step.a.stride[1] * step.numbers[0] * L;
        patches.bounds = bounds_of(step);
        patches.residual_y = step.b.stride[1] * L, patches.to_y = step.out.stride[1] * L;
        for (std::int64_t y = 0, count; y < grid.out_h; y += count) {
            const std::int64_t left = grid.out_h - y;
            std::int64_t height = grid.height;
            while (height > left) height /= 2;
            count = left < grid.band_rows ? left / height * height : grid.band_rows;
            for (std::int64_t piece = 0, end; piece < grid.pieces; piece = end) {
                end = piece + grid.band_pieces < grid.pieces ? piece + grid.band_pieces : grid.pieces;
                const std::int64_t wide = grid.wide_pieces(), split = wide < piece ? piece : wide < end ? wide : end;
                add_band(patches, y, count, height, piece, split);
                add_band(patches, y, count, height, split, end);
            }
        }
    }
};

// numbers: stride y, stride x, groups, H', W' (before pooling), kernel width, 1 if a 2x2 maximum follows, 1 if b is
// added
inline void conv2d(const Tile &tile, const Step &step) {
    const Layer &layer = tile.call.program.layers[step.layer];
    const Rows &rows = tile.scratch.rows[step.layer];
    if (rows.way == Way::dense) return conv2d_dense(tile, step);
    std::int64_t kept = 0;
    for (std::int64_t live = 0; live < rows.live_count; ++live) {
        const std::int64_t *start = rows.start_of(rows.live[live]);
        kept += start[1] - start[0];
    }
    Convolution{tile, step, layer, rows, grid_of(layer, step, kept, rows.live_count)}.run();
}

}  // namespace
}  // namespace optprune::population

#endif
