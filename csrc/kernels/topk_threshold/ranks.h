// Which key of an array has a rank: a radix select. Rank 1 is the largest.
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

// Counts of 32 bits for some keys at a time, which become vectors of as many as there are keys.
template <class Holds>
std::int64_t count_if(const std::int32_t *keys, std::int64_t n, Holds holds) {
    constexpr std::int64_t at_once = 1 << 16;
    std::int64_t count = 0;
    for (std::int64_t first = 0; first < n; first += at_once) {
        const std::int64_t end = n - first < at_once ? n : first + at_once;
        std::int32_t some = 0;
        for (std::int64_t i = first; i < end; ++i) some += holds(keys[i]) ? 1 : 0;
        count += some;
    }
    return count;
}

inline std::int64_t count_above(const std::int32_t *keys, std::int64_t n, std::int32_t key) {
    return count_if(keys, n, [key](std::int32_t k) { return k > key; });
}

inline std::int64_t count_equal(const std::int32_t *keys, std::int64_t n, std::int32_t key) {
    return count_if(keys, n, [key](std::int32_t k) { return k == key; });
}

// A key of a rank, and how many keys are larger or equal.
struct Placed {
    std::int32_t key;
    std::int64_t larger, equal;
};

// The keys of an array, which is not changed and must stay; all of them lie in [lo, hi].
class Ranks {
  public:
    Ranks(const std::int32_t *keys, std::int64_t n, std::int32_t lo = lowest_key, std::int32_t hi = highest_key)
        : keys_(keys), n_(n), lo_(lo) {
        int bits = 5;
        while (bits < 11 && std::int64_t{2} << bits < n) ++bits;
        shift_ = shift_for(static_cast<std::uint32_t>(hi) - static_cast<std::uint32_t>(lo), bits);
        const std::size_t bins = std::size_t{1} << bits;
        bins_.assign(4 * bins, 0);  // four of each, so that equal neighbours need not wait for each other
        std::uint32_t *first = bins_.data(), *second = first + bins, *third = second + bins, *fourth = third + bins;
        std::int64_t i = 0;
        for (; i + 4 <= n; i += 4) {
            ++first[bin(keys[i])];
            ++second[bin(keys[i + 1])];
            ++third[bin(keys[i + 2])];
            ++fourth[bin(keys[i + 3])];
        }
        for (; i < n; ++i) ++first[bin(keys[i])];
        for (std::size_t b = 0; b < bins; ++b) first[b] += second[b] + third[b] + fourth[b];
        bins_.resize(bins);
    }

    std::int64_t size() const { return n_; }

    Placed at(std::int64_t rank) const {
        std::int64_t larger = 0;
        std::size_t b = bins_.size() - 1;
        for (; rank > larger + bins_[b]; --b) larger += bins_[b];
        const std::int32_t first = lo_ + static_cast<std::int32_t>(static_cast<std::uint32_t>(b) << shift_);
        if (shift_ == 0) return {first, larger, bins_[b]};
        std::vector<std::int32_t> within = gathered(b);
        const auto found = static_cast<std::int64_t>(within.size());
        if (found < 512) {
            const auto wanted = within.begin() + (rank - larger - 1);
            std::nth_element(within.begin(), wanted, within.end(), std::greater<std::int32_t>());
            return {*wanted, larger + count_above(within.data(), found, *wanted),
                    count_equal(within.data(), found, *wanted)};
        }
        const auto last = static_cast<std::int32_t>((std::uint32_t{1} << shift_) - 1);
        const Placed inner = Ranks(within.data(), found, first, first + last).at(rank - larger);
        return {inner.key, larger + inner.larger, inner.equal};
    }

  private:
    std::vector<std::int32_t> gathered(std::size_t wanted) const {
        std::vector<std::int32_t> within(bins_[wanted] + 1);  // one more: every key is written, those wanted stay
        const std::uint32_t first = static_cast<std::uint32_t>(lo_) + (static_cast<std::uint32_t>(wanted) << shift_);
        const std::uint32_t width = std::uint32_t{1} << shift_;
        std::int32_t *next = within.data();
        for (const std::int32_t *key = keys_, *end = keys_ + n_; key < end; ++key) {
            *next = *key;
            next += static_cast<std::uint32_t>(*key) - first < width;
        }
        within.pop_back();
        return within;
    }

    std::size_t bin(std::int32_t key) const {
        return (static_cast<std::uint32_t>(key) - static_cast<std::uint32_t>(lo_)) >> shift_;
    }

    const std::int32_t *keys_;
    std::int64_t n_;
    std::int32_t lo_;
    int shift_;
    std::vector<std::uint32_t> bins_;
};

}  // namespace
}  // namespace optprune::topk_threshold

#endif
