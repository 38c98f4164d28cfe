// How a call is served: brackets, reads until every key is known, and the patch.
#include "kernels/topk_threshold/topk_threshold.h"

#include <memory>

#include "kernels/topk_threshold/patch.h"

namespace optprune::topk_threshold {
namespace {

constexpr std::int64_t few_weights = 32768;       // are sorted out without a sample
constexpr std::int64_t thread_weights = 1 << 20;  // worth waking a thread for
constexpr std::int32_t hint_width = 1 << 16;      // a 128th of the magnitude to either side
constexpr int bin_bits = 11;

class Search {
  public:
    Search(const Kernel &kernel, ParallelRegion &region, const Call &call, std::int64_t n)
        : kernel_(kernel), region_(region), call_(call), n_(n) {
        for (const std::int64_t rank : {call.k, call.pool > 0 ? call.k + call.pool : 0}) {
            if (rank > 0) ranks_.push_back({rank, {}, false, 0, 0, 0});
        }
        const std::int64_t room = n_ / 64 * std::max<std::int64_t>(1, static_cast<std::int64_t>(ranks_.size())) + 65536;
        room_ = std::min(n_, room);
        const bool pool_alone = call.k == 0 && call.pool > 0;
        reader_ = std::make_unique<Reader>(kernel, region, call, cut(call, pool_alone, ranks_.size() == 2), room_);
    }

    Result run() {
        if (ranks_.empty()) {
            reader_->read(Plan());
        } else if (n_ <= few_weights) {
            take_all();
        } else {
            for (Rank &rank : ranks_) {
                rank.bracket = rank.rank == call_.k && hinted() ? hint() : sample().bracket(rank.rank);
            }
            sample_.reset();  // its memory is the list's now; what misses takes the same sample again
            search();
        }
        return {call_.k > 0 ? ranks_[0].key : infinity, first_nan(), reader_->reads()};
    }

  private:
    // Where many weights may be equal (zero, infinity), a sample knows more than a hint.
    bool hinted() const { return call_.hint > 0 && call_.hint < infinity; }

    Bracket hint() const {
        return {std::max(0, call_.hint - hint_width), std::min(infinity, call_.hint + hint_width), call_.hint,
                false, 0, 0, false};
    }

    // Few weights: their keys are copied and selected from, then the words are written at once.
    void take_all() {
        std::vector<std::int32_t> keys(static_cast<std::size_t>(n_));
        for (const Tile &tile : reader_->tiles()) {
            kernel_.copy_keys(tile.type, tile.weights, tile.n, call_.nan == NaN::drop, keys.data() + tile.start);
        }
        const Array list(kernel_, reader_->scratch(), call_.nan == NaN::drop, keys.data(), n_);
        std::int64_t left[2] = {};
        for (std::size_t j = 0; j < ranks_.size(); ++j) {
            const Placed placed = Near(list, ranks_[j].rank, ranks_[j].rank).at(ranks_[j].rank);
            know(ranks_[j], placed.key);
            left[j] = ranks_[j].rank - placed.larger;
        }
        const Plan exact(ranks_);
        reader_->each_tile([&](Tile &tile, Scratch &scratch) {
            reader_->settle(exact, tile, scratch, left);
            for (std::size_t j = 0; j < ranks_.size(); ++j) {
                left[j] -= std::min(left[j], tile.heavy[exact.count == 2 ? j : 0]);
            }
        });
    }

    void search() {
        for (;;) {
            for (Rank &rank : ranks_) {
                while (rank.bracket.wide && rank.bracket.lo < rank.bracket.hi) narrow(rank);
            }
            const Plan plan(ranks_);
            reader_->read(plan);
            if (call_.nan == NaN::raise && first_nan() >= 0) return;
            if (locate(plan)) {
                for (Rank &rank : ranks_) know(rank, rank.key);
                return patch(*reader_, plan, ranks_);
            }
        }
    }

    // The key of every rank from what a read has found, or better brackets; returns whether all are known.
    bool locate(const Plan &plan) {
        bool all = !reader_->overflowed();
        for (std::size_t j = 0; j < ranks_.size(); ++j) {
            if (reader_->overflowed()) {
                ranks_[j].bracket.wide = true;
            } else {
                ranks_[j].known = locate(plan, j);
                all = all && ranks_[j].known;
            }
        }
        for (Rank &rank : ranks_) {
            if (!all && rank.known) rank.bracket = only(rank.key, sample().boundary(rank.rank, rank.key));
        }
        return all;
    }

    bool locate(const Plan &plan, std::size_t j) {
        Rank &rank = ranks_[j];
        const Range &range = plan.of(j);
        const std::size_t r = plan.count == 2 ? j : 0;
        std::int64_t above = 0, copies = 0;  // of the dense value
        for (const Tile &tile : reader_->tiles()) {
            above += tile.above[r];
            copies += tile.heavy[r];
        }
        const Array list = reader_->list();
        const std::int64_t first = r == 0 ? 0 : list.above(range.hi);  // of the range, in a list in order
        const std::int64_t last = r + 1 == static_cast<std::size_t>(plan.count) ? list.size() : list.above(range.lo - 1);
        if (rank.rank <= above) {
            rank.bracket = between(range.hi + 1, highest_key, true);
            return false;
        }
        if (rank.rank > above + last - first + copies) {
            rank.bracket = between(lowest_key, range.lo - 1, true);
            return false;
        }
        const std::int64_t place = rank.rank - above;
        const std::int64_t before = (range.dense ? list.above(range.heavy) : last) - first;
        if (place > before && place <= before + copies) {
            rank.key = range.heavy;
            rank.kept = place - before;
            rank.ties = copies;
        } else {
            const std::int64_t passed = place > before ? copies : 0;  // copies of the dense value are larger
            const std::int64_t in_list = first + place - passed;
            const Placed found = Near(list, in_list, in_list).at(in_list);
            rank.key = found.key;
            rank.kept = in_list - found.larger;
            rank.ties = found.equal;
        }
        return true;
    }

    // A histogram of a bracket that is too wide to list: a bin of it that can be listed, or the side where the rank is.
    void narrow(Rank &rank) {
        const Bracket &wide = rank.bracket;
        const std::uint32_t width = static_cast<std::uint32_t>(wide.hi) - static_cast<std::uint32_t>(wide.lo);
        const int shift = shift_for(width, bin_bits);
        std::vector<std::int64_t> bins(std::size_t{1} << bin_bits);
        Rank whole = rank;
        whole.bracket.dense = false;
        const std::int64_t above = reader_->histogram(Plan(std::vector<Rank>{whole}), shift, bins);
        std::int64_t left = rank.rank - above;
        if (left <= 0) {
            rank.bracket = between(wide.hi + 1, highest_key, true);
            return;
        }
        std::size_t b = bins.size();
        while (b > 0 && left > bins[b - 1]) left -= bins[--b];
        if (b == 0) {
            rank.bracket = between(lowest_key, wide.lo - 1, true);
            return;
        }
        const std::int32_t lo = wide.lo + static_cast<std::int32_t>(static_cast<std::uint32_t>(b - 1) << shift);
        const std::int32_t hi = std::min(wide.hi, lo + static_cast<std::int32_t>((std::uint32_t{1} << shift) - 1));
        const std::int64_t room = room_ / static_cast<std::int64_t>(ranks_.size());
        rank.bracket = lo == hi ? only(lo, sample().boundary(rank.rank, lo))
                                : between(lo, hi, bins[b - 1] > room);
    }

    static void know(Rank &rank, std::int32_t key) {
        rank.known = true;
        rank.key = key;
        rank.bracket = only(key, 0);
    }

    std::int64_t first_nan() const {
        if (call_.nan != NaN::raise) return -1;
        for (const Tile &tile : reader_->tiles()) {
            if (tile.nan) return tile.tensor;
        }
        return -1;
    }

    const Sample &sample() {
        if (!sample_) {
            const std::int64_t room = room_ / static_cast<std::int64_t>(ranks_.size());
            sample_ = std::make_unique<Sample>(kernel_, reader_->scratch(), call_, n_, region_, room);
        }
        return *sample_;
    }

    const Kernel &kernel_;
    ParallelRegion &region_;
    const Call &call_;
    const std::int64_t n_;
    std::int64_t room_;
    std::vector<Rank> ranks_;
    std::unique_ptr<Reader> reader_;
    std::unique_ptr<Sample> sample_;
};

std::int64_t weights_of(const Call &call) {
    std::int64_t n = 0;
    for (std::int64_t t = 0; t < call.count; ++t) n += call.tensors[t].rows * call.tensors[t].columns;
    return n;
}

// The mask of a call that keeps nothing.
void clear(const Call &call) {
    for (std::int64_t t = 0; t < call.count; ++t) {
        const Tensor &tensor = call.tensors[t];
        const std::int64_t bytes = tensor.rows * words_of(tensor.columns) * static_cast<std::int64_t>(sizeof(std::uint64_t));
        if (bytes > 0) memset(tensor.words, 0, static_cast<std::size_t>(bytes));
    }
}

}  // namespace

Result run(Isa isa, std::int64_t threads, const Call &call) {
    const Kernel &kernel = variants.choose(isa);
    if (call.k == 0) clear(call);
    const std::int64_t n = weights_of(call);
    Result result{};
    parallel_region(std::min(threads, n / thread_weights), [&](ParallelRegion &region) {
        result = Search(kernel, region, call, n).run();
    });
    return result;
}

}  // namespace optprune::topk_threshold
