// The pass over a tile, written once. An instruction set's file includes its Block first and then this.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_BODY_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_BODY_H

#include <string.h>

#include <type_traits>

#include "kernels/topk_threshold/keys.h"

namespace optprune::topk_threshold {
namespace {

constexpr std::int64_t strip_words = 64;  // whose lists are written at a time, while their weights are in the first cache
// Bytes that are fetched ahead. The processor's own prefetching stops at each page; without this, ten million float32
// took 1.37 plain reads, with twice as many bytes 1.17, with these 1.12.
constexpr std::size_t ahead = 2048;

inline std::int64_t count_bits(std::uint64_t word) { return __builtin_popcountll(word); }

// The lowest set bits of a word, as many as are left.
inline std::uint64_t first_bits(std::uint64_t word, std::int64_t &left) {
    const std::int64_t count = count_bits(word);
    if (left >= count) {
        left -= count;
        return word;
    }
    std::uint64_t taken = 0;
    for (; left > 0; --left, word &= word - 1) taken |= word & (~word + 1);
    return taken;
}

template <Type type>
struct Stored {
    using Bits = std::uint16_t;
};
template <>
struct Stored<Type::float32> {
    using Bits = std::uint32_t;
};
template <Type type>
using BitsOf = typename Stored<type>::Bits;

template <Type type, int ranges, bool pooled, Kind kind, bool drop>
class Scan {
  public:
    using Bits = BitsOf<type>;

    explicit Scan(const Pass &pass) {
        for (int j = 0; j < 2; ++j) {
            left_[j] = pass.quota[j];
            guess_[j] = Keys::level(pass.guess[j]);
        }
        for (int r = 0; r < ranges; ++r) {
            const Cut &cut = pass.cut[r];
            above_[r] = Keys::level(cut.above);
            from_[r] = Keys::level(cut.from);
            heavy_above_[r] = Keys::level(cut.heavy_above);
            heavy_from_[r] = Keys::level(cut.heavy_from);
            low_[r] = Keys::level(wrapped(std::int64_t{cut.from} + 1 + least));
            end_[r] = Keys::level(wrapped(std::int64_t{cut.above} - cut.from + least));
        }
    }

    // 64 weights: the words of mask and pool, and the bits that are to be listed
    std::uint64_t word(const Bits *weights, std::uint64_t used, std::uint64_t *mask, std::uint64_t *pool) {
        if constexpr (kind == Kind::list) {
            return guessed(weights, used, mask, pool);
        } else {
            return counted(weights, used, mask, pool);
        }
    }

    void put_down(Pass &pass) const {
        for (int r = 0; r < 2; ++r) {
            pass.above[r] = counts_[r < ranges ? r : 0];
            pass.heavy[r] = heavies_[r < ranges ? r : 0];
        }
        pass.largest = Keys::top(largest_);
    }

  private:
    using Keys = Block<Bits>;
    using Level = typename Keys::Level;

    // Numbers without a sign are compared as those with one are, once half of their range is taken from both.
    static constexpr std::int64_t least = -(std::int64_t{1} << (8 * sizeof(Bits) - 1));
    static std::int32_t wrapped(std::int64_t number) {
        return static_cast<std::make_signed_t<Bits>>(static_cast<Bits>(number));
    }

    Keys load(const Bits *weights) {
        Keys keys = Keys::load(weights);
        largest_ = Keys::largest(largest_, keys);
        if constexpr (drop) keys = Keys::without(keys, infinity_);
        return keys;
    }

    std::uint64_t guessed(const Bits *weights, std::uint64_t used, std::uint64_t *mask, std::uint64_t *pool) {
        std::uint64_t in[2] = {}, bracket[2] = {}, list = 0;
        for (int half = 0; half < 64; half += 32) {
            const Keys keys = load(weights + half);
            in[0] |= std::uint64_t{Keys::above(keys, guess_[0])} << half;
            if constexpr (pooled) in[1] |= std::uint64_t{Keys::above(keys, guess_[1])} << half;
            for (int r = 0; r < ranges; ++r) bracket[r] |= std::uint64_t{Keys::within(keys, low_[r], end_[r])} << half;
        }
        for (int r = 0; r < ranges; ++r) {
            counts_[r] += count_bits(in[r] & ~bracket[r] & used);
            list |= bracket[r] & used;
        }
        *mask = in[0] & used;
        if constexpr (pooled) *pool = (in[0] ^ in[1]) & used;
        return list;
    }

    std::uint64_t counted(const Bits *weights, std::uint64_t used, std::uint64_t *mask, std::uint64_t *pool) {
        std::uint64_t above[2] = {}, from[2] = {}, heavy_above[2] = {}, heavy_from[2] = {};
        for (int half = 0; half < 64; half += 32) {
            const Keys keys = load(weights + half);
            for (int r = 0; r < ranges; ++r) {
                above[r] |= std::uint64_t{Keys::above(keys, above_[r])} << half;
                from[r] |= std::uint64_t{Keys::above(keys, from_[r])} << half;
                if constexpr (kind == Kind::both) {
                    heavy_above[r] |= std::uint64_t{Keys::above(keys, heavy_above_[r])} << half;
                    heavy_from[r] |= std::uint64_t{Keys::above(keys, heavy_from_[r])} << half;
                }
            }
        }
        std::uint64_t heavy[2] = {}, list = 0;
        for (int r = 0; r < ranges; ++r) {
            above[r] &= used;
            const std::uint64_t bracket = (above[r] ^ from[r]) & used;
            heavy[r] = kind == Kind::ties ? bracket : (heavy_above[r] ^ heavy_from[r]) & used;
            list |= bracket & ~heavy[r];
            counts_[r] += count_bits(above[r]);
            heavies_[r] += count_bits(heavy[r]);
        }
        const std::uint64_t kept = above[0] | first_bits(heavy[0], left_[0]);
        *mask = kept;
        if constexpr (pooled) {
            constexpr int r = ranges - 1;
            *pool = kept ^ (above[r] | first_bits(heavy[r], left_[1]));
        }
        return list;
    }

    Level above_[ranges], from_[ranges], heavy_above_[ranges], heavy_from_[ranges];
    Level guess_[2], low_[ranges], end_[ranges];  // in the bracket: key - low_, wrapped, < end_
    Level infinity_ = Keys::level(own_infinity(type)), largest_ = Keys::level(0);
    std::int64_t left_[2], counts_[2] = {}, heavies_[2] = {};
};

// Append the places of the set bits of a word that has some. Four are written at once, whether they are there or not: few
// words have more, and a branch on how many there are would be missed as often as not.
inline std::int64_t list_places(std::uint64_t bits, std::int64_t first, std::uint16_t *places) {
    const std::int64_t count = count_bits(bits);
    std::uint64_t four = 0;
    for (int i = 0; i < 4; ++i, bits &= bits - 1) {
        four |= static_cast<std::uint64_t>(__builtin_ctzll(bits | std::uint64_t{1} << 63)) << (16 * i);
    }
    four += static_cast<std::uint64_t>(first) * 0x0001000100010001;
    memcpy(places, &four, sizeof four);
    for (std::int64_t i = 4; i < count; ++i, bits &= bits - 1) {
        places[i] = static_cast<std::uint16_t>(first + __builtin_ctzll(bits));
    }
    return count;
}

template <Type type, bool drop>
void list_keys(const BitsOf<type> *weights, const std::uint16_t *places, std::int64_t count, std::int32_t *keys) {
    constexpr std::int32_t magnitude = type == Type::float32 ? 0x7FFFFFFF : 0x7FFF;
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int32_t key = common_key(type, static_cast<std::int32_t>(weights[places[i]]) & magnitude);
        keys[i] = drop && key > infinity ? dropped_nan : key;
    }
}

template <class Bits>
void fetch(const Bits *weights) {
    const auto from = reinterpret_cast<std::uintptr_t>(weights) + ahead;  // past the end it is no address of an array
    for (std::size_t line = 0; line < 64 * sizeof(Bits); line += 64) {
        __builtin_prefetch(reinterpret_cast<const void *>(from + line));
    }
}

template <Type type, int ranges, bool pooled, Kind kind, bool drop>
void scan_tile(Pass &pass) {
    using Bits = BitsOf<type>;
    Scan<type, ranges, pooled, kind, drop> scan(pass);
    const Bits *weights = static_cast<const Bits *>(pass.weights);
    const std::int64_t words = pass.n / 64;
    const bool lists = kind != Kind::ties && pass.places != nullptr;
    std::uint64_t found[strip_words];  // words with something to list, and where they stand
    std::int64_t at[strip_words], count = 0;
    const auto list = [&](std::int64_t some, const Bits *next) {
        const std::int64_t before = count;
        for (std::int64_t i = 0; i < some; ++i) {
            fetch(next + 64 * i);  // or memory would rest
            count += list_places(found[i], 64 * at[i], pass.places + count);
        }
        list_keys<type, drop>(weights, pass.places + before, count - before, pass.keys + before);
    };
    for (std::int64_t first = 0; first < words; first += strip_words) {
        const std::int64_t end = words - first < strip_words ? words : first + strip_words;
        std::int64_t some = 0;
        for (std::int64_t w = first; w < end; ++w) {
            fetch(weights + 64 * w);
            found[some] = scan.word(weights + 64 * w, ~std::uint64_t{0}, pass.mask + w,
                                    pass.pool + w);
            at[some] = w;
            some += found[some] != 0;
        }
        if (lists) list(some, weights + 64 * end);
    }
    if (const std::int64_t rest = pass.n % 64; rest > 0) {
        Bits padded[64] = {};
        memcpy(padded, weights + 64 * words, static_cast<std::size_t>(rest) * sizeof(Bits));
        found[0] = scan.word(padded, ~std::uint64_t{0} >> (64 - rest), pass.mask + words,
                             pass.pool + words);
        at[0] = words;
        if (lists && found[0] != 0) list(1, weights);
    }
    pass.listed = count;
    scan.put_down(pass);
}

template <Type type, int ranges, bool pooled, Kind kind>
void by_policy(Pass &pass) {
    pass.drop ? scan_tile<type, ranges, pooled, kind, true>(pass) : scan_tile<type, ranges, pooled, kind, false>(pass);
}

template <Type type, int ranges, bool pooled>
void by_kind(Pass &pass) {
    switch (pass.kind) {
        case Kind::list: return by_policy<type, ranges, pooled, Kind::list>(pass);
        case Kind::ties: return by_policy<type, ranges, pooled, Kind::ties>(pass);
        case Kind::both: return by_policy<type, ranges, pooled, Kind::both>(pass);
    }
}

template <Type type>
void by_ranges(Pass &pass) {
    if (pass.ranges == 2) return by_kind<type, 2, true>(pass);
    pass.pool != nullptr ? by_kind<type, 1, true>(pass) : by_kind<type, 1, false>(pass);
}

void run_pass(Pass &pass) {
    switch (pass.type) {
        case Type::float32: return by_ranges<Type::float32>(pass);
        case Type::float16: return by_ranges<Type::float16>(pass);
        case Type::bfloat16: return by_ranges<Type::bfloat16>(pass);
    }
}

constexpr Kernel kernel{run_pass, copy_keys};

}  // namespace
}  // namespace optprune::topk_threshold

#endif
