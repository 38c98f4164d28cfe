// The chunks of a weight in slices, one after another, as kernels read them. For the plain code around kernels.
#ifndef OPTPRUNE_KERNELS_SPARSE_LINEAR_CHUNKS_H
#define OPTPRUNE_KERNELS_SPARSE_LINEAR_CHUNKS_H

#include <algorithm>

#include "common/buffer.h"
#include "kernels/sparse_linear/sparse_linear.h"

namespace optprune::sparse_linear {

class Chunks {
  public:
    explicit Chunks(const Planes &planes)
        : planes_(planes), tiles_(divide_up(planes.I, tile_columns)), bands_(divide_up(planes.O, band_rows)) {}

    std::int64_t tiles() const { return tiles_; }
    std::int64_t bands() const { return bands_; }
    std::int64_t rows(std::int64_t band) const { return std::min(band_rows, planes_.O - band * band_rows); }

    // Scratch of one thread, for what is coded. It holds one chunk.
    struct Scratch {
        Buffer<float> values;
        Buffer<std::uint8_t> columns;
        Buffer<std::int16_t> counts;
    };

    // Valid until the next chunk is asked for with this scratch.
    Chunk at(const Kernel &kernel, std::int64_t band, std::int64_t tile, Scratch &scratch) const {
        const std::int64_t R = rows(band), number = band * tiles_ + tile, row = band * band_rows * tiles_ + tile * R;
        const std::int64_t first = planes_.starts[number], count = planes_.starts[number + 1] - first;
        Chunk chunk{nullptr, nullptr, planes_.rows + row, nullptr, R};
        if (planes_.words == nullptr) {
            chunk.columns = planes_.columns + first;
            chunk.counts = planes_.counts + row;
        } else {
            const std::int64_t words = divide_up(planes_.I, 64), width = std::min(tile_words, words - tile * tile_words);
            if (!scratch.columns) {
                scratch.columns = make_buffer<std::uint8_t>(band_rows * tile_columns + list_slack);
                scratch.counts = make_buffer<std::int16_t>(band_rows);
            }
            kernel.list(planes_.words + band * band_rows * words + tile * tile_words * R, width, R,
                        scratch.counts.get(), scratch.columns.get());
            chunk.columns = scratch.columns.get();
            chunk.counts = scratch.counts.get();
        }
        if (planes_.type == Type::float32) {
            chunk.values = static_cast<const float *>(planes_.values) + first;
        } else {
            if (!scratch.values) scratch.values = make_buffer<float>(band_rows * tile_columns);
            kernel.widen(static_cast<const std::uint16_t *>(planes_.values) + first, planes_.type, count,
                         scratch.values.get());
            chunk.values = scratch.values.get();
        }
        return chunk;
    }

  private:
    const Planes &planes_;
    std::int64_t tiles_, bands_;
};

}  // namespace optprune::sparse_linear

#endif
