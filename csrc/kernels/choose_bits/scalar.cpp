#include "kernels/choose_bits/choose_bits.h"
#include "kernels/choose_bits/key.h"

namespace optprune::choose_bits {
namespace {

// Call visit(word, bit, key) for every bit set.
template <class Visit>
void each_bit(const std::uint64_t *words, std::int64_t W, std::uint64_t seed, Visit visit) {
    for (std::int64_t w = 0; w < W; ++w) {
        for (std::uint64_t rest = words[w]; rest != 0; rest &= rest - 1) {
            const int bit = __builtin_ctzll(rest);
            visit(w, bit, key(seed, static_cast<std::uint64_t>(64 * w + bit)));
        }
    }
}

// The count-th smallest of n distinct keys, 1 <= count <= n. Keys are spread evenly, so each round of eight leading bits
// leaves one in 256.
std::uint64_t select(std::uint64_t *keys, std::int64_t n, std::int64_t count) {
    for (int shift = 56; n > 1; shift -= 8) {
        std::int64_t members[256] = {};
        for (std::int64_t i = 0; i < n; ++i) ++members[(keys[i] >> shift) & 255];
        std::uint64_t bucket = 0;
        for (; count > members[bucket]; ++bucket) count -= members[bucket];
        std::int64_t left = 0;
        for (std::int64_t i = 0; i < n; ++i) {
            const std::uint64_t candidate = keys[i];
            keys[left] = candidate;
            left += ((candidate >> shift) & 255) == bucket;
        }
        n = left;
    }
    return keys[0];
}

void row(const std::uint64_t *words, std::int64_t W, std::int64_t held, std::int64_t count, std::uint64_t seed,
         std::uint64_t *keys, std::uint64_t *out) {
    const bool all = count >= held;
    for (std::int64_t w = 0; w < W; ++w) out[w] = all ? words[w] : 0;
    if (all || count <= 0) return;
    std::int64_t n = 0;
    each_bit(words, W, seed, [&](std::int64_t, int, std::uint64_t k) { keys[n++] = k; });
    const std::uint64_t last = select(keys, n, count);
    each_bit(words, W, seed, [&](std::int64_t w, int bit, std::uint64_t k) {
        out[w] |= std::uint64_t{k <= last} << bit;
    });
}

}  // namespace

const Kernel scalar{row};

}  // namespace optprune::choose_bits
