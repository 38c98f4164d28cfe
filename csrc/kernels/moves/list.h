// What each move flips and reaches, listed once for all tiles. For plain code only, as its templates are.
#ifndef OPTPRUNE_KERNELS_MOVES_LIST_H
#define OPTPRUNE_KERNELS_MOVES_LIST_H

#include <algorithm>
#include <vector>

#include "common/thread_pool.h"
#include "kernels/moves/moves.h"

namespace optprune::moves {

using population::Layer;
using population::Program;
using population::Step;

using population::word_bits;

inline bool bit(const std::uint64_t *words, std::int64_t i) { return (words[i / word_bits] >> (i % word_bits)) & 1; }

inline void set_bit(std::vector<std::uint64_t> &bits, std::int64_t i) {
    bits[static_cast<std::size_t>(i / word_bits)] |= std::uint64_t{1} << (i % word_bits);
}

struct Flip {
    std::int64_t layer, row, column;
};

class List {
  public:
    std::vector<Move> moves{{}};
    std::vector<Flipped> flipped;
    std::vector<RowChange> rows;
    std::vector<Kept> pool;

    // sloped: whether the last two layers of the chain have slopes
    List(const Request &request, const Spread *spreads, std::int64_t lanes, bool sloped)
        : request_(request), program_(request.parent.program), lanes_(lanes),
          sloped_(sloped ? program_.layer_count - 2 : -1), spread_of_(program_.layer_count),
          mostly_kept_(program_.layer_count) {
        for (std::int64_t i = 0; i < program_.step_count; ++i) {
            const std::int64_t layer = program_.steps[i].layer;
            if (layer >= 0) spread_of_[layer] = &spreads[i], mostly_kept_[layer] = keeps_most(program_.layers[layer]);
        }
    }

    // Moves with flips in the same rows follow one another: what they read alike is still in the nearest cache.
    void add_all() {
        std::vector<std::vector<Flip>> flips;
        std::vector<std::int64_t> order;
        for (std::int64_t m = 0; m < request_.M; ++m) {
            flips.push_back(sorted(request_.indices + m * request_.F));
            order.push_back(m);
        }
        const auto by_row = [](const Flip &a, const Flip &b) {
            return a.layer != b.layer ? a.layer < b.layer : a.row < b.row;
        };
        std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
            return std::lexicographical_compare(flips[a].begin(), flips[a].end(), flips[b].begin(), flips[b].end(),
                                                by_row);
        });
        for (const std::int64_t m : order) add(m, std::move(flips[m]));
    }

  private:
    void add(std::int64_t number, std::vector<Flip> flips) {
        if (!flips.empty() && flips[0].layer < request_.chained) drop_unread(flips);
        Move &move = moves.back();
        move.number = number;
        move.whole = program_.layer_count;
        move.chained = flips.empty() ? request_.chained < program_.layer_count : flips[0].layer >= request_.chained;
        if (move.chained) {
            add_chained(flips, move);
        } else {
            add_flipped(flips.data(), flips.data() + flips.size());
        }
        moves.push_back({0, static_cast<std::int64_t>(flipped.size()), static_cast<std::int64_t>(rows.size()),
                         static_cast<std::int64_t>(pool.size()), 0, false, 0, 0, 0, 0});
    }

    const Request &request_;
    const Program &program_;
    const std::int64_t lanes_, sloped_;
    std::vector<const Spread *> spread_of_;  // of each layer
    std::vector<bool> mostly_kept_;

    const std::uint64_t *row_words(const Layer &layer, std::int64_t row) const {
        return request_.parent.words + layer.first_word + row * layer.words();
    }

    bool keeps_most(const Layer &layer) const {
        if (layer.first_word < 0) return true;
        std::int64_t kept = 0;
        for (const std::uint64_t *word = row_words(layer, 0); word != row_words(layer, layer.rows); ++word) {
            kept += __builtin_popcountll(*word);
        }
        return static_cast<double>(kept) >= layer.dense_from * static_cast<double>(layer.rows * layer.columns);
    }

    std::vector<Flip> sorted(const std::int64_t *indices) const {
        std::vector<Flip> flips;
        for (std::int64_t f = 0; f < request_.F; ++f) {
            for (std::int64_t l = 0; indices[f] >= 0 && l < program_.layer_count; ++l) {
                const Layer &layer = program_.layers[l];
                const std::int64_t local = indices[f] - request_.first_weight[l];
                if (request_.first_weight[l] < 0 || local < 0 || local >= layer.rows * layer.columns) continue;
                flips.push_back({l, local / layer.columns, local % layer.columns});
                break;
            }
        }
        std::sort(flips.begin(), flips.end(), [](const Flip &a, const Flip &b) {
            return a.layer != b.layer ? a.layer < b.layer : a.row != b.row ? a.row < b.row : a.column < b.column;
        });
        return flips;
    }

    // Leave out flips in rows that reach the loss neither before the move nor after it.
    void drop_unread(std::vector<Flip> &flips) const {
        std::vector<std::vector<std::uint64_t>> used;  // columns of each later layer that rows which are read keep
        used.resize(static_cast<std::size_t>(program_.layer_count));
        for (std::int64_t l = program_.layer_count - 1; l >= 0; --l) {
            const Layer &layer = program_.layers[l];
            used[l].assign(static_cast<std::size_t>(layer.words()), layer.first_word < 0 ? ~std::uint64_t{0} : 0);
            for (std::int64_t r = 0; r < layer.rows; ++r) {
                const auto own = [&](const Flip &flip) { return flip.layer == l && flip.row == r; };
                if (!is_read(layer, r, used)) {
                    flips.erase(std::remove_if(flips.begin(), flips.end(), own), flips.end());
                } else if (layer.first_word >= 0) {
                    const std::uint64_t *words = row_words(layer, r);
                    for (std::int64_t w = 0; w < layer.words(); ++w) used[l][w] |= words[w];
                    for (const Flip &flip : flips) {
                        if (own(flip)) set_bit(used[l], flip.column);
                    }
                }
            }
        }
    }

    static bool is_read(const Layer &layer, std::int64_t r, const std::vector<std::vector<std::uint64_t>> &used) {
        for (std::int64_t c = 0; c < layer.consumer_count; ++c) {
            const auto &[reader, columns] = layer.consumers[c];
            for (std::int64_t i = r * columns; i < (r + 1) * columns; ++i) {
                if (bit(used[reader].data(), i)) return true;
            }
        }
        return layer.consumer_count == 0;
    }

    static const Flip *row_end(const Flip *flip, const Flip *end) {
        const Flip *next = flip;
        while (next != end && next->layer == flip->layer && next->row == flip->row) ++next;
        return next;
    }

    // Rows with flipped bits, with all that they keep then.
    void add_flipped(const Flip *flip, const Flip *end) {
        for (const Flip *next; flip != end; flip = next) {
            next = row_end(flip, end);
            const Layer &layer = program_.layers[flip->layer];
            const std::uint64_t *row = row_words(layer, flip->row);
            const float *weight = layer.weight + flip->row * layer.columns;
            Flipped out{flip->layer, flip->row, {static_cast<std::int64_t>(pool.size()), 0}};
            for (std::int64_t w = 0; w < layer.words(); ++w) {
                std::uint64_t word = row[w];
                for (const Flip *f = flip; f != next; ++f) {
                    if (f->column / word_bits == w) word ^= std::uint64_t{1} << (f->column % word_bits);
                }
                for (; word != 0; word &= word - 1) {
                    const std::int64_t i = w * word_bits + __builtin_ctzll(word);
                    pool.push_back({static_cast<std::int32_t>(layer.offset[i] * lanes_), weight[i]});
                }
            }
            out.start[1] = static_cast<std::int64_t>(pool.size());
            flipped.push_back(out);
        }
    }

    // The rows that change, layer after layer, and the terms that each adds. A row that reads the difference of an input
    // under the moved mask adds w · difference; a flip adds or takes w · input of the parent. From where two units in
    // three have changed, layers are computed anew: for their values all units of the layer before count as changed.
    void add_chained(const std::vector<Flip> &flips, Move &move) {
        std::int64_t &whole = move.whole;
        const Flip *flip = flips.data(), *end = flip + flips.size();
        const std::size_t first_row = rows.size();
        std::vector<std::int64_t> changed;  // inputs of the layer
        std::int64_t first_input = 0, first_output = 0;
        for (std::int64_t l = request_.chained; l < whole; ++l) {
            const Layer &layer = program_.layers[l];
            if (l == sloped_ && !changed.empty() && 2 * static_cast<std::int64_t>(changed.size()) <= layer.rows) {
                return add_sloped(changed, first_input, flip, end, move);
            }
            std::vector<std::uint64_t> reached(static_cast<std::size_t>(divide_up(layer.rows, word_bits)), 0);
            for (const std::int64_t unit : changed) {
                for (std::size_t w = 0; w < reached.size(); ++w) {
                    reached[w] |= spread_of_[l]->readers[static_cast<std::size_t>(unit) * reached.size() + w];
                }
            }
            for (const Flip *f = flip; f != end && f->layer == l; ++f) set_bit(reached, f->row);
            std::int64_t count = 0;
            for (const std::uint64_t word : reached) count += __builtin_popcountll(word);
            if (l + 1 < program_.layer_count && 3 * count >= 2 * layer.rows) whole = l + 1;
            std::vector<std::int64_t> outputs;
            for (std::int64_t row = 0; row < layer.rows; ++row) {
                if (!bit(reached.data(), row) && !(whole == l + 1 && mostly_kept_[l])) {
                    if (whole == l + 1) rows.push_back({static_cast<std::int32_t>(l), static_cast<std::int32_t>(row), 0, 0});
                    continue;
                }
                const Flip *next = flip;
                while (next != end && next->layer == l && next->row == row) ++next;
                add_row(l, row, changed, first_input, flip, next);
                flip = next;
                outputs.push_back(row);
            }
            changed = outputs;
            first_input = first_output, first_output += layer.rows;
        }
        if (whole == program_.layer_count && changed.empty()) rows.resize(first_row);  // nothing reaches the loss
        add_flipped(flip, end);
    }

    // The last two layers, from the inputs that change. Their weights are the parent's, flips are terms of their own.
    void add_sloped(const std::vector<std::int64_t> &changed, std::int64_t first_input, const Flip *flip,
                    const Flip *end, Move &move) {
        const std::int64_t l = sloped_, floats = program_.width * lanes_;
        const Layer &layer = program_.layers[l];
        const Flip *last = std::find_if(flip, end, [&](const Flip &f) { return f.layer != l; });
        const auto difference = [&](std::int64_t unit, float weight) {
            pool.push_back({static_cast<std::int32_t>((first_input + unit) * floats), weight});
        };
        const auto add_differences = [&](std::int64_t row) {
            bool any = false;
            for (const std::int64_t unit : changed) {
                const bool kept = layer.first_word < 0 || bit(row_words(layer, row), unit);
                any = any || kept;
                difference(unit, kept ? layer.weight[row * layer.columns + unit] : 0.0f);
            }
            return any;
        };
        const auto add_row = [&](std::int64_t of, std::int64_t row, std::size_t differences, std::size_t inputs) {
            rows.push_back({static_cast<std::int32_t>(of), static_cast<std::int32_t>(row),
                            static_cast<std::int32_t>(differences), static_cast<std::int32_t>(inputs)});
        };
        const auto has_flip = [&](std::int64_t row) {
            return std::any_of(flip, last, [&](const Flip &f) { return f.row == row; }) ||
                   std::any_of(last, end, [&](const Flip &f) { return f.column == row; });
        };
        move.inputs = static_cast<std::int64_t>(changed.size());
        for (const std::int64_t unit : changed) pool.push_back({static_cast<std::int32_t>(unit), 0.0f});
        move.certain = static_cast<std::int64_t>(rows.size());
        for (std::int64_t row = 0; row < layer.rows; ++row) {
            if (!has_flip(row)) continue;
            const std::size_t first = pool.size();
            add_differences(row);
            const Flip *own = std::find_if(flip, last, [&](const Flip &f) { return f.row == row; });
            const Flip *own_end = own == last ? last : row_end(own, last);
            for (const Flip *f = own; f != own_end; ++f) {
                if (std::find(changed.begin(), changed.end(), f->column) != changed.end()) {
                    difference(f->column, flipped_weight(*f));
                }
            }
            const std::size_t differences = pool.size() - first;
            for (const Flip *f = own; f != own_end; ++f) {
                pool.push_back({static_cast<std::int32_t>(layer.offset[f->column] * lanes_), flipped_weight(*f)});
            }
            add_row(l, row, differences, pool.size() - first - differences);
        }
        move.bending = static_cast<std::int64_t>(rows.size());
        for (std::int64_t row = 0; row < layer.rows; ++row) {
            if (has_flip(row)) continue;
            if (add_differences(row)) {
                add_row(l, row, changed.size(), 0);
            } else {
                pool.resize(pool.size() - changed.size());
            }
        }
        move.last = static_cast<std::int64_t>(rows.size());
        for (const Flip *f = last; f != end; ++f) {
            pool.push_back({static_cast<std::int32_t>(f->column * floats), flipped_weight(*f)});
            add_row(l + 1, f->row, 0, 1);
        }
        if (static_cast<std::int64_t>(rows.size()) > move.certain) return;
        rows.resize(static_cast<std::size_t>(move.rows));  // nothing reaches the loss
        move.inputs = 0;
    }

    // What a flip adds for an input of one.
    float flipped_weight(const Flip &flip) const {
        const Layer &layer = program_.layers[flip.layer];
        const float weight = layer.weight[flip.row * layer.columns + flip.column];
        return bit(row_words(layer, flip.row), flip.column) ? -weight : weight;
    }

    void add_row(std::int64_t l, std::int64_t row, const std::vector<std::int64_t> &changed, std::int64_t first_input,
                 const Flip *flip, const Flip *end) {
        const Layer &layer = program_.layers[l];
        const std::uint64_t *words = layer.first_word < 0 ? nullptr : row_words(layer, row);
        const float *weight = layer.weight + row * layer.columns;
        const std::int64_t floats = program_.width * lanes_;
        const std::size_t first = pool.size();
        for (const std::int64_t unit : changed) {
            bool kept = words == nullptr || bit(words, unit);
            for (const Flip *f = flip; f != end; ++f) kept ^= f->column == unit;
            // Where most are kept, zeros stand for the others: rows of one length are foreseen, a term costs less.
            if (!kept && !mostly_kept_[l]) continue;
            pool.push_back({static_cast<std::int32_t>((first_input + unit) * floats), kept ? weight[unit] : 0.0f});
        }
        const std::size_t differences = pool.size() - first;
        for (const Flip *f = flip; f != end; ++f) {
            pool.push_back({static_cast<std::int32_t>(layer.offset[f->column] * lanes_), flipped_weight(*f)});
        }
        rows.push_back({static_cast<std::int32_t>(l), static_cast<std::int32_t>(row),
                        static_cast<std::int32_t>(differences), static_cast<std::int32_t>(end - flip)});
    }
};

}  // namespace optprune::moves

#endif
