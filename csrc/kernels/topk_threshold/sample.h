// A sample of blocks of consecutive weights, one block from each of B equal stretches of all weights, and what it says:
// a bracket of keys around a rank.
//
// Weights near each other are alike (rows of different scale), so the width comes from the variance between blocks, which
// sees that: with c_b keys of block b above the sampled threshold, the sampled rank is off by sigma = sqrt(B var(c_b)).
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_SAMPLE_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_SAMPLE_H

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/parallel_region.h"
#include "kernels/topk_threshold/array.h"

namespace optprune::topk_threshold {
namespace {

struct Bracket {
    std::int32_t lo, hi;     // keys, both inside
    std::int32_t likely;     // the key of the rank as far as is known, in [lo - 1, hi]
    bool dense;              // the key `heavy` has many copies
    std::int32_t heavy;
    std::int64_t boundary;   // place before which its copies, or else those of `likely`, are expected to be kept
    bool wide;               // holds more than can be listed
};

inline Bracket only(std::int32_t key, std::int64_t boundary) { return {key, key, key, true, key, boundary, false}; }

// Of which nothing but its ends is known.
inline Bracket between(std::int32_t lo, std::int32_t hi, bool wide) { return {lo, hi, hi, false, 0, 0, wide}; }

class Sample {
  public:
    // room: weights that a list may hold
    Sample(const Kernel &kernel, Scratch &scratch, const Call &call, std::int64_t n, ParallelRegion &region,
           std::int64_t room)
        : n_(n), room_(room), drop_(call.nan == NaN::drop),
          blocks_(std::max<std::int64_t>(32, static_cast<std::int64_t>(2 * std::pow(static_cast<double>(n), 2.0 / 3)) / 64)),
          count_(64 * blocks_), keys_(make_buffer<std::int32_t>(count_)),
          array_(kernel, scratch, drop_, keys_.get(), count_) {
        const std::vector<Block> blocks = choose(call);
        constexpr std::int64_t at_once = 512;
        region.run(divide_up(blocks_, at_once), [&](std::int64_t task, std::int64_t) {
            const std::int64_t end = std::min(blocks_, (task + 1) * at_once);
            for (std::int64_t b = task * at_once; b < end; ++b) {
                for (std::int64_t i = 0; b + 8 < end && i < 4; ++i) __builtin_prefetch(blocks[b + 8].weights + 64 * i);
                std::int32_t *keys = keys_.get() + 64 * b;
                const Block &block = blocks[static_cast<std::size_t>(b)];
                kernel.copy_keys(block.type, block.weights, block.n, drop_, keys);
                for (std::int64_t i = block.n; i < 64; ++i) keys[i] = keys[i - block.n];
            }
        });
    }

    Bracket bracket(std::int64_t rank) const {
        const double share = static_cast<double>(rank) / static_cast<double>(n_), m = static_cast<double>(count_);
        const double centre = share * m;
        const auto nearest = std::min(count_, std::max<std::int64_t>(1, std::llround(centre)));
        const auto spread = static_cast<std::int64_t>(6 * std::sqrt(m * share * (1 - share))) + 64;
        const Near near(array_, std::max<std::int64_t>(1, nearest - spread), std::min(count_, nearest + spread));
        const auto at = [&](std::int64_t rank) { return (near.holds(rank) ? near : Near(array_, rank, rank)).at(rank); };
        const Placed likely = at(nearest);
        const double width = 3.5 * deviation(likely.key, share) + 4;  // misses one time in two thousand
        Placed hi{highest_key, 0, 0}, lo{drop_ ? lowest_key : 0, count_, 0};
        if (centre - width >= 1) hi = at(static_cast<std::int64_t>(std::ceil(centre - width)));
        if (centre + width < m) lo = at(static_cast<std::int64_t>(std::ceil(centre + width)));
        Bracket found{lo.key, hi.key, likely.key, false, 0, 0, false};
        std::int64_t inside = lo.larger + lo.equal - hi.larger;
        if (likely.equal * 16 > inside) found.boundary = boundary(rank, likely.key);
        if (inside * 128 > count_ || lo.key == hi.key) {
            for (const Placed &some : {likely, lo, hi}) {
                if (2 * some.equal >= inside) {
                    found.dense = true;
                    found.heavy = some.key;
                    found.boundary = boundary(rank, some.key);
                    inside -= some.equal;
                    break;
                }
            }
        }
        found.wide = static_cast<double>(inside) / m * static_cast<double>(n_) > static_cast<double>(room_);
        return found;
    }

    // The place before which equal keys are expected to be kept, where the rank falls among them.
    std::int64_t boundary(std::int64_t rank, std::int32_t key) const {
        const double centre = static_cast<double>(rank) / static_cast<double>(n_) * static_cast<double>(count_);
        double left = centre - static_cast<double>(array_.above(key));
        for (std::int64_t b = 0; b < blocks_; ++b) {
            const auto ties = static_cast<double>(count_equal(keys_.get() + 64 * b, 64, key));
            if (left < ties || left <= 0) {
                return static_cast<std::int64_t>(static_cast<double>(b) / static_cast<double>(blocks_) *
                                                 static_cast<double>(n_));
            }
            left -= ties;
        }
        return n_;
    }

  private:
    struct Block {
        const char *weights;
        std::int64_t n;  // 64, or all of a tensor that has fewer
        Type type;
    };

    // splitmix64 (S. Vigna, public domain) of block b, in [0, 1)
    static double uniform(std::int64_t b) {
        std::uint64_t z = (static_cast<std::uint64_t>(b) + 1) * 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
    }

    std::vector<Block> choose(const Call &call) const {
        std::vector<Block> blocks;
        blocks.reserve(static_cast<std::size_t>(blocks_));
        const double stretch = static_cast<double>(n_) / static_cast<double>(blocks_);
        std::int64_t t = 0, start = 0, size = 0;
        for (std::int64_t b = 0; b < blocks_; ++b) {
            const auto place = static_cast<std::int64_t>((static_cast<double>(b) + uniform(b)) * stretch);
            const std::int64_t wanted = std::min(n_ - 1, place);
            while (size = call.tensors[t].rows * call.tensors[t].columns, start + size <= wanted) {
                start += size;
                ++t;
            }
            const Tensor &tensor = call.tensors[t];
            const std::int64_t first = std::min((wanted - start) / 32 * 32, std::max<std::int64_t>(0, size - 64));
            blocks.push_back({static_cast<const char *>(tensor.weights) + first * bytes_of(tensor.type),
                              std::min<std::int64_t>(64, size), tensor.type});
        }
        return blocks;
    }

    double deviation(std::int32_t likely, double share) const {
        double sum = 0, squares = 0;
        array_.read(likely, likely - 1, [&](const Pass &pass) {
            for (std::int64_t b = 0; b < pass.n / 64; ++b) {  // a block is a word
                const auto c = static_cast<double>(__builtin_popcountll(pass.mask[b]));
                sum += c;
                squares += c * c;
            }
        });
        const auto B = static_cast<double>(blocks_);
        const double between = squares / B - sum / B * (sum / B);
        return std::sqrt(B * std::max(between, 64 * share * (1 - share)));
    }

    std::int64_t n_, room_;
    bool drop_;
    std::int64_t blocks_, count_;
    Buffer<std::int32_t> keys_;
    Array array_;
};

}  // namespace
}  // namespace optprune::topk_threshold

#endif
