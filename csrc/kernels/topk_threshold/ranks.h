// Which key of a list has a rank: a radix select. Rank 1 is the largest.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_RANKS_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_RANKS_H

#include <algorithm>
#include <functional>
#include <vector>

#include "kernels/topk_threshold/keys.h"

namespace optprune::topk_threshold {
namespace {

// Places that a difference of keys is shifted down to leave a bin's number below 2^bits.
inline int shift_for(std::uint32_t width, int bits) {
    const int used = width == 0 ? 0 : 32 - __builtin_clz(width);
    return used > bits ? used - bits : 0;
}

inline std::int64_t count_above(const std::int32_t *keys, std::int64_t n, std::int32_t key) {
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < n; ++i) count += keys[i] > key;
    return count;
}

inline std::int64_t count_equal(const std::int32_t *keys, std::int64_t n, std::int32_t key) {
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < n; ++i) count += keys[i] == key;
    return count;
}

// The keys of a list that lie in [lo, hi]; the list is not changed, and must stay.
class Ranks {
  public:
    Ranks(const std::int32_t *keys, std::int64_t n, std::int32_t lo, std::int32_t hi)
        : keys_(keys), n_(n), lo_(lo), hi_(hi),
          width_(static_cast<std::uint32_t>(hi) - static_cast<std::uint32_t>(lo)) {
        int bits = 5;
        while (bits < 11 && std::int64_t{2} << bits < n) ++bits;
        shift_ = shift_for(width_, bits);
        outside_ = std::size_t{1} << bits;
        const std::size_t stride = outside_ + 1;
        bins_.assign(4 * stride, 0);  // four of each, so that equal neighbours need not wait for each other
        for (std::int64_t i = 0; i < n; ++i) ++bins_[(static_cast<std::size_t>(i) & 3) * stride + bin(keys[i])];
        for (std::size_t b = 0; b < outside_; ++b) {
            bins_[b] += bins_[stride + b] + bins_[2 * stride + b] + bins_[3 * stride + b];
            count_ += bins_[b];
        }
    }

    std::int64_t count() const { return count_; }

    // How many of them are larger than `key`, or equal to it.
    std::int64_t above(std::int32_t key) const { return count_above(keys_, n_, key) - count_above(keys_, n_, hi_); }
    std::int64_t equal(std::int32_t key) const { return count_equal(keys_, n_, key); }

    std::int32_t at(std::int64_t rank) const {
        std::size_t b = outside_ - 1;
        for (; rank > bins_[b]; --b) rank -= bins_[b];
        const std::int32_t first = lo_ + static_cast<std::int32_t>(static_cast<std::uint32_t>(b) << shift_);
        if (shift_ == 0) return first;
        std::vector<std::int32_t> within(static_cast<std::size_t>(bins_[b]) + 1);
        std::size_t found = 0;
        for (std::int64_t i = 0; i < n_; ++i) {
            within[found] = keys_[i];
            found += bin(keys_[i]) == b;
        }
        within.resize(found);
        if (found < 512) {
            const auto wanted = within.begin() + (rank - 1);
            std::nth_element(within.begin(), wanted, within.end(), std::greater<std::int32_t>());
            return *wanted;
        }
        const auto last = static_cast<std::int32_t>((std::uint32_t{1} << shift_) - 1);
        return Ranks(within.data(), static_cast<std::int64_t>(found), first, first + last).at(rank);
    }

  private:
    std::size_t bin(std::int32_t key) const {
        const std::uint32_t above = static_cast<std::uint32_t>(key) - static_cast<std::uint32_t>(lo_);
        return above <= width_ ? above >> shift_ : outside_;
    }

    const std::int32_t *keys_;
    std::int64_t n_, count_ = 0;
    std::int32_t lo_, hi_;
    std::uint32_t width_;
    int shift_;
    std::size_t outside_;  // the bin of keys that do not lie in [lo, hi]
    std::vector<std::uint32_t> bins_;
};

}  // namespace
}  // namespace optprune::topk_threshold

#endif
