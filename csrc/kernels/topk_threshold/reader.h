// Reads of all tiles, side by side: what the kernel is given for each, and what is kept of what it finds.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_READER_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_READER_H

#include <string.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "kernels/topk_threshold/plan.h"
#include "kernels/topk_threshold/tiles.h"

namespace optprune::topk_threshold {
namespace {

class Reader {
  public:
    Reader(const Kernel &kernel, ParallelRegion &region, const Call &call, std::vector<Tile> tiles, std::int64_t room)
        : kernel_(kernel), region_(region), drop_(call.nan == NaN::drop), tiles_(std::move(tiles)),
          tasks_(group(tiles_)), room_(room), scratch_(static_cast<std::size_t>(region.threads())) {
        scratch_[0].make();
    }

    std::vector<Tile> &tiles() { return tiles_; }
    // Of the thread that calls, between reads.
    Scratch &scratch() { return scratch_[0]; }
    // All keys that were listed, and those of a tile.
    Array list() { return {kernel_, scratch_[0], drop_, keys_.get(), listed_}; }
    Array list(const Tile &tile, Scratch &scratch) const {
        return {kernel_, scratch, drop_, keys_.get() + tile.list, tile.listed};
    }
    const std::uint16_t *places(const Tile &tile) const { return places_.get() + tile.list; }
    bool overflowed() const { return listed_ > room_; }
    std::int64_t reads() const { return reads_; }

    // Write the words of every tile as far as they are known, and put the keys in question into one list.
    void read(const Plan &plan) {
        if (plan.kind != Kind::ties && !keys_) {
            keys_ = make_buffer<std::int32_t>(room_);
            places_ = make_buffer<std::uint16_t>(room_);
        }
        listed_ = 0;
        ++reads_;
        each_tile([&](Tile &tile, Scratch &scratch) {
            Pass pass = pass_of(plan, tile, scratch);
            for (int j = 0; j < 2; ++j) {
                tile.guessed[j] = tile.start + tile.n / 2 < plan.boundary[j] ? Plan::every_place : 0;
                pass.quota[j] = tile.guessed[j];
                const auto rank = static_cast<std::size_t>(j);
                pass.guess[j] = own_at_most(tile.type, plan.guess_with_copies(rank, tile.guessed[j] > 0));
            }
            run(pass, tile);
            keep_list(pass, tile);
        });
    }

    // How many keys lie above hi, and in each of 2048 bins of [lo, hi]: key lo + (b << shift) is the first of bin b.
    std::int64_t histogram(const Plan &plan, int shift, std::vector<std::int64_t> &bins) {
        ++reads_;
        for (Scratch &scratch : scratch_) scratch.bins.assign(bins.size(), 0);
        const auto lo = static_cast<std::uint32_t>(plan.ranges[0].lo);
        each_tile([&](Tile &tile, Scratch &scratch) {
            Pass pass = pass_of(plan, tile, scratch);
            pass.mask = scratch.mask.get();
            pass.pool = nullptr;
            kernel_.pass(pass);
            tile.above[0] = pass.above[0];
            for (std::int64_t i = 0; i < pass.listed; ++i) {
                ++scratch.bins[(static_cast<std::uint32_t>(pass.keys[i]) - lo) >> shift];
            }
        });
        std::int64_t above = 0;
        for (const Tile &tile : tiles_) above += tile.above[0];
        for (const Scratch &scratch : scratch_) {
            for (std::size_t b = 0; b < bins.size() && b < scratch.bins.size(); ++b) bins[b] += scratch.bins[b];
        }
        return above;
    }

    // The words of a tile where everything is known; quota: ties that each rank keeps.
    void settle(const Plan &exact, Tile &tile, Scratch &scratch, const std::int64_t (&quota)[2]) {
        Pass pass = pass_of(exact, tile, scratch);
        pass.places = nullptr;
        for (int j = 0; j < 2; ++j) pass.quota[j] = quota[j];
        run(pass, tile);
    }

    template <class Visit>
    void each_tile(Visit visit) {
        region_.run(static_cast<std::int64_t>(tasks_.size()) - 1, [&](std::int64_t task, std::int64_t slot) {
            Scratch &scratch = scratch_[static_cast<std::size_t>(slot)];
            scratch.make();
            const auto at = static_cast<std::size_t>(task);
            for (std::int64_t i = tasks_[at]; i < tasks_[at + 1]; ++i) visit(tiles_[static_cast<std::size_t>(i)], scratch);
        });
    }

  private:
    Pass pass_of(const Plan &plan, const Tile &tile, Scratch &scratch) const {
        Pass pass{};
        pass.weights = tile.weights;
        pass.n = tile.n;
        pass.type = tile.type;
        pass.kind = plan.kind;
        pass.drop = drop_;
        pass.ranges = plan.count;
        for (int r = 0; r < plan.count; ++r) pass.cut[r] = plan.cuts[static_cast<int>(tile.type)][r];
        for (int j = 0; j < 2; ++j) pass.guess[j] = pass.cut[0].above;
        const bool spread = tile.columns != 0;
        pass.mask = spread ? scratch.mask.get() : tile.words;
        pass.pool = tile.pool == nullptr ? nullptr : spread ? scratch.pool.get() : tile.pool;
        pass.places = scratch.places.get();
        pass.keys = scratch.keys.get();
        return pass;
    }

    void run(Pass &pass, Tile &tile) const {
        kernel_.pass(pass);
        if (tile.columns != 0) {
            spread(pass.mask, tile.n, tile.columns, tile.words);
            if (tile.pool != nullptr) spread(pass.pool, tile.n, tile.columns, tile.pool);
        }
        for (int r = 0; r < 2; ++r) {
            tile.above[r] = pass.above[r];
            tile.heavy[r] = pass.heavy[r];
        }
        tile.nan = common_key(tile.type, pass.largest) > infinity;
    }

    void keep_list(const Pass &pass, Tile &tile) {
        tile.listed = pass.listed;
        tile.list = 0;
        if (tile.listed == 0) return;
        tile.list = listed_.fetch_add(tile.listed, std::memory_order_relaxed);
        if (tile.list + tile.listed > room_) return;  // what does not fit is found by its number
        memcpy(keys_.get() + tile.list, pass.keys, static_cast<std::size_t>(tile.listed) * sizeof *pass.keys);
        memcpy(places_.get() + tile.list, pass.places, static_cast<std::size_t>(tile.listed) * sizeof *pass.places);
    }

    const Kernel &kernel_;
    ParallelRegion &region_;
    const bool drop_;
    std::vector<Tile> tiles_;
    std::vector<std::int64_t> tasks_;
    const std::int64_t room_;
    std::vector<Scratch> scratch_;
    Buffer<std::int32_t> keys_;      // the lists of all tiles, each in one piece
    Buffer<std::uint16_t> places_;
    std::atomic<std::int64_t> listed_{0};
    std::int64_t reads_ = 0;
};

}  // namespace
}  // namespace optprune::topk_threshold

#endif
