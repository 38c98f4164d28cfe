// Once the keys of all ranks are known: the listed weights get their bits, and ties go to the lowest places.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_PATCH_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_PATCH_H

#include "kernels/topk_threshold/reader.h"

namespace optprune::topk_threshold {
namespace {

// How many ties of each rank every tile keeps.
inline void share_ties(Reader &reader, const Plan &plan, const std::vector<Rank> &ranks) {
    for (std::size_t j = 0; j < ranks.size(); ++j) {
        const Rank &rank = ranks[j];
        if (rank.kept == rank.ties && plan.kind == Kind::list) {
            for (Tile &tile : reader.tiles()) tile.take[j] = Plan::every_place;
            continue;
        }
        const Range &range = plan.of(j);
        const bool heavy = range.dense && range.heavy == rank.key;
        reader.each_tile([&](Tile &tile, Scratch &) {
            tile.take[j] = heavy ? tile.heavy[plan.count == 2 ? j : 0]
                                 : count_equal(reader.keys() + tile.list, tile.listed, rank.key);
        });
        std::int64_t left = rank.kept;
        for (Tile &tile : reader.tiles()) {
            tile.take[j] = std::min(tile.take[j], left);
            left -= tile.take[j];
        }
    }
}

// Whether the read has put other copies of the dense value into the words than belong there.
inline bool misjudged(const Plan &plan, const std::vector<Rank> &ranks, const Tile &tile) {
    for (std::size_t j = 0; j < ranks.size(); ++j) {
        const Range &range = plan.of(j);
        if (!range.dense) continue;
        const std::int64_t copies = tile.heavy[plan.count == 2 ? j : 0];
        const std::int64_t wanted =
            ranks[j].key == range.heavy ? tile.take[j] : ranks[j].key < range.heavy ? copies : 0;
        if (std::min(tile.guessed[j], copies) != wanted) return true;
    }
    return false;
}

inline void patch_list(const Reader &reader, const std::vector<Rank> &ranks, const Tile &tile) {
    const std::int32_t *keys = reader.keys() + tile.list;
    const std::uint16_t *places = reader.places() + tile.list;
    std::int64_t left[2] = {tile.take[0], tile.take[1]};
    for (std::int64_t i = 0; i < tile.listed; ++i) {
        bool in[2] = {};
        for (std::size_t j = 0; j < ranks.size(); ++j) {
            in[j] = keys[i] > ranks[j].key || (keys[i] == ranks[j].key && left[j]-- > 0);
        }
        const Spot spot = spot_of(tile, places[i]);
        if (in[0]) {
            tile.words[spot.word] |= spot.bit;
            if (tile.pool != nullptr) tile.pool[spot.word] &= ~spot.bit;
        } else if (in[1]) {
            tile.pool[spot.word] |= spot.bit;
        }
    }
}

inline void patch(Reader &reader, const Plan &plan, const Plan &exact, const std::vector<Rank> &ranks) {
    share_ties(reader, plan, ranks);
    reader.each_tile([&](Tile &tile, Scratch &scratch) {
        if (misjudged(plan, ranks, tile)) {
            reader.settle(exact, tile, scratch, tile.take);
        } else {
            patch_list(reader, ranks, tile);
        }
    });
}

}  // namespace
}  // namespace optprune::topk_threshold

#endif
