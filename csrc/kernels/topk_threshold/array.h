// Keys in an array. They are found among themselves as weights are: the kernel reads them as float32, whose keys they are.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_ARRAY_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_ARRAY_H

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "common/buffer.h"
#include "kernels/topk_threshold/ranks.h"

namespace optprune::topk_threshold {
namespace {

// Of a thread: what the kernel finds in a tile, a histogram.
struct Scratch {
    Buffer<std::uint64_t> mask, pool;
    Buffer<std::uint16_t> places;
    Buffer<std::int32_t> keys;
    std::vector<std::int64_t> bins;

    void make() {
        if (mask) return;
        mask = make_buffer<std::uint64_t>(tile_weights / 64 + 1);
        pool = make_buffer<std::uint64_t>(tile_weights / 64 + 1);
        places = make_buffer<std::uint16_t>(tile_weights + list_slack);
        keys = make_buffer<std::int32_t>(tile_weights + list_slack);
    }
};

class Array {
  public:
    Array(const Kernel &kernel, Scratch &scratch, bool drop, const std::int32_t *keys, std::int64_t n)
        : kernel_(kernel), scratch_(scratch), drop_(drop), keys_(keys), n_(n) {}

    const std::int32_t *keys() const { return keys_; }
    std::int64_t size() const { return n_; }

    // visit(pass) after each tile: bits of keys > hi, their count, and a list of those in [lo, hi]
    template <class Visit>
    void read(std::int32_t lo, std::int32_t hi, Visit visit) const {
        for (std::int64_t first = 0; first < n_; first += tile_weights) {
            Pass pass{};
            pass.weights = keys_ + first;
            pass.n = std::min(tile_weights, n_ - first);
            pass.type = Type::float32;
            pass.kind = Kind::list;
            pass.drop = drop_;
            pass.ranges = 1;
            pass.cut[0] = {hi, lo - 1, hi, hi};
            pass.guess[0] = hi;
            pass.mask = scratch_.mask.get();
            pass.places = scratch_.places.get();
            pass.keys = scratch_.keys.get();
            kernel_.pass(pass);
            visit(pass);
        }
    }

    std::int64_t above(std::int32_t key) const {
        std::int64_t count = 0;
        read(key + 1, key, [&](const Pass &pass) { count += pass.above[0]; });
        return count;
    }

  private:
    const Kernel &kernel_;
    Scratch &scratch_;
    const bool drop_;
    const std::int32_t *keys_;
    const std::int64_t n_;
};

// The keys around some ranks, which a few of them tell from the others in one read.
class Near {
  public:
    Near(const Array &array, std::int64_t first, std::int64_t last) {
        if (array.size() > few) gather(array, first, last);
        if (!single_ && !(holds(first) && holds(last))) take({array.keys(), array.size()}, 0);
    }

    bool holds(std::int64_t rank) const { return ranks_ && rank > larger_ && rank <= larger_ + ranks_->size(); }

    Placed at(std::int64_t rank) const {
        if (single_) return *single_;
        const Placed found = ranks_->at(rank - larger_);
        return {found.key, found.larger + larger_, found.equal};
    }

  private:
    static constexpr std::int64_t few = 8192, sampled = 2048;

    void gather(const Array &array, std::int64_t first, std::int64_t last) {
        std::vector<std::int32_t> some(sampled);
        for (std::int64_t i = 0; i < sampled; ++i) {
            some[static_cast<std::size_t>(i)] = array.keys()[i * array.size() / sampled];
        }
        const Ranks ranks(some.data(), sampled);
        if (first == last && found_among_many(array, first, ranks)) return;
        const auto beside = [&](std::int64_t rank, int side) {
            const double share = static_cast<double>(rank) / static_cast<double>(array.size());
            const double width = 4 * std::sqrt(sampled * share * (1 - share)) + 4;
            return static_cast<std::int64_t>(std::ceil(share * sampled + side * width));
        };
        const std::int64_t high = beside(first, -1), low = beside(last, 1);
        const std::int32_t hi = high < 1 ? highest_key : ranks.at(high).key;
        const std::int32_t lo = low > sampled ? lowest_key : ranks.at(low).key;
        std::int64_t larger = 0;
        array.read(lo, hi, [&](const Pass &pass) {
            larger += pass.above[0];
            gathered_.insert(gathered_.end(), pass.keys, pass.keys + pass.listed);
        });
        take({gathered_.data(), static_cast<std::int64_t>(gathered_.size()), lo, hi}, larger);
    }

    // Whether the key of a rank is one with many copies (16 bits have few keys), which need not be gathered.
    bool found_among_many(const Array &array, std::int64_t rank, const Ranks &ranks) {
        const Placed likely = ranks.at(std::max<std::int64_t>(1, rank * sampled / array.size()));
        if (likely.equal * 16 < sampled) return false;
        const std::int64_t larger = array.above(likely.key), not_smaller = array.above(likely.key - 1);
        if (rank <= larger || rank > not_smaller) return false;
        single_ = Placed{likely.key, larger, not_smaller - larger};
        return true;
    }

    void take(Ranks ranks, std::int64_t larger) {
        ranks_ = std::move(ranks);
        larger_ = larger;
    }

    std::vector<std::int32_t> gathered_;
    std::optional<Ranks> ranks_;
    std::optional<Placed> single_;
    std::int64_t larger_ = 0;
};

}  // namespace
}  // namespace optprune::topk_threshold

#endif
