// The kept weights of one layer, row after row, from its slices. For plain code only.
#ifndef OPTPRUNE_KERNELS_NETWORK_LISTED_H
#define OPTPRUNE_KERNELS_NETWORK_LISTED_H

#include <numeric>
#include <vector>

#include "kernels/network/network.h"
#include "kernels/sparse_linear/chunks.h"

namespace optprune::network {

class Listed {
  public:
    // What a step reads of its layer, valid until the next layer is listed.
    void list(const sparse_linear::Kernel &kernel, const Weight &weight, const population::Layer &layer,
              std::int64_t lanes, population::Rows &rows) {
        if (weight.live == nullptr && live_.size() < static_cast<std::size_t>(layer.rows)) {
            live_.resize(static_cast<std::size_t>(layer.rows));
            std::iota(live_.begin(), live_.end(), 0);
        }
        rows.live = weight.live != nullptr ? const_cast<std::int32_t *>(weight.live) : live_.data();  // only read
        rows.live_count = weight.live_count;
        rows.way = weight.dense != nullptr ? population::Way::dense : population::Way::list;
        rows.dense = weight.dense;
        if (weight.dense != nullptr) return;
        kept_.resize(static_cast<std::size_t>(weight.nnz));
        start_.assign(static_cast<std::size_t>(layer.rows) + 1, 0);
        for (std::int64_t r = 0; r < layer.rows; ++r) start_[r + 1] = start_[r] + weight.counts[r];
        next_ = start_;
        rows.start = start_.data();
        rows.kept = kept(kernel, weight.planes, layer.offset, lanes);
    }

  private:
    // offset: registers from an output's base to what a column multiplies
    population::Kept *kept(const sparse_linear::Kernel &kernel, const sparse_linear::Planes &planes,
                           const std::int64_t *offset, std::int64_t lanes) {
        const sparse_linear::Chunks chunks(planes);
        floats_.resize(static_cast<std::size_t>(planes.I));
        for (std::size_t i = 0; i < floats_.size(); ++i) floats_[i] = static_cast<std::int32_t>(offset[i] * lanes);
        for (std::int64_t band = 0; band < chunks.bands(); ++band) {
            for (std::int64_t tile = 0; tile < chunks.tiles(); ++tile) {
                add(chunks.at(kernel, band, tile, scratch_), next_.data() + band * sparse_linear::band_rows,
                    floats_.data() + tile * sparse_linear::tile_columns);
            }
        }
        return kept_.data();
    }

    // next: of the band's rows, where their next entry goes; of a row, tiles come in ascending order
    void add(const sparse_linear::Chunk &chunk, std::int64_t *next, const std::int32_t *floats) {
        const float *values = chunk.values;
        const std::uint8_t *columns = chunk.columns;
        for (std::int64_t slot = 0; slot < chunk.R; slot += sparse_linear::slice_rows) {
            const std::int64_t lanes = std::min(sparse_linear::slice_rows, chunk.R - slot);
            const std::int64_t full = chunk.counts[slot + lanes - 1];
            std::int64_t rest = full * lanes;
            for (std::int64_t i = 0; i < lanes; ++i) {
                std::int64_t &row = next[chunk.rows[slot + i]];
                population::Kept *to = kept_.data() + row;
                const std::int64_t more = chunk.counts[slot + i] - full;
                for (std::int64_t k = i; k < full * lanes; k += lanes) *to++ = {floats[columns[k]], values[k]};
                for (std::int64_t k = rest; k < rest + more; ++k) *to++ = {floats[columns[k]], values[k]};
                row = to - kept_.data();
                rest += more;
            }
            values += rest, columns += rest;
        }
    }

    std::vector<population::Kept> kept_;
    std::vector<std::int64_t> start_, next_;
    std::vector<std::int32_t> floats_, live_;
    sparse_linear::Chunks::Scratch scratch_;
};

}  // namespace optprune::network

#endif
