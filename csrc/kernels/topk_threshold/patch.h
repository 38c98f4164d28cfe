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

// Whether a key is in the mask of a rank, as all ones or none: a branch would be missed as often as not.
class Chosen {
  public:
    Chosen(const Rank &rank, std::int64_t take) : key_(rank.key), left_(take) {}

    std::uint64_t operator()(std::int32_t key) {
        const bool tie = (key == key_) & (left_ > 0);
        left_ -= tie;
        return ~(static_cast<std::uint64_t>((key > key_) | tie) - 1);
    }

  private:
    std::int32_t key_;
    std::int64_t left_;
};

template <bool spread>
void patch_list(const Reader &reader, const std::vector<Rank> &ranks, const Tile &tile) {
    const std::int32_t *keys = reader.keys() + tile.list;
    const std::uint16_t *places = reader.places() + tile.list;
    Chosen mask(ranks.front(), tile.take[0]);
    if (tile.pool == nullptr) {
        for (std::int64_t i = 0; i < tile.listed; ++i) {
            const Spot spot = spot_of<spread>(tile, places[i]);
            tile.words[spot.word] |= spot.bit & mask(keys[i]);
        }
        return;
    }
    Chosen both(ranks.back(), tile.take[1]);
    for (std::int64_t i = 0; i < tile.listed; ++i) {
        const Spot spot = spot_of<spread>(tile, places[i]);
        const std::uint64_t in_mask = spot.bit & mask(keys[i]), in_both = spot.bit & both(keys[i]);
        tile.words[spot.word] |= in_mask;
        tile.pool[spot.word] = (tile.pool[spot.word] & ~spot.bit) | (in_both & ~in_mask);
    }
}

inline void patch(Reader &reader, const Plan &plan, const Plan &exact, const std::vector<Rank> &ranks) {
    share_ties(reader, plan, ranks);
    reader.each_tile([&](Tile &tile, Scratch &scratch) {
        if (misjudged(plan, ranks, tile)) {
            reader.settle(exact, tile, scratch, tile.take);
        } else {
            tile.columns == 0 ? patch_list<false>(reader, ranks, tile) : patch_list<true>(reader, ranks, tile);
        }
    });
}

}  // namespace
}  // namespace optprune::topk_threshold

#endif
