// What a read looks for: the brackets of one or two ranks, as ranges of keys.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_PLAN_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_PLAN_H

#include <algorithm>
#include <vector>

#include "kernels/topk_threshold/sample.h"

namespace optprune::topk_threshold {
namespace {

// The rank of the last weight in the mask, or in mask or pool.
struct Rank {
    std::int64_t rank;
    Bracket bracket;
    bool known;
    std::int32_t key;          // once it is known, and below:
    std::int64_t ties, kept;   // weights that have the key, and how many of them the rank keeps
};

struct Range {
    std::int32_t lo, hi;  // both inside
    bool dense;           // the copies of `heavy` are counted and not listed
    std::int32_t heavy;
};

// Brackets of two ranks that overlap become one range, or a key could be in question twice.
struct Plan {
    Range ranges[2];
    int count;
    Kind kind;
    Cut cuts[3][2];              // of each type and range
    // Who is kept for now, of each rank: keys > guess, and in tiles before a place copies of it or of the dense value.
    std::int32_t guess[2];
    std::int64_t boundary[2];

    explicit Plan(const std::vector<Rank> &ranks) {
        const auto range = [](const Bracket &b) {
            return b.lo == b.hi ? Range{b.lo, b.hi, true, b.lo} : Range{b.lo, b.hi, b.dense, b.heavy};
        };
        ranges[0] = range(ranks.front().bracket);
        ranges[1] = range(ranks.back().bracket);
        count = ranges[0].lo > ranges[1].hi ? 2 : 1;
        if (count == 1) {
            const Range &heavy = ranges[0].dense ? ranges[0] : ranges[1];
            ranges[0] = {std::min(ranges[0].lo, ranges[1].lo), std::max(ranges[0].hi, ranges[1].hi), heavy.dense,
                         heavy.heavy};
        }
        complete();
        for (std::size_t j = 0; j < ranks.size(); ++j) {
            const Bracket &own = ranks[j].bracket;
            const Range &in = of(j);
            guess[j] = kind == Kind::list ? own.likely : in.hi;
            boundary[j] = !in.dense                ? own.boundary
                          : in.heavy < own.lo ? 0
                          : in.heavy > own.hi ? every_place
                                              : own.boundary;
        }
    }

    // Nothing is in question: the mask is empty.
    Plan() : ranges{{highest_key, highest_key, true, highest_key}, {}}, count(1), guess{}, boundary{} {
        complete();
        for (auto &cut : cuts) cut[0].from = cut[0].above;
    }

    // What is kept in a tile whose copies are.
    std::int32_t guess_with_copies(std::size_t rank, bool copies) const {
        return guess[rank] - (copies && kind == Kind::list);
    }

    const Range &of(std::size_t rank) const { return ranges[count == 2 ? rank : 0]; }

    static constexpr std::int64_t every_place = std::int64_t{1} << 62;

  private:
    void complete() {
        bool dense = false, single = true;
        for (int r = 0; r < count; ++r) {
            dense = dense || ranges[r].dense;
            single = single && ranges[r].lo == ranges[r].hi;
        }
        kind = single ? Kind::ties : dense ? Kind::both : Kind::list;
        for (int t = 0; t < 3; ++t) {
            for (int r = 0; r < count; ++r) cuts[t][r] = cut_of(static_cast<Type>(t), ranges[r]);
        }
    }

    static Cut cut_of(Type type, const Range &range) {
        const std::int32_t above = own_at_most(type, range.hi), from = own_at_most(type, range.lo - 1);
        if (!range.dense) return {above, from, above, above};
        return {above, from, own_at_most(type, range.heavy), own_at_most(type, range.heavy - 1)};
    }
};

}  // namespace
}  // namespace optprune::topk_threshold

#endif
