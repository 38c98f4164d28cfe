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
            for (Tile &tile : reader.tiles()) tile.ties[j] = tile.take[j] = Plan::every_place;
            continue;
        }
        const Range &range = plan.of(j);
        const bool heavy = range.dense && range.heavy == rank.key;
        reader.each_tile([&](Tile &tile, Scratch &scratch) {
            const Array list = reader.list(tile, scratch);
            tile.ties[j] = heavy ? tile.heavy[plan.count == 2 ? j : 0] : count_equal(list.keys(), list.size(), rank.key);
        });
        std::int64_t left = rank.kept;
        for (Tile &tile : reader.tiles()) {
            tile.take[j] = std::min(tile.ties[j], left);
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

// The bits of a tile that the read has guessed wrong about a rank, of keys between the guess and the rank's own: they are
// flipped in the mask, and where there is a pool in what mask and pool are together. ties: how many of them belong there.
template <bool spread>
void flip(const Reader &reader, Scratch &scratch, const Tile &tile, const Rank &rank, std::int32_t guess, bool in_mask,
          std::int64_t ties, std::int64_t of) {
    if (guess == rank.key ? ties == 0 : guess == rank.key - 1 && ties == of) return;
    const std::uint16_t *places = reader.places(tile);
    reader.list(tile, scratch).read(std::min(guess + 1, rank.key), std::max(guess, rank.key), [&](const Pass &pass) {
        for (std::int64_t i = 0; i < pass.listed; ++i) {
            const std::int32_t key = pass.keys[i];
            const bool tie = (key == rank.key) & (ties > 0);  // no branches: they would be missed as often as not
            ties -= tie;
            const std::uint64_t wrong = ((key > rank.key) | tie) != (key > guess);
            const Spot spot = spot_of<spread>(tile, places[pass.places[i]]);
            const std::uint64_t bits = spot.bit & (~wrong + 1);
            if (in_mask) tile.words[spot.word] ^= bits;
            if (tile.pool != nullptr) tile.pool[spot.word] ^= bits;
        }
    });
}

inline void patch(Reader &reader, const Plan &plan, const std::vector<Rank> &ranks) {
    share_ties(reader, plan, ranks);
    const Plan exact(ranks);
    reader.each_tile([&](Tile &tile, Scratch &scratch) {
        if (misjudged(plan, ranks, tile)) return reader.settle(exact, tile, scratch, tile.take);
        const auto flip_bits = tile.columns == 0 ? flip<false> : flip<true>;
        for (std::size_t j = 0; j < ranks.size(); ++j) {
            flip_bits(reader, scratch, tile, ranks[j], plan.guess_with_copies(j, tile.guessed[j] > 0), j == 0, tile.take[j],
                      tile.ties[j]);
        }
    });
}

}  // namespace
}  // namespace optprune::topk_threshold

#endif
