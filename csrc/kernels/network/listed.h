// The kept weights of one layer, row after row, from its slices. For plain code only.
#ifndef OPTPRUNE_KERNELS_NETWORK_LISTED_H
#define OPTPRUNE_KERNELS_NETWORK_LISTED_H

#include <vector>

#include "kernels/network/network.h"
#include "kernels/sparse_linear/chunks.h"

namespace optprune::network {

class Listed {
  public:
    // Valid until the next layer is listed. offset: registers from an output's base to what a column multiplies
    population::Kept *list(const sparse_linear::Kernel &kernel, const Weight &weight, const std::int64_t *offset,
                           std::int64_t lanes) {
        const sparse_linear::Planes &planes = weight.planes;
        const sparse_linear::Chunks chunks(planes);
        kept_.resize(static_cast<std::size_t>(weight.start[planes.O]));
        next_.assign(weight.start, weight.start + planes.O);
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

  private:
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
    std::vector<std::int64_t> next_;
    std::vector<std::int32_t> floats_;
    sparse_linear::Chunks::Scratch scratch_;
};

}  // namespace optprune::network

#endif
