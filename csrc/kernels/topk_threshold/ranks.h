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
        std::uint32_t *first = bins_.data(), *second = first + stride, *third = second + stride, *fourth = third + stride;
        std::int64_t i = 0;
        for (; i + 4 <= n; i += 4) {
            ++first[bin(keys[i])];
            ++second[bin(keys[i + 1])];
            ++third[bin(keys[i + 2])];
            ++fourth[bin(keys[i + 3])];
        }
        for (; i < n; ++i) ++first[bin(keys[i])];
        for (std::size_t b = 0; b < outside_; ++b) {
            first[b] += second[b] + third[b] + fourth[b];
            count_ += first[b];
        }
    }

    std::int64_t count() const { return count_; }

    // How many of them are larger than `key`.
    std::int64_t above(std::int32_t key) const { return count_above(keys_, n_, key) - count_above(keys_, n_, hi_); }

    Placed at(std::int64_t rank) const {
        const std::int64_t whole = rank;
        const std::size_t b = bin_of(rank);
        const std::int64_t larger = whole - rank;
        const std::int32_t first = start_of(b);
        if (shift_ == 0) return {first, larger, bins_[b]};
        std::vector<std::int32_t> within = gathered(b, b);
        const std::size_t found = within.size();
        if (found < 512) {
            const auto wanted = within.begin() + (rank - 1);
            std::nth_element(within.begin(), wanted, within.end(), std::greater<std::int32_t>());
            const auto size = static_cast<std::int64_t>(found);
            return {*wanted, larger + count_above(within.data(), size, *wanted),
                    count_equal(within.data(), size, *wanted)};
        }
        const auto last = static_cast<std::int32_t>((std::uint32_t{1} << shift_) - 1);
        const Placed inner = Ranks(within.data(), static_cast<std::int64_t>(found), first, first + last).at(rank);
        return {inner.key, larger + inner.larger, inner.equal};
    }

    // The keys in all bins from that of one rank to that of another; `above` becomes the number of larger keys.
    std::vector<std::int32_t> around(std::int64_t first, std::int64_t last, std::int64_t &above) const {
        std::int64_t ignored = last;
        above = first;
        const std::size_t high = bin_of(above), low = bin_of(ignored);
        above = first - above;
        return gathered(low, high);
    }

  private:
    // The bin where a rank is; the rank becomes that within the bin.
    std::size_t bin_of(std::int64_t &rank) const {
        std::size_t b = outside_ - 1;
        for (; rank > bins_[b]; --b) rank -= bins_[b];
        return b;
    }

    std::int32_t start_of(std::size_t b) const {
        return lo_ + static_cast<std::int32_t>(static_cast<std::uint32_t>(b) << shift_);
    }

    std::vector<std::int32_t> gathered(std::size_t low, std::size_t high) const {
        std::size_t size = 0, found = 0;
        for (std::size_t b = low; b <= high; ++b) size += bins_[b];
        std::vector<std::int32_t> within(size + 1);
        const auto first = static_cast<std::uint32_t>(start_of(low));
        const auto width = static_cast<std::uint32_t>(((high - low + 1) << shift_) - 1);
        for (std::int64_t i = 0; i < n_; ++i) {
            within[found] = keys_[i];
            found += found < size && static_cast<std::uint32_t>(keys_[i]) - first <= width;
        }
        within.resize(found);
        return within;
    }

    std::size_t bin(std::int32_t key) const {
        const std::uint32_t above = static_cast<std::uint32_t>(key) - static_cast<std::uint32_t>(lo_);
        // Without a branch: a list of two ranges is half of it outside of either.
        const auto out = ~(static_cast<std::size_t>(above > width_) - 1);
        return (above >> shift_ & ~out) | (outside_ & out);
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
