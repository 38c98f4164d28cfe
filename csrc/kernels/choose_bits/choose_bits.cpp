// Rows are spread over threads; each thread has room for the keys of one row.
#include "kernels/choose_bits/choose_bits.h"

#include <vector>

#include "common/thread_pool.h"

namespace optprune::choose_bits {

void run(Isa isa, std::int64_t threads, const Call &call) {
    const Kernel &kernel = variants.choose(isa);
    constexpr double cost_of_a_word = 64 * 8;  // in multiply-adds, roughly
    threads = worth_threads(static_cast<double>(call.P) * call.W * cost_of_a_word, threads);
    std::vector<std::vector<std::uint64_t>> keys(static_cast<std::size_t>(threads));
    parallel_for(call.P, threads, [&](std::int64_t p, std::int64_t slot) {
        const std::uint64_t *words = call.words + p * call.words_step;
        std::int64_t held = 0;
        for (std::int64_t w = 0; w < call.W; ++w) held += __builtin_popcountll(words[w]);
        std::vector<std::uint64_t> &room = keys[static_cast<std::size_t>(slot)];
        if (room.size() < static_cast<std::size_t>(held)) room.resize(static_cast<std::size_t>(held));
        kernel.row(words, call.W, held, call.counts[p], call.seeds[p], room.data(), call.out + p * call.W);
    });
}

}  // namespace optprune::choose_bits
