// How the outputs of a convolution are cut into patches that registers hold, and those into bands that one output
// channel after the other goes through.
#ifndef OPTPRUNE_KERNELS_POPULATION_GRID_H
#define OPTPRUNE_KERNELS_POPULATION_GRID_H

#include "kernels/population/tile.h"

namespace optprune::population {
namespace {

struct Grid {
    std::int64_t unit;                    // 2 where pairs of outputs are pooled: patches have even sides
    std::int64_t out_h, out_w;            // without a last row or column that no pair takes
    std::int64_t height, pieces;          // rows of a patch; patches in a row of outputs
    std::int64_t band_rows, band_pieces;

    // Pieces are as equal as can be, the larger ones first.
    std::int64_t wide_pieces() const { return out_w / unit % pieces; }
    std::int64_t columns(bool wide) const { return unit * (out_w / unit / pieces + wide); }
    std::int64_t start(std::int64_t piece) const {
        const std::int64_t wide = wide_pieces();
        return unit * (piece * (out_w / unit / pieces) + (piece < wide ? piece : wide));
    }
};

// kept: weights of all rows to compute, `live` of them
inline Grid grid_of(const Layer &layer, const Step &step, std::int64_t kept, std::int64_t live) {
    constexpr std::int64_t cached = 24 * 1024 / sizeof(float) / L, fewest = Vec::positions < 8 ? Vec::positions : 8;
    const std::int64_t *n = step.numbers;
    const std::int64_t channels = step.a.shape[0] / n[2], kernel_w = n[5];
    const std::int64_t kernel_h = layer.columns / (channels * kernel_w), unit = n[6] != 0 ? 2 : 1;
    Grid grid{unit, n[3] - n[3] % unit, n[4] - n[4] % unit, unit, 1, 0, 1};
    if (grid.out_h == 0 || grid.out_w == 0) return grid;
    const auto inputs = [&](std::int64_t rows, std::int64_t columns) {
        return channels * ((rows - 1) * n[0] + kernel_h) * ((columns - 1) * n[1] + kernel_w);
    };
    // Loads of a row of outputs where one weight in ten is kept: one a sum and one a weight, not fewer than hide the
    // latency of a multiply-add; and what a patch costs besides, more where its inputs fill the first-level cache.
    const double weights = static_cast<double>(layer.columns / 10 + 1);
    double least = 0;
    for (std::int64_t height = unit; height <= 4 && height <= grid.out_h; height *= 2) {
        const std::int64_t units = grid.out_w / unit, most = Vec::positions / height / unit;
        for (std::int64_t pieces = most > 0 ? (units + most - 1) / most : units + 1; pieces <= units; ++pieces) {
            const std::int64_t columns = unit * ((units + pieces - 1) / pieces), sums = height * columns;
            if (grid.band_rows > 0 && sums < fewest) break;
            const std::int64_t fills = (inputs(height, columns) + cached - 1) / cached;
            const double mean = static_cast<double>(height * grid.out_w) / static_cast<double>(pieces);
            const double loads = (mean > fewest ? mean : static_cast<double>(fewest)) + 1;
            const double cost = static_cast<double>(pieces) / static_cast<double>(height) *
                                (loads * weights + static_cast<double>(fills * (40 + 4 * sums)));
            if (grid.band_rows > 0 && cost >= least) continue;
            least = cost;
            grid.height = grid.band_rows = height, grid.pieces = pieces;
        }
    }
    // A channel that keeps few weights reads few of a band's inputs. Long bands then pay: the lengths of the lists are
    // guessed right from the second patch on, and reads that follow one another are fetched ahead.
    const std::int64_t columns = grid.columns(grid.wide_pieces() > 0);
    const double sparsity = static_cast<double>(live * layer.columns) / static_cast<double>(3 * kept + 1);
    const double longest = static_cast<double>(cached) * (sparsity > 1 ? sparsity : 1);
    const auto fits = [&](std::int64_t rows, std::int64_t across) {
        return static_cast<double>(inputs(rows, across)) <= longest;
    };
    while (grid.band_pieces < grid.pieces && fits(grid.height, columns * (grid.band_pieces + 1))) ++grid.band_pieces;
    while (grid.band_pieces == grid.pieces && grid.band_rows + grid.height <= grid.out_h &&
           fits(grid.band_rows + grid.height, grid.out_w)) {
        grid.band_rows += grid.height;
    }
    return grid;
}

}  // namespace
}  // namespace optprune::population

#endif
